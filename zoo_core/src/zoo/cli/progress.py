"""A progress bar on stderr: for people only, only when something takes long, and gone without a trace afterwards."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from zoo.cli.terminal import clean, fitted, is_terminal, width

PATIENCE, INTERVAL, BAR = 2.0, 0.1, 24  # seconds before anything shows, seconds between paintings, columns
BLOCKS = " ▏▎▍▌▋▊▉"


class Progress:
    """One line that says what is going on and how far it is.

    A thread of its own paints it, so that it also lives through one long step: importing torch, reading a file.
    Use it as a context; `step` says what is going on, `advance` how far it is.
    """

    def __init__(self, label: str) -> None:
        self._label, self._done, self._total, self._unit = label, 0, 0, ""
        self._started = self._step_started = time.monotonic()
        self._over = threading.Event()
        self._lock = threading.Lock()  # held while the line is on the screen and must not be torn
        self._visible = False
        self._painter = threading.Thread(target=self._paint, name="zoo-progress", daemon=True)

    def __enter__(self) -> Progress:
        if is_terminal(sys.stderr):
            self._painter.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        if self._painter.is_alive():
            self._painter.join()
        with self.aside():
            pass

    def step(self, label: str, total: int = 0, unit: str = "") -> None:
        """A new thing goes on, `total` units long (0: nobody knows). Bytes (`B`) are shown as megabytes."""
        self._label, self._done, self._total, self._unit = label, 0, total, unit
        self._step_started = time.monotonic()

    def advance(self, done: int, total: int | None = None) -> None:
        """So many units are done by now; `total` where it became known only now."""
        self._done, self._total = done, total or self._total

    @contextmanager
    def aside(self) -> Iterator[None]:
        """The line leaves the screen while something else is printed; it comes back by itself."""
        with self._lock:
            if self._visible:
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)
                self._visible = False
            yield

    def _paint(self) -> None:
        while not self._over.wait(INTERVAL):
            if time.monotonic() - self._started < PATIENCE:
                continue
            with self._lock:
                print(f"\r{self.line((width(sys.stderr) or 80) - 1)}\x1b[K", end="", file=sys.stderr, flush=True)
                self._visible = True

    def line(self, room: int) -> str:
        """What the line says now, in at most `room` columns."""
        told = f"  {self._bar()}{self._amount()}"
        return fitted(fitted(clean(self._label), max(8, room - len(told))) + told, room)

    def _bar(self) -> str:
        if not self._total:
            return ""
        share = min(1.0, self._done / self._total)
        eighths = round(share * BAR * 8)
        filled = "█" * (eighths // 8) + BLOCKS[eighths % 8].strip()
        return f"{filled.ljust(BAR)}  {share:4.0%}  "

    def _amount(self) -> str:
        if not self._done and not self._total:
            return f"{time.monotonic() - self._step_started:.0f} s"
        if self._unit == "B":
            return f"{self._done / 1e6:.1f}" + (f" of {self._total / 1e6:.1f} MB" if self._total else " MB")
        return f"{self._done} of {self._total} {self._unit}"
