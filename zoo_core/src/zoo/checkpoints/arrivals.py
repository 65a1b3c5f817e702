"""Files while they arrive over the network: what came before a break, a kill or a power cut is not fetched again.

    $ZOO_HOME/blobs/tmp/<key>.<random>            the bytes so far
    $ZOO_HOME/blobs/tmp/<key>.<random>.journal    what they are of, then a line for each span: its length and SHA-256

The key is the promised digest, or stands for the address where none is promised. A later arrival of the same key
copies the spans that still have their digest, up to the first that has not, and goes on from there. Nobody writes into
a file that another arrival began, so any number of them may go on from the same one, without locks. (A lock only says
whether an earlier one is still at work, or can be dropped once it was copied.)
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from io import FileIO
from typing import Any, NamedTuple

from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.receiving import write_all
from zoo.checkpoints.records import record_key
from zoo.checkpoints.store import Blob, Store, read_chunks
from zoo.errors import DigestError

SPAN = 8 << 20
"""Bytes after which a span ends and is noted in the journal."""

SECONDS = 1.0
"""Or seconds, on a slow link."""

JOURNAL = ".journal"
_LINE = re.compile(rb"([0-9]{1,9}) ([0-9a-f]{64})\n")
_MAX_JOURNAL, _MAX_SPAN = 64 << 20, 32 << 20


class Partial(NamedTuple):
    """What an earlier arrival left: its file, the server's tag for it, and its spans: (length, SHA-256)."""

    path: str
    validator: str
    spans: list[tuple[int, str]]

    @property
    def size(self) -> int:
        """Bytes that its journal knows of."""
        return sum(length for length, _ in self.spans)


class Arrival:
    """One file on its way into the store. Use as `with Arrival(store, wanted, source) as arrival`.

    reached: bytes that are here and right. inherited: those of them that earlier arrivals left. validator: the server's
    strong tag for the file they are of; set it before the first `add`. Without a promised digest only bytes under the
    same tag are taken up again.
    """

    def __init__(self, store: Store, wanted: Wanted, source: str) -> None:
        self.store, self.wanted, self.source = store, wanted, source
        self.key = wanted.sha256 or record_key(source)
        self.reached, self.inherited, self.validator = 0, 0, ""
        self._temp = ""
        self._file: FileIO | None = None
        self._journal: FileIO | None = None
        self._whole, self._span = hashlib.sha256(), hashlib.sha256()
        self._pending, self._noted = 0, time.monotonic()
        # A thread hashes a chunk while this one writes it and fetches the next.
        self._hasher = ThreadPoolExecutor(1)
        self._hashing: Future[None] | None = None

    def __enter__(self) -> Arrival:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        resumable = self.reached and (self.wanted.sha256 or self.validator)
        if kind is not None and resumable and not issubclass(kind, DigestError):
            with suppress(OSError):
                self._note()
            self._close()
        else:
            self._drop()
        self._hasher.shutdown()

    def resume(self) -> None:
        """Take up what earlier arrivals of this file left, as far as it is still what they wrote."""
        taken: list[Partial] = []
        for _ in range(3):  # one that vanished was copied by another arrival, which is found the next time
            found = [p for p in partials(self.store, self.key) if self._is_of_this(p)]
            if all(self._copy(partial) for partial in found):
                taken = found
                break
        self.inherited = self.reached
        if self._file is not None and self._journal is not None:
            with suppress(OSError):
                for file in (self._file, self._journal):  # or a power cut might take both the old one and the new
                    os.fsync(file.fileno())
                for partial in taken:
                    if _is_given_up(partial.path + JOURNAL):
                        _remove(partial.path)

    def add(self, chunk: bytes) -> None:
        """The next bytes.

        Raises:
            DigestError: more than were promised. CheckpointError: they cannot be kept.
        """
        reached = self.reached + len(chunk)
        if self.wanted.size is not None and reached > self.wanted.size:
            raise self.wanted.broken(self.source, f"more than {self.wanted.size} bytes", f"{self.wanted.size} bytes")
        try:
            file = self._file or self._open()
            self._wait()
            self._hashing = self._hasher.submit(self._hash, chunk)
            write_all(file, chunk)
            self.reached = reached
            self._pending += len(chunk)
            if self._pending >= SPAN or time.monotonic() - self._noted >= SECONDS:
                self._note()
        except OSError as error:
            raise self.store.unwritable(error) from error

    def restart(self) -> None:
        """Forget what is here: the server has another file now."""
        discard(self.store, self.key)
        self._drop()
        self.reached, self.inherited, self.validator = 0, 0, ""
        self._whole = hashlib.sha256()

    def finish(self, check: Callable[[str], None] | None = None) -> Blob:
        """The file is complete: verify it and give it its place in the store.

        Args:
            check: what else must hold of the file at this path; raises `DigestError`.
        """
        try:
            file = self._file or self._open()
            self._wait()
            sha256 = self._whole.hexdigest()
            self.wanted.check(sha256, self.reached, self.source)
            if check is not None:
                check(self._temp)
            os.chmod(file.fileno() if os.chmod in os.supports_fd else self._temp, 0o444)
            os.fsync(file.fileno())
            blob = self._published(file, sha256)
        except OSError as error:
            raise self.store.unwritable(error) from error
        discard(self.store, self.key)
        return blob

    def _published(self, file: FileIO, sha256: str) -> Blob:
        if os.name == "nt":  # an open file cannot be renamed there
            self._close()
        try:
            return self.store.publish(self._temp, sha256, self.reached)
        except FileNotFoundError:  # somebody tidied it away as given up; its bytes are still open here
            file.seek(0)
            return self.store.put(read_chunks(file), Wanted(sha256, self.reached))

    # inside

    def _open(self) -> FileIO:
        self._temp = self.store.temp_path(self.key)
        self._journal = FileIO(self._temp + JOURNAL, "x")
        _hold(self._journal)
        header = {"key": self.key, "source": self.source, "validator": self.validator}
        self._journal.write(json.dumps(header).encode() + b"\n")
        self._file = FileIO(self._temp, "x+")
        return self._file

    def _hash(self, chunk: bytes) -> None:
        self._whole.update(chunk)
        self._span.update(chunk)

    def _wait(self) -> None:
        if self._hashing is not None:
            self._hashing.result()

    def _note(self) -> None:
        """End the span: from here on it is taken up again after a kill."""
        self._wait()
        if self._pending and self._journal is not None:
            self._journal.write(b"%d %s\n" % (self._pending, self._span.hexdigest().encode()))
        self._span, self._pending, self._noted = hashlib.sha256(), 0, time.monotonic()

    def _is_of_this(self, partial: Partial) -> bool:
        own = partial.path == self._temp
        return not own and bool(self.wanted.sha256 or (partial.validator and self.validator in ("", partial.validator)))

    def _copy(self, partial: Partial) -> bool:
        """Add what goes further than what is here; False if the file has vanished."""
        end = 0
        try:
            with open(partial.path, "rb") as file:
                for length, sha256 in partial.spans:
                    content = file.read(length)
                    end += length
                    if hashlib.sha256(content).hexdigest() != sha256:
                        break
                    if end > self.reached:
                        self.validator = "" if self.wanted.sha256 else partial.validator
                        self.add(content[self.reached - end :])
                        self._note()
        except FileNotFoundError:
            return False
        except DigestError:  # longer than the promised file: it was never of this one
            self.restart()
        except OSError:  # unreadable; the others may do
            pass
        return True

    def _close(self) -> None:
        for file in (self._file, self._journal):
            if file is not None:
                file.close()
        self._file = self._journal = None

    def _drop(self) -> None:
        self._wait()
        self._close()
        if self._temp:
            _remove(self._temp)
        self._temp, self._hashing = "", None
        self._span, self._pending = hashlib.sha256(), 0


