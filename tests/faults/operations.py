"""What is killed: each thing the zoo writes, with what is there before, and what must be true whatever happened.

All run in a working folder that is theirs, with `$ZOO_HOME` at `home` in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from killing import Answer

ALL: list[Operation] = []
"""Every operation, in the order in which they are defined."""


class Operation(NamedTuple):
    """prepare: what is there before. act: what is killed; it answers what it was told is done. check: takes the answers
    of a life, and fails unless all of them hold and nothing is half there; it is called by the next process.
    check_writes: whether it cannot do without writing."""

    name: str
    prepare: Callable[[], object]
    act: Callable[[Answer], object]
    check: Callable[[Sequence[Any]], object]
    check_writes: bool = False


def operation(
    name: str, *, before: Callable[[], object], check: Callable[[Sequence[Any]], object], check_writes: bool = False
) -> Any:
    """Decorates `act` and adds the operation to `ALL`."""

    def add(act: Callable[[Answer], object]) -> Callable[[Answer], object]:
        ALL.append(Operation(name, before, act, check, check_writes))
        return act

    return add


def nothing() -> None:
    """What is there before, where nothing need be."""
