"""Checkpoints of state that is spread over the processes of one run."""

from __future__ import annotations

from zoo.checkpoints.training.capture import Contents, Training
from zoo.checkpoints.training.folders import TrainingCheckpoint
from zoo.checkpoints.training.restore import Saved
from zoo.errors import UnsupportedError


def write_sharded(contents: Contents, checkpoint: TrainingCheckpoint, keep_last: int | None) -> TrainingCheckpoint:
    """Not there yet."""
    raise UnsupportedError("sharded state cannot be saved yet")


def read_sharded(checkpoint: TrainingCheckpoint, training: Training) -> Saved:
    """Not there yet."""
    raise UnsupportedError("sharded state cannot be read yet")
