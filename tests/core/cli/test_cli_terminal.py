"""Tables, widths and colours."""

from __future__ import annotations

import io
from contextlib import redirect_stdout

import pytest
from hypothesis import given, strategies as st

from zoo.cli import terminal


class Screen(io.StringIO):
    """A terminal that can be read."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    for name in ("NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return Screen()


def test_columns_line_up_and_lines_have_no_trailing_space(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.table([("MODEL", "PARAMS", "TASK"), ("resnet50", "25.6M", ""), ("a", "5", "x")], right=(1,))
    assert capsys.readouterr().out == "MODEL     PARAMS  TASK\nresnet50   25.6M\na              5  x\n"


def test_wide_letters_take_two_columns(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.table([("猫.jpg", "1"), ("ab.jpg", "2")], heading=False)
    assert capsys.readouterr().out == "猫.jpg  1\nab.jpg  2\n"


def test_off_a_terminal_nothing_is_cut_or_coloured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal.table([("a", "x" * 300)], heading=True)
    print(terminal.styled("b", "bold"))
    assert capsys.readouterr().out == "a  " + "x" * 300 + "\nb\n"


def test_a_table_fits_the_terminal(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with redirect_stdout(screen):
        terminal.table([("name", "x" * 300)], heading=False)
    assert screen.getvalue() == "name  " + "x" * 33 + "…\n"


def test_no_color_is_respected(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    assert terminal.styled("b", "bold", screen) == "\x1b[1mb\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.styled("b", "bold", screen) == "b"


def test_a_dumb_terminal_gets_plain_text(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert terminal.styled("b", "bold", screen) == "b"


@given(st.text())
def test_cleaned_text_is_one_printable_line(text: str) -> None:
    assert terminal.clean(text).isprintable()
    assert len(terminal.clean(text)) == len(text)


@given(st.text(), st.integers(min_value=2, max_value=40))
def test_fitted_text_fits(text: str, room: int) -> None:
    text = terminal.clean(text)
    fitted = terminal.fitted(text, room)
    assert terminal.columns(fitted) <= room
    assert fitted == text or fitted.endswith("…")
