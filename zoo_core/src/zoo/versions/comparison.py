"""What differs between two versions: their records, their tensors' shapes, and on request their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.checkpoints.headers import read_header
from zoo.versions import selection
from zoo.versions.addresses import Address
from zoo.versions.records import Parent, VersionDifference, VersionRecord, changes
from zoo.versions.shelf import Shelf

if TYPE_CHECKING:
    from torch import Tensor

_PIECE = 1 << 22
"""Numbers that are compared at a time: two pieces of a tensor, as float64, are all that is in memory."""


def difference(shelf: Shelf, before: str, after: str, *, weights: bool) -> VersionDifference:
    """What differs between two versions; see `ModelRegistry.diff`."""
    one, other = (shelf.record(Address.parse(text)) for text in (before, after))
    mine, theirs = (read_header(shelf.blob(record).path).structure for record in (one, other))
    return VersionDifference(
        before=one.ref,
        after=other.ref,
        factory=None if one.factory == other.factory else (one.factory, other.factory),
        config=changes(one.config, other.config),
        metrics=changes(one.metrics, other.metrics),
        tensors=changes(mine, theirs),
        same_weights=one.sha256 == other.sha256,
        largest=_largest(shelf, one, other) if weights else None,
    )


def ancestors(shelf: Shelf, record: VersionRecord) -> tuple[Parent, ...]:
    """What a version was made from, nearest first; see `ModelRegistry.lineage`."""
    found: list[Parent] = []
    parent, seen = record.parent, {record.sha256}
    with shelf.ledger.reading() as connection:
        while parent is not None and parent.sha256 not in seen:
            seen.add(parent.sha256)
            there = selection.of_weights(connection, parent)
            found.append(parent if there is None else replace(parent, name=there.name, version=there.version))
            parent = None if there is None else there.parent
    return tuple(found)


def _largest(shelf: Shelf, one: VersionRecord, other: VersionRecord) -> Mapping[str, float]:
    """The largest absolute difference in each tensor that both have in one shape; only where there is any."""
    from zoo.checkpoints.files import read_tensors

    if one.sha256 == other.sha256:
        return {}
    mine, theirs = (read_tensors(shelf.sound_blob(record).path).tensors for record in (one, other))
    alike = [name for name in sorted(mine.keys() & theirs.keys()) if mine[name].shape == theirs[name].shape]
    found = {name: _apart(mine[name], theirs[name]) for name in alike}
    return {name: value for name, value in found.items() if value}


def _apart(one: Tensor, other: Tensor) -> float:
    """max |one - other|; infinite where one has a NaN or an infinity and the other has not the same there."""
    import torch

    wide = torch.complex128 if one.is_complex() or other.is_complex() else torch.float64
    mine, theirs = one.reshape(-1), other.reshape(-1)
    largest = 0.0
    for begin in range(0, len(mine), _PIECE):
        a, b = (flat[begin : begin + _PIECE].to(wide) for flat in (mine, theirs))
        same = (a == b) | (a.isnan() & b.isnan())
        apart = torch.where(same, 0.0, (a - b).abs()).nan_to_num(nan=torch.inf, posinf=torch.inf)
        largest = max(largest, apart.max().item())
    return largest
