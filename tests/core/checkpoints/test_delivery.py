"""Progress: shown where somebody watches and it takes long, told to whoever asked."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from zoo.checkpoints.delivery import LARGE, Wanted, offline, shown_progress


class Terminal(io.StringIO):
    """A standard error somebody watches."""

    def isatty(self) -> bool:
        return True


def screen_of(stream: Any) -> str:
    """What was written so far."""
    return str(stream.getvalue())


@pytest.mark.parametrize(
    ("screen", "total", "seen"),
    [(Terminal, LARGE, True), (Terminal, LARGE - 1, False), (Terminal, None, True), (io.StringIO, LARGE, False)],
)
def test_a_bar_appears_on_a_terminal_for_a_large_file(
    monkeypatch: pytest.MonkeyPatch, screen: type[io.StringIO], total: int | None, seen: bool
) -> None:
    monkeypatch.setattr("sys.stderr", screen())
    with shown_progress(None, "hf://acme/model/weights.safetensors") as show:
        show(LARGE - 1, total)
        show(LARGE, total)
        text = screen_of(sys.stderr)
    assert ("weights.safetensors" in text) is seen


def test_whoever_asks_is_told_and_no_bar_appears(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", screen := Terminal())
    told: list[int] = []
    with shown_progress(lambda done, total: told.append(done), "x") as show:
        show(LARGE, LARGE)
    assert told == [LARGE]
    assert screen.getvalue() == ""


@pytest.mark.parametrize(("value", "off"), [("1", True), ("true", True), ("YES", True), ("0", False), ("", False)])
@pytest.mark.parametrize("name", ["ZOO_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_the_network_is_switched_off_as_users_of_the_hub_know_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, off: bool
) -> None:
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    monkeypatch.setenv(name, value)
    assert offline() is off


def test_a_promise_without_content_takes_anything() -> None:
    Wanted().check("whatever", 3, "x")
