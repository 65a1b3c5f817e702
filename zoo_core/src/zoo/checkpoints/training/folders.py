"""A run's folder: what its checkpoints are called, and the record that each carries.

A folder with one of our names is complete, since it gets that name by one rename at the end. Names are never used
twice: an epoch that is saved once more, as a resumed run may do, is `epoch-0003-again-2`. The newest is the one saved
last, which the sequence number in its record tells, not the one with the highest epoch.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote

from torch import Tensor

from zoo.checkpoints.training.trees import TreeReader, TreeWriter
from zoo.errors import CheckpointError, FormatError, OptionError

LAYOUT = 1
WEIGHTS, CONFIG, TENSORS, STRUCTURE, SHARDS, RECORD = (
    "model.safetensors", "config.json", "state.safetensors", "state.json", "shards.json", "checkpoint.json",
)  # fmt: skip
NAME = re.compile(r"epoch-(\d{4,})(?:-step-(\d{6,}))?(?:-again-(\d+))?")
_TRIES = 50
SETTLED = 2.0
"""Seconds after which a file's times tell whether it has changed: a clock of files has coarse ticks."""
Best = str | tuple[str, str]
"""A metric: its name, or its name with `max` or `min`."""


class File(NamedTuple):
    """A file of a checkpoint."""

    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class TrainingCheckpoint:
    """A complete checkpoint of a training run.

    Attributes:
        path: its folder. name: the last part of that, such as `epoch-0003`.
        epoch, step: as saved. metrics: as saved, plain floats; any of them may be infinite or NaN.
        best: the rule that the run chooses its best by, such as `("loss", "min")`; None for none.
        sequence: 1 for the first that was saved in this run's folder, then upwards.
        created: UTC, ISO 8601. zoo_version, torch_version: what wrote it.
        files: what it consists of beside its record, with size and SHA-256.
        extra: what the caller saved beside; filled by `load_checkpoint` only.
    """

    path: str
    epoch: int
    step: int | None
    metrics: dict[str, float]
    best: tuple[str, str] | None
    sequence: int
    created: str
    zoo_version: str
    torch_version: str
    files: dict[str, File]
    extra: Any = None

    @property
    def name(self) -> str:
        """Its folder's name in the run's folder."""
        return os.path.basename(self.path)

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        shown = ", ".join(f"{name} {value:g}" for name, value in self.metrics.items())
        return f"{self.name}: {shown}" if shown else self.name


class Run(NamedTuple):
    """What lies in a run's folder: sound checkpoints, in the order they were saved, and damaged ones by name."""

    path: str
    checkpoints: list[TrainingCheckpoint]
    damaged: dict[str, str]


def list_checkpoints(path: str | os.PathLike[str]) -> list[TrainingCheckpoint]:
    """The complete checkpoints of a run, in the order they were saved; none where there is no such folder.

    Their records are read, not their tensors; a folder whose record is damaged is left out, with a warning that names
    it. Raises `CheckpointError` where the folder cannot be read.
    """
    run = read_run(path)
    if run.damaged:
        faults = "; ".join(run.damaged[name] for name in sorted(run.damaged))
        warnings.warn(f"left out of the checkpoints in {run.path}, since they are damaged: {faults}", stacklevel=2)
    return run.checkpoints


def run_path(path: str | os.PathLike[str]) -> str:
    """The absolute path of a run's folder, or a checkpoint's; `file://…` is one too. Raises `OptionError`."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise OptionError("a run's folder is a path", asked=f"path={path!r}"[:100], fix='path="checkpoints/run"')
    bare = text.removeprefix("file://")
    plain = os.path.abspath(os.path.expanduser(bare))
    if bare != text and not os.path.lexists(plain):
        return os.path.abspath(os.path.expanduser(unquote(bare)))
    return plain


def read_run(path: str | os.PathLike[str]) -> Run:
    """What lies in a run's folder now. Raises `CheckpointError` where that cannot be read.

    A writer that keeps the last few may remove what was just listed, the newest of a moment ago too. So the folder is
    read until it was the same before and after.
    """
    root = run_path(path)
    names = _names(root)
    for _ in range(_TRIES):
        run = _read(root, names)
        before, names = names, _names(root)
        if names == before:
            break
    return run


def _names(root: str) -> set[str]:
    try:
        return {name for name in os.listdir(root) if NAME.fullmatch(name)}
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise CheckpointError(
            f"{root} cannot be read: {error.strerror or error}", fix="the folder of a training run"
        ) from None


def _read(root: str, names: set[str]) -> Run:
    found, damaged = [], {}
    for name in names:
        if is_ours(os.path.join(root, name)):
            try:
                found.append(_record(os.path.join(root, name)))
            except FormatError as error:
                if os.path.isdir(os.path.join(root, name)):  # else it was removed meanwhile
                    damaged[name] = error.message
    found.sort(key=lambda c: (c.sequence, c.created, c.name))
    return Run(root, found, damaged)


def is_ours(folder: str) -> bool:
    """Whether a folder holds any file that a checkpoint has. Somebody's folder of that name does not."""
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            return False
        return any(os.path.lexists(os.path.join(folder, name)) for name in (RECORD, STRUCTURE, TENSORS))
    except OSError:
        return False


