"""What a source is asked for and what it hands over."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from zoo.errors import DigestError

Progress = Callable[[int, int | None], None]
"""Called with the bytes that have arrived so far and the file's size, where it is known."""

_watcher: ContextVar[Callable[[str], Progress] | None] = ContextVar("watcher", default=None)

LARGE = 32_000_000
"""Bytes from which on a download shows its progress on a terminal."""


class Wanted(NamedTuple):
    """The file as promised. `sha256` in lower-case hex, `size` in bytes; None where nobody said.

    pin: the record that holds the digest, where this machine pinned it on first use; empty for a declared digest.
    """

    sha256: str | None = None
    size: int | None = None
    pin: str = ""

    def check(self, sha256: str, size: int, source: str) -> None:
        """Raise `DigestError` unless these are the promised bytes."""
        if self.size is not None and self.size != size:
            raise self.broken(source, f"{size} bytes", f"{self.size} bytes")
        if self.sha256 is not None and self.sha256 != sha256:
            raise self.broken(source, f"sha256 {sha256}", f"sha256 {self.sha256}")

    def broken(self, source: str, found: str, asked: str) -> DigestError:
        """The error for a file that is not the promised one."""
        if self.pin:
            why = "this is not the file that was pinned here on first use"
            fix = f"if the new file is right, forget the old one: rm {self.pin}"
        else:
            why = "this is not the promised file"
            fix = "try again if the connection is doubtful; otherwise do not use this file"
        return DigestError(f"{source}: {why}", asked=asked, found=found, fix=fix)


ANYTHING = Wanted()
"""No promise: whatever comes is taken, and named by its digest."""


class Delivery(NamedTuple):
    """A file that arrived and was verified. `source` has its revision pinned."""

    path: str
    sha256: str
    source: str


class MissingFile(NamedTuple):
    """A file that is not here: its name, its size in bytes and its SHA-256 where known, and where it may come from."""

    name: str
    size: int | None
    sha256: str | None
    sources: tuple[str, ...]

    def __str__(self) -> str:
        known = [
            f"{self.size:,} bytes" if self.size is not None else "",
            f"sha256 {self.sha256}" if self.sha256 else "",
        ]
        return ", ".join([self.name, *filter(None, known), *self.sources])


def offline() -> bool:
    """Whether the user has switched the network off: `ZOO_OFFLINE=1`, or the Hub's own `HF_HUB_OFFLINE=1`."""
    names = ("ZOO_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in names)


@contextmanager
def watched_by(watcher: Callable[[str], Progress]) -> Iterator[None]:
    """Within, downloads nobody passes a `progress` to tell `watcher(name)`'s answer, and draw nothing themselves."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


@contextmanager
def shown_progress(progress: Progress | None, name: str) -> Iterator[Progress]:
    """The caller's progress, or the watcher's, or a bar on a terminal for a large file, or nothing."""
    watcher = _watcher.get()
    if progress is None and watcher is not None:
        progress = watcher(name)
    if progress is not None:
        yield progress
        return
    bar = _Bar(name)
    try:
        yield bar
    finally:
        bar.close()


class _Bar:
    """A tqdm bar that appears only on a terminal, and only once the file is known to be large."""

    def __init__(self, name: str) -> None:
        self.name = name[-40:]
        self.wanted = sys.stderr is not None and sys.stderr.isatty()
        self.close: Callable[[], None] = lambda: None
        self.show: Callable[[int], None] | None = None

    def __call__(self, done: int, total: int | None) -> None:
        if self.show is None and self.wanted and (total or done) >= LARGE:
            from tqdm import tqdm  # type: ignore[import-untyped]  # tqdm ships no types

            bar = tqdm(total=total, unit="B", unit_scale=True, desc=self.name)
            self.close = bar.close
            self.show = lambda reached: bar.update(reached - bar.n) and None
        if self.show is not None:
            self.show(done)
