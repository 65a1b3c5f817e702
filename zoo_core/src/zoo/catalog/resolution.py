"""From a reference to a model: whole names first, then the grammar; or an error that says what to type instead."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from zoo.catalog.aliases import user_aliases
from zoo.catalog.misses import ambiguous, no_checkpoint, no_model, no_version, not_that_kind
from zoo.catalog.names import BARE, KINDS
from zoo.catalog.records import ModelInfo, Resolved, record_of
from zoo.catalog.suggestions import suggest
from zoo.errors import NotFoundError, RefError, UnsupportedError
from zoo.plugin.state import as_error
from zoo.refs import Ref, is_external, parse
from zoo.specs import CheckpointSpec, ModelSpec

_BARE = ", ".join(f"'{namespace}'" for namespace in BARE)


class Match(NamedTuple):
    """One row that a name leads to, by its number."""

    row: int
    plugin: int
    namespace: str
    status: str
    name: str
    kind: str
    checkpoint: str | None = None
    """The checkpoint a published name stands for."""


def resolve(connection: sqlite3.Connection, text: str, kinds: Sequence[str]) -> Resolved:
    """See `Catalog.resolve`."""
    match, ref = _find(connection, text, kinds)
    record = record_of(connection, match.plugin)
    if match.status == "available":
        raise NotFoundError(
            f"{match.namespace}/{match.name} comes with {record.distribution}, which is not installed",
            asked=text,
            fix=record.fix,
        )
    if record.state != "ok":
        raise as_error(record)
    model, schema = _load(connection, match)
    checkpoint, named = _checkpoint(text, model, match, ref)
    return Resolved(model, checkpoint, named, record, schema, _canonical(match, model, checkpoint))


def describe(connection: sqlite3.Connection, text: str) -> ModelInfo:
    """See `Catalog.info`."""
    if is_external(text):
        raise UnsupportedError(
            "an external reference names files outside the catalogue, which knows nothing about them",
            asked=text,
            fix=f'zoo.create("{text}") reads it; zoo list shows what the catalogue has',
        )
    match, ref = _find(connection, text, KINDS)
    record = record_of(connection, match.plugin)
    model, schema = _load(connection, match)
    checkpoint, _ = _checkpoint(text, model, match, ref)
    return ModelInfo(
        ref=_canonical(match, model, checkpoint),
        status=match.status,
        reason=record.reason,
        fix=record.fix,
        complete=_is_own(connection, match.plugin),
        model=model,
        checkpoint=checkpoint,
        plugin=record,
        schema=schema,
    )


def first_party(connection: sqlite3.Connection, name: str) -> str | None:
    """See `Catalog.first_party`."""
    found = _named(connection, name, None) or _published(connection, name)
    return f"{found[0].namespace}/{found[0].name}" if found else None


def _find(connection: sqlite3.Connection, text: str, kinds: Sequence[str]) -> tuple[Match, Ref]:
    """The one row a reference means, and what the grammar adds to it (checkpoint, version)."""
    if isinstance(text, str) and text.isprintable():
        aliases = user_aliases()
        text = aliases.get(text, text)
        found = _published(connection, text)
        if found:
            return _only(found, text, kinds), Ref(found[0].name, found[0].namespace)
    else:
        aliases = {}
    if is_external(text):
        raise UnsupportedError(
            "an external reference names files outside the catalogue",
            asked=text,
            fix="zoo.create reads such a reference",
        )
    ref = _parse(connection, text)
    if ref.namespace is None and ref.name in aliases:
        target = parse(aliases[ref.name])
        ref = target._replace(checkpoint=ref.checkpoint or target.checkpoint, version=ref.version or target.version)
    found = _named(connection, ref.name, ref.namespace)
    if not found:
        found = _published(connection, ref.name if ref.namespace is None else f"{ref.namespace}/{ref.name}")
    if not found:
        raise no_model(connection, ref, text)
    return _only(found, text, kinds), ref


def _parse(connection: sqlite3.Connection, text: str) -> Ref:
    """`zoo.refs.parse`, with the name that was probably meant (`ResNet-50`, a misspelt published name)."""
    try:
        return parse(text)
    except RefError as error:
        near = suggest(connection, text, 1) if isinstance(text, str) else []
        if near:
            raise RefError(f"{error.message}\n  did you mean {near[0]!r}?", asked=text, fix=near[0]) from None
        raise


def _named(connection: sqlite3.Connection, name: str, namespace: str | None) -> list[Match]:
    """Rows of that very name, in one namespace or among the first-party ones."""
    where, values = (f"namespace IN ({_BARE})", [name]) if namespace is None else ("namespace = ?", [name, namespace])
    query = (
        "SELECT models.id, plugins.id, namespace, status, name, kind FROM models JOIN plugins ON plugins.id = plugin"
        f" WHERE name = ? AND {where} ORDER BY models.id"
    )
    return _usable([Match(*row) for row in connection.execute(query, values)])


def _published(connection: sqlite3.Connection, alias: str) -> list[Match]:
    """Rows that were published under that name: ours as they are, a stranger's behind its namespace."""
    query = (
        "SELECT models.id, plugins.id, namespace, status, name, kind, checkpoint FROM aliases"
        " JOIN plugins ON plugins.id = aliases.plugin"
        " JOIN models ON models.id = first + aliases.model WHERE alias = ? AND {}"
    )
    found = [Match(*row) for row in connection.execute(query.format(f"namespace IN ({_BARE})"), [alias])]
    namespace, slash, rest = alias.partition("/")
    if not found and slash:
        found = [Match(*row) for row in connection.execute(query.format("namespace = ?"), [rest, namespace])]
    return _usable(found)


