"""From a reference to its entry in the lock file, and what differs from an entry on this machine. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from typing import Any
from urllib.parse import unquote

from zoo.build.choosing import SHARDED_WEIGHTS, WEIGHTS
from zoo.build.descriptions import CONFIG, PARTS, is_saved, plugin_of, plugins_of, read_description
from zoo.build.own_files import known_license
from zoo.catalog import Resolved, open_catalog
from zoo.checkpoints.lock import Difference, Lock, LockedFile, LockedModel, differences, set_aside
from zoo.checkpoints.opening import FileFact, files_of
from zoo.checkpoints.sharding import is_index
from zoo.checkpoints.sources import Fetched, fetch, file_name, stored
from zoo.checkpoints.store import Store, digest_of
from zoo.errors import DigestError, NotFoundError, SourceError, UnsupportedError, ZooError
from zoo.plugin.hooks import carry_checkpoint
from zoo.refs import LOCAL
from zoo.specs import CheckpointSpec, ModelSpec

_COMMIT = re.compile(r"hf://[^/@]+/[^/@]+@[0-9a-f]{40}(?:/.*)?")
_BUILDS = {
    "model": ("name", "factory", "kind", "task", "config", "version", "input", "channels", "strides"),
    "checkpoint": ("name", "format", "labels", "num_classes", "input", "config"),
}
"""The fields of a record that decide what is built and how it is used; licences and files are locked by themselves."""


def zoo_version() -> str:
    """The version of zoo-core; empty where it is not installed as a distribution."""
    try:
        return metadata.version("zoo-core")
    except metadata.PackageNotFoundError:
        return ""


def lock_ref(ref: str, store: Store | None = None) -> LockedModel:
    """What a reference means here and now, with every file it needs.

    A file without a declared digest is locked to the one this machine pinned when it first took it; otherwise to what
    the Hub says of it; otherwise it is fetched.

    Args:
        ref: as for `zoo.create`, or the address of a weights file, or a neck or head by name.

    Raises:
        RefError, NotFoundError, PluginError: it leads nowhere.
        SourceError, OfflineError: what has to be known can be had neither here nor from its sources.
    """
    with set_aside():
        store = store or Store()
        if ref.startswith(LOCAL):
            return _registered(ref)
        if is_saved(ref):
            return _saved(ref, store)
        if "://" in ref:
            return _weights_file(ref, store)
        resolved = find(ref)
        files = _checkpoint_files(resolved.checkpoint, store) if resolved.checkpoint is not None else ()
        return described(resolved, resolved.checkpoint)._replace(files=files)


def changed(ref: str, entry: LockedModel, store: Store | None = None, *, files: bool = False) -> list[Difference]:
    """What is not as locked on this machine; the network is not asked, and nothing is changed.

    Args:
        files: a locked file that is not in the store, or damaged, is a difference too.
    """
    with set_aside():
        store = store or Store()
        try:
            found = differences(ref, entry, _now(ref, entry, store))
        except ZooError as error:
            found = [Difference(ref, "meaning", entry.ref, error.message.splitlines()[0])]
        return found + (_unsound(ref, entry, store) if files else [])


def check(lock: Lock, store: Store | None = None, *, files: bool = False) -> list[Difference]:
    """What is not as a whole lock says; see `changed`."""
    here = zoo_version()
    found = [] if here == lock.zoo_core else [Difference("zoo-core", "version", lock.zoo_core, here)]
    for ref, entry in sorted(lock.models.items()):
        found += changed(ref, entry, store, files=files)
    return found


def find(ref: str) -> Resolved:
    """A model or backbone of the catalogue, or else a neck or head of that name."""
    catalog = open_catalog()
    try:
        return catalog.resolve(ref)
    except (NotFoundError, UnsupportedError) as error:
        with suppress(ZooError):
            return catalog.resolve(ref, kinds=("neck", "head"))
        raise error


def described(resolved: Resolved, checkpoint: CheckpointSpec | None) -> LockedModel:
    """An entry for a record of the catalogue, without its files, with the plugins that its parts come from."""
    defaults = {name: field.get("default") for name, field in resolved.schema.get("properties", {}).items()}
    config = {**defaults, **resolved.model.config, **(checkpoint.config if checkpoint is not None else {})}
    parts: set[tuple[str, str]] = set()
    for field in PARTS:
        with suppress(ZooError):  # a part that is not here cannot be built with either, and that is told then
            parts |= {(plugin.distribution, plugin.version) for plugin in plugins_of({field: config.get(field)})}
    return LockedModel(
        ref=resolved.ref,
        kind=resolved.model.kind,
        distribution=resolved.plugin.distribution,
        version=resolved.plugin.version,
        spec=spec_digest(resolved.model, checkpoint, resolved.schema),
        contract=resolved.model.version,
        license=checkpoint.license if checkpoint is not None else "",
        code_license=resolved.model.license,
        plugins=tuple(sorted(parts - {(resolved.plugin.distribution, resolved.plugin.version)})),
    )


def spec_digest(model: ModelSpec, checkpoint: CheckpointSpec | None, schema: Mapping[str, Any]) -> str:
    """SHA-256 of everything in a record that decides what is built; the same on every machine and in every order."""
    weights = None if checkpoint is None else _chosen(checkpoint.to_dict(), _BUILDS["checkpoint"])
    return _digest(
        {"model": _chosen(model.to_dict(), _BUILDS["model"]), "checkpoint": weights, "schema": _bare_schema(schema)}
    )


def saved_digest(record: Mapping[str, Any]) -> str:
    """The same for a saved model's description: all of it but where it came from."""
    return _digest({name: value for name, value in record.items() if name != "provenance"})


