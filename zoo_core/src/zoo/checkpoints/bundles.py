"""Bundles: the files of models in one folder or one file, for a machine without network.

    zoo-files.json        {"zoo-files": 1, "refs": [...], "files": [{"name", "sha256", "size", "sources", "source"}]}
    files/<sha256>        each file once; in a zip they are stored, not compressed

The same models give the same bytes. A bundle is believed in nothing: it may hold these names and no others, every file
is held against its digest before the first of them is taken, and a file goes into the store by its digest, never by a
name. What the sources of a file deliver is then known here as if this machine had fetched it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import secrets
import shutil
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any, NamedTuple

from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.sources import Fetched, file_name, local_path
from zoo.checkpoints.store import CHUNK, Store, sync_folder
from zoo.errors import CheckpointError, DigestError, FormatError

INDEX, FILES = "zoo-files.json", "files"
VERSION = 1
MAX_INDEX = 4 << 20
"""Bytes of the index, and of a zip's own list of contents."""

MAX_FILES, MAX_SOURCES, MAX_TEXT = 10_000, 64, 2_000
_HEX = re.compile(r"[0-9a-f]{64}")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^\x00-\x1f\x7f]+")
_OLDEST = (1980, 1, 1, 0, 0, 0)  # what a zip can say of time; the same in every bundle
_DAMAGED = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error, OverflowError)


class BundledFile(NamedTuple):
    """A file in a bundle. name: for people. sources: its addresses. source: the one it came by, with its revision."""

    name: str
    sha256: str
    size: int
    sources: tuple[str, ...]
    source: str


def bundled(sources: Sequence[str], fetched: Fetched) -> BundledFile:
    """A fetched file as a bundle describes it. sources: all its addresses, as its record names them."""
    size = os.stat(fetched.path).st_size
    return BundledFile(file_name(fetched.source), fetched.sha256, size, tuple(sources), fetched.source)


def write_folder(folder: str, refs: Sequence[str], files: Sequence[BundledFile], store: Store) -> None:
    """Copy files into a new folder, with their index; all of it appears at once.

    Raises:
        CheckpointError: the folder holds something already, or cannot be written.
        DigestError: a file here is not what it was.
    """
    target = os.path.abspath(folder)
    if os.path.exists(target) and (not os.path.isdir(target) or os.listdir(target)):
        raise CheckpointError("the folder is not empty", asked=target, fix="another folder, or delete this one")
    with _aside(target) as aside:
        os.makedirs(os.path.join(aside, FILES))
        for file in _once(files):
            with open(os.path.join(aside, FILES, file.sha256), "xb") as copy:
                _copy(file, store, copy)
                _sync(copy)
        with open(os.path.join(aside, INDEX), "xb") as index:
            index.write(_index(refs, files))
            _sync(index)
        os.rename(aside, target)


def write_zip(path: str, refs: Sequence[str], files: Sequence[BundledFile], store: Store) -> None:
    """Write files and their index as one zip. A file of that name is replaced, at once.

    Raises:
        CheckpointError: it cannot be written. DigestError: a file here is not what it was.
    """
    target = os.path.abspath(path)
    with _aside(target) as aside, open(aside, "xb") as whole:
        with zipfile.ZipFile(whole, "w") as archive:
            index = _index(refs, files)
            with archive.open(_entry(INDEX, len(index)), "w") as entry:
                entry.write(index)
            for file in _once(files):
                with archive.open(_entry(f"{FILES}/{file.sha256}", file.size), "w") as entry:
                    _copy(file, store, entry)
        _sync(whole)
        whole.close()
        os.replace(aside, target)


def take(path: str, store: Store) -> list[BundledFile]:
    """Take every file of a bundle into the store, and remember what its sources deliver.

    Args:
        path: a folder that `write_folder` wrote, or a zip of `write_zip`.

    Returns:
        What the bundle holds, by name.

    Raises:
        FormatError: no bundle, or not a sound one. DigestError: a file is not what the index promises, or not what this
            machine knows its source to deliver. CheckpointError: the store cannot be written.
        Nothing is taken then.
    """
    with ExitStack() as stack:
        try:
            bundle = _Folder(path) if os.path.isdir(path) else _Zip(path, stack)
            files = _read_index(bundle.index())
            bundle.check(files)
            for file in files:
                _verify(file, bundle, store)
            for file in files:
                if store.own(file.sha256, file.size) is None:
                    store.put(_pieces(bundle, file), Wanted(file.sha256, file.size))
        except _DAMAGED as error:
            raise _fault(path, str(error)[:200] or type(error).__name__) from error
        except OSError as error:
            raise FormatError(f"{path} cannot be read: {error.strerror or error}", asked=path) from error
    for file in files:
        for source in _elsewhere(file):
            store.remember_pin(source, file.sha256, file.source)
    return sorted(files)


