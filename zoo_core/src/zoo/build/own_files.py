"""The licence of a weights file that no catalogue knows: by what it says, or where it is from. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from zoo.catalog.licenses import check_license
from zoo.checkpoints.opening import is_here, peek_metadata
from zoo.checkpoints.sources import LOCAL
from zoo.checkpoints.store import Store
from zoo.errors import CheckpointError
from zoo.models.provenance import Provenance
from zoo.specs import CheckpointSpec


def license_of(source: str, metadata: Mapping[str, str] | None) -> str:
    """What the file was saved with; otherwise nothing for a file on this machine, and `unknown` for any other.

    Args:
        source: where it comes from.
        metadata: the strings in the file; None where they are not known.
    """
    stated = ""
    with suppress(KeyError, ValueError, TypeError, AttributeError, RecursionError):
        stated = Provenance.from_json((metadata or {})["provenance"]).license
    return stated or ("" if source.startswith(LOCAL) else "unknown")  # elsewhere somebody has published it


def known_license(weights: CheckpointSpec, store: Store | None = None, *, network: bool = True) -> str:
    """The same, of a file that need not be here; of its header only. network: False looks at what is here alone."""
    return license_of(weights.sources[0], _peeked(weights, store) if network or is_here(weights, store) else None)


def check_before_fetching(weights: CheckpointSpec, allow: Sequence[str] | str | None = None) -> None:
    """As `check_own_license`, of what can be known of a file that is not here; what cannot is checked when it is."""
    metadata = _peeked(weights, None)
    if metadata is not None:
        check_own_license(weights, license_of(weights.sources[0], metadata), allow)


def check_own_license(weights: CheckpointSpec, license: str, allow: Sequence[str] | str | None = None) -> None:
    """Refuse a file whose licence is not accepted; one without any is the caller's own. Raises `LicenseError`."""
    if license:
        check_license(replace(weights, license=license), weights.sources[0], allow)


def _peeked(weights: CheckpointSpec, store: Store | None) -> dict[str, str] | None:
    with suppress(CheckpointError):  # what is wrong is told where it is opened
        return peek_metadata(weights, store=store)
    return None
