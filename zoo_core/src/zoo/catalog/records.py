"""What the catalogue answers with: a row of a listing, a resolved reference, everything about one model."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from zoo.plugin.state import PluginRecord
from zoo.specs import CheckpointSpec, ModelSpec


class ModelRow(NamedTuple):
    """One model in a listing.

    ref: the shortest reference that means it. license: of its default weights, of its code where it has none.
    params: None where nobody counted. checkpoints: how many there are.
    status: `installed`, `available` (its plugin is not installed), or its plugin's state where that is not ok.
    """

    ref: str
    namespace: str
    name: str
    task: str
    kind: str
    params: int | None
    license: str
    status: str
    checkpoints: int
    summary: str


class Resolved(NamedTuple):
    """A reference that leads to a model which can be built.

    checkpoint: the one named, or else the default; None where the model has none. named_checkpoint: whether the
        reference (or the alias it is) named it. schema: JSON Schema of the model's config.
    ref: canonical and pinned, `cnn/resnet50.a1_in1k@1`.
    """

    model: ModelSpec
    checkpoint: CheckpointSpec | None
    named_checkpoint: bool
    plugin: PluginRecord
    schema: dict[str, Any]
    ref: str


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Everything the catalogue knows about one model, whether or not it can be built here.

    status: as in `ModelRow`; reason, fix: why it cannot be built and what to type, empty where it can.
    complete: False for a model whose plugin is not installed: its input, config and sources come with the plugin.
    """

    ref: str
    status: str
    reason: str
    fix: str
    complete: bool
    model: ModelSpec
    checkpoint: CheckpointSpec | None
    plugin: PluginRecord
    schema: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain JSON types: the model's own fields first, then `ref`, `status`, `plugin`, `schema` …"""
        return {
            **asdict(self.model),
            "ref": self.ref,
            "status": self.status,
            "reason": self.reason,
            "fix": self.fix,
            "complete": self.complete,
            "checkpoint": self.checkpoint.name if self.checkpoint else None,
            "plugin": self.plugin._asdict(),
            "schema": self.schema,
        }


_RECORD = ", ".join(PluginRecord._fields)


def record_of(connection: sqlite3.Connection, plugin: int) -> PluginRecord:
    """One plugin of the catalogue, by its number."""
    return PluginRecord(*connection.execute(f"SELECT {_RECORD} FROM plugins WHERE id = ?", [plugin]).fetchone())


def all_records(connection: sqlite3.Connection) -> list[tuple[PluginRecord, str]]:
    """Every plugin, the ones only the snapshot knows too, each with its status; in the catalogue's order."""
    query = f"SELECT {_RECORD}, status FROM plugins ORDER BY id"
    return [(PluginRecord(*row[:-1]), row[-1]) for row in connection.execute(query)]
