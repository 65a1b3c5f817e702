"""The progress line."""

from __future__ import annotations

import io
import sys
import threading
from contextlib import redirect_stderr

import pytest

from zoo.checkpoints.delivery import shown_progress, watched_by
from zoo.cli import progress as progress_module
from zoo.cli.progress import Progress


class Screen(io.StringIO):
    """A terminal that says when something is painted on it."""

    def __init__(self) -> None:
        super().__init__()
        self.painted = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        written = super().write(text)
        if "\r" in text:
            self.painted.set()
        return written


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(progress_module, "PATIENCE", 0.0)
    return Screen()


def test_nothing_shows_before_it_takes_long(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "PATIENCE", 1000.0)
    monkeypatch.setattr(progress_module, "INTERVAL", 0.001)
    with redirect_stderr(screen), Progress("loading"):
        assert not screen.painted.wait(0.1)
    assert screen.getvalue() == ""


def test_the_line_is_gone_when_it_is_over(screen: Screen) -> None:
    with redirect_stderr(screen), Progress("loading") as progress:
        progress.step("looking", total=4, unit="photos")
        assert screen.painted.wait(10)
    assert "looking" in screen.getvalue()
    assert screen.getvalue().endswith("\r\x1b[K")


def test_what_is_printed_aside_stands_on_a_line_of_its_own(screen: Screen) -> None:
    with redirect_stderr(screen), Progress("loading") as progress:
        assert screen.painted.wait(10)
        with progress.aside():
            print("answer", file=sys.stderr)
            threading.Event().wait(0.3)  # the painter would like to paint
            printed = screen.getvalue()
    assert printed.endswith("\r\x1b[Kanswer\n")


def test_off_a_terminal_there_is_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "PATIENCE", 0.0)
    plain = io.StringIO()
    with redirect_stderr(plain), Progress("loading"):
        threading.Event().wait(0.3)
    assert plain.getvalue() == ""


def test_the_line_says_how_far_it_is_and_fits() -> None:
    progress = Progress("loading")
    progress.step("looking", total=4, unit="photos")
    progress.advance(1)
    assert progress.line(80) == "looking  " + "█" * 6 + " " * 18 + "   25%  1 of 4 photos"
    progress.step("fetching https://example.org/" + "x" * 200, unit="B")
    assert progress.line(60).endswith("…  0 s")
    progress.advance(5_000_000, 20_000_000)
    assert progress.line(80).endswith(" 25%  5.0 of 20.0 MB")
    assert len(progress.line(80)) == 80
    progress.advance(30_000_000)
    assert " 100%  30.0 of 20.0 MB" in progress.line(80)


def test_a_download_nobody_watches_otherwise_tells_the_watcher() -> None:
    seen: list[tuple[str, int, int | None]] = []
    own: list[int] = []
    with watched_by(lambda name: lambda done, total: seen.append((name, done, total))):
        with shown_progress(None, "file") as show:
            show(1, 2)
        with shown_progress(lambda done, total: own.append(done), "file") as show:
            show(3, None)
    assert (seen, own) == ([("file", 1, 2)], [3])
