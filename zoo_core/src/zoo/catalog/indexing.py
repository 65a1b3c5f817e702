"""Filling a catalogue: what discovery found, and the snapshot of what could be installed, as rows.

A manifest that has not changed since the old catalogue was made is neither read nor parsed: its rows are copied.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from zoo import specs
from zoo.catalog import counts, licenses, lines, names
from zoo.catalog.known_manifests import KnownManifests
from zoo.catalog.licenses import classify
from zoo.catalog.lines import model_line
from zoo.catalog.names import BARE, WHOLE, short_ref
from zoo.errors import ManifestError
from zoo.index import snapshot
from zoo.plugin.discovery import discover
from zoo.plugin.rows import distribution_of
from zoo.plugin.scanner import folders
from zoo.plugin.stamps import Stamp, stamp
from zoo.plugin.state import PluginRecord
from zoo.specs import PluginSpec

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE stamps (path TEXT NOT NULL, mtime INTEGER NOT NULL, tag INTEGER NOT NULL);
-- One row a plugin; its models have the ids first..last. `status` is what a listing shows.
CREATE TABLE plugins (
    id INTEGER PRIMARY KEY, installed INTEGER NOT NULL, status TEXT NOT NULL,
    namespace TEXT NOT NULL, distribution TEXT NOT NULL, version TEXT NOT NULL, state TEXT NOT NULL,
    reason TEXT NOT NULL, fix TEXT NOT NULL, manifest TEXT NOT NULL, location TEXT NOT NULL,
    source TEXT NOT NULL, digest TEXT NOT NULL, header TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL
);
-- What is read as a whole: the lines of a listing, every ModelSpec as JSON, the config schemas.
CREATE TABLE contents (plugin INTEGER PRIMARY KEY, lines TEXT NOT NULL, specs BLOB NOT NULL, schemas BLOB NOT NULL);
-- A model is a row here and one in `details`: a search goes through all of the former, so it holds little more than
-- is searched for. `start` and `length` find the model's JSON in the plugin's unpacked `specs`, in bytes.
CREATE TABLE models (
    id INTEGER PRIMARY KEY, plugin INTEGER NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL, task TEXT NOT NULL,
    params INTEGER, license_class TEXT NOT NULL
);
CREATE TABLE details (
    id INTEGER PRIMARY KEY, ref TEXT NOT NULL, license TEXT NOT NULL, tags TEXT NOT NULL, line TEXT NOT NULL,
    checkpoints INTEGER NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL, summary TEXT NOT NULL
);
-- `model` is its place among the plugin's models, from 0.
CREATE TABLE aliases (alias TEXT NOT NULL, plugin INTEGER NOT NULL, model INTEGER NOT NULL, checkpoint TEXT);
"""
INDEXES = """
CREATE INDEX models_by_name ON models (name);
CREATE INDEX aliases_by_plugin ON aliases (plugin);
CREATE INDEX aliases_by_alias ON aliases (alias);
"""
_MODULES = (counts, licenses, lines, names, snapshot, specs)
SHAPED_BY = (__file__, *(module.__file__ for module in _MODULES if module.__file__))
"""The code that decides what a row looks like: rows made by other code are not taken over."""
TAG_END = "\n"
"""Stands before, between and after a row's tags, so that one can be looked for as a whole."""


class Source(NamedTuple):
    """A plugin and the rows it brings: its own, or what the snapshot says of it."""

    record: PluginRecord
    installed: bool
    spec: PluginSpec | None
    manifest: str

    @property
    def status(self) -> str:
        """What a listing shows beside its models."""
        if not self.installed:
            return "available"
        return "installed" if self.record.state == "ok" else self.record.state


def index(connection: sqlite3.Connection, key: str, paths: list[str], known: bool) -> None:
    """Write the catalogue of what is installed.

    Args:
        connection: to an empty database, with another catalogue attached as `old` where `known`: an old one of the
            same folders, or of others.
        key: what the catalogue is for, kept with it.
        paths: the folders of `sys.path` that the catalogue depends on.
    """
    connection.executescript(SCHEMA)
    connection.execute("BEGIN")
    shape = repr([stamp(path, sys.maxsize)[1:] for path in SHAPED_BY])
    known = known and connection.execute("SELECT value FROM old.meta WHERE key = 'shape'").fetchone() == (shape,)
    manifests = KnownManifests(connection if known else None)
    sources, fingerprint = _sources(paths, manifests)
    shared = _shared_bare_names(connection, sources, manifests)
    same_names = known and connection.execute("SELECT value FROM old.meta WHERE key = 'shared'").fetchone() == (shared,)
    for number, source in enumerate(sources):
        old = manifests.old_rows(source.manifest, source.status)
        if old is not None and (same_names or source.record.namespace not in BARE):
            _copy(connection, number, source, old)
        else:
            spec = None if source.spec is None else manifests.whole(source.manifest, source.spec)
            _write(connection, number, source._replace(spec=spec), manifests, set(shared.split()))
    connection.executemany("INSERT INTO stamps VALUES (?, ?, ?)", fingerprint)
    connection.executemany("INSERT INTO meta VALUES (?, ?)", [("key", key), ("shape", shape), ("shared", shared)])
    connection.execute("COMMIT")
    connection.executescript(INDEXES)


