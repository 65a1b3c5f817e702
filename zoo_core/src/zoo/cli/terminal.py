"""What the terminal can show: its width, its colours, and tables that fit it.

On anything but a terminal the output is plain and does not depend on where it runs.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def is_terminal(stream: TextIO) -> bool:
    """Whether a person is looking at it."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def width(stream: TextIO) -> int | None:
    """Columns of the terminal; None where the output goes elsewhere and may be as wide as it likes."""
    if not is_terminal(stream):
        return None
    chosen = os.environ.get("COLUMNS", "")
    try:
        return max(40, int(chosen) if chosen.isdigit() else os.get_terminal_size(stream.fileno()).columns)
    except OSError:
        return 80


def styled(text: str, style: str, stream: TextIO | None = None) -> str:
    """The text in one of `STYLES`, where the stream shows colours and nobody has asked for none (NO_COLOR)."""
    if not text or os.environ.get("NO_COLOR") or not is_terminal(stream or sys.stdout):
        return text
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m"


def clean(text: str) -> str:
    """The text on one line and harmless: a plugin or a file name cannot move the cursor or colour the screen."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)


def show_warnings_plainly() -> None:
    """Warnings are for the reader of the screen: one line each, without the place in the source."""
    import warnings

    def show(message: Warning | str, *_: object) -> None:
        print(f"{styled('warning:', 'yellow', sys.stderr)} {clean(str(message))}", file=sys.stderr)

    warnings.showwarning = show  # type: ignore[assignment]  # it passes everything by position


def columns(text: str) -> int:
    """Terminal columns of a printable text: East Asian letters take two, combining marks none."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def fitted(text: str, room: int) -> str:
    """The text in at most `room` columns, cut with an ellipsis."""
    if columns(text) <= room:
        return text
    while text and columns(text) > room - 1:
        text = text[:-1]
    return text.rstrip() + "…"


def table(
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[int] = (),
    heading: bool = True,
    indent: str = "",
    whole: bool = False,
) -> None:
    """Print rows in aligned columns.

    The columns in `right` are right-aligned; the last is cut to the terminal, unless it is to be shown `whole`.
    """
    cells = [[clean(cell) for cell in row] for row in rows]
    widths = [max(map(columns, column)) for column in zip(*cells, strict=True)]
    terminal = None if whole else width(sys.stdout)
    room = None if terminal is None else max(12, terminal - len(indent) - sum(widths[:-1]) - 2 * (len(widths) - 1))
    for number, row in enumerate(cells):
        parts = [padded(cell, widths[i], i in right) for i, cell in enumerate(row[:-1])]
        last = row[-1] if room is None else fitted(row[-1], room)
        parts.append(padded(last, widths[-1], True) if len(widths) - 1 in right else last)
        line = (indent + "  ".join(parts)).rstrip()
        print(styled(line, "bold") if heading and number == 0 else line)


def wrapped(text: str, indent: str = "") -> str:
    """A paragraph broken into lines of the terminal's width, 100 elsewhere, each after `indent`."""
    room = min(width(sys.stdout) or 100, 100) - len(indent)
    lines = [""]
    for word in clean(text).split():
        if lines[-1] and columns(lines[-1]) + 1 + columns(word) > room:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "\n".join(indent + line for line in lines)


def padded(text: str, room: int, right: bool = False) -> str:
    """The text with spaces after it, or before it, to fill `room` columns."""
    space = " " * (room - columns(text))
    return space + text if right else text + space
