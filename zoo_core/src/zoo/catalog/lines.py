"""A model as one line of text. Lines are written when the catalogue is made, so that listing is only reading."""

from __future__ import annotations

from zoo.catalog.counts import shown_count


def model_line(ref: str, task: str, params: int | None, license: str, checkpoints: int, status: str) -> str:
    """One aligned line without its end, in printable ASCII whatever a stranger's manifest says."""
    return _aligned(ref, task, shown_count(params), license, str(checkpoints or "-"), status)


def heading() -> str:
    """The line above."""
    return _aligned("MODEL", "TASK", "PARAMS", "LICENCE", "WEIGHTS", "STATUS")


def _aligned(ref: str, task: str, params: str, license: str, weights: str, status: str) -> str:
    text = f"{ref:<48}  {task:<21}  {params:>7}  {license:<16}  {weights:>7}  {status}"
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if " " <= c <= "~" else "?" for c in text)
