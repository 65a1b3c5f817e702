"""Semantic versions: the specification's own examples, and what must hold for any."""

from __future__ import annotations

import string
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from zoo.errors import RefError
from zoo.versions.semver import Range, Version

numbers = st.integers(0, 12) | st.integers(0, 10**30)
words = st.text(string.ascii_letters + string.digits + "-", min_size=1, max_size=4)
identifiers = numbers.map(str) | words.filter(lambda text: not text.isdigit())
versions = st.builds(
    Version,
    numbers,
    numbers,
    numbers,
    st.lists(identifiers, max_size=3).map(tuple),
    st.lists(words, max_size=2).map(".".join),
)
small = st.builds(Version, *[st.integers(0, 3)] * 3, st.sampled_from([(), (), ("0",), ("rc", "1"), ("rc", "2")]))
"""Versions that meet each other and the ranges below."""


def compared(one: Version, other: Version) -> int:
    """SemVer 2.0.0, section 11, word for word: -1, 0 or 1."""
    if one.numbers != other.numbers:
        return 1 if one.numbers > other.numbers else -1
    if not one.pre or not other.pre:
        return bool(other.pre) - bool(one.pre)
    for mine, theirs in zip(one.pre, other.pre, strict=False):
        if mine == theirs:
            continue
        if mine.isdigit() and theirs.isdigit():
            return 1 if int(mine) > int(theirs) else -1
        if mine.isdigit() or theirs.isdigit():
            return -1 if mine.isdigit() else 1
        return 1 if mine.encode() > theirs.encode() else -1
    return (len(one.pre) > len(other.pre)) - (len(one.pre) < len(other.pre))


def test_the_specifications_order() -> None:
    text = "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0"
    chain = [Version.parse(word) for word in [*text.split(), "2.0.0", "2.1.0", "2.1.1", "2.1.10", "2.2.0", "10.0.0"]]
    mixed = [*chain[::2], *chain[1::2]]
    assert sorted(mixed) == chain
    assert all(one < other for one, other in pairwise(chain))


@given(versions, versions)
def test_the_order_is_the_specifications_and_that_of_the_bytes(one: Version, other: Version) -> None:
    expected = compared(one, other)
    assert (one > other) - (one < other) == expected
    assert (one.precedence > other.precedence) - (one.precedence < other.precedence) == expected
    assert (one == other) == (expected == 0) == (hash(one) == hash(other))


@given(versions)
def test_a_version_survives_its_text(version: Version) -> None:
    again = Version.parse(str(version))
    assert str(again) == str(version)
    assert again == version
    assert (again.pre, again.build) == (version.pre, version.build)


VALID = (
    "0.0.4 1.2.3 10.20.30 1.1.2-prerelease+meta 1.1.2+meta 1.0.0-alpha.0valid 1.0.0-alpha-a.b-c-x+build.1-aef.1 "
    "1.2.3----RC-SNAPSHOT.12.9.1--.12+788 1.0.0+0.build.1-rc.10000aaa-kk-0.1 1.0.0-0A.is.legal 2.0.0+build.1848 "
    "99999999999999999999999.999999999999999999.99999999999999999"
)
INVALID = (
    "1 1.2 1.2.3-0123 1.2.3-0123.0123 1.1.2+.123 +invalid -invalid alpha 1.0.0-alpha_beta 1.0.0-alpha.. 01.1.1 1.01.1 "
    "1.1.01 1.2.3.DEV 1.2-SNAPSHOT 1.2.3- 1.2.3+ 1.2.3+a+b v1.2.3 -1.0.0 1.0.0-\xe9 \uff11.0.0 1.2.\u0663"
)


@pytest.mark.parametrize("text", VALID.split())
def test_what_the_specification_calls_valid(text: str) -> None:
    assert str(Version.parse(text)) == text


@pytest.mark.parametrize("text", [*INVALID.split(), "", " 1.2.3", "1.2.3 ", "1.2.3\n", "9" * 200 + ".0.0", None, 1.2])
def test_what_is_no_version(text: object) -> None:
    with pytest.raises(RefError, match="three numbers"):
        Version.parse(text)  # type: ignore[arg-type]  # junk is the point


