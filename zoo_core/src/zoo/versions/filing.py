"""Writing into the registry: a version once and for ever, a change of an alias at the end of its history."""

from __future__ import annotations

import getpass
import hashlib
import json
import math
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version as installed_version
from typing import Any

from zoo.errors import OptionError, ZooError
from zoo.refs import LOCAL
from zoo.versions import layouts, selection
from zoo.versions.addresses import Address, checked_word
from zoo.versions.records import VersionRecord, changes
from zoo.versions.semver import Version

_CIRCUMSTANCES = {
    *("aliases", "author", "created", "distribution", "imported", "plugin_version", "ref", "size", "zoo_version")
}
"""Of a record, what may differ when the same content is registered a second time."""


def file_version(
    connection: sqlite3.Connection, record: VersionRecord, later: Mapping[str, Any] | None = None
) -> VersionRecord:
    """Add a version, whose weights are in the store; or find the very same content there already.

    Args:
        later: fields of a newer zoo, which are kept beside those that are known.

    Raises:
        ZooError: other content has that version.
    """
    version, content = Version.parse(record.version), content_of(record)
    before = selection.at_precedence(connection, record.name, version)
    if before is not None:
        return _same(connection, before, content, record, version)
    text = json.dumps({**(later or {}), **record.to_dict()}, sort_keys=True)
    connection.execute("INSERT OR IGNORE INTO blobs VALUES (?, ?)", [record.sha256, record.size])
    values = [record.name, record.version, version.precedence, not version.pre, record.sha256, content, text]
    row = connection.execute(
        "INSERT INTO versions (name, version, precedence, is_release, blob, content, record) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        values,
    )
    kept = json.loads(text)
    layouts.derive(connection, int(row.lastrowid or 0), (record.name, version.precedence, not version.pre), kept)
    return VersionRecord.from_dict(kept)


def file_change(
    connection: sqlite3.Connection, name: str, alias: str, action: str, version: int, below: int | None
) -> None:
    """Let an alias mean the version in that row; `below` is the change that a rollback returns to."""
    connection.execute(
        "INSERT INTO changes (name, alias, action, version, below, at, by) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [name, alias, action, version, below, now(), user()],
    )


def checked_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Tags, sorted. Raises `RefError` and `OptionError`."""
    if isinstance(tags, str) or not isinstance(tags, Collection):
        fix = f'tags=["{tags}"]' if isinstance(tags, str) else 'tags=["production"]'
        raise OptionError("tags are a list of words", asked=f"tags={tags!r}"[:100], fix=fix)
    return tuple(sorted({checked_word(tag, "a tag") for tag in tags}))


def checked_metrics(metrics: Mapping[str, float] | None) -> dict[str, float]:
    """Metrics as plain floats. Raises `OptionError`."""
    if not isinstance(metrics, Mapping | None):
        raise OptionError(
            "metrics are finite numbers by name", asked=f"metrics={metrics!r}"[:200], fix='metrics={"top1": 0.9}'
        )
    kept = {}
    for name, value in (metrics or {}).items():
        try:
            number = math.nan if isinstance(value, str | bool) else float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError):  # the last: a tensor of several numbers
            number = math.nan
        if not isinstance(name, str) or not math.isfinite(number):
            raise OptionError(
                "metrics are finite numbers by name", asked=f"{name!r}: {value!r}"[:200], fix='metrics={"top1": 0.9}'
            )
        kept[name] = number
    return kept


def checked_parent(parent: str | tuple[str, str]) -> str | Address:
    """What a version is said to be made from: the address of another, or the text of a digest. Raises `OptionError`."""
    pair = isinstance(parent, tuple | list) and len(parent) == 2 and all(isinstance(part, str) for part in parent)
    if not (pair or isinstance(parent, str)):
        raise OptionError(
            "a parent is a registered version or the SHA-256 of weights",
            asked=f"parent={parent!r}"[:100],
            fix='parent=("pets", "1.1.0")',
        )
    if not isinstance(parent, str):
        return Address(*parent)
    return Address.parse(parent) if "@" in parent or parent.startswith(LOCAL) else parent


def checked_note(data: str) -> str:
    """A note. Raises `OptionError`."""
    if not isinstance(data, str):
        raise OptionError("`data` is a note in words", asked=f"data={data!r}"[:100], fix='data="our photos of 2026"')
    return data


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def user() -> str:
    """The system's name of whoever runs this."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        return "unknown"


def zoo_version() -> str:
    """Of zoo-core."""
    try:
        return installed_version("zoo-core")
    except PackageNotFoundError:
        return "unknown"


def content_of(record: VersionRecord) -> str:
    """The digest of what makes a version that version, whenever and by whomever it is registered."""
    return hashlib.sha256(json.dumps(_compared(record), sort_keys=True).encode()).hexdigest()


def _compared(record: VersionRecord) -> dict[str, Any]:
    values = {name: value for name, value in record.to_dict().items() if name not in _CIRCUMSTANCES}
    values["saved"] = {name: value for name, value in record.saved.items() if name != "provenance"}
    return values


def differing(one: VersionRecord, other: VersionRecord) -> str:
    """The fields that tell two records apart, by the names they are registered under."""
    names: dict[str, None] = {}  # in order
    for path in changes(_compared(one), _compared(other)):
        of_saved = path.removeprefix("saved.").partition(".")[0]
        names["weights" if of_saved == "sha256" else of_saved] = None
    return ", ".join(names)


def _same(
    connection: sqlite3.Connection,
    before: tuple[str, VersionRecord],
    content: str,
    record: VersionRecord,
    version: Version,
) -> VersionRecord:
    there = before[1]
    if before[0] == content:
        return selection.find(connection, Address(record.name, there.version))[1]
    free = selection.next_free(connection, record.name, version)
    raise ZooError(
        f"{record.name} {there.version} is registered already, and nothing registered is overwritten",
        asked=f"{record.name}@{version}",
        found=f"registered {there.created} by {there.author}, with other {differing(there, record)}",
        fix=" or ".join(f'version="{text}"' for text in free),
    )
