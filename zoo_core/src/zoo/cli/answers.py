"""How `zoo predict` prints what it sees: a table a photo for people, one JSON list for machines."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from zoo.cli.faults import print_error
from zoo.cli.inputs import Source
from zoo.cli.terminal import clean, columns, is_terminal, padded, styled
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.models.results import Result

BAR = 24  # columns that a probability of one takes


class Answers:
    """Prints outcomes as they come; a JSON list is printed whole, at the end.

    Attributes:
        failed: how many photos could not be answered.
        model: the reference of what answers.
    """

    def __init__(self, model: str, *, as_json: bool) -> None:
        self.failed = 0
        self.model, self._as_json = model, as_json
        self._entries: list[dict[str, Any]] = []
        self._tables = 0

    def add(self, source: Source, outcome: Result | ZooError, saved: str | None) -> None:
        """One photo's answer, or why there is none; `saved` is where its picture was written."""
        entry: dict[str, Any] = {"source": source.shown, "model": self.model}
        if isinstance(outcome, ZooError):
            self.failed += 1
            print_error(outcome, about=clean(source.shown))
            self._entries.append(entry | {"error": outcome.to_dict()})
            return
        if self._as_json:
            self._entries.append(entry | outcome.to_dict() | entry | ({"saved": saved} if saved else {}))
            return
        if self._tables:
            print()
        self._tables += 1
        print(styled(clean(source.shown), "bold"))
        _print_table(outcome)
        if saved:
            print(styled(f"  saved as {clean(saved)}", "dim"))
        sys.stdout.flush()

    def close(self) -> None:
        """After the last photo."""
        if self._as_json:
            print(json.dumps(self._entries, indent=2, ensure_ascii=False))


def _print_table(answer: Result) -> None:
    rows = [(clean(name), share, clean(detail)) for name, share, detail in answer.rows]
    if not rows:
        print(styled("  nothing found", "dim"))
    names = max((columns(name) for name, _, _ in rows), default=0)
    for name, share, detail in rows:
        bar = styled("━" * round(share * BAR), "cyan") if is_terminal(sys.stdout) else ""
        parts = (padded(name, names), f"{share:6.1%}", detail, bar)
        print("  " + "  ".join(part for part in parts if part))
