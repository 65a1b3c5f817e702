"""Holding zoo.create to the lock file that `ZOO_LOCK` names: whatever is not as locked is a `LockError`.

Where the variable is not set, each of these costs one look at the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from zoo.build.choosing import OWN_FILE
from zoo.build.descriptions import plugin_of, saved_folder
from zoo.catalog import Resolved
from zoo.checkpoints.lock import VARIABLE, Lock, LockedFile, LockedModel, differences, in_force
from zoo.checkpoints.sources import LOCAL as ON_THIS_MACHINE, file_name, local_path
from zoo.checkpoints.store import Store
from zoo.errors import LockError, SourceError
from zoo.plugin.state import PluginRecord
from zoo.refs import parse
from zoo.specs import CheckpointSpec

_within_saved: ContextVar[bool] = ContextVar("within_saved", default=False)


def as_locked(
    asked: str, resolved: Resolved, weights: CheckpointSpec | None, named: bool = False
) -> CheckpointSpec | None:
    """The weights about to be loaded, held to the lock's digest and sources.

    Args:
        asked: the reference as the caller wrote it.
        weights: of the catalogue, or a file of the caller's; None for random ones.
        named: the caller named the weights beside the reference.

    Raises:
        LockError: the lock lacks the reference, or knows another plugin version, record or digest for it.
    """
    lock = in_force()
    if lock is None:
        return weights
    published = weights if weights is not None and weights.name != OWN_FILE else None
    if named and published is not None:
        resolved = resolved._replace(
            ref=str(parse(resolved.ref)._replace(checkpoint=published.name)), checkpoint=published
        )
        asked = resolved.ref
    entry = _entry(lock, asked, resolved.ref, ("model", "backbone"))
    if entry is None and weights is None and _within_saved.get():
        _check_plugin(asked, resolved.ref, resolved.plugin, lock)
        return None
    if entry is None:
        raise _absent(asked, resolved.ref)
    _check_record(asked, entry, resolved)
    if weights is None:
        return None
    if published is None:
        return _own_as_locked(lock, weights)
    if not entry.files:
        raise _absent(asked, resolved.ref)
    return _held(asked, published, entry.files[0], lock)


def check_component(asked: str, resolved: Resolved) -> None:
    """Hold a neck or head by name to the lock: to its own entry, or else to the locked version of its plugin."""
    lock = in_force()
    if lock is None:
        return
    entry = _entry(lock, asked, resolved.ref, (resolved.model.kind,))
    if entry is not None:
        _check_record(asked, entry, resolved)
        return
    _check_plugin(asked, resolved.ref, resolved.plugin, lock)


def check_factory(factory: str) -> None:
    """Hold a part by its class path to the locked version of its plugin."""
    lock = in_force()
    plugin = plugin_of(factory) if lock is not None else None
    if lock is not None and plugin is not None:
        _check_plugin(factory, factory, plugin, lock)


@contextmanager
def within_saved() -> Iterator[None]:
    """Within, a part by name is held to the locked version of its plugin: it is no reference of the caller's, but of a
    saved model's or of a row's."""
    token = _within_saved.set(True)
    try:
        yield
    finally:
        _within_saved.reset(token)


def _check_plugin(asked: str, ref: str, plugin: PluginRecord, lock: Lock) -> None:
    locked = {(m.distribution, m.version) for m in lock.models.values()}.union(
        *(m.plugins for m in lock.models.values())
    )
    versions = {version for distribution, version in locked if distribution == plugin.distribution}
    if not versions:
        raise _absent(asked, ref)
    if versions != {plugin.version}:
        raise _other(asked, "plugin version", f"{plugin.distribution} {', '.join(sorted(versions))}", plugin.version)


def as_locked_address(ref: str) -> str:
    """The address of a saved model at the revision that is locked; its files are held to their digests when opened.

    Raises:
        LockError: the lock lacks it, its plugin has another version, or a folder here has other files.
    """
    lock = in_force()
    if lock is None:
        return ref
    entry = _entry(lock, ref, ref, ("saved",))
    if entry is None:
        raise _absent(ref, ref)
    _check_owner(ref, entry)
    folder = saved_folder(ref) if ref.startswith("file://") else None
    if folder is None:
        return entry.ref
    for file in entry.files:
        _check_here(ref, os.path.join(folder, file_name(file.sources[0])), file)
    return ref


def check_registered(asked: str, ref: str, saved: Mapping[str, Any], sha256: str, size: int) -> None:
    """Hold a version of the registry to the lock: an alias that moved is an error.

    Args:
        asked: the reference as the caller wrote it. ref: what it means now. saved: its description.
    """
    lock = in_force()
    if lock is None:
        return
    from zoo.build.locking import registered_entry

    entry = _entry(lock, asked, ref, ("registered",))
    if entry is None:
        raise _absent(asked, ref)
    now = registered_entry(ref, saved, LockedFile(sha256, size, ()))
    found = [d for d in differences(asked, entry, now) if "licence" not in d.what]
    if found:
        raise _other(asked, found[0].what, found[0].before, found[0].after)


def _entry(lock: Lock, asked: str, ref: str, kinds: tuple[str, ...]) -> LockedModel | None:
    """The entry of a reference as it is written; otherwise that of what it means."""
    written = lock.models.get(asked)
    if written is not None and written.kind in kinds:
        return written
    return next((model for model in lock.models.values() if model.ref == ref and model.kind in kinds), None)


def _check_record(asked: str, entry: LockedModel, resolved: Resolved) -> None:
    from zoo.build.locking import described

    now = described(resolved, resolved.checkpoint)
    for what in ("ref", "distribution", "version", "contract", "spec"):
        locked, found = getattr(entry, what), getattr(now, what)
        if locked != found:
            names = {"ref": "meaning", "version": f"version of {now.distribution}", "spec": "record (spec)"}
            raise _other(asked, names.get(what, what), str(locked), str(found), now.distribution)


def _check_owner(asked: str, entry: LockedModel) -> None:
    """Hold the installed plugins that an entry's class and its parts belong to."""
    from zoo.catalog import open_catalog

    here = {plugin.distribution: plugin.version for plugin in open_catalog().plugins()}
    for distribution, version in ((entry.distribution, entry.version), *entry.plugins):
        if distribution and here.get(distribution) != version:
            raise _other(asked, f"version of {distribution}", version, here.get(distribution), distribution)


