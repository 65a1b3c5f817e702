"""The parts of a data set, train, val, test, by the names people give them. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.errors import InputError

KINDS = {
    "val": ("val", "valid", "validation", "dev", "eval"),
    "test": ("test", "testing"),
    "train": ("train", "training"),
}


def chosen_split(names: Sequence[str], asked: str | None, where: str) -> str:
    """One of the splits there are: the one asked for; otherwise the only one, or the validation or test images.

    `val` also means `valid` or `val2017` where there is one of these only.

    Raises:
        InputError: no such split, or several that could be meant, with their names.
    """
    there = sorted(dict.fromkeys(names))
    if asked is None:
        return _default(there, where)
    exact = [name for name in there if name.casefold() == asked.casefold()]
    found = exact or [name for name in there if _kind(name) == _kind(asked)]
    if len(found) == 1:
        return found[0]
    which = f"more than one split could be {asked!r}" if found else f"there is no split {asked!r}"
    raise InputError(
        f"{where}: {which}", asked=asked, found=", ".join(found or there) or "no splits", fix=_choose(found or there)
    )


def _default(there: Sequence[str], where: str) -> str:
    if len(there) == 1:
        return there[0]
    for kind in ("val", "test"):
        found = [name for name in there if _kind(name) == kind]
        if len(found) == 1:
            return found[0]
    raise InputError(f"{where}: which split is meant?", found=", ".join(there), fix=_choose(there))


def _choose(names: Sequence[str]) -> str | None:
    return f"--split {names[-1]}, in Python split={names[-1]!r}" if names else None


def _kind(name: str) -> str:
    """`val` of `valid` and of `val2017`; a name of its own kind otherwise."""
    word = name.casefold().rstrip("0123456789").rstrip("_-")
    return next((kind for kind, words in KINDS.items() if word in words), name.casefold())
