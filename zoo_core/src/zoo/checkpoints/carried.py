"""Files that are carried to another machine, in a folder or in a zip: written whole, read as if an enemy wrote them.

Nothing is ever unpacked: a file is asked for by its name, and no name in a folder or a zip decides where anything is
written. A zip stores its files as they are: no more comes out of it than what it is, and its list of contents has a
bound. In a folder no link is followed, and nobody waits for a pipe. The same files in the same order give the same zip.
"""

from __future__ import annotations

import io
import os
import secrets
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple, Protocol

from zoo.checkpoints.store import sync_folder
from zoo.errors import FormatError

MAX_LIST = 8 << 20
"""Bytes of a zip's own list of contents: some 70,000 files."""

DAMAGED = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error, OverflowError)
"""What reading raises where the bytes are not what they should be; the message says what is wrong."""

_OLDEST = (1980, 1, 1, 0, 0, 0)  # the first that a zip can say: it does not depend on when it is written
_LISTED = 46 + 32  # bytes that the list takes for a file beside its name; with the fields for large ones


class Page(NamedTuple):
    """A file to carry: its name, with `/` between folders; its size in bytes; and the bytes in order."""

    name: str
    size: int
    chunks: Iterable[bytes]


class Carried(Protocol):
    """Files in a folder or in a zip. Opening and reading raise `OSError` or one of `DAMAGED`."""

    def open(self, name: str) -> IO[bytes]:
        """A file, by a name that the caller made up or has checked."""

    def place(self, name: str) -> str:
        """Where a file is, for people."""


class CarriedFolder:
    """See `Carried`."""

    def __init__(self, path: str) -> None:
        self.path = path

    def open(self, name: str) -> IO[bytes]:
        """A regular file that no link leads to."""
        path = self.path
        for part in name.split("/"):
            path = os.path.join(path, part)
            if os.path.islink(path):
                raise ValueError(f"{name} is a link, which may lead anywhere")
        return _regular(path, name, getattr(os, "O_NOFOLLOW", 0))

    def names(self, folder: str) -> list[str]:
        """What is in one of its folders."""
        if os.path.islink(os.path.join(self.path, folder)):
            raise ValueError(f"{folder} is a link, which may lead anywhere")
        return sorted(os.listdir(os.path.join(self.path, folder)))

    def place(self, name: str) -> str:
        """See `Carried`."""
        return f"{self.path}/{name}"


class CarriedZip:
    """See `Carried`. members: all it lists, of which each is a folder or a plain file, stored as it is."""

    def __init__(self, path: str, archive: zipfile.ZipFile, size: int) -> None:
        """size: of the whole zip in bytes. Raises `ValueError`."""
        self.path, self._archive = path, archive
        self.members = archive.infolist()
        for member in self.members:
            why = _odd(member)
            if why:
                raise ValueError(f"{member.filename[:100]!r} {why}")
        if sum(member.file_size for member in self.members) > size:
            raise ValueError("its files would be larger than itself")

    def check_names(self) -> None:
        """Raises `ValueError`: a name that leads out of it, or two that are one where case does not count."""
        seen: set[str] = set()
        for member in self.members:
            name, key = member.filename, member.filename.casefold()
            parts = name.removesuffix("/").split("/")
            spelt = member.orig_filename
            if not spelt.isprintable() or "\\" in spelt or ":" in name or {"", ".", ".."} & {*parts}:
                raise ValueError(f"{name[:100]!r} leads out of it")
            if key in seen:
                raise ValueError(f"{name[:100]!r} stands in it twice, or where case does not count")
            seen.add(key)

    def open(self, name: str) -> IO[bytes]:
        """A file of that very name."""
        try:
            return self._archive.open(name)
        except KeyError:
            raise ValueError(f"it holds no {name}") from None

    def place(self, name: str) -> str:
        """See `Carried`."""
        return f"{self.path}: {name}"


@contextmanager
def opened_zip(path: str) -> Iterator[CarriedZip]:
    """A zip, with its list of contents read and checked. Raises `OSError`, or one of `DAMAGED`."""
    with (
        _regular(path, path) as file,
        _Modest(file.fileno(), closefd=False) as modest,
        zipfile.ZipFile(modest) as archive,
    ):
        yield CarriedZip(path, archive, os.fstat(file.fileno()).st_size)


def write_folder(target: str, pages: Iterable[Page]) -> None:
    """Write files into a new folder, or one that is empty: all of it appears at once. Raises `OSError`."""
    with _aside(target) as aside:
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
        os.rename(aside, target)  # an empty folder is replaced, a filled one refused, both at once


def write_zip(target: str, pages: Iterable[Page], *, mode: int, overwrite: bool) -> None:
    """Write files as one zip, in order, which appears at once.

    Args:
        mode: the files' permissions. overwrite: replace what is there; otherwise nothing ever is.

    Raises:
        FormatError: more files than would be read back.
        OSError: it cannot be written; `FileExistsError`: it is there.
    """
    with _aside(target) as aside:
        path = os.path.join(aside, "carried.zip")
        with open(path, "xb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                listed = 0
                for page in pages:
                    listed += _LISTED + len(page.name.encode())
                    if listed > MAX_LIST:
                        raise FormatError(
                            "a zip of so many files would not be read back", asked=target, fix="fewer, or a folder"
                        )
                    member = zipfile.ZipInfo(page.name, _OLDEST)
                    member.create_system, member.external_attr = 3, (stat.S_IFREG | mode) << 16
                    member.file_size = page.size  # decides whether it needs large fields
                    with archive.open(member, "w") as out:
                        for chunk in page.chunks:
                            out.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            os.replace(path, target)
            return
        try:
            os.link(path, target)  # unlike a rename it never replaces what somebody put there meanwhile
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            os.rename(path, target)


class _Modest(io.FileIO):
    """A file of which no more than a little is read at a time, whatever a zip says of the size of its parts."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or size > MAX_LIST:
            taken = super().read(MAX_LIST + 1)
            if len(taken) > MAX_LIST:
                raise zipfile.BadZipFile("its list of contents is too long")
            return taken
        return super().read(size)


def _regular(path: str, name: str, flags: int = 0) -> IO[bytes]:
    """A regular file, opened without waiting for whatever else it may be."""
    flags |= os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{name} is no file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _odd(member: zipfile.ZipInfo) -> str:
    """What is wrong with a member, if anything."""
    kind = stat.S_IFMT(member.external_attr >> 16)
    if stat.S_ISLNK(kind):
        return "is a link"
    if member.flag_bits & 0x1:
        return "is encrypted"
    if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
        return "is compressed"
    plain = kind in (0, stat.S_IFREG) or (kind == stat.S_IFDIR and member.is_dir())
    return "" if plain else "is no plain file"


@contextmanager
def _aside(target: str) -> Iterator[str]:
    """A new folder beside the target, of which nothing is left afterwards."""
    folder = os.path.dirname(target)
    aside = os.path.join(folder, f".zoo-{secrets.token_hex(8)}")
    try:
        os.makedirs(folder, exist_ok=True)
        os.mkdir(aside)
        yield aside
        sync_folder(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
