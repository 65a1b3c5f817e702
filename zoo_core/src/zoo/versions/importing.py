"""Versions of another registry into this one: all that were asked for, or none. Nothing they name is imported."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.headers import read_header
from zoo.errors import CheckpointError, NotFoundError, ZooError
from zoo.refs import LOCAL
from zoo.versions import filing, layouts, selection
from zoo.versions.addresses import Address
from zoo.versions.archives import Export
from zoo.versions.exporting import What, meant
from zoo.versions.portable import (
    CONFIG,
    CONTENTS,
    LAYOUT,
    MAX_CONTENTS,
    MAX_RECORD,
    RECORD,
    WEIGHTS,
    Contents,
    Entry,
    Parcel,
    check_config,
    parse_record,
)
from zoo.versions.records import AliasMeaning, Import, Transfer, VersionRecord
from zoo.versions.semver import Version
from zoo.versions.shelf import Shelf

_TRIES = 3
"""Times that weights are brought before they are registered; a collector leaves for hours what has just arrived."""


class _Wanted(NamedTuple):
    """A version to register: the digest and size of its weights, and whether it is here already, the very same."""

    entry: Entry
    weights: Wanted
    there: bool

    @property
    def sha256(self) -> str:
        """The weights' digest."""
        return str(self.weights.sha256)

    @property
    def ref(self) -> str:
        """As `zoo.create` takes it."""
        return f"{LOCAL}{self.entry.name}@{self.entry.version}"


def take(shelf: Shelf, export: Export, what: What | None, *, every: bool, aliases: bool) -> Transfer:
    """Register what an export has, or what is asked for of it; see `ModelRegistry.import_from`.

    First everything is checked, then the weights arrive in the store, then one transaction registers all of it. What an
    interruption leaves are weights that no version names, which the store's collector removes.
    """
    contents = Contents.parse(export.read(CONTENTS, MAX_CONTENTS), f"{export.label}: {CONTENTS}")
    entries = contents.entries if what is None else _asked_for(contents, what, every, export.label)
    wanted: list[_Wanted] = []
    notes: dict[str, list[VersionRecord]] = {}
    with shelf.ledger.reading() as connection:
        for entry in entries:
            parcel = _parcel(export, entry)
            record = parcel.record
            wanted.append(_Wanted(entry, Wanted(record.sha256, record.size), _is_there(connection, record, export)))
            for note in _notes(parcel):
                notes.setdefault(note, []).append(record)
    for one in wanted:
        if not one.there or not _is_sound(shelf, one):
            _bring(shelf, export, one)
    added, moved = _file(shelf, export, wanted, _meanings(contents, entries), aliases=aliases)
    return Transfer(
        place=export.label,
        added=tuple(one.ref for one in wanted if one in added),
        unchanged=tuple(one.ref for one in wanted if one not in added),
        aliases=_meanings(contents, entries),
        moved=tuple(f"{meaning.name}@{meaning.alias}" for meaning in moved),
        notes=tuple(f"{_several(records)} {note}" for note, records in notes.items()),
    )


def _file(
    shelf: Shelf, export: Export, wanted: Sequence[_Wanted], meanings: Sequence[AliasMeaning], *, aliases: bool
) -> tuple[set[_Wanted], list[AliasMeaning]]:
    """One transaction: every version that is not here yet, and the aliases if asked for. What of it was new."""
    arrived = Import(source=export.label, at=filing.now(), by=filing.user())
    added = set()
    with _complete(shelf, export, wanted) as connection:
        for one in wanted:
            parcel = _parcel(export, one.entry)  # once more: records are small, and holding all of them is not
            if not _is_there(connection, parcel.record, export):
                filing.file_version(connection, replace(parcel.record, imported=arrived), _later(parcel))
                added.add(one)
        moved = [meaning for meaning in meanings if aliases and _applied(connection, meaning)]
    return added, moved


@contextmanager
def _complete(shelf: Shelf, export: Export, wanted: Sequence[_Wanted]) -> Iterator[sqlite3.Connection]:
    """A transaction during which all weights are in the store.

    What has left it since it arrived is brought again outside: that may be a download, and others want to write.
    """
    for _ in range(_TRIES):
        with shelf.ledger.writing() as connection:
            gone = [one for one in wanted if shelf.store.own(one.sha256, one.weights.size) is None]
            if not gone:
                yield connection
                return
        for one in gone:
            _bring(shelf, export, one)
    raise CheckpointError(
        "weights left the store again and again while they were being registered",
        asked=gone[0].ref,
        found=shelf.store.blob_path(gone[0].sha256),
        fix="see what removes files there, and try again",
    )


