"""The folders and zip files that versions are exported to: written whole or not at all, read as if an enemy wrote them.

How they are read and written is `zoo.checkpoints.carried`'s; here is what of it is an export, and what is said of one
that is none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Protocol

from zoo.checkpoints import carried
from zoo.checkpoints.carried import Carried, CarriedFolder, Page
from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.store import CHUNK, Store
from zoo.errors import CheckpointError, FormatError


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
    is_zip = target.endswith(".zip")
    if os.path.lexists(target) and (is_zip or not os.path.isdir(target) or os.listdir(target)):
        raise _taken(target)
    try:
        if is_zip:
            carried.write_zip(target, pages, mode=0o644, overwrite=False)
        else:
            carried.write_folder(target, pages)
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
        yield _Export(path, CarriedFolder(path))
        return
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(carried.opened_zip(path))
            archive.check_names()
        except carried.DAMAGED as error:
            raise FormatError(
                f"{path} is no archive that the registry exported: {str(error)[:200]}",
                fix="zoo registry export … FILE.zip; or unpack it yourself, and import the folder",
            ) from None
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
        yield _Export(path, archive)


class _Export:
    """See `Export`."""

    def __init__(self, label: str, files: Carried) -> None:
        self.label, self._files = label, files

    def read(self, name: str, limit: int) -> bytes:
        """See `Export`."""
        with self._opened(name) as file:
            raw, rest = b"", limit + 1
            while rest and (chunk := file.read(min(rest, CHUNK))):
                raw += chunk
                rest -= len(chunk)
        if not rest:
            raise FormatError(f"{self._files.place(name)} has more than the {limit:,} bytes that are read of it")
        return raw

    def deliver(self, name: str, wanted: Wanted, store: Store) -> None:
        """See `Export`."""
        with self._opened(name) as file:
            store.put(_promised(file, wanted, self._files.place(name)), wanted)

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        try:
            with self._files.open(name) as file:
                yield file
        except OSError as error:
            where, why = self._files.place(name), error.strerror or error
            raise CheckpointError(f"{where} cannot be read: {why}", asked=name) from error
        except carried.DAMAGED as error:
            raise FormatError(f"{self._files.place(name)} cannot be read: {str(error)[:200]}", asked=name) from None


def _promised(file: IO[bytes], wanted: Wanted, where: str) -> Iterator[bytes]:
    """The file's bytes, not one more than were promised: the store then compares."""
    left = wanted.size or 0
    while chunk := file.read(CHUNK):
        left -= len(chunk)
        if left < 0:
            raise wanted.broken(where, f"more than {wanted.size} bytes", f"{wanted.size} bytes")
        yield chunk


def _taken(target: str) -> CheckpointError:
    return CheckpointError(
        f"{target} is there already, and nothing exported is overwritten", asked=target, fix="another name"
    )