def _record(folder: str) -> TrainingCheckpoint:
    """As `read_record`, which is slow for thousands; from memory where the file is as it was when it was read."""
    try:
        now = os.stat(os.path.join(folder, RECORD))
    except OSError:
        return read_record(folder)
    if time.time() - max(now.st_mtime, now.st_ctime) < SETTLED:
        return read_record(folder)
    known = _remembered(folder, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
    return replace(known, metrics=dict(known.metrics), files=dict(known.files))  # the caller's own to change


@lru_cache(maxsize=1 << 14)
def _remembered(folder: str, *stamp: int) -> TrainingCheckpoint:
    return read_record(folder)


def read_record(folder: str) -> TrainingCheckpoint:
    """The record of one checkpoint. Raises `FormatError`: missing, damaged, or of a newer zoo."""
    path = os.path.join(folder, RECORD)
    try:
        with open(path, "rb") as file:
            record = json.loads(file.read())
        claimed = record.pop("sha256")
        if record["zoo_checkpoint"] > LAYOUT:
            raise FormatError(f"{folder} was written by a newer zoo", fix="pip install -U zoo-core")
        if claimed != _digest(record):
            raise ValueError("its own digest differs")
        best = record["best"]
        return TrainingCheckpoint(
            path=folder,
            epoch=int(record["epoch"]),
            step=None if record["step"] is None else int(record["step"]),
            metrics=TreeReader({}, path).read(record["metrics"]),
            best=None if best is None else (str(best[0]), str(best[1])),
            sequence=int(record["sequence"]),
            created=str(record["created"]),
            zoo_version=str(record["zoo"]),
            torch_version=str(record["torch"]),
            files={checked_name(n): File(str(f["sha256"]), int(f["size"])) for n, f in record["files"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        what = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise FormatError(f"{path} cannot be read: {what}") from None


def record_text(checkpoint: TrainingCheckpoint) -> str:
    """A record as JSON, with its own digest; `read_record` is the inverse."""
    record = {
        "zoo_checkpoint": LAYOUT,
        "epoch": checkpoint.epoch,
        "step": checkpoint.step,
        "metrics": TreeWriter().add(checkpoint.metrics, "metrics"),
        "best": checkpoint.best,
        "sequence": checkpoint.sequence,
        "created": checkpoint.created,
        "zoo": checkpoint.zoo_version,
        "torch": checkpoint.torch_version,
        "files": {name: file._asdict() for name, file in checkpoint.files.items()},
    }
    return json.dumps({**record, "sha256": _digest(record)}, indent=1, allow_nan=False) + "\n"


def next_sequence(path: str) -> int:
    """The number of the next checkpoint in a run's folder."""
    return 1 + max((checkpoint.sequence for checkpoint in read_run(path).checkpoints), default=0)


def folder_name(epoch: int, step: int | None, attempt: int) -> str:
    """`epoch-0003`, `epoch-0003-step-000120`, `epoch-0003-again-2`."""
    name = f"epoch-{epoch:04d}" + ("" if step is None else f"-step-{step:06d}")
    return name if attempt == 1 else f"{name}-again-{attempt}"


def checked_name(name: str) -> str:
    """The name of a file inside a checkpoint's own folder. Raises `ValueError` for anything that leads elsewhere."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"{name!r} is no name of a file in it")
    return name


def checked_count(word: str, value: Any) -> int:
    """An epoch or a step. Raises `OptionError`."""
    whole = not isinstance(value, bool) and hasattr(value, "__index__")
    number = int(value) if whole else -1
    if not 0 <= number < 10**15:
        raise OptionError(f"{word} is a whole number, 0 or more", asked=f"{word}={value!r}"[:100], fix=f"{word}=0")
    return number


def checked_metrics(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    """Metrics as plain floats, infinite ones and NaN too: a run that diverged is saved. Raises `OptionError`."""
    if not isinstance(metrics, Mapping | None):
        raise OptionError("metrics are numbers by name", asked=f"metrics={metrics!r}"[:100], fix='{"top1": 0.9}')
    kept = {}
    for name, value in (metrics or {}).items():
        try:
            if not isinstance(name, str) or isinstance(value, str | bytes):
                raise TypeError
            kept[name] = float(value.detach() if isinstance(value, Tensor) else value)
        except (TypeError, ValueError, OverflowError, RuntimeError):  # the last: a tensor of several numbers
            raise OptionError(
                "metrics are numbers by name", asked=f"{name!r}: {value!r}"[:100], fix='{"top1": 0.9}'
            ) from None
    return kept


def checked_best(best: Best | Sequence[str] | None) -> tuple[str, str] | None:
    """The rule as (metric, `max` or `min`). Raises `OptionError`."""
    if best is None:
        return None
    rule = (best, "max") if isinstance(best, str) else tuple(best) if isinstance(best, tuple | list) else ()
    if len(rule) != 2 or not isinstance(rule[0], str) or rule[1] not in ("max", "min"):
        raise OptionError(
            "the best is chosen by a metric, its highest value or its lowest",
            asked=f"best={best!r}"[:100],
            fix='best="top1" or best=("loss", "min")',
        )
    return rule[0], rule[1]


def best_of(checkpoints: Sequence[TrainingCheckpoint], rule: tuple[str, str]) -> TrainingCheckpoint | None:
    """The checkpoint with the best value, the first of equal ones; NaN and missing values are never the best."""
    metric, direction = rule
    sign = 1 if direction == "max" else -1
    known = [c for c in checkpoints if not math.isnan(c.metrics.get(metric, math.nan))]
    return max(known, key=lambda c: sign * c.metrics[metric], default=None)


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