def partials(store: Store, key: str) -> list[Partial]:
    """What earlier arrivals of that key left, the longest first. They may still be growing."""
    folder = os.path.join(store.root, "blobs", "tmp")
    try:
        names = [n for n in os.listdir(folder) if n.startswith(key) and n.endswith(JOURNAL)]
    except OSError:
        return []
    found = (_read(os.path.join(folder, name), key) for name in names)
    return sorted((p for p in found if p is not None), key=lambda p: p.size, reverse=True)


def discard(store: Store, key: str) -> None:
    """Forget what earlier arrivals of that key left. One still at work copes."""
    folder = os.path.join(store.root, "blobs", "tmp")
    with suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(key) and name.endswith(JOURNAL):
                _remove(os.path.join(folder, name.removesuffix(JOURNAL)))


def _read(journal: str, key: str) -> Partial | None:
    """A journal up to the first line that is not sound: it may be torn, or zeros after a power cut."""
    try:
        with open(journal, "rb") as file:
            header: Any = json.loads(file.readline(10_000))
            lines = file.read(_MAX_JOURNAL)
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(header, dict) or header.get("key") != key or not isinstance(header.get("validator"), str):
        return None
    return Partial(journal.removesuffix(JOURNAL), header["validator"], list(_spans(lines)))


def _spans(lines: bytes) -> Iterator[tuple[int, str]]:
    at = 0
    while match := _LINE.match(lines, at):
        if not 0 < int(match[1]) <= _MAX_SPAN:
            return
        yield int(match[1]), match[2].decode()
        at = match.end()


def _hold(journal: FileIO) -> None:
    """Say that an arrival is at work, where the system has such locks."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_given_up(journal: str) -> bool:
    """Whether nobody is at work on it. Where that cannot be known, no; on Windows an open file stays by itself."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        with open(journal, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except OSError:
        return False


def _remove(path: str) -> None:
    for name in (path, path + JOURNAL):
        with suppress(OSError):
            os.unlink(name)
