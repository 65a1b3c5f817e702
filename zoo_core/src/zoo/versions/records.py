"""What the registry answers with: a registered version, a change of an alias, what differs between two versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, NamedTuple

from zoo.checkpoints.headers import TensorInfo
from zoo.refs import LOCAL


@dataclass(frozen=True, kw_only=True)
class Parent:
    """What a version was made from: the SHA-256 of those weights, and their name and version where they have them."""

    sha256: str
    name: str = ""
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class Import:
    """How a version came from another registry: the address it came from, when (UTC, ISO 8601), and who took it."""

    source: str
    at: str = ""
    by: str = ""


@dataclass(frozen=True, kw_only=True)
class VersionRecord:
    """One registered version.

    ref: `local/name@version`. saved: class, config, format, input, labels and provenance, as in the `config.json` of
    `save_pretrained`. sha256, size: of its weights' safetensors file, in bytes. parent: None where nothing is known.
    data: a note on what it was trained on. distribution, plugin_version: of the plugin its class belongs to, empty for
    a class in no plugin. zoo_version: of zoo-core when it was registered. created: UTC, ISO 8601. author: the
    system's name of the user. aliases: those that mean it now. imported: None where it was registered here.
    """

    name: str
    version: str
    saved: Mapping[str, Any]
    sha256: str
    size: int
    tags: tuple[str, ...] = ()
    metrics: Mapping[str, float]
    parent: Parent | None = None
    data: str = ""
    distribution: str = ""
    plugin_version: str = ""
    zoo_version: str = ""
    created: str = ""
    author: str = ""
    aliases: tuple[str, ...] = ()
    imported: Import | None = None

    @property
    def ref(self) -> str:
        """What `zoo.create` takes."""
        return f"{LOCAL}{self.name}@{self.version}"

    @property
    def factory(self) -> str:
        """`module:qualname` of its class."""
        return str(self.saved["factory"])

    @property
    def config(self) -> dict[str, Any]:
        """The values its class is built from."""
        return dict(self.saved["config"])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with `ref`."""
        return {"ref": self.ref, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VersionRecord:
        """Inverse of `to_dict`; fields of a newer zoo are ignored."""
        known = {name: value for name, value in values.items() if name in cls.__dataclass_fields__}
        known["parent"] = Parent(**known["parent"]) if known.get("parent") else None
        known["imported"] = Import(**known["imported"]) if known.get("imported") else None
        known["tags"], known["aliases"] = tuple(known.get("tags", ())), tuple(known.get("aliases", ()))
        return cls(**known)


class AliasChange(NamedTuple):
    """One change of an alias. action: `promote` or `rollback`; version: what it meant from then on; at: UTC."""

    alias: str
    action: str
    version: str
    at: str
    by: str


@dataclass(frozen=True, kw_only=True)
class AliasMeaning:
    """What an alias meant in another registry, and how it came to it."""

    name: str
    alias: str
    version: str
    history: tuple[AliasChange, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "history": [change._asdict() for change in self.history]}


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What went from one registry to another.

    added, unchanged: references of the versions that are new there, and of those that were there already, the same.
    place: where they came from or went to; on the Hub with the commit. aliases: what they mean in the registry that the
    versions came from. moved: `name@alias` of those that mean it here, too, from now on. notes: what to know.
    """

    place: str
    added: tuple[str, ...]
    unchanged: tuple[str, ...]
    aliases: tuple[AliasMeaning, ...] = ()
    moved: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "aliases": [meaning.to_dict() for meaning in self.aliases]}


@dataclass(frozen=True, kw_only=True)
class VersionDifference:
    """What differs between two versions, each change as (before, after); what one of them lacks is None.

    factory: None if the class is the same. config: by dotted path. tensors: dtype and shape by name, where they
    differ or only one has it. same_weights: whether the weights' files are the same bytes. largest: the largest
    absolute difference by tensor, where the numbers differ and the shapes do not; None unless it was asked for.
    """

    before: str
    after: str
    factory: tuple[str, str] | None
    config: dict[str, tuple[Any, Any]]
    metrics: dict[str, tuple[float | None, float | None]]
    tensors: dict[str, tuple[TensorInfo | None, TensorInfo | None]]
    same_weights: bool
    largest: Mapping[str, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types. An infinite difference, for which JSON has no number, is None."""
        shown = {name: [pair and pair._asdict() for pair in both] for name, both in self.tensors.items()}
        numbers = None if self.largest is None else self.largest.items()
        largest = None if numbers is None else {name: number if isfinite(number) else None for name, number in numbers}
        return {**asdict(self), "tensors": shown, "largest": largest}


def changes(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> dict[str, tuple[Any, Any]]:
    """Where two mappings differ, by dotted path; mappings inside them are compared entry by entry."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in sorted(before.keys() | after.keys()):
        one, other = before.get(name), after.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found |= changes(one, other, f"{path}{name}.")
        elif one != other or (name in before) != (name in after):
            found[f"{path}{name}"] = (one, other)
    return found
