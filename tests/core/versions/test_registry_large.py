"""Long lists that are read a piece at a time, the right version among many, and databases of an older zoo."""

from __future__ import annotations

import copy
import json
import os
import pickle
import sqlite3
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from registered_models import pebble, register, value_of

import zoo
from zoo.versions import layouts, selection
from zoo.versions.filing import file_version
from zoo.versions.ledger import FILE, Ledger
from zoo.versions.listing import Later
from zoo.versions.records import VersionRecord
from zoo.versions.semver import Range, Version

FIRST_LAYOUT = (
    "CREATE TABLE blobs (sha256 TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE versions (
        id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, version TEXT NOT NULL, precedence BLOB NOT NULL,
        is_release INTEGER NOT NULL, blob TEXT NOT NULL REFERENCES blobs, content TEXT NOT NULL, record TEXT NOT NULL,
        UNIQUE (name, precedence))""",
    "CREATE INDEX newest ON versions (name, is_release, precedence)",
    "CREATE INDEX versions_of_blob ON versions (blob)",
    """CREATE TABLE tags (
        tag TEXT NOT NULL, version INTEGER NOT NULL REFERENCES versions, PRIMARY KEY (tag, version)) WITHOUT ROWID""",
    "CREATE INDEX tags_of_version ON tags (version)",
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
    "PRAGMA user_version = 1",
)
"""As the first zoo that had a registry wrote it."""


def aged(registry: zoo.ModelRegistry) -> Path:
    """The registry's database as the first zoo would have written it."""
    path = Path(registry.path, FILE)
    with sqlite3.connect(path) as connection:
        rows = {
            table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in ("blobs", "versions", "changes")
        }
        tags = connection.execute("SELECT tag, version FROM tags").fetchall()
    connection.close()
    path.unlink()
    with sqlite3.connect(path) as connection:
        for statement in FIRST_LAYOUT:
            connection.execute(statement)
        for table, values in {**rows, "tags": tags}.items():
            for value in values:
                connection.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(value))})", value)
    connection.close()
    return path


def filled(registry: zoo.ModelRegistry) -> list[VersionRecord]:
    """Three versions with tags and an alias that has moved; what they are."""
    register(registry, "1.0.0", "1.1.0-rc.1")
    registry.register(name="m", version="1.2.0", model=pebble(7.0), tags=["small", "kept"], metrics={"top1": 0.5})
    registry.promote("m", "1.2.0", "production")
    registry.promote("m", "1.0.0", "production")
    return [registry.show("m", version) for version in ("1.2.0", "1.1.0-rc.1", "1.0.0")]


