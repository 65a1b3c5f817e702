"""A long list of versions that costs little: a record is made when it is looked at, its large part when asked for."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, overload

from zoo.errors import OptionError
from zoo.versions import selection
from zoo.versions.ledger import Ledger
from zoo.versions.records import VersionRecord

_BLOCK = 256
"""Records whose large part is read at once: whoever looks at one mostly looks at the next."""


def listed(ledger: Ledger, pattern: str, tag: str | None, limit: int | None, offset: int) -> Listing:
    """Versions by name and tag. Raises `ZooError`, and `OptionError` for a limit or an offset below 0."""
    for name, number in (("limit", limit), ("offset", offset)):
        if number is not None and (not isinstance(number, int) or number < 0):
            raise OptionError(f"{name} is a whole number from 0", asked=f"{name}={number!r}"[:80], fix=f"{name}=100")
    with ledger.reading() as connection:
        rows = selection.every(connection, pattern, tag, -1 if limit is None else limit, offset)
        aliases = selection.aliases_now(connection) if rows else {}
    return Listing(ledger, rows, aliases)


class Listing(Sequence[VersionRecord]):
    """Records in order, as they were when they were listed. Equal to any sequence of equal records."""

    def __init__(self, ledger: Ledger, rows: Sequence[tuple[int, str]], aliases: Mapping[int, tuple[str, ...]]) -> None:
        self._ledger, self._rows, self._aliases = ledger, rows, aliases
        self._block: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> VersionRecord: ...

    @overload
    def __getitem__(self, at: slice) -> Listing: ...

    def __getitem__(self, at: int | slice) -> VersionRecord | Listing:
        if isinstance(at, slice):
            return Listing(self._ledger, self._rows[at], self._aliases)
        number, card = self._rows[at]
        place = range(len(self._rows))[at]
        with self._ledger.translated():
            values = {**selection.values_in(card), "saved": Later(lambda: self._saved(place))}
            return selection.with_aliases(selection.record_in(values), self._aliases.get(number, ()))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have none

    def __repr__(self) -> str:
        return f"<{len(self)} versions>"

    def _saved(self, place: int) -> dict[str, Any]:
        number = self._rows[place][0]
        if number not in self._block:
            numbers = [row[0] for row in self._rows[place : place + _BLOCK]]
            query = f"SELECT id, record FROM versions WHERE id IN ({','.join(map(str, numbers))})"
            with self._ledger.reading() as connection:
                self._block = dict(connection.execute(query).fetchall())
        with self._ledger.translated():
            saved = selection.values_in(self._block.get(number, "")).get("saved")
            if not isinstance(saved, dict):
                raise sqlite3.DatabaseError("a record in it is damaged")
            return saved


class Later(Mapping[str, Any]):
    """A mapping that is read when it is first looked into; a copy or a pickle of it is a plain dict."""

    __slots__ = ("_read", "_values")

    def __init__(self, read: Callable[[], dict[str, Any]]) -> None:
        self._read = read
        self._values: dict[str, Any] | None = None

    @property
    def values_now(self) -> dict[str, Any]:
        """The mapping itself."""
        if self._values is None:
            self._values = self._read()
        return self._values

    def __getitem__(self, name: str) -> Any:
        return self.values_now[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_now)

    def __len__(self) -> int:
        return len(self.values_now)

    def __eq__(self, other: object) -> bool:
        return self.values_now == (other.values_now if isinstance(other, Later) else other)

    __hash__ = None  # type: ignore[assignment]  # as a dict has none

    def __repr__(self) -> str:
        return repr(self.values_now)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (self.values_now,)
