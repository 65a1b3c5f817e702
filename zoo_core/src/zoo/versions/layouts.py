"""The tables of the registry's database, and how an older file becomes one of today's.

`versions` holds every record whole. `cards` are the records without what makes them large (labels, the config), in the
order they are listed in; `tags` are in the order in which the newest version with a tag is looked for. Both can be made
again from `versions`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from zoo.errors import ZooError

LAYOUT = 2

_KEPT = (
    "CREATE TABLE blobs (sha256 TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE versions (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, version TEXT NOT NULL, precedence BLOB NOT NULL,
        is_release INTEGER NOT NULL, blob TEXT NOT NULL REFERENCES blobs, content TEXT NOT NULL, record TEXT NOT NULL,
        UNIQUE (name, precedence))""",
    "CREATE INDEX newest ON versions (name, is_release, precedence)",
    "CREATE INDEX versions_of_blob ON versions (blob)",
    # below: the change whose target a rollback of this one returns to.
    """CREATE TABLE changes (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, alias TEXT NOT NULL, action TEXT NOT NULL,
        version INTEGER NOT NULL REFERENCES versions, below INTEGER REFERENCES changes, at TEXT NOT NULL,
        by TEXT NOT NULL)""",
    "CREATE INDEX changes_of_alias ON changes (name, alias, id)",
    *(
        f"CREATE TRIGGER {table}_{verb} BEFORE {verb} ON {table} "
        "BEGIN SELECT RAISE(ABORT, 'nothing registered is ever changed'); END"
        for table in ("versions", "changes")
        for verb in ("UPDATE", "DELETE")
    ),
)
_DERIVED = (
    """CREATE TABLE tags (
        tag TEXT NOT NULL, name TEXT NOT NULL, is_release INTEGER NOT NULL, precedence BLOB NOT NULL,
        version INTEGER NOT NULL REFERENCES versions, PRIMARY KEY (tag, name, is_release, precedence))
        WITHOUT ROWID""",
    """CREATE TABLE cards (
        name TEXT NOT NULL, precedence BLOB NOT NULL, version INTEGER NOT NULL REFERENCES versions, card TEXT NOT NULL,
        PRIMARY KEY (name, precedence DESC)) WITHOUT ROWID""",
)


def found(connection: sqlite3.Connection, path: str) -> int:
    """The layout of a database; 0 where nothing is in it yet. Raises `ZooError`: a newer zoo wrote it."""
    layout: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if layout > LAYOUT:
        raise ZooError("the registry was written by a newer zoo", found=path, fix="pip install -U zoo-core")
    return layout


def bring_up_to_date(connection: sqlite3.Connection, path: str) -> None:
    """Make the tables, or today's from those of an older zoo, inside the caller's transaction."""
    layout = found(connection, path)
    if layout == LAYOUT:
        return
    if not layout:
        _run(connection, *_KEPT, *_DERIVED)
    else:
        _run(connection, "DROP TABLE tags", *_DERIVED)
        query = "SELECT id, name, precedence, is_release, record FROM versions"
        for number, name, precedence, is_release, text in connection.execute(query):
            derive(connection, number, (name, precedence, is_release), json.loads(text))
    _run(connection, f"PRAGMA user_version = {LAYOUT}")


def derive(
    connection: sqlite3.Connection, number: int, order: tuple[str, bytes, bool], record: Mapping[str, Any]
) -> None:
    """Add what is looked up and listed of the version in that row. order: name, precedence, whether it is a release."""
    name, precedence, is_release = order
    rows = [(tag, name, is_release, precedence, number) for tag in record.get("tags", ())]
    connection.executemany("INSERT INTO tags VALUES (?, ?, ?, ?, ?)", rows)
    card = json.dumps({field: value for field, value in record.items() if field not in ("saved", "ref")})
    connection.execute("INSERT INTO cards VALUES (?, ?, ?, ?)", [name, precedence, number, card])


def _run(connection: sqlite3.Connection, *statements: str) -> None:
    for statement in statements:
        connection.execute(statement)
