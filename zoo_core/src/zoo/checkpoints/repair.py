"""Looking for damage in a store, and mending it. Nothing is ever lost by it.

`verify` hashes every blob. `repair` moves what is damaged aside, to `blobs/damaged`, and restores the blob from the
first that has it: a file elsewhere that was adopted, the Hub's cache, the sources that delivered it, or the published
file it was converted from. What is registered or locked is then in the store itself again: a copy, where it was found
elsewhere. What the zoo did not put into the store is reported and never touched.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from zoo.checkpoints.collection import STALLED
from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.holdings import holdings, locked, stats
from zoo.checkpoints.records import record_name
from zoo.checkpoints.store import Blob, Store, digest_of, read_chunks
from zoo.errors import ZooError

DAMAGED, MISSING, LINK, PERMISSIONS, PLACE, RECORD, STALE, FOREIGN, UNFINISHED = (
    "damaged", "missing", "link", "permissions", "place", "record", "stale", "foreign", "unfinished",
)  # fmt: skip
"""Kinds of damage: a blob with other bytes than its name says; a registered one that is not in the store; a link where
a blob should be; a blob that can be written; an adopted file that has rotted, or that somebody needs and that is gone
or changed; a record that cannot be read; an adopted file that nobody needs and that is gone or changed, as after an
upgrade; what the zoo did not put there; what a writer left. The last three harm nobody."""

HARMLESS = (STALE, FOREIGN, UNFINISHED)
Refetch = Callable[[Sequence[str], str], object]
"""Brings the file with a digest, from one of these addresses, into the store. Raises `ZooError`."""

_HEX = re.compile(r"[0-9a-f]{64}")
_FOLDERS = {"sha256", "tmp", "trash", "damaged"}


class Damage(NamedTuple):
    """One finding. sha256: the blob it is about; else empty. needed_by: registered versions and lock files."""

    kind: str
    path: str
    what: str
    sha256: str = ""
    needed_by: tuple[str, ...] = ()


class Repair(NamedTuple):
    """What became of one finding. done: what was done, empty for nothing. fix: what to type where it is not mended."""

    damage: Damage
    mended: bool
    done: str = ""
    fix: str = ""


def verify(
    store: Store,
    registered: Mapping[str, Sequence[str]] = {},
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Damage]:
    """Every damage there is, by kind and path. Changes nothing; reads every blob.

    Args:
        registered: who needs which digest, see `zoo.versions.keeping.registered_versions`.
        progress: called with the bytes that have been read, and those there are.

    Raises:
        CheckpointError: a lock file cannot be read.
    """
    needs = {digest: tuple(names) for digest, names in registered.items()}
    for digest, locks in locked(store).items():
        needs[digest] = (*needs.get(digest, ()), *locks)
    found = [*_misfits(store), *_damaged_blobs(store, progress), *_dead_places(store, needs)]
    found += _damaged_records(store)
    gone = [digest for digest in registered if not store.owns(digest) and not os.path.lexists(store.blob_path(digest))]
    found += [Damage(MISSING, store.blob_path(digest), "is not in the store", digest) for digest in gone]
    return sorted(damage._replace(needed_by=needs.get(damage.sha256, ())) for damage in found)


def repair(store: Store, damages: Sequence[Damage], refetch: Refetch | None = None) -> list[Repair]:
    """Mend what `verify` found, as far as it can be mended.

    Args:
        refetch: how a blob is fetched again, from the Hub's cache or the network; without it, nothing is.
    """
    return [_repaired(store, damage, refetch) for damage in damages]


def give_back(store: Store, path: str, registered: Mapping[str, Sequence[str]] = {}) -> Blob | None:
    """Store a copy of a file that something here needs: it is registered, locked, pinned or a conversion.

    None where it is no regular file, or nothing here knows its digest. Raises `CheckpointError`.
    """
    if not os.path.isfile(path):
        return None
    sha256 = store.digest(path)
    named = {str(record.get("sha256")) for _, record in store.records.every("pins")}
    for _, record in store.records.every("conversions"):
        named |= {str(record.get("origin")), str(record.get("converted"))}
    if sha256 not in named and sha256 not in registered and sha256 not in locked(store):
        return None
    with open(path, "rb") as file:
        return store.put(read_chunks(file), Wanted(sha256))


def _misfits(store: Store) -> Iterator[Damage]:
    """Links, and what the zoo did not put there, under `blobs`."""
    for entry, _ in stats(os.path.dirname(store.blobs_folder)):
        if entry.name not in _FOLDERS:
            yield Damage(FOREIGN, entry.path, "is none of the zoo's")
    for shard, _ in stats(store.blobs_folder):
        if not shard.is_dir(follow_symlinks=False) or not re.fullmatch("[0-9a-f]{2}", shard.name):
            yield Damage(FOREIGN, shard.path, "is no folder of blobs")
            continue
        for entry, seen in stats(shard.path):
            if not _HEX.fullmatch(entry.name) or entry.name[:2] != shard.name:
                yield Damage(FOREIGN, entry.path, "is no blob's name here")
            elif entry.is_symlink():
                what = f"is a link to {os.path.realpath(entry.path)}, where it may be edited"
                yield Damage(LINK, entry.path, what, entry.name)
            elif not entry.is_file():
                yield Damage(FOREIGN, entry.path, "is no file")
            elif seen.st_mode & 0o222 and os.name != "nt":
                yield Damage(PERMISSIONS, entry.path, f"can be written: {stat.filemode(seen.st_mode)}", entry.name)
    for entry, seen in stats(store.arrivals_folder):
        if seen.st_mtime <= time.time() - STALLED:
            yield Damage(UNFINISHED, entry.path, f"has had no byte for a day: {seen.st_size:,} bytes")


def _damaged_blobs(store: Store, progress: Callable[[int, int], None] | None) -> Iterator[Damage]:
    blobs = holdings(store).blobs
    total, done = sum(blob.size for blob in blobs), 0
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for blob, fault in zip(
            blobs, pool.map(_fault, (b.path for b in blobs), (b.sha256 for b in blobs)), strict=True
        ):
            done += blob.size
            if progress is not None:
                progress(done, total)
            if fault:
                yield Damage(DAMAGED, blob.path, fault, blob.sha256)


def _fault(path: str, sha256: str) -> str:
    """What is wrong with a blob; empty if nothing, or if it was removed meanwhile."""
    try:
        found, size = digest_of(path), os.stat(path).st_size
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if found == sha256:
        return ""
    return f"has the digest {found}, {size:,} bytes" if size else "is empty"


def _dead_places(store: Store, needs: Container[str]) -> Iterator[Damage]:
    for path, record in store.records.every("places"):
        sha256, place = record_name(path), str(record.get("path"))
        kind = PLACE if sha256 in needs and not store.owns(sha256) else STALE
        if not os.path.exists(place):
            yield Damage(kind, path, f"{place}, which was used where it is, is gone", sha256)
        elif not store.is_place(sha256, place):
            yield Damage(kind, path, f"{place}, which was used where it is, has been changed", sha256)
        elif fault := _fault(place, sha256):
            yield Damage(PLACE, path, f"{place}, which is used where it is, {fault}", sha256)


def _damaged_records(store: Store) -> Iterator[Damage]:
    for kind in ("digests", "places", "pins", "conversions", "locks"):
        for path in store.records.files(kind):
            if not store.records.load(path) and os.path.exists(path):
                yield Damage(RECORD, path, "cannot be read")


def _repaired(store: Store, damage: Damage, refetch: Refetch | None) -> Repair:
    try:
        if damage.kind in (DAMAGED, MISSING, LINK):
            return _restored(store, damage, refetch)
        if damage.kind == PERMISSIONS:
            os.chmod(damage.path, 0o444)
            return Repair(damage, True, "made read-only")
        if damage.kind in (PLACE, STALE):
            os.unlink(damage.path)
            return Repair(damage, True, "no longer looked for there; it is fetched again when it is needed")
        if damage.kind == RECORD:
            return Repair(damage, True, f"moved to {_aside(store, damage.path)}; what it said is learnt again")
    except FileNotFoundError:
        return Repair(damage, True, "gone meanwhile")
    except OSError as error:
        return Repair(damage, False, "", f"make the store writable: {error.strerror or error}")
    return Repair(damage, False, "", "zoo cache gc" if damage.kind == UNFINISHED else "look at it, and move it away")


def _restored(store: Store, damage: Damage, refetch: Refetch | None) -> Repair:
    target = os.path.realpath(damage.path)
    aside = _aside(store, damage.path) if damage.kind != MISSING else ""
    if damage.kind == DAMAGED and not _fault(aside, damage.sha256):  # somebody stored it anew meanwhile
        store.trash.bring_back(aside, damage.path)
        return Repair(damage, True, "stored anew meanwhile")
    moved = f"moved to {aside}" if aside else ""
    failures: list[str] = []
    for way in (_elsewhere, _linked, _fetched, _converted):
        try:
            source = way(store, damage.sha256, target, refetch)
            if source and damage.needed_by:
                _own(store, damage.sha256)
        except (ZooError, OSError) as error:
            failures.append(error.message if isinstance(error, ZooError) else str(error))
            continue
        if source and (store.owns(damage.sha256) or (store.holds(damage.sha256) and not damage.needed_by)):
            return Repair(damage, True, "; ".join(filter(None, (moved, f"restored from {source}"))))
    if not damage.needed_by and not failures and not _sources(store, damage.sha256):
        return Repair(damage, True, f"{moved}; nothing needs it")
    fix = "zoo cache add FILE, a copy of it from a backup or another machine"
    return Repair(damage, False, moved, "; or ".join((*(f"see to this: {why}" for why in failures), fix)))


def _elsewhere(store: Store, sha256: str, target: str, refetch: Refetch | None) -> str:
    """Found where it was adopted, or stored meanwhile."""
    blob = store.find(sha256)
    return blob.path if blob else ""


def _own(store: Store, sha256: str) -> None:
    """A copy into the store of what lies elsewhere: its owner may remove it any day."""
    blob = None if store.owns(sha256) else store.find(sha256)
    if blob is not None:
        with open(blob.path, "rb") as file:
            store.put(read_chunks(file), Wanted(sha256, blob.size))


def _linked(store: Store, sha256: str, target: str, refetch: Refetch | None) -> str:
    """What a link in the blob's place led to, copied."""
    if target == store.blob_path(sha256) or not os.path.isfile(target) or _fault(target, sha256):
        return ""
    with open(target, "rb") as file:
        store.put(read_chunks(file), Wanted(sha256))
    return target