def _sources(paths: list[str], manifests: KnownManifests) -> tuple[list[Source], list[Stamp]]:
    """Every plugin, installed or known from the snapshot; first-party names first, then by namespace."""
    now = time.time_ns()
    snapshots = snapshot.snapshot_files()
    found = discover(read=manifests)
    passed_over = {*folders()} - {*paths}
    stamps = [known for known in found.fingerprint if known[0] not in passed_over]
    stamps += [stamp(path, now) for path in (snapshot.FOLDER, *snapshots.values(), *SHAPED_BY)]
    sources = []
    for record, spec in found.plugins:
        rightful = record.distribution == distribution_of(record.namespace) and record.state != "namespace-conflict"
        file = snapshots.pop(record.namespace, "") if rightful else ""
        if spec is None and file:  # what it offers is known all the same, and a later miss can name it
            sources.append(Source(record, True, _read_snapshot(file, manifests), file))
        else:
            sources.append(Source(record, True, spec, record.manifest if spec else ""))
    for namespace, file in snapshots.items():
        spec = _read_snapshot(file, manifests)
        fix = f"pip install {distribution_of(namespace)}"
        record = PluginRecord(namespace, distribution_of(namespace), "", reason="it is not installed", fix=fix)
        sources.append(Source(record, False, spec, file))
    return sorted(sources, key=lambda s: (s.record.namespace not in BARE, s.record.namespace, s.spec is None)), stamps


def _read_snapshot(file: str, manifests: KnownManifests) -> PluginSpec | None:
    try:
        return manifests(file)
    except ManifestError:  # a damaged installation of core still lists what is installed
        return None


def _shared_bare_names(connection: sqlite3.Connection, sources: list[Source], manifests: KnownManifests) -> str:
    """Names that more than one first-party plugin provides, so that the bare name means neither."""
    counts: Counter[str] = Counter()
    for source in sources:
        if source.record.namespace in BARE and source.spec is not None:
            counts.update({*manifests.model_names(source.manifest, source.spec)})  # a model and a head may share one
    return " ".join(sorted(name for name, count in counts.items() if count > 1))


def _write(
    connection: sqlite3.Connection, number: int, source: Source, manifests: KnownManifests, shared: set[str]
) -> None:
    spec = source.spec
    if spec is None:
        _add_plugin(connection, number, source, "", "", 0)
        return
    texts = [json.dumps(model.to_dict(), ensure_ascii=False).encode() for model in spec.models]
    header = json.dumps(replace(spec, models=(), schemas={}).to_dict())
    first = _add_plugin(connection, number, source, manifests.digests[source.manifest], header, len(texts))
    details = list(_details(source.status, spec, texts, shared))
    connection.executemany(
        "INSERT INTO models VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (first + place, number, model.name, model.kind, model.task, model.params, classify(detail[1]))
            for place, (model, detail) in enumerate(zip(spec.models, details, strict=True))
        ],
    )
    connection.executemany(
        "INSERT INTO details VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(first + place, *detail) for place, detail in enumerate(details)],
    )
    connection.executemany("INSERT INTO aliases VALUES (?, ?, ?, ?)", _aliases(number, spec))
    listed = (detail[3] for model, detail in zip(spec.models, details, strict=True) if model.kind in WHOLE)
    packed = [zlib.compress(data, 1) for data in (b"".join(texts), json.dumps(dict(spec.schemas)).encode())]
    lines = "".join(line + "\n" for line in listed)
    connection.execute("INSERT INTO contents VALUES (?, ?, ?, ?)", (number, lines, *packed))


Detail = tuple[str, str, str, str, int, int, int, str]


def _details(status: str, spec: PluginSpec, texts: list[bytes], shared: set[str]) -> Iterator[Detail]:
    """The columns of `details` after the number, a model each."""
    start = 0
    for model, text in zip(spec.models, texts, strict=True):
        ref = f"{spec.namespace}/{model.name}" if model.name in shared else short_ref(spec.namespace, model.name)
        license = model.checkpoints[0].license if model.checkpoints else model.license
        shown = model_line(ref, model.task, model.params, license, len(model.checkpoints), status)
        tags = "".join(TAG_END + tag for tag in model.tags) + TAG_END
        yield ref, license, tags, shown, len(model.checkpoints), start, len(text), model.summary
        start += len(text)


def _aliases(number: int, spec: PluginSpec) -> Iterator[tuple[str, int, int, str | None]]:
    for place, model in enumerate(spec.models):
        for alias in model.aliases:
            yield alias, number, place, None
        for checkpoint in model.checkpoints:
            for alias in checkpoint.aliases:
                yield alias, number, place, checkpoint.name


def _add_plugin(
    connection: sqlite3.Connection, number: int, source: Source, digest: str, header: str, count: int
) -> int:
    """Returns the number of its first model."""
    first: int
    (first,) = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM models").fetchone()
    last = first + count - 1
    values = (number, source.installed, source.status, *source.record, source.manifest, digest, header, first, last)
    connection.execute(f"INSERT INTO plugins VALUES ({', '.join('?' * len(values))})", values)
    return first


def _copy(connection: sqlite3.Connection, number: int, source: Source, old: int) -> None:
    digest, header, first, last = connection.execute(
        "SELECT digest, header, first, last FROM old.plugins WHERE id = ?", (old,)
    ).fetchone()
    moved = _add_plugin(connection, number, source, digest, header, last - first + 1) - first
    connection.execute(
        "INSERT INTO models SELECT id + ?, ?, name, kind, task, params, license_class FROM old.models"
        " WHERE id BETWEEN ? AND ?",
        (moved, number, first, last),
    )
    connection.execute(
        "INSERT INTO details SELECT id + ?, ref, license, tags, line, checkpoints, start, length, summary"
        " FROM old.details WHERE id BETWEEN ? AND ?",
        (moved, first, last),
    )
    connection.execute(
        "INSERT INTO aliases SELECT alias, ?, model, checkpoint FROM old.aliases WHERE plugin = ?", (number, old)
    )
    connection.execute(
        "INSERT INTO contents SELECT ?, lines, specs, schemas FROM old.contents WHERE plugin = ?", (number, old)
    )