# entries


def _registered(ref: str) -> LockedModel:
    from zoo.versions.addresses import Address
    from zoo.versions.registry import ModelRegistry

    record = ModelRegistry().show(*Address.parse(ref))
    return registered_entry(record.ref, record.saved, LockedFile(record.sha256, record.size, ()))


def registered_entry(ref: str, saved: Mapping[str, Any], file: LockedFile) -> LockedModel:
    """An entry for a version of the user's registry. saved: its description, as `VersionRecord` has it."""
    return _of_description(ref, "registered", saved, (file,), unstated="")


def _saved(ref: str, store: Store) -> LockedModel:
    base = _pinned_repo(ref, store) if ref.startswith("hf://") else _spelt(ref)
    config = fetch((f"{base}/{CONFIG}",), store=store)
    description = read_description(config.path)
    weights = SHARDED_WEIGHTS if description.get("sharded") is True else WEIGHTS
    files = (
        _file(FileFact((f"{base}/{CONFIG}",)), store),
        *_checkpoint_files(CheckpointSpec(name="saved", sources=(f"{base}/{weights}",)), store),
    )
    return _of_description(base, "saved", description, files, unstated=_unstated(ref))


def _unstated(ref: str) -> str:
    return "unknown" if ref.startswith("hf://") else ""  # what lies on the Hub somebody has published


def _of_description(
    ref: str, kind: str, saved: Mapping[str, Any], files: tuple[LockedFile, ...], *, unstated: str
) -> LockedModel:
    plugin = plugin_of(str(saved.get("factory", "")))
    provenance = saved.get("provenance")
    stated = provenance.get("license", "") if isinstance(provenance, dict) else ""
    parts = {(part.distribution, part.version) for part in plugins_of(saved.get("config"))}
    return LockedModel(
        ref=ref,
        kind=kind,
        distribution=plugin.distribution if plugin else "",
        version=plugin.version if plugin else "",
        spec=saved_digest(saved),
        license=str(stated) or unstated,
        files=files,
        plugins=tuple(sorted(parts - {(plugin.distribution, plugin.version)} if plugin else parts)),
    )


def _weights_file(ref: str, store: Store) -> LockedModel:
    checkpoint = CheckpointSpec(name="file", sources=(_spelt(ref),))
    files = _checkpoint_files(checkpoint, store)
    return LockedModel(files[0].sources[0], "file", license=known_license(checkpoint, store), files=files)


# files


def _checkpoint_files(checkpoint: CheckpointSpec, store: Store) -> tuple[LockedFile, ...]:
    """The checkpoint's file, and its shards where it is an index of some."""
    if any(is_index(file_name(source)) for source in checkpoint.sources):
        _fetched(FileFact(checkpoint.sources, checkpoint.sha256, checkpoint.size), store)  # it names the shards
    return tuple(_file(fact, store) for fact in files_of(checkpoint, store))


def _file(fact: FileFact, store: Store) -> LockedFile:
    """One file with its digest, from what is here, what the Hub says, or the file itself."""
    here = stored(fact.sources, sha256=fact.sha256, size=fact.size, store=store)
    if here is None:
        told = _told_by_the_hub(fact)
        if told is not None:
            return told
        if fact.sha256:  # declared: the digest decides, whichever revision brings it
            return LockedFile(fact.sha256.lower(), fact.size, tuple(map(_spelt, fact.sources)))
        here = _fetched(fact, store)
    sources = tuple(dict.fromkeys(_pinned(source, here, store) for source in fact.sources))
    return LockedFile(here.sha256, os.path.getsize(here.path), sources)


def _told_by_the_hub(fact: FileFact) -> LockedFile | None:
    """The file as the Hub describes it; None where it does not tell a SHA-256, or another than is declared."""
    for source in fact.sources:
        if not source.startswith("hf://"):
            continue
        from zoo.checkpoints.hub import look_up

        with suppress(SourceError):
            pinned, sha256, size = look_up(source)
            if sha256 and sha256 == (fact.sha256 or sha256).lower():
                others = [_spelt(other) for other in fact.sources if other != source]
                return LockedFile(sha256, size, (pinned, *others))
    return None


def _fetched(fact: FileFact, store: Store) -> Fetched:
    return fetch(fact.sources, sha256=fact.sha256, size=fact.size, store=store, carriers=(carry_checkpoint,))


