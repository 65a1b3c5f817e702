"""What a store holds: every blob with its size, its last use and what explains it. Reads no blob and needs no torch.

    pinned       a source delivered it here: it can be fetched again
    converted    it was made of a published file, and can be made again
    locked       a lock file names it

What is registered is known one room higher, see `zoo.versions.keeping`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from zoo.checkpoints.lock import VARIABLE
from zoo.checkpoints.records import record_name
from zoo.checkpoints.store import Store
from zoo.errors import CheckpointError

_HEX = re.compile(r"[0-9a-f]{64}")
_HUB_CACHE = re.compile(r"[\\/]models--[^\\/]+[\\/]snapshots[\\/]")
_HEX_IN_TEXT = re.compile(rb"(?<![0-9a-fA-F])[0-9a-fA-F]{64}(?![0-9a-fA-F])")


class Identity(NamedTuple):
    """What tells a file from another one that has since taken its name."""

    inode: int
    changed: int
    size: int


class Holding(NamedTuple):
    """One blob.

    path: where it is; in `blobs/trash` where a collector that was killed had moved it. size: bytes. used: when it was
    last stored or asked for, in seconds since 1970. sources: pinned addresses that delivered it. origins: digests of
    the published files that it was made of.
    """

    sha256: str
    path: str
    identity: Identity
    used: float
    sources: tuple[str, ...]
    origins: tuple[str, ...]

    @property
    def size(self) -> int:
        """In bytes."""
        return self.identity.size


class Holdings(NamedTuple):
    """Every blob, and the records that should say what explains some of them but cannot be read."""

    blobs: tuple[Holding, ...]
    unreadable: tuple[str, ...]


class Adopted(NamedTuple):
    """A file that is used where it is. in_hub_cache: the Hub's own client put it there."""

    sha256: str
    path: str
    size: int
    in_hub_cache: bool


def holdings(store: Store) -> Holdings:
    """Everything in the store, in the order of the digests. A store that is not there holds nothing."""
    sources: dict[str, list[str]] = {}
    origins: dict[str, list[str]] = {}
    unreadable: list[str] = []
    for kind, made, digest_of, name_of in (
        ("pins", sources, "sha256", "source"),
        ("conversions", origins, "converted", "origin"),
    ):
        for path in store.records.files(kind):
            record = store.records.load(path)
            digest, name = record.get(digest_of), record.get(name_of)
            if isinstance(digest, str) and isinstance(name, str) and _HEX.fullmatch(digest):
                made.setdefault(digest, []).append(name)
            elif os.path.exists(path):  # not just removed by somebody else
                unreadable.append(path)
    used = {entry.name: seen.st_mtime for entry, seen in stats(store.uses.folder)}
    blobs = [
        Holding(
            sha256,
            path,
            identity(seen),
            max(seen.st_mtime, used.get(sha256, 0.0)),
            tuple(sorted(sources.get(sha256, ()))),
            tuple(sorted(origins.get(sha256, ()))),
        )
        for sha256, path, seen in _files(store)
    ]
    return Holdings(tuple(sorted(blobs)), tuple(unreadable))


def adopted(store: Store) -> tuple[Adopted, ...]:
    """The files elsewhere that this store uses, in the order of the digests; what has changed since is not among them.

    One of the same digest in the store is used before it.
    """
    found = []
    for path, record in store.records.every("places"):
        sha256, place = record_name(path), str(record.get("path"))
        if store.is_place(sha256, place):
            found.append(Adopted(sha256, place, os.stat(place).st_size, bool(_HUB_CACHE.search(place))))
    return tuple(sorted(found))


def locked(store: Store) -> Mapping[str, tuple[str, ...]]:
    """The lock files that name a digest, by digest.

    Raises:
        CheckpointError: a noted lock file is there and cannot be read; what it needs is then unknown.
    """
    found: dict[str, list[str]] = {}
    in_force = os.environ.get(VARIABLE)
    noted = {*store.noted_locks(), *([os.path.abspath(in_force)] if in_force else [])}
    for path in sorted(noted):
        # Every digest in the text, whatever the lock's layout: a lock of a newer zoo, or one cut short, keeps as much.
        for digest in sorted(set(_HEX_IN_TEXT.findall(_text(path)))):
            found.setdefault(digest.decode().lower(), []).append(path)
    return {digest: tuple(paths) for digest, paths in found.items()}


def stats(folder: str) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
    """What lies in a folder, with its own status (of a link, the link's); nothing where there is no such folder."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        try:
            yield entry, entry.stat(follow_symlinks=False)
        except OSError:  # gone meanwhile
            continue


def identity(seen: os.stat_result) -> Identity:
    """A file's identity by its status."""
    return Identity(seen.st_ino, seen.st_mtime_ns, seen.st_size)


def _files(store: Store) -> Iterator[tuple[str, str, Any]]:
    """(digest, path, status) of every regular file that is named as a blob is. Links and other names are nobody's."""
    for shard, _ in stats(store.blobs_folder):
        if shard.is_dir(follow_symlinks=False):
            for entry, seen in stats(shard.path):
                if _HEX.fullmatch(entry.name) and entry.name[:2] == shard.name and entry.is_file(follow_symlinks=False):
                    yield entry.name, entry.path, seen
    for entry, seen in stats(store.trash.folder):
        sha256 = entry.name.partition(".")[0]
        if _HEX.fullmatch(sha256) and entry.is_file(follow_symlinks=False):
            yield sha256, entry.path, seen


def _text(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise CheckpointError(
            f"the lock file {path} cannot be read, so what it needs is unknown: {error.strerror or error}",
            asked=path,
            fix="make it readable, or remove it if nobody needs it",
        ) from error
