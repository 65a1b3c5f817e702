"""Which checkpoints of a run stay: the last ones, and the best."""

from __future__ import annotations

import os
from contextlib import suppress

from zoo.checkpoints.training.commit import put_away
from zoo.checkpoints.training.folders import RECORD, TrainingCheckpoint, best_of, read_run
from zoo.errors import CheckpointError, OptionError


def checked_keep(keep_last: int | None) -> int | None:
    """How many of the last stay; None for all. Raises `OptionError`."""
    if keep_last is None:
        return None
    if isinstance(keep_last, bool) or not isinstance(keep_last, int) or keep_last < 1:
        raise OptionError(
            "at least the last checkpoint is kept", asked=f"keep_last={keep_last!r}"[:100], fix="keep_last=3"
        )
    return keep_last


def retire(saved: TrainingCheckpoint, keep_last: int | None, best: tuple[str, str] | None) -> None:
    """Remove all checkpoints of the run but the last ones, the best and the one just saved.

    Only whole checkpoints go, of those this package wrote: a damaged one, and one to whose folder somebody added
    files, stay for their owner to look at. One that cannot be removed stays until a later save removes it.
    """
    if keep_last is None:
        return
    try:
        checkpoints = read_run(os.path.dirname(saved.path)).checkpoints
    except CheckpointError:  # what was saved is saved
        return
    staying = {saved.path, *(c.path for c in checkpoints[-keep_last:])}
    chosen = best_of(checkpoints, best) if best is not None else None
    staying |= {chosen.path} if chosen is not None else set()
    for checkpoint in checkpoints:
        if checkpoint.path not in staying:
            with suppress(OSError):  # another run was faster, or it is not ours to remove
                if set(os.listdir(checkpoint.path)) <= {RECORD, *checkpoint.files}:
                    put_away(checkpoint.path)
