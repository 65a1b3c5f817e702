"""What one machine knows beside the blobs themselves: small JSON files, one a fact, under `$ZOO_HOME/records`.

    digests/      the digest of a file elsewhere, with the stamp it had when it was hashed
    places/       where a blob lies that is used where it is
    pins/         what a source delivered here the last time
    conversions/  what was made of a published file
    locks/        where a lock file lies, whose files stay

Records only save work: a missing, torn or unwritable one costs a hash or a download.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

_UNFINISHED = re.compile(r"\.json\.[0-9a-f]{8}$")


class Records:
    """The records of one store. Each is replaced by one rename, so that a reader sees the old one or the new one."""

    def __init__(self, root: str) -> None:
        self.root = os.path.join(root, "records")

    def path(self, kind: str, key: str) -> str:
        """Where a record is, or would be."""
        return os.path.join(self.root, kind, key[:2], f"{key}.json")

    def read(self, kind: str, key: str) -> dict[str, Any]:
        """A record; empty where there is none, or none that can be read."""
        return _read(self.path(kind, key))

    def write(self, kind: str, key: str, record: dict[str, Any]) -> None:
        """Keep a record, if it can be kept."""
        self._write(self.path(kind, key), record, os.replace)

    def add(self, kind: str, key: str, record: dict[str, Any]) -> dict[str, Any]:
        """Keep a record unless one that can be read is there; gives the one that stays."""
        path = self.path(kind, key)
        self._write(path, record, os.link)  # unlike a rename it never replaces
        there = _read(path)
        if not there:  # a torn record, or a file system without links
            self._write(path, record, os.replace)
        return there or record

    def _write(self, path: str, record: dict[str, Any], name: Callable[[str, str], None]) -> None:
        temp = f"{path}.{secrets.token_hex(4)}"
        with suppress(OSError):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            try:
                with open(temp, "x", encoding="utf-8") as file:
                    json.dump(record, file, sort_keys=True)
                    file.flush()
                    os.fsync(file.fileno())
                name(temp, path)
            finally:
                with suppress(OSError):
                    os.unlink(temp)

    def load(self, path: str) -> dict[str, Any]:
        """The record at that path; empty where there is none, or none that can be read."""
        return _read(path)

    def files(self, kind: str) -> Iterator[str]:
        """The path of every record of a kind, readable or not."""
        return (path for path in self._below(kind) if path.endswith(".json"))

    def every(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(path, record) of every readable record of a kind."""
        return ((path, record) for path in self.files(kind) if (record := _read(path)))

    def unfinished(self) -> Iterator[str]:
        """Files that a writer has not yet given their name, or was killed over."""
        return (path for path in self._below("") if _UNFINISHED.search(path))

    def _below(self, kind: str) -> Iterator[str]:
        for folder, folders, files in os.walk(os.path.join(self.root, kind)):
            folders.sort()
            for name in sorted(files):
                yield os.path.join(folder, name)


def record_key(text: str) -> str:
    """The key of a record about something with a name: an address, a path."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def record_name(path: str) -> str:
    """The key of the record at that path."""
    return os.path.basename(path).removesuffix(".json")


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            record = json.load(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