def _fetched(store: Store, sha256: str, target: str, refetch: Refetch | None) -> str:
    """Fetched once more from the addresses that delivered it."""
    sources = _sources(store, sha256)
    if not sources or refetch is None:
        return ""
    refetch(sources, sha256)
    return " or ".join(sources)


def _converted(store: Store, sha256: str, target: str, refetch: Refetch | None) -> str:
    """Converted once more from its published file, which may have to be fetched first."""
    for _, record in store.records.every("conversions"):
        origin = str(record.get("origin"))
        if record.get("converted") != sha256 or not _HEX.fullmatch(origin):
            continue
        from zoo.checkpoints.conversion import CONVERTER, convert  # needs torch

        if record.get("converter") != CONVERTER:  # an older zoo's; this one makes another blob
            continue
        if store.find(origin) is None:
            _fetched(store, origin, "", refetch)
        here = store.find(origin)
        if here is not None and convert(origin, here.path, store).sha256 == sha256:
            return here.path
    return ""


def _sources(store: Store, sha256: str) -> tuple[str, ...]:
    pins = (record for _, record in store.records.every("pins") if record.get("sha256") == sha256)
    return tuple(sorted(str(record.get("source")) for record in pins))


def _aside(store: Store, path: str) -> str:
    """Move a file out of the way, where nobody looks for it; gives its new path. Raises `OSError`."""
    os.makedirs(store.damaged_folder, exist_ok=True)
    aside = os.path.join(store.damaged_folder, f"{os.path.basename(path)}.{secrets.token_hex(4)}")
    os.rename(path, aside)
    return aside
