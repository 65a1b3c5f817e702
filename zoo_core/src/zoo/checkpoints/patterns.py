"""Name patterns that read in both directions: literal text with groups, `blocks.(\\d+).attn.(weight|bias)`.

Outside parentheses everything is literal (`.` and `\\.` are both a dot); a group is a regular expression. A template
is literal text with \\1, \\2 … in the groups' places.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from zoo.errors import FormatError

_GROUP = re.compile(r"\((?P<inner>(?:\\.|\[(?:\\.|[^\]])*\]|\(\?:(?:\\.|[^()])*\)|[^()\\\[])+)\)")
_SPECIAL = frozenset("*+?[]{}|^$()")


class Form:
    """One name with holes. segments: text, or the number of the group that goes there."""

    def __init__(self, segments: Sequence[str | int], groups: Sequence[str]) -> None:
        self.segments, self.groups = tuple(segments), tuple(groups)
        self.head = segments[0] if segments and isinstance(segments[0], str) else ""

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """Compiled on first use: most maps of a plugin are imported and never run."""
        parts = [re.escape(s) if isinstance(s, str) else f"(?P<g{s}>{self.groups[s - 1]})" for s in self.segments]
        return re.compile("".join(parts))

    def read(self, name: str) -> tuple[str, ...] | None:
        """What stands in the groups, by number; None if the name has another form."""
        if not name.startswith(self.head):
            return None
        match = self.regex.fullmatch(name)
        return None if match is None else tuple(match[f"g{i + 1}"] for i in range(len(self.groups)))

    def fill(self, values: Sequence[str]) -> str:
        """The name with these values in its groups."""
        return "".join(s if isinstance(s, str) else values[s - 1] for s in self.segments)


def pattern(text: str) -> Form:
    """Parse a pattern. Raises `FormatError` for what could not be read backwards."""
    segments: list[str | int] = []
    groups: list[str] = []
    at, end = int(text.startswith("^")), len(text) - (text.endswith("$") and not text.endswith("\\$"))
    while at < end:
        group = _GROUP.match(text, at, end)
        if group:
            groups.append(_checked(group["inner"], text))
            segments.append(len(groups))
            at = group.end()
            continue
        if text[at] == "\\" and at + 1 < end and not text[at + 1].isalnum():
            at += 1
        elif text[at] in _SPECIAL or text[at] == "\\":
            raise _fault(text, f"{text[at : at + 2]!r} stands outside a group, where text is literal")
        _append(segments, text[at])
        at += 1
    return Form(segments, groups)


def template(text: str, groups: Sequence[str]) -> Form:
    """Parse a template for these groups; it must use each exactly once, or a name could not be read back."""
    segments: list[str | int] = []
    for part in re.split(r"(\\\d)", text):
        if re.fullmatch(r"\\\d", part):
            segments.append(int(part[1]))
        elif part:
            _append(segments, part)
    used = sorted(s for s in segments if isinstance(s, int))
    if used != list(range(1, len(groups) + 1)):
        raise _fault(text, f"it uses the groups {used}, but the pattern has {len(groups)}, each to be used once")
    return Form(segments, groups)


def _append(segments: list[str | int], text: str) -> None:
    if segments and isinstance(segments[-1], str):
        segments[-1] += text
    else:
        segments.append(text)


def _checked(group: str, text: str) -> str:
    try:
        if re.compile(group).groups:
            raise _fault(text, "a group within a group; write (?:…) inside")
    except re.error as error:
        raise _fault(text, str(error)) from None
    return group


def _fault(text: str, why: str) -> FormatError:
    return FormatError(
        f"not a key pattern: {why}", asked=text, fix=r'text with groups: "blocks.(\d+).attn.(.+)" → "layers.\1.sa.\2"'
    )
