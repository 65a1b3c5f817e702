"""What the processes of one run decide together: all go on, or all raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

from zoo.errors import CheckpointError, ZooError

_Value = TypeVar("_Value")


def rank() -> int:
    """This process's number among those of the run; 0 where it is alone."""
    return dist.get_rank() if _together() else 0


def world_size() -> int:
    """How many processes the run has."""
    return dist.get_world_size() if _together() else 1


def agreed(make: Callable[[], _Value]) -> list[_Value]:
    """The value that every process makes, in the order of their ranks.

    Raises:
        ZooError: one of them raised, on all of them; or one of them is gone.
    """
    if not _together():
        return [make()]
    outcomes: list[Any] = [None] * world_size()
    _talk(lambda: dist.all_gather_object(outcomes, _outcome(make)))
    return [_value(outcome, number) for number, outcome in enumerate(outcomes)]


def first_says(make: Callable[[], _Value]) -> _Value:
    """The value that the first process makes, on all of them. Errors as for `agreed`."""
    if not _together():
        return make()
    outcomes: list[Any] = [_outcome(make) if rank() == 0 else None]
    _talk(lambda: dist.broadcast_object_list(outcomes, src=0))
    value: _Value = _value(outcomes[0], 0)
    return value


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


def _outcome(make: Callable[[], object]) -> tuple[object, ZooError | None]:
    try:
        return make(), None
    except ZooError as error:
        return None, error
    except Exception as error:
        return None, CheckpointError(f"{type(error).__name__}: {error}")


def _value(outcome: tuple[Any, ZooError | None], number: int) -> Any:
    value, error = outcome
    if error is None:
        return value
    if number != rank():
        error.message = f"in process {number} of this run: {error.message}"
    raise error


def _talk(exchange: Callable[[], object]) -> None:
    try:
        exchange()
    except RuntimeError as error:
        raise CheckpointError(
            "another process of this run does not answer",
            found=f"{type(error).__name__}: {str(error)[:300]}",
            fix="load the last checkpoint when all processes are back",
        ) from error
