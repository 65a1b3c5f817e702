"""Semantic versions (SemVer 2.0.0) and ranges of them.

version   1.2.3   1.0.0-rc.1   1.0.0+build.5      three numbers, a pre-release after '-', a build after '+'
range     ^1.2   ~1.2.3   >=1,<2   1.2   1.*      several parts, separated by commas, that all hold
"""

from __future__ import annotations

import re
from functools import total_ordering
from typing import NamedTuple

from zoo.errors import RefError

MAX_LENGTH = 128
"""Characters of a version; its numbers are then short enough for `Version.precedence`."""

_NUMBER = r"0|[1-9][0-9]*"
_IDENTIFIER = rf"(?:{_NUMBER}|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_PRE = rf"(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?"
_BUILD = r"(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
_VERSION = re.compile(rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER}){_PRE}{_BUILD}", re.ASCII)
_LOOSE = re.compile(r"[vV]?([0-9]+)(?:\.([0-9]+))?(?:\.([0-9]+))?([-+].*)?", re.ASCII)
_PART = re.compile(
    rf"(\^|~|>=|<=|>|<|=)?[ ]*(?:({_NUMBER})(?:\.({_NUMBER}|\*))?(?:\.({_NUMBER}|\*))?{_PRE}{_BUILD}|\*)", re.ASCII
)
_TESTS = {
    "<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    "=": lambda order: order == 0,
    ">=": lambda order: order >= 0,
    ">": lambda order: order > 0,
}
"""What each comparison says of the sign of `version - bound`."""


@total_ordering
class Version:
    """One version. Ordered and equal by precedence: numbers, then pre-release; the build does not count.

    Attributes:
        major, minor, patch: the numbers. pre: the pre-release's identifiers. build: the build's text, or "".
        precedence: bytes that sort as versions do, so that a database can sort them.
    """

    __slots__ = ("build", "major", "minor", "patch", "pre", "precedence")

    def __init__(self, major: int, minor: int, patch: int, pre: tuple[str, ...] = (), build: str = "") -> None:
        self.major, self.minor, self.patch, self.pre, self.build = major, minor, patch, pre, build
        self.precedence = b"".join(map(_sortable, (str(major), str(minor), str(patch))))
        # A release comes after its pre-releases; fewer identifiers come before more of them.
        self.precedence += b"".join(b"\1" + _identifier(text) for text in pre) + b"\0" if pre else b"\2"

    @classmethod
    def parse(cls, text: str) -> Version:
        """A version from its text. Raises `RefError`."""
        match = _VERSION.fullmatch(text) if isinstance(text, str) and len(text) <= MAX_LENGTH else None
        if match is None:
            meant = _corrected(text)
            fix = f'"{meant}"' if meant else '"1.0.0", "2.1.0-rc.1"'
            raise RefError("a version has three numbers, as semver.org says", asked=repr(text)[:160], fix=fix)
        major, minor, patch, pre, build = match.groups()
        return cls(int(major), int(minor), int(patch), tuple(pre.split(".")) if pre else (), build or "")

    @property
    def numbers(self) -> tuple[int, int, int]:
        """(major, minor, patch)"""
        return self.major, self.minor, self.patch

    def next_pre(self) -> Version:
        """The next pre-release of the same three numbers: its last number one up, or a first number behind it."""
        *before, last = self.pre
        pre = (*before, str(int(last) + 1)) if last.isdigit() else (*self.pre, "1")
        return Version(*self.numbers, pre)

    def __str__(self) -> str:
        text = f"{self.major}.{self.minor}.{self.patch}"
        text += "-" + ".".join(self.pre) if self.pre else ""
        return text + (f"+{self.build}" if self.build else "")

    def __repr__(self) -> str:
        return f"Version.parse({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return self.precedence == other.precedence if isinstance(other, Version) else NotImplemented

    def __lt__(self, other: Version) -> bool:
        return self.precedence < other.precedence

    def __hash__(self) -> int:
        return hash(self.precedence)


class Comparison(NamedTuple):
    """One bound of a range: `operator` is one of < <= = >= >."""

    operator: str
    version: Version


