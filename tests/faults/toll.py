"""How many processes were killed, during which operation and before which change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from killing import Life

_DEAD: Counter[tuple[str, str, str]] = Counter()


def count(operation: str, way: str, life: Life) -> bool:
    """Note how a life of that operation ended; whether it was killed before its natural end."""
    if life.killed:
        _DEAD[operation, way, str(life.changes[-1]) if life.changes else "at a random moment"] += 1
    return life.killed


def report(points: bool) -> Iterator[str]:
    """The numbers of dead, a line an operation; with the points of their deaths below it if asked."""
    if not _DEAD:
        return
    yield f"{sum(_DEAD.values())} processes killed"
    for operation in dict.fromkeys(name for name, _, _ in _DEAD):
        ways: Counter[str] = Counter()
        places: Counter[str] = Counter()
        for (name, way, place), number in _DEAD.items():
            if name == operation:
                ways[way] += number
                places[place] += number
        told = ", ".join(f"{number} {way}" for way, number in ways.items())
        yield f"  {operation}: {sum(ways.values())} ({told}) at {len(places)} places"
        if points:
            yield from (f"      {number:4} {place}" for place, number in places.most_common())
