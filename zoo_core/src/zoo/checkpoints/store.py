"""The content-addressed store: a file is named by its SHA-256, complete, verified and never changed.

    $ZOO_HOME/blobs/sha256/ab/abcd…     the blobs, read-only
    $ZOO_HOME/blobs/tmp/…               what is still arriving, one private file a writer
    $ZOO_HOME/blobs/trash/…             what a collector is about to remove, see `zoo.checkpoints.leaving`
    $ZOO_HOME/blobs/damaged/…           what `zoo cache repair` has moved aside
    $ZOO_HOME/used/<hex>                an empty file whose time is the blob's last use
    $ZOO_HOME/records/<kind>/….json     what this machine knows: digests of files elsewhere, pins, conversions

A blob appears by one rename, after it was hashed, compared and synced, so any number of writers and a kill at any
byte leave either the whole blob or none, without locks. Large files that live in another place that never edits
files in place (an installed package, the Hub's cache) are not copied: they are hashed once and used where they are,
as long as their size, times and inode are those seen when they were hashed. They are never hard-linked, since then
an edit there would change our blob. Of the caller's own files only the digest is kept: somebody may edit them while
they are mapped, so nothing but the path that named them leads to them.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import FileIO
from typing import IO, NamedTuple

from zoo.checkpoints.delivery import ANYTHING, Wanted
from zoo.checkpoints.leaving import Trash, Uses
from zoo.checkpoints.receiving import receive
from zoo.checkpoints.records import Records, record_key
from zoo.errors import CheckpointError, DigestError
from zoo.paths import home

CHUNK = 1 << 20
_PIECE = 1 << 18  # bytes hashed at a time: they are still in the processor's cache
_HEX = re.compile(r"[0-9a-f]{64}")
_CLOCK_TICK = 20_000_000  # ns; two writes within one tick of the file system's clock carry the same time
_COARSE_TICK = 2_000_000_000  # ns, where a file system keeps whole seconds only
_REPLACEMENTS = 100  # of a file while it is hashed, one after the other; somebody stores the same blob again and again


class Blob(NamedTuple):
    """A complete, verified file. `path` is inside the store or where the file was adopted."""

    sha256: str
    size: int
    path: str


class Pin(NamedTuple):
    """What a source delivered when this machine last took it: the digest, and the address with its revision."""

    sha256: str
    source: str


class Store:
    """One store. Its folder need not exist yet.

    Args:
        root: the folder; by default `zoo.paths.home()`.
    """

    def __init__(self, root: str | None = None) -> None:
        self.root = root or home()
        self.records = Records(self.root)
        self.blobs_folder = os.path.join(self.root, "blobs", "sha256")
        self.arrivals_folder = os.path.join(self.root, "blobs", "tmp")
        self.damaged_folder = os.path.join(self.root, "blobs", "damaged")
        self.trash = Trash(os.path.join(self.root, "blobs", "trash"))
        self.uses = Uses(os.path.join(self.root, "used"))

    # blobs

    def blob_path(self, sha256: str) -> str:
        """Where the blob of that digest is, or would be."""
        sha256 = checked_hex(sha256)
        return os.path.join(self.blobs_folder, sha256[:2], sha256)

    def find(self, sha256: str, size: int | None = None) -> Blob | None:
        """The blob, or the adopted file that is still as it was hashed; None if neither is there. Hashes nothing.

        This is a use: no collector takes the blob within the next hours.
        """
        blob = self._blob(checked_hex(sha256)) or self._adopted(checked_hex(sha256))
        return blob if blob and size in (None, blob.size) else None

    def own(self, sha256: str, size: int | None = None) -> Blob | None:
        """As `find`, of this store alone: for what must outlast whoever owns an adopted file."""
        blob = self._blob(checked_hex(sha256))
        return blob if blob and size in (None, blob.size) else None

    def holds(self, sha256: str) -> bool:
        """Whether the blob or an adopted file is there. Unlike `find`, this is no use of it."""
        return self.owns(sha256) or (bool(_HEX.fullmatch(sha256)) and self._adopted(sha256) is not None)

    def owns(self, sha256: str) -> bool:
        """Whether the blob itself is there, perhaps in the trash. Unlike `own`, this is no use of it."""
        if not _HEX.fullmatch(sha256):
            return False
        return os.path.exists(self.blob_path(sha256)) or any(self.trash.of(sha256))

    def put(self, chunks: Iterable[bytes | memoryview], wanted: Wanted = ANYTHING) -> Blob:
        """Store what arrives, hashed on the way; visible only when complete and right.

        Args:
            chunks: the file's bytes, in order. What iterating raises passes through.
            wanted: the promised digest and size.

        Raises:
            DigestError: other bytes than promised; nothing is kept.
            CheckpointError: the store cannot be written.
        """
        temp = self.temp_path(wanted.sha256)
        try:
            sha256, size = receive(temp, chunks)
            wanted.check(sha256, size, "the stored file")
            return self.publish(temp, sha256, size)
        except OSError as error:
            _unlink(temp)
            raise self.unwritable(error) from error
        except BaseException:
            _unlink(temp)
            raise

    def adopt(self, path: str, wanted: Wanted, source: str, *, place: bool = True) -> Blob:
        """Verify a file where it is, and remember that it is right.

        Args:
            place: `find` may give it to whoever asks for its digest; only where nobody edits files in place.

        Raises:
            DigestError: not the promised bytes.
            CheckpointError: it cannot be read, or changes while it is read.
        """
        path = os.path.abspath(path)  # not the target of a link: a name in the Hub's cache tells the file's format
        size = _size(path) or 0
        wanted._replace(sha256=None).check("", size, source)  # the cheap half first
        sha256 = self.digest(path)
        wanted.check(sha256, size, source)
        if place and self.records.read("places", sha256).get("path") != path and self.is_place(sha256, path):
            self.records.write("places", sha256, {"path": path})
        return Blob(sha256, size, path)

    def digest(self, path: str) -> str:
        """The SHA-256 of a file elsewhere, from the record if the file has not changed since it was hashed.

        Raises:
            CheckpointError: it cannot be read, or changes while it is read.
        """
        path = os.path.realpath(path)
        try:
            return self._known_digest(path) or self._new_digest(path)
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error

    def verify(self, sha256: str) -> bool:
        """Whether the blob is there and its bytes still have that digest. Reads the whole file."""
        found = self.find(sha256)
        return found is not None and digest_of(found.path) == checked_hex(sha256)

    # pins and conversions

    def pin(self, source: str) -> Pin | None:
        """What this source delivered here the last time."""
        record = self.records.read("pins", record_key(source))
        if record.get("source") != source or not _HEX.fullmatch(str(record.get("sha256"))):
            return None
        return Pin(record["sha256"], str(record.get("resolved") or source))

    def first_pin(self, source: str, sha256: str, resolved: str) -> Pin:
        """Record what a source delivered for the first time; gives the pin of whoever was first to record one."""
        record = {"source": source, "sha256": sha256, "resolved": resolved}
        self.records.add("pins", record_key(source), record)
        if self.pin(source) is None:  # what was there is no pin
            self.records.write("pins", record_key(source), record)
        return self.pin(source) or Pin(sha256, resolved)

    def pin_path(self, source: str) -> str:
        """The record behind `pin`; removing it forgets the pin."""
        return self.records.path("pins", record_key(source))

    def remember_pin(self, source: str, sha256: str, resolved: str) -> None:
        """Record what a source delivered."""
        if self.pin(source) != (sha256, resolved):
            self.records.write("pins", record_key(source), {"source": source, "sha256": sha256, "resolved": resolved})

    def conversion(self, origin: str, converter: str) -> Blob | None:
        """The blob that this converter made of the file with that digest."""
        record = self.records.read("conversions", f"{checked_hex(origin)}.{converter}")
        converted = str(record.get("converted"))
        return self.find(converted) if _HEX.fullmatch(converted) and record.get("origin") == origin else None

    def remember_conversion(self, origin: str, converter: str, converted: str) -> None:
        """Record a conversion; it names its origin's digest."""
        record = {"origin": origin, "converter": converter, "converted": converted}
        self.records.write("conversions", f"{checked_hex(origin)}.{converter}", record)

    def note_lock(self, path: str) -> None:
        """Remember where a lock file is: what it names stays in the store for as long as it names it."""
        path = os.path.abspath(path)
        if self.records.read("locks", record_key(path)).get("path") != path:
            self.records.write("locks", record_key(path), {"path": path})

    def noted_locks(self) -> tuple[str, ...]:
        """Absolute paths of the lock files that were noted; some may be gone by now."""
        return tuple(str(record["path"]) for _, record in self.records.every("locks") if "path" in record)

    # inside; what arrives over the network is written by `zoo.checkpoints.arrivals`

    def temp_path(self, key: str | None) -> str:
        """A new name in the folder of what is still arriving. key: 64 hex digits that begin it."""
        folder = self.arrivals_folder
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise self.unwritable(error) from error
        return os.path.join(folder, f"{checked_hex(key) if key else 'unnamed'}.{secrets.token_hex(8)}")

    def publish(self, temp: str, sha256: str, size: int) -> Blob:
        """Give a complete, verified and synced file its name. Raises `OSError`."""
        path = self.blob_path(sha256)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            os.replace(temp, path)
        except OSError:
            # Another writer of the same bytes was first: it discarded our file, or its blob is in use and stays.
            if _size(path) != size:
                raise
            _unlink(temp)
        sync_folder(os.path.dirname(path))
        return Blob(sha256, size, path)

    def unwritable(self, error: OSError) -> CheckpointError:
        """The error for a store that the system does not let us write."""
        if isinstance(error, FileNotFoundError) and os.path.isdir(self.arrivals_folder):
            return CheckpointError(
                "an unfinished file was removed from the store while it was being written",
                asked=error.filename or self.root,
                fix="try again; zoo cache gc removes files that have had no byte for a day",
            )
        return CheckpointError(
            f"the store cannot be written: {error.strerror or error}",
            asked=error.filename or self.root,
            fix="free some space, or choose another folder: ZOO_HOME=/path/with/space",
        )

    def _blob(self, sha256: str) -> Blob | None:
        """A blob, with its use noted."""
        path = self.blob_path(sha256)
        seen = _stored(path) or self._from_trash(sha256, path)
        if seen is not None and self.uses.note(sha256, seen.st_mtime):
            seen = _stored(path) or self._from_trash(sha256, path)  # see `zoo.checkpoints.leaving`
        return seen and Blob(sha256, seen.st_size, path)

    def _adopted(self, sha256: str) -> Blob | None:
        path = str(self.records.read("places", sha256).get("path", ""))
        size = _size(path) if self.is_place(sha256, path) else None
        return None if size is None else Blob(sha256, size, path)

    def _from_trash(self, sha256: str, path: str) -> os.stat_result | None:
        for trash in self.trash.of(sha256):
            self.trash.bring_back(trash, path)
        return _stored(path)

    def is_place(self, sha256: str, path: str) -> bool:
        """Whether a file elsewhere is still as it was when it was hashed to that digest."""
        return bool(path) and self._known_digest(os.path.realpath(path)) == sha256

    def _known_digest(self, path: str) -> str | None:
        record = self.records.read("digests", record_key(path))
        if record.get("path") != path or not _HEX.fullmatch(str(record.get("sha256"))):
            return None
        try:
            return str(record["sha256"]) if _stamp(path) == record.get("stamp") else None
        except OSError:
            return None

    def _new_digest(self, path: str) -> str:
        for _ in range(_REPLACEMENTS):
            seen = _stamp(path)
            age = time.time_ns() - max(seen[1], seen[2])
            if 0 <= age < _CLOCK_TICK:  # a change right after would bear the same time: let the clock move on first
                time.sleep((_CLOCK_TICK - age) / 1e9)
            sha256 = digest_of(path)
            after = _stamp(path)
            if after == seen:
                coarse = seen[1] % 1_000_000_000 == seen[2] % 1_000_000_000 == 0 and age < _COARSE_TICK
                if age >= 0 and not coarse:
                    self.records.write("digests", record_key(path), {"path": path, "stamp": seen, "sha256": sha256})
                return sha256
            if after[3:] == seen[3:] and after[:2] != seen[:2]:
                break  # written into; a file that was replaced, as a blob is that is stored once more, is read anew
        raise CheckpointError(f"{path} changed while it was being read", fix="try again when it is complete")


def checked_hex(sha256: str) -> str:
    """A digest as 64 lower-case hex digits; it becomes a file name, so anything else is refused."""
    if not isinstance(sha256, str) or not _HEX.fullmatch(sha256.lower()):
        raise DigestError("not a SHA-256: expected 64 hex digits", asked=repr(sha256)[:100])
    return sha256.lower()


def digest_of(path: str) -> str:
    """The SHA-256 of a file, at about the machine's hash rate. Raises `OSError`.

    It is read, not mapped: under a map, a bad block or somebody who cuts the file short would kill the process.
    """
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_PIECE))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def read_chunks(file: IO[bytes] | FileIO) -> Iterator[bytes]:
    """The rest of an open file, in chunks."""
    while chunk := file.read(CHUNK):
        yield chunk


def sync_folder(folder: str) -> None:
    """Make a rename in that folder survive a power cut. A no-op where folders cannot be opened (Windows)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _stamp(path: str) -> list[int]:
    """What changes when a file is changed or replaced: size, times (ctime cannot be set back), inode, device."""
    seen = os.stat(path)
    return [seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino, seen.st_dev]


def _stored(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _size(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None


def _unlink(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