def _pinned(source: str, here: Fetched, store: Store) -> str:
    """A source at the revision that has the bytes that are here, as far as that can be known."""
    if not source.startswith("hf://") or _COMMIT.fullmatch(source):
        return _spelt(source)
    pin = store.pin(source)
    for known in (here.source, pin.source if pin and pin.sha256 == here.sha256 else ""):
        if _COMMIT.fullmatch(known) and _unpinned(known) == _unpinned(source):
            return known
    from zoo.checkpoints.hub import look_up

    with suppress(SourceError):
        told, sha256, _ = look_up(source)
        if sha256 in (None, here.sha256):
            return told
    return source


def _pinned_repo(ref: str, store: Store) -> str:
    """`hf://org/repo@commit`: of what is here, otherwise of what the Hub has now."""
    config = f"{ref}/{CONFIG}"
    if _COMMIT.fullmatch(ref):
        return ref
    here = stored((config,), store=store)
    if here is not None and _COMMIT.fullmatch(here.source):
        return here.source.removesuffix(f"/{CONFIG}")
    from zoo.checkpoints.hub import look_up

    return look_up(config)[0].removesuffix(f"/{CONFIG}")


def _unpinned(source: str) -> str:
    """A Hub source without its revision."""
    return re.sub(r"^(hf://[^/@]+/[^/@]+)@(?:refs/(?:pr|convert)/[^/]+|[^/]+)", r"\1", source)


def _spelt(source: str) -> str:
    """A source as it stands in the lock: a file's path does not climb."""
    path = source.removeprefix("file://")
    if source.startswith("file://") and ".." in re.split(r"[/\\]", unquote(path)):
        return "file://" + os.path.abspath(os.path.expanduser(unquote(path)))
    return source


# now


def _now(ref: str, entry: LockedModel, store: Store) -> LockedModel:
    """What an entry's reference means here, as far as that is known without the network; the rest as locked."""
    if entry.kind == "registered":
        return _registered(ref)
    if entry.kind in ("saved", "file"):
        return _addressed_now(entry, store)
    resolved = find(ref)
    now, checkpoint = described(resolved, resolved.checkpoint), resolved.checkpoint
    facts = files_of(checkpoint, store) if checkpoint is not None else []
    files = []
    for number, locked in enumerate(entry.files):
        fact = facts[number] if number < len(facts) else FileFact(locked.sources)
        files.append(_file_now(locked, fact, store))
    if len(facts) < len(files) and (not facts or not is_index(file_name(facts[0].sources[0])) or len(facts) > 1):
        del files[len(facts) :]
    files += [LockedFile(fact.sha256 or "", fact.size, fact.sources) for fact in facts[len(files) :]]
    return now._replace(files=tuple(files))


def _file_now(locked: LockedFile, fact: FileFact, store: Store) -> LockedFile:
    if fact.size is not None:
        locked = locked._replace(size=fact.size)
    if not {_unpinned(_spelt(source)) for source in fact.sources} & {_unpinned(source) for source in locked.sources}:
        locked = locked._replace(sources=fact.sources)  # a mirror more or less is none
    if fact.sha256:
        return locked._replace(sha256=fact.sha256.lower())
    here = stored(fact.sources, size=None, store=store)
    return locked if here is None else locked._replace(sha256=here.sha256)


def _addressed_now(entry: LockedModel, store: Store) -> LockedModel:
    files = tuple(_file_now(file, FileFact(file.sources), store) for file in entry.files)
    if entry.kind == "file":
        return entry._replace(files=files)
    config = stored(entry.files[0].sources, sha256=entry.files[0].sha256, store=store) if entry.files else None
    if config is None:
        if entry.ref.startswith("file://") and files == entry.files:
            raise DigestError(f"{entry.ref} is not here as it was locked", fix="zoo lock")
        return entry._replace(files=files)
    return _of_description(entry.ref, "saved", read_description(config.path), files, unstated=_unstated(entry.ref))


def _unsound(ref: str, entry: LockedModel, store: Store) -> list[Difference]:
    """Locked files that are not here, or not any more what they were."""
    found = []
    for file in entry.files:
        try:
            here = stored(file.sources, sha256=file.sha256, size=file.size, store=store)
        except ZooError:
            here = None
        if here is None:
            found.append(Difference(ref, "file", file.sha256, "not here"))
        elif not _is_still(here.path, file.sha256):
            found.append(Difference(ref, "file", file.sha256, "damaged"))
    return found


def _is_still(path: str, sha256: str) -> bool:
    """Whether a file, in the store or where it is used, has these bytes now: read anew, whatever was remembered."""
    try:
        return digest_of(path) == sha256
    except OSError:
        return False


# digests


def _chosen(record: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: record[name] for name in names if name in record}


def _bare_schema(value: Any, *, named: bool = False) -> Any:
    """A config schema without its prose. named: the keys are the author's own names."""
    if isinstance(value, Mapping):
        if named:
            return {name: _bare_schema(schema) for name, schema in value.items()}
        kept = {k: v for k, v in value.items() if k not in ("title", "description", "examples")}
        values = ("default", "const", "enum")
        return {k: v if k in values else _bare_schema(v, named=k in ("properties", "$defs")) for k, v in kept.items()}
    if isinstance(value, list):
        return [_bare_schema(item) for item in value]
    return value


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
