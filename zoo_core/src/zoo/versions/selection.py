"""Which registered version is meant, and who else is there. Every query for it, inside the caller's transaction."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from typing import Any

from zoo.errors import NotFoundError
from zoo.versions.addresses import LATEST, Address, is_word
from zoo.versions.records import AliasChange, Parent, VersionRecord
from zoo.versions.semver import Range, Version

_NEWEST = "ORDER BY is_release DESC, precedence DESC LIMIT 1"  # a pre-release only where there is no release


def find(connection: sqlite3.Connection, address: Address) -> tuple[int, VersionRecord]:
    """The version an address means, with its row. Raises `NotFoundError` and `RefError`."""
    number = row_of(connection, address)
    record = record_in(text_of(connection, number))
    return number, with_aliases(record, aliases_of(connection, address.name, number))


def row_of(connection: sqlite3.Connection, address: Address) -> int:
    """The row of the version that an address means. Raises `NotFoundError` and `RefError`."""
    row = _row(connection, address)
    if row is None:
        raise _no_such(connection, address)
    return row


def text_of(connection: sqlite3.Connection, number: int) -> dict[str, Any]:
    """The record in that row as it was filed, with what a newer zoo has said in it."""
    row = connection.execute("SELECT record FROM versions WHERE id = ?", [number]).fetchone()
    return values_in(row[0] if row else "")


def values_in(text: str) -> dict[str, Any]:
    """A filed record's values. Raises `sqlite3.DatabaseError`: a bad disk has changed it."""
    try:
        values = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise sqlite3.DatabaseError(f"a record in it is damaged: {error}") from error
    if not isinstance(values, dict):
        raise sqlite3.DatabaseError("a record in it is damaged")
    return values


def record_in(values: dict[str, Any]) -> VersionRecord:
    """A filed record. Raises `sqlite3.DatabaseError`: a bad disk has changed it."""
    try:
        return VersionRecord.from_dict(values)
    except (TypeError, ValueError, AttributeError) as error:  # a field that has another name or type now
        raise sqlite3.DatabaseError(f"a record in it is damaged: {error}") from error


def at_precedence(connection: sqlite3.Connection, name: str, version: Version) -> tuple[str, VersionRecord] | None:
    """What is registered under that very version, builds aside: the digest of its content, and its record."""
    query = "SELECT content, record FROM versions WHERE name = ? AND precedence = ?"
    row = connection.execute(query, [name, version.precedence]).fetchone()
    return None if row is None else (str(row[0]), record_in(values_in(row[1])))


def of_weights(connection: sqlite3.Connection, parent: Parent) -> VersionRecord | None:
    """The version that has those weights: the one of that name and version, or the first that was registered."""
    query = "SELECT record FROM versions WHERE blob = ? ORDER BY name = ? AND version = ? DESC, id LIMIT 1"
    row = connection.execute(query, [parent.sha256, parent.name, parent.version]).fetchone()
    return None if row is None else record_in(values_in(row[0]))


def every(
    connection: sqlite3.Connection, pattern: str, tag: str | None, limit: int = -1, offset: int = 0
) -> list[tuple[int, str]]:
    """(row, card) of versions by name pattern and tag; names in order, of each the newest first."""
    tagged = "AND version IN (SELECT version FROM tags WHERE tag = ?)" if tag is not None else ""
    query = (
        f"SELECT version, card FROM cards WHERE name GLOB ? {tagged} ORDER BY name, precedence DESC LIMIT ? OFFSET ?"
    )
    values = [pattern, *([tag] if tag is not None else []), limit, offset]
    return connection.execute(query, values).fetchall()


def aliases_now(connection: sqlite3.Connection, name: str | None = None) -> dict[int, tuple[str, ...]]:
    """The aliases of every version that has any, by its row; of one model, or of all."""
    of = "" if name is None else "WHERE name = ?"
    query = f"SELECT version, alias FROM changes WHERE id IN (SELECT max(id) FROM changes {of} GROUP BY name, alias)"
    found: dict[int, tuple[str, ...]] = {}
    for number, alias in connection.execute(f"{query} ORDER BY alias", [] if name is None else [name]):
        found[number] = (*found.get(number, ()), alias)
    return found


def aliases_of(connection: sqlite3.Connection, name: str, number: int) -> tuple[str, ...]:
    """The aliases that mean the version in that row now. Skips from alias to alias, however often each has moved."""
    query = """
        WITH RECURSIVE words(alias) AS (
            SELECT min(alias) FROM changes WHERE name = :name
            UNION ALL
            SELECT (SELECT min(alias) FROM changes WHERE name = :name AND alias > words.alias) FROM words
            WHERE words.alias IS NOT NULL)
        SELECT alias FROM words WHERE :number = (
            SELECT version FROM changes WHERE name = :name AND changes.alias = words.alias ORDER BY id DESC LIMIT 1)
        ORDER BY alias"""
    return tuple(row[0] for row in connection.execute(query, {"name": name, "number": number}))


def last_change(connection: sqlite3.Connection, name: str, alias: str) -> tuple[int, int, int | None] | None:
    """(change, the version's row it means, the change below it) of an alias now."""
    query = "SELECT id, version, below FROM changes WHERE name = ? AND alias = ? ORDER BY id DESC LIMIT 1"
    found: tuple[int, int, int | None] | None = connection.execute(query, [name, alias]).fetchone()
    return found


