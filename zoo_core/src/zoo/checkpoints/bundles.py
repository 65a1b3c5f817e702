"""Bundles: the files of models in one folder or one file, for a machine without network.

    zoo-files.json        {"zoo-files": 1, "refs": [...], "files": [{"name", "sha256", "size", "sources", "source"}]}
    files/<sha256>        each file once; in a zip they are stored, not compressed

The same models give the same bytes. A bundle is believed in nothing: it may hold these names and no others, every file
is held against its digest before the first of them is taken, and a file goes into the store by its digest, never by a
name. What the sources of a file deliver is then known here as if this machine had fetched it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, Any, NamedTuple

from zoo.checkpoints import carried, strict_json
from zoo.checkpoints.carried import Carried, CarriedFolder, CarriedZip, Page
from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.sources import Fetched, file_name, local_path
from zoo.checkpoints.store import CHUNK, Store
from zoo.errors import CheckpointError, DigestError, FormatError

INDEX, FILES = "zoo-files.json", "files"
VERSION = 1
MAX_INDEX = 4 << 20
"""Bytes of the index."""

MAX_FILES, MAX_SOURCES, MAX_TEXT = 10_000, 64, 2_000
_HEX = re.compile(r"[0-9a-f]{64}")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://[^\x00-\x1f\x7f]+")


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
    with _told(target):
        carried.write_folder(target, _pages(refs, files, store))


def write_zip(path: str, refs: Sequence[str], files: Sequence[BundledFile], store: Store) -> None:
    """Write files and their index as one zip. A file of that name is replaced, at once.

    Raises:
        CheckpointError: it cannot be written. DigestError: a file here is not what it was.
    """
    target = os.path.abspath(path)
    with _told(target):
        carried.write_zip(target, _pages(refs, files, store), mode=0o444, overwrite=True)


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
            is_folder = os.path.isdir(path)
            bundle = CarriedFolder(path) if is_folder else stack.enter_context(carried.opened_zip(path))
            with bundle.open(INDEX) as index:
                files = _read_index(index.read(MAX_INDEX + 1))
            _check_names(bundle, files)
            for file in files:
                _verify(file, bundle, store)
            for file in files:
                if store.own(file.sha256, file.size) is None:
                    store.put(_pieces(bundle, file), Wanted(file.sha256, file.size))
        except carried.DAMAGED as error:
            raise _fault(path, str(error)[:200] or type(error).__name__) from error
        except OSError as error:
            raise FormatError(f"{path} cannot be read: {error.strerror or error}", asked=path) from error
    for file in files:
        for source in _elsewhere(file):
            store.remember_pin(source, file.sha256, file.source)
    return sorted(files)


# writing


@contextmanager
def _told(target: str) -> Iterator[None]:
    """What the system does not let us write, in our words."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise CheckpointError(f"cannot write here: {why}", asked=target, fix="another place: -o PATH") from error


def _pages(refs: Sequence[str], files: Sequence[BundledFile], store: Store) -> Iterator[Page]:
    index = _index(refs, files)
    yield Page(INDEX, len(index), [index])
    for file in _once(files):
        yield Page(f"{FILES}/{file.sha256}", file.size, _copied(file, store))


def _copied(file: BundledFile, store: Store) -> Iterator[bytes]:
    """A file's bytes, held against its digest on the way: one that is used where it lies may have changed."""
    digest = hashlib.sha256()
    with _opened(file, store) as source:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            yield chunk
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


# reading


def _check_names(bundle: CarriedFolder | CarriedZip, files: Sequence[BundledFile]) -> None:
    expected = [f"{FILES}/{file.sha256}" for file in files]
    if isinstance(bundle, CarriedZip):
        names = [member.filename for member in bundle.members]
        expected.append(INDEX)
    else:
        names = [f"{FILES}/{name}" for name in bundle.names(FILES)] if files else []
    if len(names) != len(set(names)):
        raise ValueError(f"{Counter(names).most_common(1)[0][0][:200]!r} is there twice")
    strange = sorted(set(names) - set(expected))
    if strange:
        raise ValueError(f"it holds {strange[0][:200]!r}, which its index does not name")
    missing = sorted(set(expected) - set(names))
    if missing:
        raise ValueError(f"it lacks {missing[0]}")


def _read_index(raw: bytes) -> list[BundledFile]:
    record = strict_json.loads(raw, MAX_INDEX)
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


def _verify(file: BundledFile, bundle: Carried, store: Store) -> None:
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


def _pieces(bundle: Carried, file: BundledFile) -> Iterator[bytes]:
    """A file's bytes, no more than are announced, and one to tell that there are more."""
    left = file.size + 1
    with bundle.open(f"{FILES}/{file.sha256}") as stream:
        while left and (chunk := stream.read(min(CHUNK, left))):
            left -= len(chunk)
            yield chunk
    if left != 1:
        raise ValueError(f"{file.name} has other than the {file.size} bytes that are announced")


def _fault(path: str, what: str) -> FormatError:
    return FormatError(f"{path}: not a sound bundle: {what}", asked=path, fix="zoo bundle REF -o FILE.zip, once more")