def _usable(found: list[Match]) -> list[Match]:
    """What can be built hides what is set aside, and that hides what is not installed."""
    for statuses in (("installed",), None, ("available",)):
        some = [m for m in found if (m.status in statuses if statuses else m.status not in ("installed", "available"))]
        if some:
            return some
    return []


def _only(found: list[Match], text: str, kinds: Sequence[str]) -> Match:
    fitting = [match for match in found if match.kind in kinds]
    if not fitting:
        raise not_that_kind(text, found[0].kind, kinds)
    if len({(match.namespace, match.name, match.checkpoint) for match in fitting}) > 1:
        raise ambiguous(text, [f"{match.namespace}/{match.name}" for match in fitting])
    return fitting[0]


def _checkpoint(text: str, model: ModelSpec, match: Match, ref: Ref) -> tuple[CheckpointSpec | None, bool]:
    if ref.version is not None and ref.version != model.version:
        raise no_version(text, model, ref.version)
    name = ref.checkpoint or match.checkpoint
    checkpoint = model.checkpoint(name)
    if name is not None and checkpoint is None:
        raise no_checkpoint(text, f"{match.namespace}/{match.name}", model, name)
    return checkpoint, name is not None


def _canonical(match: Match, model: ModelSpec, checkpoint: CheckpointSpec | None) -> str:
    return str(Ref(model.name, match.namespace, checkpoint.name if checkpoint else None, model.version))


def _is_own(connection: sqlite3.Connection, plugin: int) -> bool:
    """Whether the plugin's rows come from its own manifest, not from the snapshot."""
    return bool(connection.execute("SELECT source = manifest FROM plugins WHERE id = ?", [plugin]).fetchone()[0])


def _load(connection: sqlite3.Connection, match: Match) -> tuple[ModelSpec, dict[str, Any]]:
    start, length = connection.execute("SELECT start, length FROM details WHERE id = ?", [match.row]).fetchone()
    specs, schemas = connection.execute(
        "SELECT specs, schemas FROM contents WHERE plugin = ?", [match.plugin]
    ).fetchone()
    try:
        model = ModelSpec.from_dict(json.loads(zlib.decompress(specs)[start : start + length]))
        schema = json.loads(zlib.decompress(schemas)).get(model.factory, {})
    except (zlib.error, ValueError) as error:
        raise sqlite3.DatabaseError(f"damaged: {error}") from error  # the catalogue will be made anew
    return model, schema