# writing


@contextmanager
def _aside(target: str) -> Iterator[str]:
    """A name beside the target, on which nothing is left afterwards."""
    folder = os.path.dirname(target)
    aside = os.path.join(folder, f".zoo-{secrets.token_hex(8)}")
    try:
        os.makedirs(folder, exist_ok=True)
        yield aside
        sync_folder(folder)
    except OSError as error:
        why = error.strerror or str(error)
        raise CheckpointError(f"cannot write here: {why}", asked=target, fix="another place: -o PATH") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        with suppress(OSError):
            os.unlink(aside)


def _copy(file: BundledFile, store: Store, target: IO[bytes]) -> None:
    """A file's bytes, held against its digest on the way: one that is used where it lies may have changed."""
    digest = hashlib.sha256()
    with _opened(file, store) as source:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            target.write(chunk)
    Wanted(file.sha256).check(digest.hexdigest(), file.size, file.source)


def _opened(file: BundledFile, store: Store) -> IO[bytes]:
    """A file here; where a collector has just moved it away it is looked for again, and then stays."""
    for _ in range(2):
        blob = store.find(file.sha256, file.size)
        if blob is None and not file.source.startswith("file://"):
            break
        try:
            return open(blob.path if blob else local_path(file.source), "rb")
        except FileNotFoundError:
            continue
    raise DigestError(f"{file.name} is not on this machine any more", asked=file.sha256, fix="try again")


