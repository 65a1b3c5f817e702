"""The folders and zip files that versions are exported to: written whole or not at all, read as if an enemy wrote them.

Nothing is ever unpacked: a file is asked for by the name that the contents lead to, so that no name in an archive
decides where anything is written. An archive is stored, not compressed: no more comes out of it than what it is.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple, Protocol

from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.store import CHUNK, Store, sync_folder
from zoo.errors import CheckpointError, FormatError

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can hold: an export does not depend on when it is made
_MAX_MEMBERS = 1_000_000


class Page(NamedTuple):
    """A file of an export: its name in it, its size in bytes, and the bytes in order."""

    name: str
    size: int
    chunks: Iterable[bytes]


class Export(Protocol):
    """Exported versions, wherever they are. label: where that is, for people."""

    label: str

    def read(self, name: str, limit: int) -> bytes:
        """A small file. Raises `CheckpointError`: not there, or larger than `limit` bytes."""

    def deliver(self, name: str, wanted: Wanted, store: Store) -> None:
        """Put a large file into the store. Raises `CheckpointError`, and `DigestError`: other bytes than promised."""


def write_export(path: str, pages: Iterable[Page]) -> None:
    """Write files to a new folder, or a new `.zip`, in order. Raises `CheckpointError`: it is there, or cannot be."""
    target = os.path.abspath(path)
    write = _write_archive if target.endswith(".zip") else _write_folder
    if os.path.lexists(target) and (write is _write_archive or not os.path.isdir(target) or os.listdir(target)):
        raise _taken(target)
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        aside = tempfile.mkdtemp(prefix=".zoo-", dir=os.path.dirname(target))
        try:
            write(aside, target, pages)
            sync_folder(os.path.dirname(target))
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except FileExistsError:
        raise _taken(target) from None
    except OSError as error:
        raise CheckpointError(
            f"cannot write here: {error.strerror or error}", asked=target, fix="another folder"
        ) from error


@contextmanager
def opened_export(path: str) -> Iterator[Export]:
    """A folder or a zip file of exported versions. Raises `CheckpointError`, and `FormatError` for a hostile one."""
    path = os.path.abspath(os.path.expanduser(path))
    if os.path.isdir(path):
        yield _Folder(path)
        return
    try:
        with open(path, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise FormatError("neither a folder nor a file", asked=path)
            with zipfile.ZipFile(file) as archive:
                yield _Archive(path, archive)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
        raise FormatError(
            f"{path} is no archive that the registry exported: {str(error)[:200]}", fix="zoo registry export … FILE.zip"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error


class _Folder:
    """An exported folder."""

    def __init__(self, path: str) -> None:
        self.label = path

    def read(self, name: str, limit: int) -> bytes:
        """See `Export`."""
        with self._opened(name) as file:
            return _limited(file, limit, f"{self.label}/{name}")

    def deliver(self, name: str, wanted: Wanted, store: Store) -> None:
        """See `Export`."""
        with self._opened(name) as file:
            store.put(_promised(file, wanted, f"{self.label}/{name}"), wanted)

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        path = self.label
        try:
            for part in name.split("/"):
                path = os.path.join(path, part)
                if os.path.islink(path):
                    raise FormatError(f"{path} is a link, which may lead anywhere", fix="the folder as it was exported")
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise FormatError(f"{path} is no file")
                yield file
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}", asked=name) from error


class _Archive:
    """An exported zip file."""

    def __init__(self, path: str, archive: zipfile.ZipFile) -> None:
        self.label, self._archive = path, archive
        seen: set[str] = set()
        if len(archive.infolist()) > _MAX_MEMBERS:
            raise FormatError(f"{path} has more than {_MAX_MEMBERS:,} members")
        for member in archive.infolist():
            why = _hostile(member, seen)
            if why:
                raise FormatError(
                    f"{path} is no archive that the registry exported: {member.filename[:100]!r} {why}",
                    fix="zoo registry export … FILE.zip; or unpack it yourself, and import the folder",
                )
            seen.add(member.filename.casefold())

    def read(self, name: str, limit: int) -> bytes:
        """See `Export`."""
        with self._opened(name) as file:
            return _limited(file, limit, f"{self.label}: {name}")

    def deliver(self, name: str, wanted: Wanted, store: Store) -> None:
        """See `Export`."""
        with self._opened(name) as file:
            store.put(_promised(file, wanted, f"{self.label}: {name}"), wanted)

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        try:
            with self._archive.open(name) as file:
                yield file
        except KeyError:
            raise CheckpointError(f"{self.label} has no {name}", asked=name) from None
        except (EOFError, RuntimeError) as error:
            raise FormatError(f"{self.label}: {name} cannot be read: {str(error)[:200]}") from None


def _hostile(member: zipfile.ZipInfo, seen: set[str]) -> str:
    """What is wrong with a member, if anything."""
    name = member.filename
    parts = name.removesuffix("/").split("/")
    if (
        not member.orig_filename.isprintable()
        or "\\" in member.orig_filename
        or ":" in name
        or {"", ".", ".."} & {*parts}
    ):
        return "leads out of it"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "is a link"
    if member.flag_bits & 0x1:
        return "is encrypted"
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        return "is compressed"
    return "stands in it twice, or where case does not count" if name.casefold() in seen else ""


def _limited(file: IO[bytes], limit: int, where: str) -> bytes:
    raw, rest = b"", limit + 1
    while rest and (chunk := file.read(min(rest, CHUNK))):
        raw += chunk
        rest -= len(chunk)
    if not rest:
        raise FormatError(f"{where} has more than the {limit:,} bytes that are read of it")
    return raw


def _promised(file: IO[bytes], wanted: Wanted, where: str) -> Iterator[bytes]:
    """The file's bytes, not one more than were promised: the store then compares."""
    left = wanted.size or 0
    while chunk := file.read(CHUNK):
        left -= len(chunk)
        if left < 0:
            raise wanted.broken(where, f"more than {wanted.size} bytes", f"{wanted.size} bytes")
        yield chunk


def _write_folder(aside: str, target: str, pages: Iterable[Page]) -> None:
    folders = {aside}
    for page in pages:
        path = os.path.join(aside, *page.name.split("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        folders.add(os.path.dirname(path))
        with open(path, "xb") as file:  # where case does not count, the second of two is refused here
            file.writelines(page.chunks)
            file.flush()
            os.fsync(file.fileno())
    for folder in folders:
        sync_folder(folder)
    os.chmod(aside, 0o755)
    os.rename(aside, target)  # an empty folder is replaced, a filled one refused, both at once


def _write_archive(aside: str, target: str, pages: Iterable[Page]) -> None:
    path = os.path.join(aside, "export.zip")
    with open(path, "xb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for page in pages:
                member = zipfile.ZipInfo(page.name, _EPOCH)
                member.create_system, member.external_attr = 3, (stat.S_IFREG | 0o644) << 16
                member.file_size = page.size
                with archive.open(member, "w") as out:
                    for chunk in page.chunks:
                        out.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(path, target)  # unlike a rename it never replaces what somebody put there meanwhile
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        os.rename(path, target)


def _taken(target: str) -> CheckpointError:
    return CheckpointError(
        f"{target} is there already, and nothing exported is overwritten", asked=target, fix="another name"
    )
