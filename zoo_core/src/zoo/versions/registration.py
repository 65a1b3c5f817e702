"""From a component to a registered version: its weights into the store, its record into the ledger."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.store import Blob, checked_hex
from zoo.errors import NotFoundError, RefError
from zoo.refs import LOCAL
from zoo.versions import filing, selection
from zoo.versions.addresses import Address
from zoo.versions.records import Parent, VersionRecord
from zoo.versions.semver import Version
from zoo.versions.shelf import Shelf

if TYPE_CHECKING:
    from zoo.models.model import Component


def stated_parent(shelf: Shelf, parent: str | tuple[str, str]) -> Parent:
    """What the caller says a version is made from. Raises `OptionError`, `RefError`, `NotFoundError`, `DigestError`."""
    address = filing.checked_parent(parent)
    if isinstance(address, str):
        return Parent(sha256=checked_hex(address))
    record = shelf.record(address)
    return Parent(sha256=record.sha256, name=record.name, version=record.version)


def register_component(
    shelf: Shelf, name: str, version: Version, component: Component, parent: Parent | None, notes: Mapping[str, Any]
) -> VersionRecord:
    """Keep a component, whole or not at all. notes: checked tags, metrics and data. Raises as `register` does."""
    from zoo.versions.classes import remember
    from zoo.versions.contents import described, owner_of, weights_of

    saved, taken = described(component), _is_taken(shelf, name, version)
    distribution, plugin_version = owner_of(component)
    blob = _keep(shelf, weights_of(component), stored=not taken)
    damaged = taken and _is_damaged(shelf, blob)
    record = VersionRecord(
        name=name,
        version=str(version),
        saved=saved,
        sha256=blob.sha256,
        size=blob.size,
        parent=parent or _origin(shelf, component, blob.sha256),
        distribution=distribution,
        plugin_version=plugin_version,
        zoo_version=filing.zoo_version(),
        created=filing.now(),
        author=filing.user(),
        **notes,
    )
    with shelf.ledger.writing() as connection:
        filed = filing.file_version(connection, record)
        # Collected, lost or damaged since it was first registered.
        if damaged or shelf.store.own(filed.sha256, filed.size) is None:
            shelf.store.put(weights_of(component), Wanted(filed.sha256, filed.size))
    remember(type(component), filed.sha256)
    return filed


def _origin(shelf: Shelf, component: Component, sha256: str) -> Parent | None:
    origin = component.provenance
    if origin is None or not origin.sha256:
        return None
    name = version = ""
    with suppress(RefError):  # a source that somebody wrote by hand
        name, version = Address.parse(origin.source) if origin.source.startswith(LOCAL) else ("", "")
    if origin.sha256 != sha256:
        return Parent(sha256=origin.sha256, name=name, version=version)
    with suppress(NotFoundError, RefError):  # an unchanged copy is no child of itself
        return shelf.record(Address(name, version)).parent
    return None


def _keep(shelf: Shelf, chunks: Iterator[memoryview], *, stored: bool) -> Blob:
    """Put weights into the store; or, where they will only be compared, tell their digest."""
    if stored:
        return shelf.store.put(chunks)
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    return Blob(digest.hexdigest(), size, "")


def _is_damaged(shelf: Shelf, blob: Blob) -> bool:
    found = shelf.store.own(blob.sha256, blob.size)
    return found is not None and shelf.store.digest(found.path) != blob.sha256


def _is_taken(shelf: Shelf, name: str, version: Version) -> bool:
    with shelf.ledger.reading() as connection:
        return selection.at_precedence(connection, name, version) is not None
