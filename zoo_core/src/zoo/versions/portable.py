"""Versions in files, for another machine or a repository on the Hub: how they are written, and what of it is believed.

    zoo-registry.json                       the contents: every version with its record's digest, and the aliases
    <name>/<version>/record.json            what the registry knows of it, with the digest of its weights
    <name>/<version>/config.json            its description, as save_pretrained writes it: the folder opens by itself
    <name>/<version>/model.safetensors      its weights

The same versions give the same bytes wherever they are written. Of a file that comes from elsewhere nothing is
believed: sizes have bounds, every value is checked, and one digest leads to the next.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from zoo.checkpoints import strict_json
from zoo.checkpoints.store import checked_hex
from zoo.errors import DigestError, FormatError, ZooError
from zoo.versions import filing
from zoo.versions.addresses import checked_name, checked_word
from zoo.versions.records import AliasChange, AliasMeaning, Parent, VersionRecord
from zoo.versions.semver import Version

CONTENTS, RECORD, CONFIG, WEIGHTS = "zoo-registry.json", "record.json", "config.json", "model.safetensors"
LAYOUT = 1
MAX_CONTENTS = 8_000_000
"""Bytes of the contents; 10,000 versions take about 1.5 million."""

MAX_RECORD = 4_000_000
"""Bytes of a record or a config; one with the names of 21,000 classes takes less than one million."""

_MAX_TEXT, _MAX_NOTE = 300, 100_000
_HERE_ONLY = ("ref", "aliases", "imported")
"""Of a record, what is true on one machine only."""


class Entry(NamedTuple):
    """A version as the contents name it. record: the SHA-256 of its record.json."""

    name: str
    version: str
    record: str
    tags: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Where its files are."""
        return f"{self.name}/{self.version}"


