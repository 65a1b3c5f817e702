"""Loading: which checkpoint, whether it is whole, and what it says."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from os import PathLike
from typing import Any

from torch import Tensor, nn

from zoo.checkpoints.files import read_tensors
from zoo.checkpoints.store import digest_of
from zoo.checkpoints.training.capture import Several, Training
from zoo.checkpoints.training.folders import (
    NAME,
    RECORD,
    SHARDS,
    STRUCTURE,
    TENSORS,
    WEIGHTS,
    Best,
    Run,
    TrainingCheckpoint,
    best_of,
    checked_best,
    is_ours,
    read_record,
    read_run,
    run_path,
)
from zoo.checkpoints.training.randomness import Generator
from zoo.checkpoints.training.restore import Saved, is_extra_state, restore
from zoo.checkpoints.training.trees import TreeReader, holds_tensors
from zoo.errors import CheckpointError, DigestError, FormatError, NotFoundError, OptionError

_TRIES = 5


def load_checkpoint(
    path: str | PathLike[str],
    model: nn.Module | None = None,
    optimizer: Several = None,
    *,
    scheduler: Several = None,
    scaler: Several = None,
    ema: Several = None,
    generators: Mapping[str, Generator] | None = None,
    which: str = "latest",
    best: Best | None = None,
    strict: bool = True,
    rng: bool | None = None,
) -> TrainingCheckpoint:
    """Put a checkpoint back into the objects of a run, in place and all or nothing, and say where the run was.

    Every file that is used is compared with its digest first. Tensors go to the devices and dtypes of the parameters
    they are for.

    Args:
        path: the run's folder, or one checkpoint's.
        model, optimizer, scheduler, scaler, ema, generators: as they were handed to `save_checkpoint`. A model alone
            is for evaluation; with an optimizer, everything that was saved has to be there.
        which: `latest`, `best`, or a checkpoint's name such as `epoch-0003`.
        best: the metric that tells the best; by default the one the run was saved with.
        strict: False takes from a model's weights what fits by name, and lets saved things be left out.
        rng: whether Python's, NumPy's and torch's global generators go on as they were; by default with an optimizer.

    Raises:
        CheckpointError: no such checkpoint, or it is damaged: `DigestError` and `FormatError` name the file, and the
            next older one that is whole. It is never taken by itself.
        LoadError, OptionError: it does not fit what was handed over. Nothing has changed then.
    """
    training = Training(model, optimizer, scheduler, scaler, ema, generators)
    training.parts()
    rule, randomness = checked_best(best), optimizer is not None if rng is None else rng
    root = run_path(path)
    for tries in range(_TRIES):
        checkpoint = _chosen_by_all(root, which, rule, training)
        try:
            saved = _read(checkpoint, training, randomness)
        except (DigestError, FormatError) as error:
            if not os.path.isdir(checkpoint.path) and tries + 1 < _TRIES:
                continue  # a writer that keeps the last few removed it while it was read
            raise _with_advice(error, checkpoint, alone=checkpoint.path == root) from None
        restore(saved, training, strict=strict)
        return replace(checkpoint, extra=saved.extra)
    raise AssertionError("the last try returns or raises")


def verify(checkpoint: TrainingCheckpoint, *, unused: Collection[str] = ()) -> None:
    """Compare every file with its digest.

    Args:
        unused: files that need only be there, with their size.

    Raises:
        DigestError: other bytes, or a file less. The file is named.
    """
    with ThreadPoolExecutor(2) as pool:
        for fault in pool.map(lambda name: _fault(checkpoint, name, hashed=name not in unused), checkpoint.files):
            if fault:
                raise DigestError(f"{checkpoint.path} is damaged: {fault}")


def _fault(checkpoint: TrainingCheckpoint, name: str, *, hashed: bool) -> str:
    path, file = os.path.join(checkpoint.path, name), checkpoint.files[name]
    try:
        if os.stat(path).st_size != file.size:
            return f"{name} has {os.stat(path).st_size} bytes, not {file.size}"
        return "" if not hashed or digest_of(path) == file.sha256 else f"{name} has other bytes than were written"
    except (OSError, ValueError) as error:
        return f"{name}: {getattr(error, 'strerror', None) or error}"


def _chosen_by_all(root: str, which: str, rule: tuple[str, str] | None, training: Training) -> TrainingCheckpoint:
    """The one that is asked for; where the run is spread over processes, what the first one finds."""
    if not training.sharded:
        return _chosen(root, which, rule)
    from zoo.checkpoints.training.agreement import first_says  # brings torch.distributed

    return first_says(lambda: _chosen(root, which, rule))


def _chosen(root: str, which: str, rule: tuple[str, str] | None) -> TrainingCheckpoint:
    if not isinstance(which, str):
        raise OptionError("which checkpoint is said in a word", asked=f"which={which!r}"[:100], fix='which="latest"')
    if os.path.isfile(os.path.join(root, RECORD)) or (NAME.fullmatch(os.path.basename(root)) and is_ours(root)):
        if which not in ("latest", os.path.basename(root)):
            raise OptionError("this is one checkpoint, not a run's folder", asked=root, fix=os.path.dirname(root))
        return read_record(root)
    run = read_run(root)
    if which == "latest":
        return _newest(run)
    return _best(run, rule) if which == "best" else _named(run, which)


def _best(run: Run, rule: tuple[str, str] | None) -> TrainingCheckpoint:
    if not run.checkpoints:
        raise _none(run)
    rule = rule or run.checkpoints[-1].best
    if rule is None:
        raise OptionError("this run does not say what its best is", asked=run.path, fix='best=("loss", "min")')
    found = best_of(run.checkpoints, rule)
    if found is None:
        raise NotFoundError(
            f"no checkpoint in {run.path} has a value for {rule[0]!r}",
            found=", ".join(sorted({m for c in run.checkpoints for m in c.metrics})) or "no metrics",
            fix='which="latest"',
        )
    return found


def _newest(run: Run) -> TrainingCheckpoint:
    """The one saved last. One with a damaged record might be it, unless it is of an earlier epoch."""
    newest = run.checkpoints[-1] if run.checkpoints else None
    for name, fault in sorted(run.damaged.items(), reverse=True):
        epoch = int(name.split("-")[1])
        if newest is None or epoch >= newest.epoch:
            other = f'which="{newest.name}"' if newest is not None else "another run's folder; nothing here is whole"
            raise FormatError(f"the newest checkpoint may be a damaged one: {fault}", fix=other)
    if newest is None:
        raise _none(run)
    return newest


def _named(run: Run, name: str) -> TrainingCheckpoint:
    for checkpoint in run.checkpoints:
        if checkpoint.name == name:
            return checkpoint
    if name in run.damaged:
        older = run.checkpoints[-1] if run.checkpoints else None
        raise FormatError(run.damaged[name], fix=f'which="{older.name}"' if older is not None else None)
    there = [checkpoint.name for checkpoint in run.checkpoints]
    raise NotFoundError(
        f"no checkpoint {name!r} in {run.path}",
        found=", ".join(there[-8:]) or "no checkpoints",
        fix='which="latest", which="best" or one of those' if there else None,
    )


def _none(run: Run) -> CheckpointError:
    found = "a folder without checkpoints" if os.path.isdir(run.path) else "no such folder"
    return CheckpointError(
        "there is no checkpoint to load", asked=run.path, found=found, fix="zoo.list_checkpoints(path) tells beforehand"
    )


def _with_advice(error: CheckpointError, damaged: TrainingCheckpoint, *, alone: bool) -> CheckpointError:
    """The error with the next older checkpoint that is whole, which is hashed for that.

    Args:
        alone: whether the damaged one was asked for by its own folder.
    """
    older = [c for c in read_run(os.path.dirname(damaged.path)).checkpoints if c.sequence < damaged.sequence]
    fix = "no older one here is whole"
    for checkpoint in reversed(older):
        try:
            verify(checkpoint)
        except DigestError:
            continue
        fix = f'"{checkpoint.path}"' if alone else f'which="{checkpoint.name}"'
        break
    return type(error)(error.message, asked=error.asked, found=error.found, fix=fix)


def _read(checkpoint: TrainingCheckpoint, training: Training, randomness: bool) -> Saved:
    """What is asked for, out of files that were compared with their digests. The weights are mapped."""
    where = checkpoint.path
    tensors: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    if SHARDS in checkpoint.files or training.sharded:  # these bring torch.distributed.checkpoint
        from zoo.checkpoints.training.agreement import agreed
        from zoo.checkpoints.training.sharded import own_structure, read_pieces

        agreed(lambda: verify(checkpoint))
        weights, tensors = read_pieces(checkpoint, training)
        structure = own_structure(_structure(where), where, resumes=training.optimizer is not None)
        return _as_saved(where, _wanted(structure, training, randomness, where), weights, TreeReader(tensors, where))
    verify(checkpoint, unused=(WEIGHTS, TENSORS))
    structure = _wanted(_structure(where), training, randomness, where)
    used = {WEIGHTS: training.model is not None, TENSORS: holds_tensors(structure)}
    verify(checkpoint, unused=[name for name in checkpoint.files if not used.get(name)])
    if used[WEIGHTS]:
        weights = read_tensors(os.path.join(where, WEIGHTS)).tensors
    if used[TENSORS]:
        tensors = read_tensors(os.path.join(where, TENSORS)).tensors
    return _as_saved(where, structure, weights, TreeReader(tensors, where))


def _structure(where: str) -> Any:
    try:
        with open(os.path.join(where, STRUCTURE), "rb") as file:
            return json.loads(file.read())
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(f"{where}/{STRUCTURE} cannot be read: {error}") from None


def _wanted(structure: Any, training: Training, randomness: bool, where: str) -> dict[str, Any]:
    """The trees without what nobody asks for; its name stays, with None. Raises `FormatError`."""
    parts, generators = training.parts(), training.generators or {}
    try:
        return {
            "model": structure["model"] if training.model is not None else None,
            "parts": {name: entry if name in parts else None for name, entry in structure["parts"].items()},
            "generators": {n: entry if n in generators else None for n, entry in structure["generators"].items()},
            "random": structure["random"] if randomness else None,
            "extra": structure["extra"],
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{where}/{STRUCTURE} is damaged: {type(error).__name__}: {error}") from None


def _as_saved(where: str, structure: dict[str, Any], weights: Mapping[str, Tensor], trees: TreeReader) -> Saved:
    """Trees and weights put together. Raises `FormatError`."""
    try:
        model = structure["model"]
        others = {"state": {}, "versions": {}} if model is None else trees.read(model["others"])
        own = {name: tensor.clone() if is_extra_state(name) else tensor for name, tensor in weights.items()}
        return Saved(
            where=where,
            model={**own, **others["state"]},
            versions=others["versions"],
            parts={name: entry and _part(entry, trees) for name, entry in structure["parts"].items()},
            random=trees.read(structure["random"]),
            generators={name: trees.read(entry) for name, entry in structure["generators"].items()},
            extra=trees.read(structure["extra"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise FormatError(f"{where}/{STRUCTURE} is damaged: {type(error).__name__}: {error}") from None


def _part(entry: Mapping[str, Any], trees: TreeReader) -> dict[str, Any]:
    part = {"type": entry["type"], "parameters": entry.get("parameters"), "state": trees.read(entry["state"])}
    return part | ({"versions": trees.read(entry["versions"])} if "versions" in entry else {})
