"""Stamps: what a file or folder looked like when it was read, to be compared later at the price of one stat.

The comparison is on the way of every `zoo list`: this module imports `os` and nothing else of size.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False  # `typing` costs a third of a bare interpreter's start
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

RACY_NS = 2_000_000_000
"""What was modified this shortly before it was read may be modified again without its time stamp moving (2 s is the
coarsest clock of a file system in use)."""

MISSING, RACY = -1, -2
Stamp = tuple[str, int, int]
"""(path, mtime in ns, size of a file or inode of a folder); the mtime is `MISSING` or `RACY` where there is none to
trust."""


def stamp(path: str, now_ns: int) -> Stamp:
    """What a later `unchanged` compares this path with. `now_ns` is a time before the path is read."""
    mtime, tag = _status(path)
    return (path, RACY if mtime > now_ns - RACY_NS else mtime, tag)


def unchanged(stamps: Iterable[Sequence[str | int]]) -> bool:
    """Whether nothing that was read has changed since: no install, uninstall, upgrade or edit."""
    return all(_status(str(path)) == (mtime, tag) for path, mtime, tag in stamps)  # nothing's mtime is `RACY`


def _status(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return MISSING, 0
    return status.st_mtime_ns, status.st_ino if stat.S_ISDIR(status.st_mode) else status.st_size