class Range(NamedTuple):
    """Versions that satisfy every comparison.

    A pre-release is in a range only if one of its bounds is a pre-release of the same three numbers: `^1.2` never
    means 2.0.0-alpha nor 1.3.0-rc.1, and `>=1.3.0-rc.1` means 1.3.0-rc.2.
    """

    text: str
    comparisons: tuple[Comparison, ...]

    @classmethod
    def parse(cls, text: str) -> Range:
        """A range from its text. Raises `RefError`."""
        comparisons: list[Comparison] = []
        for part in text.split(",") if isinstance(text, str) and len(text) <= MAX_LENGTH else [""]:
            match = _PART.fullmatch(part.strip())
            bounds = None if match is None else _bounds(*match.groups())
            if bounds is None:
                raise RefError(
                    "not a version nor a range of versions",
                    asked=repr(text)[:160],
                    fix='"1.2.0", "^1.2", "~1.2.3", ">=1,<2", "latest"',
                )
            comparisons += bounds
        return cls(text, tuple(comparisons))

    def admits(self, version: Version) -> bool:
        """Whether a version is in the range."""
        for operator, bound in self.comparisons:
            order = (version > bound) - (version < bound)
            if not _TESTS[operator](order):
                return False
        bounds = [bound for _, bound in self.comparisons]
        return not version.pre or any(bound.pre and bound.numbers == version.numbers for bound in bounds)


def _corrected(text: object) -> str | None:
    """The version that a near miss was meant to be: `v1.0.0`, `1.0`."""
    loose = _LOOSE.fullmatch(text.strip()) if isinstance(text, str) and len(text) <= MAX_LENGTH else None
    if loose is None:
        return None
    numbers = [str(int(number or 0)) for number in loose.groups()[:3]]
    meant = ".".join(numbers) + (loose[4] or "")
    return meant if len(meant) <= MAX_LENGTH and _VERSION.fullmatch(meant) else None


def _bounds(
    operator: str | None, major: str | None, minor: str | None, patch: str | None, pre: str | None, build: str | None
) -> list[Comparison] | None:
    """The comparisons that one part of a range stands for; None where its pieces do not go together."""
    numbers = _numbers(major, minor, patch)
    if numbers is None or (build and len(numbers) < 3) or (pre and len(numbers) < 3):
        return None
    low = Version(*_three(numbers), tuple(pre.split(".")) if pre else ())
    if not numbers:
        return [Comparison(">=", low)] if operator in (None, ">=", "<=", "=", "^", "~") else None
    if operator in ("^", "~"):
        return [Comparison(">=", low), Comparison("<", _after(numbers, operator))]
    if len(numbers) == 3:
        return [Comparison(operator or "=", low)]
    # A version with numbers left out is all that begin so: =1.2 is 1.2.0 to before 1.3.0, >1.2 is from 1.3.0.
    end = _bumped(numbers, len(numbers) - 1)
    whole = {"<": [("<", low)], "<=": [("<", end)], ">": [(">=", end)], ">=": [(">=", low)]}
    return [Comparison(*bound) for bound in whole.get(operator or "=", [(">=", low), ("<", end)])]


def _numbers(major: str | None, minor: str | None, patch: str | None) -> tuple[int, ...] | None:
    """The numbers before the first `*` or gap; None where a number stands behind a `*`."""
    given = [text for text in (major, minor, patch) if text is not None]
    known = given[: given.index("*")] if "*" in given else given
    return None if any(text != "*" for text in given[len(known) :]) else tuple(map(int, known))


def _after(numbers: tuple[int, ...], operator: str) -> Version:
    """The first version too new for `^` (the leftmost number that is not 0 stays) or `~` (major and minor stay)."""
    if operator == "~":
        return _bumped(numbers, min(1, len(numbers) - 1))
    place = next((i for i, number in enumerate(numbers) if number), len(numbers) - 1)
    return _bumped(numbers, place)


def _bumped(numbers: tuple[int, ...], place: int) -> Version:
    return Version(*_three((*numbers[:place], numbers[place] + 1)))


def _three(numbers: tuple[int, ...]) -> tuple[int, int, int]:
    """With zeros for what is left out."""
    major, minor, patch, *_ = (*numbers, 0, 0, 0)
    return major, minor, patch


def _sortable(digits: str) -> bytes:
    """A number as bytes that sort as numbers do: the longer is the larger."""
    return bytes([len(digits)]) + digits.encode()


def _identifier(text: str) -> bytes:
    """An identifier of a pre-release as bytes that sort: numbers first, by value, then words, by ASCII."""
    return b"\1" + _sortable(text) if text.isdigit() else b"\2" + text.encode() + b"\0"
