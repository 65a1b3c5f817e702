"""Collecting what a store no longer needs, beside any number of writers, readers and collectors, and under kills.

What must stay is what keepers say (the registry's versions; it lets nobody register meanwhile) and what lock files
name. Of the rest, only what nobody has stored or asked for within a grace is taken, so that whoever has just put or
found a blob has time to pin, convert, lock or open it; `Store.find` notes each use, and a use that was noted counts.

A blob leaves in two steps, see `zoo.checkpoints.leaving`. It is renamed into the trash and looked at again there: where
it turns out to be another file than the one judged (somebody stored it anew) or to be used again, it goes back. Then it
is unlinked. A collector that is killed leaves a blob where it was, or in the trash, where it is still found; the next
one clears up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import NamedTuple

from zoo.checkpoints.delivery import offline
from zoo.checkpoints.holdings import Holding, Holdings, holdings, identity, locked, stats
from zoo.checkpoints.leaving import USE_NOTED_EVERY
from zoo.checkpoints.records import record_name
from zoo.checkpoints.store import Store
from zoo.errors import OfflineError

GRACE = 4 * USE_NOTED_EVERY
"""Seconds since the last use within which nothing is taken. More than once what `find` may leave unnoted."""

STALLED = 86_400
"""Seconds without a byte after which a download counts as broken off for good."""

Keeper = AbstractContextManager[Iterable[str]]
"""Yields digests that must stay; while it is open, nobody adds to them."""

BROKEN_OFF, RECORD, UNEXPLAINED, UNUSED = "broken-off", "record", "unexplained", "unused"
"""What can be collected: the rest of a download, a record that points to nothing, a blob that nothing explains, and,
where asked for, one that could be fetched or made again."""


class Taken(NamedTuple):
    """One file that was removed, or would be. size: bytes. sha256, sources: of a blob; else empty."""

    kind: str
    path: str
    size: int
    sha256: str = ""
    sources: tuple[str, ...] = ()


class Collected(NamedTuple):
    """What was taken; with `dry_run`, what would be.

    recent: blobs that were spared only because they were used within the grace. unreadable: records that cannot be
    read; while there are any, no blob counts as unexplained.
    """

    taken: tuple[Taken, ...]
    recent: tuple[Holding, ...]
    unreadable: tuple[str, ...]

    @property
    def freed(self) -> int:
        """Bytes."""
        return sum(one.size for one in self.taken)

    def of(self, kind: str) -> tuple[Taken, ...]:
        """What was taken of one kind."""
        return tuple(one for one in self.taken if one.kind == kind)


def collect(
    store: Store,
    keepers: Iterable[Keeper],
    *,
    grace: float = GRACE,
    stalled_for: float = STALLED,
    unused_for: float | None = None,
    everything: bool = False,
    dry_run: bool = False,
) -> Collected:
    """Remove what nothing needs.

    Args:
        keepers: of what must stay, opened here for milliseconds; for `$ZOO_HOME`, `[registered_blobs()]`.
        grace: seconds since the last use. Below `USE_NOTED_EVERY`, what somebody has just found may be taken.
        stalled_for: seconds since the last byte of a download, for it to count as broken off.
        unused_for: take also what can be fetched or made again, where it was not used for that many seconds.
        everything: take all that can be fetched or made again.
        dry_run: only say what would be taken.

    Raises:
        OfflineError: what is to be fetched again could not be, as the network is switched off.
        CheckpointError: a lock file cannot be read. ZooError: what a keeper raises. Nothing has been taken then.
    """
    if offline() and (everything or unused_for is not None):
        raise OfflineError(
            "what is removed could not be fetched again: the network is switched off",
            asked="to remove what can be fetched again",
            fix="without --all and --unused-for; or unset ZOO_OFFLINE, HF_HUB_OFFLINE",
        )
    now = time.time()
    longest = 0.0 if everything else unused_for
    held = holdings(store)
    judged = [(_kind(one, held, now, longest), one) for one in held.blobs]
    due = [(kind, one) for kind, one in judged if kind and one.used <= now - grace]
    recent = [one for kind, one in judged if kind and one.used > now - grace]
    with ExitStack() as opened:
        kept = {digest for keeper in list(keepers) for digest in opened.enter_context(keeper)}
        kept |= locked(store).keys()
        due = [(kind, one) for kind, one in due if one.sha256 not in kept]
        going = [(kind, one, "") for kind, one in due] if dry_run else list(_set_aside(store, due, now - grace))
    taken = [
        Taken(kind, store.blob_path(one.sha256), one.size, one.sha256, one.sources)
        for kind, one, trash in going
        if dry_run or _remove(trash)
    ]
    if not dry_run:
        _bring_back(store, held)
        store.trash.tidy()
    rest = (*_broken_off(store, now - stalled_for), *_dead_records(store, now - grace, now - stalled_for))
    taken += [file for file in rest if dry_run or _remove(file.path)]
    spared = tuple(one for one in recent if one.sha256 not in kept)
    return Collected(tuple(taken), spared, held.unreadable)


def _kind(blob: Holding, held: Holdings, now: float, longest: float | None) -> str:
    """As what a blob may be taken, its grace and keepers apart; empty for one that stays."""
    if not blob.sources and not blob.origins:
        return "" if held.unreadable else UNEXPLAINED
    return UNUSED if longest is not None and blob.used <= now - longest else ""


def _set_aside(store: Store, due: Iterable[tuple[str, Holding]], before: float) -> Iterator[tuple[str, Holding, str]]:
    """Move blobs into the trash; gives them with their path there, if nobody has stored or used them since."""
    for kind, blob in due:
        try:
            if identity(os.lstat(blob.path)) != blob.identity:
                continue
            trash = store.trash.throw(blob.path)
        except OSError:  # gone, or not ours to remove, or open (Windows)
            continue
        if _is_unused(store, blob, trash, before):
            yield kind, blob, trash
        else:
            store.trash.bring_back(trash, store.blob_path(blob.sha256))


def _is_unused(store: Store, blob: Holding, trash: str, before: float) -> bool:
    """Whether what is in the trash now is what was judged, and still unused."""
    with suppress(OSError):
        seen = os.lstat(trash)
        return identity(seen) == blob.identity and store.uses.last(blob.sha256, seen.st_mtime) <= before
    return False


def _bring_back(store: Store, held: Holdings) -> None:
    """What lay in the trash before, as a collector was killed, and turned out not to be due."""
    for blob in held.blobs:
        if os.path.dirname(blob.path) == store.trash.folder and os.path.exists(blob.path):
            store.trash.bring_back(blob.path, store.blob_path(blob.sha256))


def _broken_off(store: Store, before: float) -> Iterator[Taken]:
    """A writer that is still at work on one of them, after so long, is told so when it is done."""
    found = [(entry, seen) for entry, seen in stats(store.arrivals_folder) if entry.is_file(follow_symlinks=False)]
    touched: dict[str, float] = {}
    for entry, seen in found:  # a file and its journal go together
        touched[_stem(entry.name)] = max(seen.st_mtime, touched.get(_stem(entry.name), 0.0))
    for entry, seen in found:
        if touched[_stem(entry.name)] <= before:
            yield Taken(BROKEN_OFF, entry.path, seen.st_size)


def _stem(name: str) -> str:
    return ".".join(name.split(".")[:2])


def _dead_records(store: Store, before: float, stalled: float) -> Iterator[Taken]:
    """Records of what is not there any more. Pins stay: they say which bytes are right when they come again."""
    for kind in ("digests", "places", "conversions"):
        for path, record in store.records.every(kind):
            if _is_dead(store, kind, path, record) and (size := _size_of_older(path, before)) is not None:
                yield Taken(RECORD, path, size)
    for entry, seen in stats(store.uses.folder):
        if seen.st_mtime <= before and not store.holds(entry.name):
            yield Taken(RECORD, entry.path, seen.st_size)
    for path in store.records.unfinished():
        if (size := _size_of_older(path, stalled)) is not None:
            yield Taken(RECORD, path, size)


def _is_dead(store: Store, kind: str, path: str, record: Mapping[str, object]) -> bool:
    if kind == "conversions":
        return not store.holds(str(record.get("converted")))
    place = str(record.get("path"))
    return not (os.path.lexists(place) if kind == "digests" else store.is_place(record_name(path), place))


def _size_of_older(path: str, before: float) -> int | None:
    with suppress(OSError):
        seen = os.lstat(path)
        return seen.st_size if seen.st_mtime <= before else None
    return None


def _remove(path: str) -> bool:
    try:
        os.unlink(path)
    except OSError:
        return False
    return True