TABLE = {
    "^1.2.3": ("1.2.3 1.3.0 1.99.0", "1.2.2 2.0.0 1.3.0-rc.1 2.0.0-0"),
    "^1.2": ("1.2.0 1.9.9", "1.1.9 2.0.0 1.2.0-rc.1"),
    "^1": ("1.0.0 1.9.9", "0.9.9 2.0.0"),
    "^0.2.3": ("0.2.3 0.2.9", "0.2.2 0.3.0 1.0.0"),
    "^0.0.3": ("0.0.3", "0.0.2 0.0.4"),
    "^0.0": ("0.0.0 0.0.9", "0.1.0"),
    "^0": ("0.0.0 0.9.0", "1.0.0"),
    "^1.2.3-rc.2": ("1.2.3-rc.2 1.2.3-rc.10 1.2.3 1.4.0", "1.2.3-rc.1 1.2.4-rc.3 2.0.0"),
    "~1.2.3": ("1.2.3 1.2.9", "1.2.2 1.3.0"),
    "~1.2": ("1.2.0 1.2.9", "1.1.0 1.3.0"),
    "~1": ("1.0.0 1.9.0", "0.9.0 2.0.0"),
    ">=1,<2": ("1.0.0 1.9.9", "0.9.9 2.0.0 2.0.0-alpha 1.0.0-rc.1"),
    " >= 1.2 , < 1.4.0 ": ("1.2.0 1.3.9", "1.4.0 1.1.0"),
    ">1.2": ("1.3.0 2.0.0", "1.2.0 1.2.9"),
    "<=1.2": ("1.2.9 0.1.0", "1.3.0"),
    "<1.2": ("1.1.9", "1.2.0"),
    ">1.2.3": ("1.2.4", "1.2.3"),
    "<=1.2.3": ("1.2.3", "1.2.4"),
    "1.2": ("1.2.0 1.2.9", "1.3.0 1.1.9"),
    "1.*": ("1.0.0 1.9.9", "2.0.0 0.1.0"),
    "1.2.*": ("1.2.0 1.2.9", "1.3.0"),
    "*": ("0.0.0 9.9.9", "1.0.0-rc.1"),
    "1.2.3": ("1.2.3 1.2.3+build", "1.2.4 1.2.3-rc.1"),
    "=1.2.3-rc.1": ("1.2.3-rc.1", "1.2.3 1.2.3-rc.2"),
    "1.2.3+some.build": ("1.2.3", "1.2.4"),
    ">=1.3.0-rc.1,<1.3.0": ("1.3.0-rc.1 1.3.0-rc.2", "1.3.0 1.3.0-beta 1.2.0"),
}


@pytest.mark.parametrize("text", TABLE)
def test_what_is_in_a_range_and_what_is_not(text: str) -> None:
    inside, outside = (words.split() for words in TABLE[text])
    wanted = Range.parse(text)
    assert [word for word in inside if not wanted.admits(Version.parse(word))] == []
    assert [word for word in outside if wanted.admits(Version.parse(word))] == []


@pytest.mark.parametrize(
    "text",
    ["", ",", "^", ">=", "1.2.3.4", "1..2", "*.1", "1.*.3", "^^1", "!=1", "1 2", "01", "1.2-rc.1", "> *", "1,", "x",
     "1.2.*-rc.1", "^1.2+b", "9" * 200, None],
)  # fmt: skip
def test_what_is_no_range(text: object) -> None:
    with pytest.raises(RefError, match="not a version nor a range"):
        Range.parse(text)  # type: ignore[arg-type]  # junk is the point


@given(versions, versions)
def test_a_comparison_means_the_order(bound: Version, version: Version) -> None:
    order = compared(version, bound)
    shown = {">=": order >= 0, ">": order > 0, "<=": order <= 0, "<": order < 0, "=": order == 0}
    for operator, expected in shown.items():
        admitted = Range.parse(f"{operator}{bound}").admits(version)
        related = not version.pre or (bound.pre != () and bound.numbers == version.numbers)
        assert admitted == (expected and related)


@given(small, small)
def test_a_caret_keeps_the_leftmost_number_that_is_not_zero(bound: Version, version: Version) -> None:
    place = next((i for i, number in enumerate(bound.numbers) if number), 2)
    same = bound.numbers[: place + 1] == version.numbers[: place + 1]
    related = not version.pre or (bound.pre != () and bound.numbers == version.numbers)
    assert Range.parse(f"^{bound}").admits(version) == (same and version >= bound and related)


@given(
    st.lists(st.sampled_from([*"^~<>=.,*-+ 01a", "1.2.3", "rc.1", ">=", "\uff12"])).map("".join) | st.text(max_size=20)
)
def test_any_text_is_a_range_or_a_ref_error(text: str) -> None:
    try:
        wanted = Range.parse(text)
    except RefError:
        return
    assert wanted.comparisons
    assert wanted.admits(Version(1, 2, 3)) in (True, False)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("v1.0.0", '"1.0.0"'),
        ("1.0", '"1.0.0"'),
        ("V2", '"2.0.0"'),
        (" 1.02.3-rc.1 ", '"1.2.3-rc.1"'),
        ("one", '"1.0.0", "2.1.0-rc.1"'),
        ("1.0.0-rc..1", '"1.0.0", "2.1.0-rc.1"'),
    ],
)
def test_a_near_miss_is_answered_with_the_version_it_was_meant_to_be(text: str, fix: str) -> None:
    with pytest.raises(RefError) as caught:
        Version.parse(text)
    assert caught.value.fix == fix
