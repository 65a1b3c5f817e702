"""JSON of others: what does not mean one thing everywhere is refused, in one line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from zoo.checkpoints.strict_json import DEEPEST, loads

PLAIN = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(codec="utf-8"))
VALUES = st.recursive(PLAIN | TEXT, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)


@given(VALUES)
def test_what_is_sound_is_read_as_it_is(value: object) -> None:
    raw = json.dumps(value).encode()
    assert loads(raw, len(raw)) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NaN", "NaN is not JSON"), ("[-Infinity]", "-Infinity is not JSON"), ('{"a": 1e999}', "1e999 is no finite"),
        ("-1" + "0" * 400 + ".5", "no finite number"), ("9" * 10_000, "digits"),
        ('{"a": 1, "b": 2, "a": 1}', "'a' stands twice"), ('[{"a": {"b": 1, "b": 1}}]', "'b' stands twice"),
        ('{"a": "\\ud800"}', "surrogates"), ('{"\\ud800": 1}', "surrogates"),
        ('[["\\uD800"]]', "surrogates"), ('"\\uDe00"', "surrogates"),
        ("", "Expecting value"), ("{} {}", "Extra data"),
    ],
)  # fmt: skip
def test_what_is_not_sound_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        loads(text.encode(), 1 << 20)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("raw", [b"\xff", b'"\xed\xa0\x80"', "{}".encode("utf-16")], ids=["no", "half", "utf-16"])
def test_what_is_no_utf_8_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="utf-8"):
        loads(raw, 1 << 20)


def test_a_character_spelt_in_two_halves_is_one() -> None:
    assert loads(b'["\\ud83d\\uDE00"]', 99) == ["\U0001f600"]


def test_no_byte_more_than_allowed_is_read() -> None:
    assert loads(b"[1]", 3) == [1]
    with pytest.raises(ValueError, match="larger than 2 bytes"):
        loads(b"[1]", 2)


@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}")], ids=["lists", "objects"])
def test_depth_has_a_bound_that_does_not_depend_on_the_stack(begin: str, end: str) -> None:
    for value in ("7", ""):
        inner = value or (begin + "7" + end)
        depth = DEEPEST if value else DEEPEST - 1
        loads((begin * depth + inner + end * depth).encode(), 1 << 20)
        for deeper in (depth + 1, 500, 100_000):
            with pytest.raises(ValueError, match="nested too deep"):
                loads((begin * deeper + inner + end * deeper).encode(), 1 << 20)