def _parcel(export: Export, entry: Entry) -> Parcel:
    record, config = (f"{entry.folder}/{name}" for name in (RECORD, CONFIG))
    parcel = parse_record(export.read(record, MAX_RECORD), entry, f"{export.label}: {record}")
    check_config(export.read(config, MAX_RECORD), parcel.record, f"{export.label}: {config}")
    return parcel


def _is_there(connection: sqlite3.Connection, record: VersionRecord, export: Export) -> bool:
    """Whether the very same version is registered. Raises `ZooError`: another is, under its name and version."""
    before = selection.at_precedence(connection, record.name, Version.parse(record.version))
    if before is None:
        return False
    content, there = before
    if content == filing.content_of(record):
        return True
    raise ZooError(
        f"{there.name} {there.version} is registered already, and nothing registered is overwritten",
        asked=f"{record.name}@{record.version} of {export.label}",
        found=f"registered {there.created} by {there.author}, with other {filing.differing(there, record)}",
        fix="import the other versions by name, or this one into a registry of its own: zoo.ModelRegistry(path)",
    )


def _is_sound(shelf: Shelf, one: _Wanted) -> bool:
    found = shelf.store.own(one.sha256, one.weights.size)
    return found is not None and shelf.store.digest(found.path) == one.sha256


def _bring(shelf: Shelf, export: Export, one: _Wanted) -> None:
    """The weights into the store, as promised, and a sound safetensors file."""
    export.deliver(f"{one.entry.folder}/{WEIGHTS}", one.weights, shelf.store)
    read_header(shelf.store.blob_path(one.sha256))


def _applied(connection: sqlite3.Connection, meaning: AliasMeaning) -> bool:
    """Let an alias mean here what it means there; whether it had to be changed for it."""
    number = selection.row_of(connection, Address(meaning.name, meaning.version))
    now = selection.last_change(connection, meaning.name, meaning.alias)
    if now is not None and now[1] == number:
        return False
    filing.file_change(connection, meaning.name, meaning.alias, "promote", number, now and now[0])
    return True


def _meanings(contents: Contents, entries: Sequence[Entry]) -> tuple[AliasMeaning, ...]:
    taken = {(entry.name, entry.version) for entry in entries}
    return tuple(meaning for meaning in contents.meanings if (meaning.name, meaning.version) in taken)


def _later(parcel: Parcel) -> dict[str, Any]:
    """What a newer zoo says in a record and this one does not know; it is handed on as it came."""
    known = {*VersionRecord.__dataclass_fields__, "ref"}
    return {
        name: value
        for name, value in parcel.values.items()
        if name not in known and not (name == "zoo_registry" and value <= LAYOUT)
    }


def _notes(parcel: Parcel) -> Iterator[str]:
    """What the user should know of a version that is taken all the same, without its name."""
    from zoo.build.descriptions import plugin_of

    record = parcel.record
    if parcel.newer:
        yield f"came from a newer zoo, {record.zoo_version}; to load it: pip install -U zoo-core"
    elif plugin_of(record.factory) is None:
        name = record.factory.rpartition(":")[2].rpartition(".")[2]
        get = f"pip install {record.distribution}, or " if record.distribution else ""
        yield f"needs {record.factory}, of no installed plugin; to load it: {get}registry.load(…, cls={name})"


def _several(records: Sequence[VersionRecord]) -> str:
    more = len(records) - 1
    return f"{records[0].ref} and {more} more:" if more else f"{records[0].ref}:"


def _asked_for(contents: Contents, what: What, every: bool, label: str) -> tuple[Entry, ...]:
    """What is asked for of an export, by the same selectors as in a registry: its contents become one in memory."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        layouts.bring_up_to_date(connection, label)
        rows = {}
        for number, entry in enumerate(contents.entries, 1):
            version = Version.parse(entry.version)
            order = (entry.name, version.precedence, not version.pre)
            row = [number, entry.name, entry.version, *order[1:], "", "", "{}"]
            connection.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            layouts.derive(connection, number, order, {"tags": entry.tags})
            rows[entry.name, entry.version] = number
        for meaning in contents.meanings:
            target = rows.get((meaning.name, meaning.version))
            if target is not None:
                filing.file_change(connection, meaning.name, meaning.alias, "promote", target, None)
        try:
            numbers = {*meant(connection, what, every=every)}
        except NotFoundError as error:
            fix = error.fix if error.fix and "registry" not in error.fix and "register_" not in error.fix else None
            raise NotFoundError(f"{label}: {error.message}", asked=error.asked, found=error.found, fix=fix) from None
    return tuple(entry for number, entry in enumerate(contents.entries, 1) if number in numbers)
