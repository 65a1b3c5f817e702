"""Which registered version is meant, and who else is there. Every query for it, inside the caller's transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from difflib import get_close_matches

from zoo.errors import NotFoundError
from zoo.versions.addresses import LATEST, Address, is_word
from zoo.versions.records import AliasChange, VersionRecord
from zoo.versions.semver import Range, Version

_NEWEST = "ORDER BY is_release DESC, precedence DESC LIMIT 1"  # a pre-release only where there is no release


def find(connection: sqlite3.Connection, address: Address) -> tuple[int, VersionRecord]:
    """The version an address means, with its row. Raises `NotFoundError` and `RefError`."""
    row = _row(connection, address)
    if row is None:
        raise _no_such(connection, address)
    number, record = row[0], VersionRecord.from_dict(json.loads(row[1]))
    return number, _with_aliases(record, aliases_now(connection, address.name).get(number, ()))


def at_precedence(connection: sqlite3.Connection, name: str, version: Version) -> tuple[str, VersionRecord] | None:
    """What is registered under that very version, builds aside: the digest of its content, and its record."""
    query = "SELECT content, record FROM versions WHERE name = ? AND precedence = ?"
    row = connection.execute(query, [name, version.precedence]).fetchone()
    return None if row is None else (str(row[0]), VersionRecord.from_dict(json.loads(row[1])))


def every(connection: sqlite3.Connection, pattern: str, tag: str | None) -> Iterator[VersionRecord]:
    """Versions by name pattern and tag; names in order, of each the newest first."""
    tagged = "AND id IN (SELECT version FROM tags WHERE tag = ?)" if tag is not None else ""
    query = f"SELECT id, record FROM versions WHERE name GLOB ? {tagged} ORDER BY name, precedence DESC"
    aliases = aliases_now(connection)
    for number, record in connection.execute(query, [pattern] if tag is None else [pattern, tag]):
        yield _with_aliases(VersionRecord.from_dict(json.loads(record)), aliases.get(number, ()))


def aliases_now(connection: sqlite3.Connection, name: str | None = None) -> dict[int, tuple[str, ...]]:
    """The aliases of every version that has any, by its row; of one model, or of all."""
    of = "" if name is None else "WHERE name = ?"
    query = f"SELECT version, alias FROM changes WHERE id IN (SELECT max(id) FROM changes {of} GROUP BY name, alias)"
    found: dict[int, tuple[str, ...]] = {}
    for number, alias in connection.execute(f"{query} ORDER BY alias", [] if name is None else [name]):
        found[number] = (*found.get(number, ()), alias)
    return found


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
    if not _versions(connection, name):
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


def _row(connection: sqlite3.Connection, address: Address) -> tuple[int, str] | None:
    """(id, record)"""
    name, selector = address
    query = "SELECT id, record FROM versions WHERE name = ?"
    found: tuple[int, str] | None
    if selector == LATEST:
        found = connection.execute(f"{query} {_NEWEST}", [name]).fetchone()
    elif is_word(selector):
        change = last_change(connection, name, selector)
        if change is not None:
            found = connection.execute(f"{query} AND id = ?", [name, change[1]]).fetchone()
        else:
            tagged = "AND id IN (SELECT version FROM tags WHERE tag = ?)"
            found = connection.execute(f"{query} {tagged} {_NEWEST}", [name, selector]).fetchone()
    else:
        found = _newest_in(connection, name, Range.parse(selector))
    return found


def _newest_in(connection: sqlite3.Connection, name: str, wanted: Range) -> tuple[int, str] | None:
    # The operators are the five of `Comparison`; the database sorts, and the range has the last word on pre-releases.
    bounds = "".join(f" AND precedence {operator} ?" for operator, _ in wanted.comparisons)
    query = f"SELECT version, id, record FROM versions WHERE name = ?{bounds} ORDER BY precedence DESC"
    values = [name, *(version.precedence for _, version in wanted.comparisons)]
    for text, number, record in connection.execute(query, values):
        if wanted.admits(Version.parse(text)):
            return number, record
    return None


def _with_aliases(record: VersionRecord, aliases: tuple[str, ...]) -> VersionRecord:
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
        near = get_close_matches(name, names, n=1, cutoff=0.5)
        return NotFoundError(
            f"no model {name!r} is registered" + (f"; did you mean {near[0]!r}?" if near else ""),
            asked=str(address),
            found=", ".join(names[:8]) or "the registry is empty",
            fix="zoo registry ls" if names else "zoo.register_model(model, name=…, version=…)",
        )
    words = sorted({alias for aliases in aliases_now(connection, name).values() for alias in aliases})
    near = get_close_matches(selector, words, n=1, cutoff=0.5) if is_word(selector) else []
    if selector[:1] in ("v", "V") and selector[1:] in versions:
        near = [selector[1:]]
    what = "alias or tag" if is_word(selector) else "version"
    return NotFoundError(
        f"{name} has no {what} {selector!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        asked=str(address),
        found=", ".join([*versions[:8], *(["…"] if len(versions) > 8 else []), *words]),
        fix=f"{name}@{near[0] if near else versions[0]}",
    )