def test_an_older_database_is_read_as_it_is_and_brought_up_to_date_by_the_first_change(
    registry: zoo.ModelRegistry,
) -> None:
    before = filled(registry)
    path = aged(registry)
    image = path.read_bytes()
    assert registry.list() == before
    assert [r.version for r in registry.list(tag="small")] == ["1.2.0"]
    assert registry.show("m", "small").version == "1.2.0"
    assert registry.show("m", "production").version == "1.0.0"
    assert value_of(registry.load("m", "^1.2")) == 7.0
    assert path.read_bytes() == image  # an older zoo beside this one can still read it
    assert registry.rollback("m", "production").version == "1.2.0"
    assert [replace(record, aliases=()) for record in registry.list()] == [replace(r, aliases=()) for r in before]
    assert registry.show("m", "kept").aliases == ("production",)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (layouts.LAYOUT,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert not connection.execute("PRAGMA foreign_key_check").fetchall()


def test_a_change_that_fails_leaves_an_older_database_as_it_was(registry: zoo.ModelRegistry) -> None:
    filled(registry)
    path = aged(registry)
    image = path.read_bytes()
    with pytest.raises(zoo.NotFoundError):
        registry.promote("m", "9.9.9", "production")
    assert path.read_bytes() == image


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser writes anywhere")
def test_an_older_database_that_cannot_be_written_can_be_read(registry: zoo.ModelRegistry) -> None:
    before = filled(registry)
    path = aged(registry)
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        assert registry.list() == before
    finally:
        path.parent.chmod(0o755)


def test_a_list_is_read_a_piece_at_a_time(registry: zoo.ModelRegistry) -> None:
    records = filled(registry)
    listed = registry.list()
    assert (len(listed), listed[0], listed[-1]) == (3, records[0], records[2])
    assert listed[1:] == records[1:]
    assert registry.list(limit=2) == records[:2]
    assert registry.list(limit=1, offset=1) == records[1:2]
    assert len(registry.list(limit=0)) == len(registry.list(offset=9)) == 0
    assert listed != records[:2]
    with pytest.raises(IndexError):
        listed[3]
    for wrong in ({"limit": -1}, {"offset": -1}, {"limit": "3"}):
        with pytest.raises(zoo.OptionError, match="whole number"):
            registry.list(**wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_a_listed_record_is_whole_wherever_it_goes(registry: zoo.ModelRegistry) -> None:
    records = filled(registry)
    listed = registry.list()
    register(registry, *(f"3.0.{number}" for number in range(3)))  # a list is of its moment
    assert len(listed) == 3
    for one, other in zip(listed, records, strict=True):
        assert isinstance(one.saved, Later)
        assert isinstance(copy.deepcopy(one).saved, dict)
        assert pickle.loads(pickle.dumps(one)) == other == one
        assert json.loads(json.dumps(one.to_dict())) == json.loads(json.dumps(asdict(other) | {"ref": other.ref}))
        assert (one.config, one.factory) == (other.config, other.factory)


VERSIONS = st.builds(
    lambda numbers, pre: ".".join(map(str, numbers)) + pre,
    st.tuples(*[st.integers(0, 2)] * 3),
    st.sampled_from(["", "", "-0", "-1", "-a", "-rc.1", "-rc.2", "-0.a"]),
)
RANGES = st.lists(
    st.builds(
        lambda operator, version: operator + version, st.sampled_from(["^", "~", ">=", "<=", ">", "<", "="]), VERSIONS
    ),
    min_size=1,
    max_size=3,
).map(",".join)


@settings(max_examples=150, deadline=None)
@given(versions=st.lists(VERSIONS, max_size=12), wanted=RANGES)
def test_the_newest_version_in_a_range_is_found_without_reading_the_others(versions: list[str], wanted: str) -> None:
    connection = sqlite3.connect(":memory:")
    layouts.bring_up_to_date(connection, "")
    blank = VersionRecord(name="m", version="", saved={}, sha256="0" * 64, size=8, metrics={})
    for version in {str(v): v for v in map(Version.parse, versions)}:
        file_version(connection, replace(blank, version=version))
    inside = [v for v in map(Version.parse, versions) if Range.parse(wanted).admits(v)]
    if not inside:
        with pytest.raises(zoo.NotFoundError):
            selection.find(connection, selection.Address("m", wanted))
    else:
        assert selection.find(connection, selection.Address("m", wanted))[1].version == str(max(inside))


def test_every_question_for_one_version_is_answered_by_an_index(registry: zoo.ModelRegistry) -> None:
    filled(registry)
    asked: list[tuple[str, object]] = []
    with Ledger(registry.path).reading() as connection:
        connection.set_trace_callback(lambda statement: asked.append((statement, None)))
        for selector in ("1.0.0", "^1", ">=1.1.0-rc.1", "latest", "production", "small"):
            selection.find(connection, selection.Address("m", selector))
        connection.set_trace_callback(None)
        for statement, _ in asked:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
            assert not [step for step in plan if step.startswith(("SCAN changes", "SCAN versions", "SCAN tags"))], plan
            assert "USE TEMP B-TREE FOR ORDER BY" not in plan or "words" in statement, plan
