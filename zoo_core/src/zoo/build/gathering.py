"""Every file that creating a model needs, brought into the store, as `zoo.create` would. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from zoo.build.choosing import SHARDED_WEIGHTS, WEIGHTS, chosen_checkpoint
from zoo.build.descriptions import CONFIG, is_saved, read_description
from zoo.build.locked import as_locked, as_locked_address
from zoo.build.own_files import check_before_fetching, check_own_license, known_license
from zoo.catalog import open_catalog
from zoo.catalog.licenses import check_license
from zoo.checkpoints.absent import told_as
from zoo.checkpoints.opening import FileFact, files_of
from zoo.checkpoints.sharding import is_index
from zoo.checkpoints.sources import Fetched, fetch, file_name, stored
from zoo.checkpoints.store import Store
from zoo.errors import UnsupportedError
from zoo.plugin.hooks import carry_checkpoint
from zoo.refs import LOCAL
from zoo.specs import CheckpointSpec


class Gathered(NamedTuple):
    """A file of a model, here and verified. sources: its addresses as the record names them. new: it was fetched."""

    ref: str
    sources: tuple[str, ...]
    fetched: Fetched
    new: bool


def gather(ref: str, store: Store, *, allow_licenses: Sequence[str] | str | None = None) -> list[Gathered]:
    """Fetch what is not here of the files of `zoo.create(ref, pretrained=True)`.

    Args:
        ref: a model with published weights, `hf://org/repo` of a saved model, or the address of a weights file.
        allow_licenses: as for `zoo.create`.

    Raises:
        RefError, NotFoundError, PluginError: it leads to no weights.
        LicenseError: the weights' licence is not accepted.
        SourceError, DigestError: a file cannot be had, or is not the promised one.
    """
    if ref.startswith(LOCAL) or (ref.startswith("file://") and is_saved(ref)):
        raise UnsupportedError(
            f"{ref} is a model of your own, on this machine already",
            asked=ref,
            fix=f"zoo registry export {ref.removeprefix(LOCAL)}" if ref.startswith(LOCAL) else "copy the folder",
        )
    if is_saved(ref):
        with told_as(ref, lambda: saved_files(ref)):
            return _saved(ref, store, allow_licenses)
    if "://" in ref:
        own = CheckpointSpec(name="file", sources=(ref,))
        with told_as(ref, lambda: files_of(own, store)):
            return _own_file(own, store, allow_licenses)
    resolved = open_catalog().resolve(ref)
    weights = as_locked(ref, resolved, chosen_checkpoint(resolved, True, None, None))
    assert weights is not None, "pretrained weights were asked for"
    check_license(weights, resolved.ref, allow_licenses)
    with told_as(resolved.ref, lambda: files_of(weights, store)):
        return _checkpoint(resolved.ref, weights, store)


def saved_files(ref: str) -> list[FileFact]:
    """The files of a saved model at an address, as far as this machine knows them. Asks no network."""
    facts = [FileFact((f"{ref}/{CONFIG}",))]
    here = stored(facts[0].sources)
    sharded = here is not None and read_description(here.path).get("sharded") is True
    weights = SHARDED_WEIGHTS if sharded else WEIGHTS
    return facts + files_of(CheckpointSpec(name="saved", sources=(f"{ref}/{weights}",)))


def _saved(ref: str, store: Store, allow_licenses: Sequence[str] | str | None) -> list[Gathered]:
    ref = as_locked_address(ref)
    config = _gathered(ref, FileFact((f"{ref}/{CONFIG}",)), store)
    description = read_description(config.fetched.path)
    stated = description.get("provenance")
    license = str(stated.get("license") or "unknown") if isinstance(stated, dict) else "unknown"
    weights = SHARDED_WEIGHTS if description.get("sharded") is True else WEIGHTS
    spec = CheckpointSpec(name="saved", sources=(f"{ref}/{weights}",), license=license)
    check_license(spec, ref, allow_licenses)
    return [config, *_checkpoint(ref, spec, store)]


def _own_file(spec: CheckpointSpec, store: Store, allow_licenses: Sequence[str] | str | None) -> list[Gathered]:
    check_before_fetching(spec, allow_licenses)
    gathered = _checkpoint(spec.sources[0], spec, store)
    check_own_license(spec, known_license(spec, store, network=False), allow_licenses)
    return gathered


def _checkpoint(ref: str, spec: CheckpointSpec, store: Store) -> list[Gathered]:
    """The checkpoint's file and, where that is an index, the shards it names."""
    first = _gathered(ref, FileFact(tuple(spec.sources), spec.sha256, spec.size), store)
    shards = files_of(spec, store)[1:] if is_index(file_name(first.fetched.source)) else []
    return [first, *(_gathered(ref, fact, store) for fact in shards)]


def _gathered(ref: str, fact: FileFact, store: Store) -> Gathered:
    here = stored(fact.sources, sha256=fact.sha256, size=fact.size, store=store)
    fetched = here or fetch(fact.sources, sha256=fact.sha256, size=fact.size, store=store, carriers=(carry_checkpoint,))
    return Gathered(ref, fact.sources, fetched, here is None)