def _index(refs: Sequence[str], files: Sequence[BundledFile]) -> bytes:
    entries = [file._asdict() for file in _once(files)]
    record = {"zoo-files": VERSION, "refs": sorted(set(refs)), "files": entries}
    return (json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _once(files: Iterable[BundledFile]) -> list[BundledFile]:
    """Each content once, with the addresses of all files that have it."""
    found: dict[str, BundledFile] = {}
    for file in sorted(files):
        other = found.get(file.sha256, file)
        sources = tuple(sorted({*other.sources, *file.sources}))
        found[file.sha256] = other._replace(sources=sources)
    return [found[sha256] for sha256 in sorted(found)]


def _entry(name: str, size: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _OLDEST)
    entry.create_system, entry.external_attr = 3, 0o100444 << 16
    entry.file_size = size  # decides whether the entry needs large fields
    return entry


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


# reading


class _Folder:
    """A bundle as a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def index(self) -> bytes:
        with self._plain(INDEX) as file:
            return file.read(MAX_INDEX + 1)

    def check(self, files: Sequence[BundledFile]) -> None:
        names = sorted(os.listdir(os.path.join(self.path, FILES))) if files else []
        _check_names(names, [file.sha256 for file in files])
        if os.path.islink(os.path.join(self.path, FILES)):
            raise ValueError(f"{FILES} is a link")

    def open(self, file: BundledFile) -> IO[bytes]:
        return self._plain(f"{FILES}/{file.sha256}", file.size)

    def _plain(self, name: str, size: int | None = None) -> IO[bytes]:
        """A regular file: no link to elsewhere, no pipe that never ends."""
        path = os.path.join(self.path, *name.split("/"))
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        if os.path.islink(path):
            raise ValueError(f"{name} is a link")
        file = os.fdopen(os.open(path, flags), "rb")
        seen = os.fstat(file.fileno())
        if not stat.S_ISREG(seen.st_mode) or size not in (None, seen.st_size):
            file.close()
            raise ValueError(f"{name} has {seen.st_size} bytes, where {size} are announced")
        return file


class _Zip:
    """A bundle as a zip, of which only plain stored entries are read."""

    def __init__(self, path: str, stack: ExitStack) -> None:
        self.path = path
        self.archive = stack.enter_context(zipfile.ZipFile(stack.enter_context(_Modest(path))))
        self.entries = {entry.filename: entry for entry in self.archive.infolist()}

    def index(self) -> bytes:
        entry = self.entries.get(INDEX)
        if entry is None:
            raise ValueError(f"it holds no {INDEX}")
        self._check_stored(entry)
        with self.archive.open(entry) as file:
            return file.read(MAX_INDEX + 1)

    def check(self, files: Sequence[BundledFile]) -> None:
        names = [entry.filename for entry in self.archive.infolist()]
        _check_names(names, [INDEX, *(f"{FILES}/{file.sha256}" for file in files)])
        if sum(file.size for file in files) > os.path.getsize(self.path):
            raise ValueError("its files would be larger than itself")
        for file in files:
            entry = self.entries[f"{FILES}/{file.sha256}"]
            self._check_stored(entry)
            if entry.file_size != file.size:
                raise ValueError(f"{entry.filename} has {entry.file_size} bytes, where {file.size} are announced")

    def _check_stored(self, entry: zipfile.ZipInfo) -> None:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise ValueError(f"{entry.filename} is compressed")
        if kind not in (0, stat.S_IFREG) or entry.flag_bits & 1:
            raise ValueError(f"{entry.filename} is no plain file")

    def open(self, file: BundledFile) -> IO[bytes]:
        return self.archive.open(self.entries[f"{FILES}/{file.sha256}"])


class _Modest(io.FileIO):
    """A file of which no more than a little is read at a time, whatever a zip says of the size of its parts."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or size > MAX_INDEX:
            taken = super().read(MAX_INDEX + 1)
            if len(taken) > MAX_INDEX:
                raise zipfile.BadZipFile("its list of contents is too long")
            return taken
        return super().read(size)


def _check_names(names: Sequence[str], expected: Sequence[str]) -> None:
    if len(names) != len(set(names)):
        raise ValueError(f"{Counter(names).most_common(1)[0][0][:200]!r} is there twice")
    strange = sorted(set(names) - set(expected))
    if strange:
        raise ValueError(f"it holds {strange[0][:200]!r}, which its index does not name")
    missing = sorted(set(expected) - set(names))
    if missing:
        raise ValueError(f"it lacks {missing[0]}")


def _read_index(raw: bytes) -> list[BundledFile]:
    if len(raw) > MAX_INDEX:
        raise ValueError(f"{INDEX} is larger than {MAX_INDEX} bytes")
    try:
        record = json.loads(raw.decode("utf-8"))
    except RecursionError:
        raise ValueError(f"{INDEX} is nested too deep") from None
    entries = record.get("files") if isinstance(record, dict) else None
    if not isinstance(entries, list) or record.get("zoo-files") != VERSION:
        raise ValueError(f"{INDEX} is not one that this version reads")
    if len(entries) > MAX_FILES:
        raise ValueError(f"{INDEX} names {len(entries)} files")
    files = [_read_entry(entry) for entry in entries]
    digests = [file.sha256 for file in files]
    if len(digests) != len(set(digests)):
        raise ValueError(f"{INDEX} names a file twice")
    return files


def _read_entry(entry: Any) -> BundledFile:
    if not isinstance(entry, dict):
        raise ValueError(f"{INDEX} describes a file by {str(entry)[:80]!r}")
    name, sha256, size = entry.get("name"), entry.get("sha256"), entry.get("size")
    sources, source = entry.get("sources"), entry.get("source")
    if not isinstance(sha256, str) or not _HEX.fullmatch(sha256):
        raise ValueError(f"{INDEX} names a file by {str(sha256)[:80]!r}, which is no SHA-256")
    if type(size) is not int or not 0 <= size < 1 << 50:
        raise ValueError(f"{sha256} has no sensible size")
    if not isinstance(sources, list) or not 0 < len(sources) <= MAX_SOURCES:
        raise ValueError(f"{sha256} has no sensible sources")
    for text in (*sources, source):
        if not isinstance(text, str) or len(text) > MAX_TEXT or not _ADDRESS.fullmatch(text):
            raise ValueError(f"{sha256} has {str(text)[:80]!r} for a source")
    if not isinstance(name, str) or not name.isprintable() or len(name) > 255:
        raise ValueError(f"{sha256} has no sensible name")
    return BundledFile(name, sha256, size, tuple(sources), str(source))


def _verify(file: BundledFile, bundle: _Folder | _Zip, store: Store) -> None:
    for source in _elsewhere(file):
        pin = store.pin(source)
        if pin is not None and pin.sha256 != file.sha256:
            pinned = Wanted(pin.sha256, None, store.pin_path(source))
            raise pinned.broken(source, f"sha256 {file.sha256}", f"sha256 {pin.sha256}")
    digest = hashlib.sha256()
    for chunk in _pieces(bundle, file):
        digest.update(chunk)
    Wanted(file.sha256).check(digest.hexdigest(), file.size, f"{file.name} in the bundle")


def _elsewhere(file: BundledFile) -> list[str]:
    """The sources that a digest can be remembered for, so that it is known what the blob is; files of the sender's own
    machine mean nothing here."""
    return [source for source in file.sources if not source.startswith("file://")]


def _pieces(bundle: _Folder | _Zip, file: BundledFile) -> Iterator[bytes]:
    """A file's bytes, no more than are announced, and one to tell that there are more."""
    left = file.size + 1
    opened: Callable[[BundledFile], IO[bytes]] = bundle.open
    with opened(file) as stream:
        while left and (chunk := stream.read(min(CHUNK, left))):
            left -= len(chunk)
            yield chunk
    if left != 1:
        raise ValueError(f"{file.name} has other than the {file.size} bytes that are announced")


def _fault(path: str, what: str) -> FormatError:
    return FormatError(f"{path}: not a sound bundle: {what}", asked=path, fix="zoo bundle REF -o FILE.zip, once more")
