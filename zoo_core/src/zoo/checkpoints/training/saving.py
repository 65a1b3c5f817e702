"""Saving: `save_checkpoint` for one, `CheckpointSaver` for a run, in the background too."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version as installed_version
from os import PathLike
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from zoo.checkpoints.training.capture import Contents, Several, Training, capture
from zoo.checkpoints.training.commit import aside, clean, commit, make_run_folder, write_file
from zoo.checkpoints.training.folders import (
    CONFIG,
    RECORD,
    STRUCTURE,
    TENSORS,
    WEIGHTS,
    Best,
    TrainingCheckpoint,
    checked_best,
    checked_count,
    checked_metrics,
    next_sequence,
    read_run,
    record_text,
    run_path,
)
from zoo.checkpoints.training.randomness import Generator
from zoo.checkpoints.training.retention import checked_keep, retire
from zoo.checkpoints.training.trees import structure_text
from zoo.checkpoints.writing import serialize
from zoo.errors import OptionError


def save_checkpoint(
    model: nn.Module,
    optimizer: Several = None,
    epoch: int = 0,
    metrics: Mapping[str, float] | None = None,
    path: str | PathLike[str] = "checkpoints",
    *,
    scheduler: Several = None,
    scaler: Several = None,
    ema: Several = None,
    step: int | None = None,
    generators: Mapping[str, Generator] | None = None,
    extra: Any = None,
    keep_last: int | None = None,
    best: Best | None = None,
) -> TrainingCheckpoint:
    """Save everything that training needs to go on, as a new folder in the run's folder, complete or not at all.

    When it returns, the checkpoint is on the disk. No random number is drawn, so saving does not change the run.

    Args:
        model: any module; wrappers of data parallelism and torch.compile are left out of the names.
        optimizer, scheduler, scaler, ema: whatever has `state_dict()`; several as a dict or a list; None for none.
        epoch, step: where the run is, 0 or more; the folder is called after them.
        metrics: numbers by name. Infinite ones and NaN are kept, and are no reason not to save.
        path: the run's folder; it need not exist. What is in it is never overwritten.
        generators: random generators of your own by name, such as the data loader's.
        extra: whatever else the run needs: numbers, strings, tensors and arrays in dicts, lists and tuples.
        keep_last: how many of the last stay in the run's folder, with the best; None keeps all.
        best: the metric that tells the best: `"top1"` for its highest value, `("loss", "min")` for its lowest. Where
            metrics are given, it has to be among them, or have been in a save before; NaN says it was not measured.

    Raises:
        OptionError: something that cannot be kept; its place is named, as `optimizer.param_groups[0].foo`.
        CheckpointError: the folder cannot be written.
    """
    saver = CheckpointSaver(path, keep_last=keep_last, best=best)
    saver.save(
        model,
        optimizer,
        epoch,
        metrics,
        scheduler=scheduler,
        scaler=scaler,
        ema=ema,
        step=step,
        generators=generators,
        extra=extra,
    )
    saved = saver.wait()
    assert saved is not None
    return saved


class CheckpointSaver:
    """Saves the checkpoints of one run; in the background if asked to.

    In the background, `save` returns as soon as everything is copied to memory, so that training goes on while a
    thread writes. One save is under way at a time: the next waits for it. What the thread could not write is raised
    by the next `save`, `wait` or `close`, and told at exit if none of them comes. A program that ends without `close`
    still writes what `save` has taken; one that is killed keeps what was written.

    Args:
        path: the run's folder. keep_last, best: as for `save_checkpoint`.
        background: whether `save` returns before the checkpoint is on the disk.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        keep_last: int | None = None,
        best: Best | None = None,
        background: bool = False,
    ) -> None:
        self.path = run_path(path)
        self.keep_last, self.best = checked_keep(keep_last), checked_best(best)
        self.background = background
        self._writing: _Writing | None = None
        self._saved: TrainingCheckpoint | None = None

    def save(
        self,
        model: nn.Module,
        optimizer: Several = None,
        epoch: int = 0,
        metrics: Mapping[str, float] | None = None,
        *,
        scheduler: Several = None,
        scaler: Several = None,
        ema: Several = None,
        step: int | None = None,
        generators: Mapping[str, Generator] | None = None,
        extra: Any = None,
    ) -> None:
        """Save one checkpoint; arguments and errors as for `save_checkpoint`.

        Raises:
            CheckpointError: also if the save before this one failed in the background.
        """
        self.wait()
        numbers = checked_count("epoch", epoch), None if step is None else checked_count("step", step)
        kept = checked_metrics(metrics)
        self._check_best(kept)
        contents = capture(Training(model, optimizer, scheduler, scaler, ema, generators), extra)
        checkpoint = TrainingCheckpoint(
            path=self.path,
            epoch=numbers[0],
            step=numbers[1],
            metrics=kept,
            best=self.best,
            sequence=0,
            created=datetime.now(UTC).isoformat(),
            zoo_version=_zoo_version(),
            torch_version=torch.__version__,
            files={},
        )
        if contents.sharded:
            from zoo.checkpoints.training.sharded import write_sharded  # brings torch.distributed.checkpoint

            self._saved = write_sharded(contents, checkpoint, self.keep_last)
        elif self.background:
            self._writing = _Writing(contents.copied(), checkpoint, self.keep_last)
        else:
            self._saved = write(contents, checkpoint, self.keep_last)

    def wait(self) -> TrainingCheckpoint | None:
        """Return when everything saved is on the disk, with the last checkpoint this saver saved; None before one.

        Raises:
            CheckpointError: the save in the background failed.
        """
        writing, self._writing = self._writing, None
        if writing is not None and writing.process == os.getpid():  # after a fork, it is the parent's
            self._saved = writing.result()
        return self._saved

    def close(self) -> None:
        """Wait for the last save. Errors as for `wait`."""
        self.wait()

    def _check_best(self, metrics: Mapping[str, float]) -> None:
        """Refuse a rule for the best by a metric that neither this save has nor any before it: nothing would be kept.

        A run that measures it now and then is no such run.
        """
        if self.best is None or not metrics or self.best[0] in metrics:
            return
        name = self.best[0]
        if not any(name in checkpoint.metrics for checkpoint in read_run(self.path).checkpoints):
            near = get_close_matches(name, metrics, n=1)
            raise OptionError(
                f"the best is chosen by {name!r}, which is not among the metrics",
                asked=f"best={self.best!r}",
                found=", ".join(metrics),
                fix=(f"{near[0]!r}, or " if near else "")
                + f'metrics={{"{name}": float("nan"), …}} where it was not measured',
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def write(contents: Contents, checkpoint: TrainingCheckpoint, keep_last: int | None) -> TrainingCheckpoint:
    """Write one checkpoint into the run's folder, and remove what need not stay.

    Args:
        checkpoint: its record as far as known; `path` is the run's folder.

    Raises:
        CheckpointError: the folder cannot be written; nothing is left there.
    """
    root = checkpoint.path
    make_run_folder(root)
    clean(root)
    with aside(root) as made:
        files = {
            WEIGHTS: write_file(made.path, WEIGHTS, serialize(contents.weights, contents.metadata)),
            TENSORS: write_file(made.path, TENSORS, serialize(contents.tensors)),
            STRUCTURE: write_file(made.path, STRUCTURE, [structure_text(contents.structure)]),
        }
        if contents.config is not None:
            files[CONFIG] = write_file(made.path, CONFIG, [contents.config.encode()])
        checkpoint = replace(checkpoint, files=files, sequence=next_sequence(root))
        write_file(made.path, RECORD, [record_text(checkpoint).encode()])
        saved = replace(checkpoint, path=commit(made, root, checkpoint.epoch, checkpoint.step))
    retire(saved, keep_last, saved.best)
    return saved


class _Writing:
    """One save under way in a thread of its own, which the interpreter waits for when it ends."""

    def __init__(self, contents: Contents, checkpoint: TrainingCheckpoint, keep_last: int | None) -> None:
        self.process = os.getpid()
        self._error: BaseException | None = None
        self._saved: TrainingCheckpoint | None = None
        self._thread = threading.Thread(
            target=self._run, args=(contents, checkpoint, keep_last), name="zoo-checkpoint", daemon=False
        )
        self._thread.start()

    def result(self) -> TrainingCheckpoint:
        self._thread.join()
        atexit.unregister(self._tell)
        if self._error is not None:
            raise self._error
        assert self._saved is not None
        return self._saved

    def _run(self, contents: Contents, checkpoint: TrainingCheckpoint, keep_last: int | None) -> None:
        try:
            self._saved = write(contents, checkpoint, keep_last)
        except BaseException as error:
            error.add_note(f"while epoch {checkpoint.epoch} was written in the background")
            self._error = error
            atexit.register(self._tell)

    def _tell(self) -> None:
        print(f"A checkpoint is missing: {self._error}", file=sys.stderr)


def _zoo_version() -> str:
    try:
        return installed_version("zoo-core")
    except PackageNotFoundError:
        return "unknown"