def _own_as_locked(lock: Lock, weights: CheckpointSpec) -> CheckpointSpec:
    """A weights file of the caller's, which has an entry of its own."""
    source = weights.sources[0]
    entry = _entry(lock, source, source, ("file",))
    here = _path(source)
    if entry is None and here:
        files = (m for m in lock.models.values() if m.kind == "file")
        entry = next((m for m in files if any(_path(s) == here for s in m.files[0].sources)), None)
    if entry is None or not entry.files:
        raise _absent(source, source)
    if here:
        _check_here(source, here, entry.files[0])
    # By the locked spelling the shards of an index are found in the lock, and every file is checked as it is opened.
    return _held(source, weights, entry.files[0], lock)


def _path(source: str) -> str:
    """Where a source lies on this machine; empty for none."""
    try:
        return os.path.realpath(local_path(source)) if source.startswith(ON_THIS_MACHINE) else ""
    except SourceError:
        return ""


def _held(asked: str, weights: CheckpointSpec, file: LockedFile, lock: Lock) -> CheckpointSpec:
    if weights.sha256 and weights.sha256.lower() != file.sha256:
        raise _other(asked, "digest of the weights", file.sha256, weights.sha256)
    return replace(weights, sources=file.sources or weights.sources, sha256=file.sha256, size=file.size)


def _check_here(asked: str, path: str, file: LockedFile) -> None:
    """Hold a file of the caller's to its digest."""
    if not os.path.isfile(path):
        raise _other(asked, "file", file.sha256, f"no {path}")
    found = Store().digest(path)
    if found != file.sha256:
        raise _other(asked, f"digest of {os.path.basename(path)}", file.sha256, found)


def _absent(asked: str, ref: str) -> LockError:
    path = os.environ.get(VARIABLE, "")
    means = "" if asked == ref else f", which means {ref},"
    return LockError(
        f"{asked}{means} is not in the lock file, and {VARIABLE} is set",
        asked=asked,
        found=path,
        fix=f"zoo lock {asked} -o {path}",
    )


def _other(asked: str, what: str, locked: str | None, found: str | None, distribution: str = "") -> LockError:
    path = os.environ.get(VARIABLE, "")
    install = f"pip install {distribution}=={locked}" if what.startswith("version of") and distribution else ""
    accept = f"zoo lock {asked} -o {path}"
    return LockError(
        f"{asked} is not as locked in {path}: another {what}",
        asked=locked or "none",
        found=found or "none",
        fix=f"{install}, or to accept the other: {accept}" if install else f"to accept what is found: {accept}",
    )