class Contents(NamedTuple):
    """What there is: versions in order, and which aliases meant which of them, with their history."""

    entries: tuple[Entry, ...]
    meanings: tuple[AliasMeaning, ...]

    def to_bytes(self) -> bytes:
        """The file. Raises `FormatError`: it would not be read back."""
        try:
            _check_unique(self.entries)
        except ValueError as error:
            raise FormatError(
                f"{error} where upper and lower case do not count", fix="name one of them, not both"
            ) from None
        values = {
            "zoo_registry": LAYOUT,
            "versions": [entry._asdict() for entry in sorted(self.entries, key=_order)],
            "aliases": [meaning.to_dict() for meaning in sorted(self.meanings, key=lambda m: (m.name, m.alias))],
        }
        raw = _canonical(values)
        if len(raw) > MAX_CONTENTS:
            raise FormatError(
                f"the contents would have {len(raw):,} bytes; at most {MAX_CONTENTS:,} are read back",
                fix="fewer versions at a time",
            )
        return raw

    @classmethod
    def parse(cls, raw: bytes, where: str) -> Contents:
        """From the file. Raises `FormatError` that names `where` it stands."""
        values = parsed(raw, where)
        try:
            if values["zoo_registry"] > LAYOUT:
                raise FormatError(f"{where} was written by a newer zoo", fix="pip install -U zoo-core")
            _check(isinstance(values["versions"], list) and isinstance(values["aliases"], list), "lists")
            entries = tuple(_entry(value) for value in values["versions"])
            meanings = tuple(_meaning(value) for value in values["aliases"])
            _check_unique(entries)
        except FormatError:
            raise
        except (ZooError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _no_export(where, error) from None
        return cls(tuple(sorted(entries, key=_order)), meanings)


class Parcel(NamedTuple):
    """A checked record. values: as they came, with what a newer zoo says in them; newer: whether one wrote it."""

    record: VersionRecord
    values: dict[str, Any]
    newer: bool


def record_bytes(values: Mapping[str, Any]) -> bytes:
    """A record's file, from its values as they were filed. Raises `FormatError`: more than would be read back."""
    kept = {name: value for name, value in values.items() if name not in _HERE_ONLY}
    return _bounded(_canonical({"zoo_registry": LAYOUT, **kept}), f"{values['name']} {values['version']}")


def config_bytes(saved: Mapping[str, Any]) -> bytes:
    """A version's config.json, as `save_pretrained` would write it."""
    return (json.dumps(dict(saved), indent=1, sort_keys=True) + "\n").encode()


def parse_record(raw: bytes, entry: Entry, where: str) -> Parcel:
    """A version's record, checked. Nothing it names is imported.

    Raises:
        DigestError: not the record that the contents name. FormatError: anything but a sound record.
    """
    found = hashlib.sha256(raw).hexdigest()
    if found != entry.record:
        raise DigestError(f"{where}: not the record that {CONTENTS} names", asked=entry.record, found=found)
    values = parsed(raw, where)
    try:
        if (values["name"], values["version"]) != (entry.name, entry.version):
            raise ValueError(f"it is the record of {values['name']} {values['version']}"[:200])
        record = _record(values)
        _check(type(values["zoo_registry"]) is int, "zoo_registry")
        newer = values["zoo_registry"] > LAYOUT or _is_newer(values["saved"])
        if not newer:
            from zoo.build.saved import read_saved

            read_saved(values["saved"], where)
    except FormatError:
        raise
    except (ZooError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _no_export(where, error) from None
    return Parcel(record, values, newer)


def check_config(raw: bytes, record: VersionRecord, where: str) -> None:
    """Refuse a config.json that says another thing than the record. Raises `FormatError`."""
    if json.dumps(parsed(raw, where), sort_keys=True) != json.dumps(dict(record.saved), sort_keys=True):
        raise FormatError(f"{where} says another thing than the {RECORD} beside it", asked=record.ref)


def parsed(raw: bytes, where: str) -> dict[str, Any]:
    """A JSON object that somebody else wrote. Raises `FormatError`: a name twice, no finite number, absurd nesting."""
    try:
        values = strict_json.loads(raw, max(MAX_CONTENTS, MAX_RECORD))
    except ValueError as error:
        raise FormatError(f"{where} is no JSON that can be read: {str(error)[:100]}") from None
    if not isinstance(values, dict):
        raise FormatError(f"{where} is not a JSON object")
    return values


def _record(values: Mapping[str, Any]) -> VersionRecord:
    """The record in values that anybody may have written."""
    saved, parent = values["saved"], values.get("parent")
    _check(isinstance(saved, dict) and isinstance(saved["factory"], str) and isinstance(saved["config"], dict), "saved")
    size = values["size"]
    _check(type(size) is int and 8 <= size < 1 << 62, "size")
    tags = filing.checked_tags(values.get("tags", ()))
    texts = {
        name: values.get(name, "") for name in ("distribution", "plugin_version", "zoo_version", "created", "author")
    }
    for name, text in texts.items():
        _check(_is_text(text), name)
    _check(isinstance(values.get("data", ""), str) and len(values.get("data", "")) <= _MAX_NOTE, "data")
    if parent is not None:
        _check(_is_text(parent.get("name", "")) and _is_text(parent.get("version", "")), "parent")
        parent = Parent(
            sha256=checked_hex(parent["sha256"]), name=parent.get("name", ""), version=parent.get("version", "")
        )
    return VersionRecord(
        name=checked_name(values["name"]),
        version=str(Version.parse(values["version"])),
        saved=saved,
        sha256=checked_hex(values["sha256"]),
        size=size,
        tags=tags,
        metrics=filing.checked_metrics(values.get("metrics")),
        parent=parent,
        data=values.get("data", ""),
        **texts,
    )


def _entry(values: Mapping[str, Any]) -> Entry:
    name, version = checked_name(values["name"]), values["version"]
    _check(str(Version.parse(version)) == version, "version")
    return Entry(name, version, checked_hex(values["record"]), filing.checked_tags(values["tags"]))


def _meaning(values: Mapping[str, Any]) -> AliasMeaning:
    alias = checked_word(values["alias"], "an alias")
    history = tuple(AliasChange(*(change[field] for field in AliasChange._fields)) for change in values["history"])
    for change in history:
        _check(all(map(_is_text, change)) and change.alias == alias, "history")
    version = str(Version.parse(values["version"]))
    return AliasMeaning(name=checked_name(values["name"]), alias=alias, version=version, history=history)


def _check_unique(entries: Iterable[Entry]) -> None:
    """Two versions in one place, or of one precedence, or in folders that are one where case does not count."""
    seen: dict[object, Entry] = {}
    for entry in entries:
        for key in (entry.folder.casefold(), (entry.name, Version.parse(entry.version).precedence)):
            if key in seen:
                raise ValueError(f"{seen[key].folder} and {entry.folder} are one")
            seen[key] = entry


def _order(entry: Entry) -> tuple[str, bytes]:
    return entry.name, Version.parse(entry.version).precedence


def _is_newer(saved: Mapping[str, Any]) -> bool:
    from zoo.build import saved as ours

    return type(saved.get("zoo")) is int and saved["zoo"] > ours.LAYOUT


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_TEXT and value.isprintable()


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"its {what} cannot be")


def _canonical(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=1, sort_keys=True) + "\n").encode()


def _bounded(raw: bytes, what: str) -> bytes:
    if len(raw) > MAX_RECORD:
        raise FormatError(f"the record of {what} has {len(raw):,} bytes; at most {MAX_RECORD:,} are read back")
    return raw


def _no_export(where: str, error: Exception) -> FormatError:
    why = error.message if isinstance(error, ZooError) else f"{type(error).__name__}: {error}"
    return FormatError(f"{where} is not what the registry exports: {why[:300]}", fix="export it again")
