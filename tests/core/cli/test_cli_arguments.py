"""How a command line is read."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from zoo.cli.arguments import Command, Option, UsageError, read
from zoo.errors import ZooError

COMMAND = Command(
    "look",
    operands=("MODEL", "INPUT…"),
    options=(
        Option("--json", "for machines"),
        Option("--top", "how many", value="K", short="-k"),
        Option("--allow-license", "accept", value="SPDX", repeat=True),
    ),
)


def test_options_may_stand_anywhere_and_in_both_spellings() -> None:
    for line in ("m a b --top 3 --json", "--json m --top=3 a b", "m -k 3 a --json b"):
        arguments = read(COMMAND, line.split())
        assert arguments.operands == ["m", "a", "b"]
        assert arguments.number("top", 5) == 3
        assert arguments.flag("json")


def test_a_dash_is_an_operand_and_two_dashes_end_the_options() -> None:
    assert read(COMMAND, ["m", "-", "--", "--json", "-x"]).operands == ["m", "-", "--json", "-x"]
    assert not read(COMMAND, ["m", "-", "--", "--json"]).flag("json")


def test_an_option_may_be_repeated_or_take_commas() -> None:
    arguments = read(COMMAND, ["m", "a", "--allow-license", "MIT,GPL-3.0", "--allow-license=CC-BY-NC-4.0"])
    assert arguments.texts("allow-license") == ["MIT", "GPL-3.0", "CC-BY-NC-4.0"]


def test_what_is_absent_has_its_default() -> None:
    arguments = read(COMMAND, ["m", "a"])
    assert (arguments.number("top", 5), arguments.text("top"), arguments.flag("json")) == (5, None, False)
    assert arguments.texts("allow-license") == []


def test_a_misspelt_option_gets_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"no option --jsn; did you mean --json\?"):
        read(COMMAND, ["m", "a", "--jsn"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["m", "a", "--top"], "--top needs a value"),
        (["m", "a", "--top", "--json"], "--top needs a value"),
        (["m", "a", "--json=yes"], "--json takes no value"),
        ([], "needs MODEL"),
        (["m"], "needs INPUT…"),
    ],
)
def test_a_line_that_makes_no_sense_says_why(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(COMMAND, words)


def test_a_surplus_operand_is_named() -> None:
    one = Command("info", operands=("MODEL",))
    with pytest.raises(UsageError, match="'extra'"):
        read(one, ["resnet50", "extra"])


@pytest.mark.parametrize("value", ["0", "-1", "many", "2.5", ""])
def test_a_number_is_whole_and_positive(value: str) -> None:
    with pytest.raises(UsageError, match="whole number from 1"):
        read(COMMAND, ["m", "a", f"--top={value}"]).number("top", 5)


def test_an_optional_operand_may_be_absent() -> None:
    command = Command("list", operands=("PATTERN?",))
    assert read(command, []).operands == []
    assert command.usage == "zoo list [PATTERN]"


@given(st.lists(st.text()))
def test_any_junk_is_read_or_refused_by_an_error_of_ours(words: list[str]) -> None:
    try:
        arguments = read(COMMAND, words)
    except ZooError:
        return
    assert len(arguments.operands) >= 2