def history(connection: sqlite3.Connection, name: str, alias: str | None) -> tuple[AliasChange, ...]:
    """Every change of a model's aliases, or of one of them, oldest first."""
    query = (
        "SELECT alias, action, versions.version, at, by FROM changes JOIN versions ON versions.id = changes.version "
        f"WHERE changes.name = ? {'' if alias is None else 'AND alias = ?'} ORDER BY changes.id"
    )
    rows = connection.execute(query, [name] if alias is None else [name, alias])
    return tuple(AliasChange(*row) for row in rows)


def check_registered(connection: sqlite3.Connection, name: str) -> None:
    """Raises `NotFoundError`: no version has that name."""
    if connection.execute("SELECT 1 FROM versions WHERE name = ? LIMIT 1", [name]).fetchone() is None:
        raise _no_such(connection, Address(name))


def next_free(connection: sqlite3.Connection, name: str, version: Version) -> tuple[str, ...]:
    """The next patch, minor and major version after one that is taken, each beyond everything registered there.

    After a pre-release: the next pre-release, and the release where it is free.
    """
    if version.pre:
        taken = {Version.parse(text) for text in _versions(connection, name)}
        following, release = version.next_pre(), Version(*version.numbers)
        while following in taken:
            following = following.next_pre()
        return (str(following),) if release in taken else (str(following), str(release))
    known = [version, *(Version.parse(text) for text in _versions(connection, name))]
    major, minor, _ = version.numbers
    patch = max(v.patch for v in known if v.numbers[:2] == (major, minor)) + 1
    next_minor = max(v.minor for v in known if v.major == major) + 1
    next_major = max(v.major for v in known) + 1
    return f"{major}.{minor}.{patch}", f"{major}.{next_minor}.0", f"{next_major}.0.0"


def _row(connection: sqlite3.Connection, address: Address) -> int | None:
    name, selector = address
    found: tuple[int] | None
    if selector == LATEST:
        found = connection.execute(f"SELECT id FROM versions WHERE name = ? {_NEWEST}", [name]).fetchone()
    elif is_word(selector):
        change = last_change(connection, name, selector)
        if change is not None:
            return change[1]
        query = f"SELECT version FROM tags WHERE tag = ? AND name = ? {_NEWEST}"
        found = connection.execute(query, [selector, name]).fetchone()
    else:
        return _newest_in(connection, name, Range.parse(selector))
    return None if found is None else found[0]


def _newest_in(connection: sqlite3.Connection, name: str, wanted: Range) -> int | None:
    """One look for a release, and one at the pre-releases of each bound that is one: none reads what it does not want.

    The operators are the five of `Comparison`.
    """
    bounds = "".join(f" AND precedence {operator} ?" for operator, _ in wanted.comparisons)
    values = [version.precedence for _, version in wanted.comparisons]
    newest = f"SELECT precedence, id FROM versions WHERE name = ? AND is_release = ?{bounds}"
    last = "ORDER BY precedence DESC LIMIT 1"
    found = connection.execute(f"{newest} {last}", [name, True, *values]).fetchall()
    for numbers in {version.numbers for _, version in wanted.comparisons if version.pre}:
        # Between the least pre-release of those numbers and their release.
        among = [Version(*numbers, ("0",)).precedence, Version(*numbers).precedence]
        query = f"{newest} AND precedence >= ? AND precedence < ? {last}"
        found += connection.execute(query, [name, False, *values, *among]).fetchall()
    return max(found)[1] if found else None


def with_aliases(record: VersionRecord, aliases: tuple[str, ...]) -> VersionRecord:
    """The record as it is now."""
    return replace(record, aliases=aliases) if aliases else record


def _versions(connection: sqlite3.Connection, name: str) -> list[str]:
    """Newest first."""
    query = "SELECT version FROM versions WHERE name = ? ORDER BY precedence DESC"
    return [row[0] for row in connection.execute(query, [name])]


def _no_such(connection: sqlite3.Connection, address: Address) -> NotFoundError:
    name, selector = address
    versions = _versions(connection, name)
    if not versions:
        names = [row[0] for row in connection.execute("SELECT DISTINCT name FROM versions ORDER BY name")]
        near = _nearest(name, names)
        return NotFoundError(
            f"no model {name!r} is registered" + (f"; did you mean {near[0]!r}?" if near else ""),
            asked=str(address),
            found=", ".join(names[:8]) or "the registry is empty",
            fix="zoo registry ls" if names else "zoo.register_model(model, name=…, version=…)",
        )
    words = sorted({alias for aliases in aliases_now(connection, name).values() for alias in aliases})
    near = _nearest(selector, words) if is_word(selector) else []
    if selector[:1] in ("v", "V") and selector[1:] in versions:
        near = [selector[1:]]
    what = "alias or tag" if is_word(selector) else "version"
    return NotFoundError(
        f"{name} has no {what} {selector!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        asked=str(address),
        found=", ".join([*versions[:8], *(["…"] if len(versions) > 8 else []), *words]),
        fix=f"{name}@{near[0] if near else versions[0]}",
    )


def _nearest(word: str, known: list[str]) -> list[str]:
    from difflib import get_close_matches  # only a mistake pays for it

    return get_close_matches(word, known, n=1, cutoff=0.5)
