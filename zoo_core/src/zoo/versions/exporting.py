"""Versions out of the registry, into files."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from zoo.checkpoints.carried import Page
from zoo.checkpoints.store import CHUNK
from zoo.errors import DigestError, NotFoundError, OptionError
from zoo.versions import selection
from zoo.versions.addresses import Address, checked_name
from zoo.versions.archives import write_export
from zoo.versions.portable import (
    CONFIG,
    CONTENTS,
    RECORD,
    WEIGHTS,
    Contents,
    Entry,
    config_bytes,
    record_bytes,
)
from zoo.versions.records import AliasMeaning, Transfer, VersionRecord
from zoo.versions.shelf import Shelf

What = str | Sequence[str]
"""One or several `name@selector`."""


class Chosen(NamedTuple):
    """Versions that are about to leave: their rows, as the contents name them, and what aliases mean of them."""

    rows: tuple[int, ...]
    contents: Contents


def export(shelf: Shelf, what: What, path: str, *, every: bool) -> Transfer:
    """Write versions to a new folder or zip file; see `ModelRegistry.export`."""
    with shelf.ledger.reading() as connection:
        chosen = choose(connection, what, every=every)
    contents = chosen.contents.to_bytes()
    write_export(path, _pages(shelf, chosen, contents))
    return Transfer(
        place=path,
        added=tuple(f"local/{entry.name}@{entry.version}" for entry in chosen.contents.entries),
        unchanged=(),
        aliases=chosen.contents.meanings,
    )


def choose(connection: sqlite3.Connection, what: What, *, every: bool) -> Chosen:
    """What is meant, each version once. Raises `OptionError`, `RefError`, `NotFoundError`."""
    rows: dict[tuple[str, bytes], int] = {}
    for number in meant(connection, what, every=every):
        query = "SELECT name, precedence FROM versions WHERE id = ?"
        rows[connection.execute(query, [number]).fetchone()] = number
    numbers = tuple(rows[order] for order in sorted(rows))
    entries = tuple(_entry(selection.text_of(connection, number)) for number in numbers)
    return Chosen(numbers, Contents(entries, tuple(_meanings(connection, {*numbers}, {e.name for e in entries}))))


def meant(connection: sqlite3.Connection, what: What, *, every: bool) -> Iterator[int]:
    """The rows of the versions that are asked for. Raises `OptionError`, `RefError`, `NotFoundError`."""
    asked = (what,) if isinstance(what, str) else tuple(what)
    if not asked or not all(isinstance(text, str) for text in asked):
        raise OptionError("which versions?", asked=repr(what)[:100], fix='"pets@1.2.0", or "*" with every=True')
    for text in asked:
        if not every:
            address = Address.parse(text)
            yield selection.row_of(connection, Address(checked_name(address.name), address.selector))
            continue
        found = selection.every(connection, text, None)
        if not found:
            raise NotFoundError(f"no model fits {text[:100]!r}", asked=text[:200], fix="zoo registry ls")
        yield from (number for number, _ in found)


def checked_chunks(shelf: Shelf, record: VersionRecord) -> Iterator[bytes]:
    """A version's weights; an error at the end where they are not what was registered. Raises `CheckpointError`."""
    digest = hashlib.sha256()
    path = shelf.blob(record).path
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            yield chunk
    if digest.hexdigest() != record.sha256:
        raise DigestError(f"the weights of {record.ref} are damaged", asked=record.sha256, found=path)


def small_files(values: Mapping[str, Any], folder: str) -> dict[str, bytes]:
    """record.json and config.json of a version, by their names in an export."""
    return {f"{folder}/{RECORD}": record_bytes(values), f"{folder}/{CONFIG}": config_bytes(values["saved"])}


def _pages(shelf: Shelf, chosen: Chosen, contents: bytes) -> Iterator[Page]:
    yield Page(CONTENTS, len(contents), [contents])
    for number, entry in zip(chosen.rows, chosen.contents.entries, strict=True):
        with shelf.ledger.reading() as connection:  # for a moment each: whoever reads holds up whoever writes
            values = selection.text_of(connection, number)
        for name, raw in small_files(values, entry.folder).items():
            yield Page(name, len(raw), [raw])
        record = VersionRecord.from_dict(values)
        yield Page(f"{entry.folder}/{WEIGHTS}", record.size, checked_chunks(shelf, record))


def _entry(values: Mapping[str, Any]) -> Entry:
    digest = hashlib.sha256(record_bytes(values)).hexdigest()
    return Entry(values["name"], values["version"], digest, tuple(values["tags"]))


def _meanings(connection: sqlite3.Connection, rows: set[int], names: set[str]) -> Iterator[AliasMeaning]:
    """What the aliases mean now, of these models, where they mean one of these versions."""
    for name in sorted(names):
        for number, aliases in selection.aliases_now(connection, name).items():
            for alias in aliases if number in rows else ():
                history = selection.history(connection, name, alias)
                yield AliasMeaning(name=name, alias=alias, version=history[-1].version, history=history)
