"""Making the catalogue's file: built aside, renamed into place, and what has not changed copied from the old one."""

from __future__ import annotations

import os
import sqlite3
import time

from zoo.catalog.cache import open_file, uri
from zoo.catalog.indexing import index

TEMPORARY = ".tmp"
_ABANDONED_S = 3600
_UNUSED_S = 90 * 24 * 3600


def rebuild(file: str, key: str, paths: list[str]) -> sqlite3.Connection:
    """A fresh catalogue of `paths`, kept in `file` if that can be written, in memory if not."""
    aside = f"{file}.{os.urandom(8).hex()}{TEMPORARY}"
    try:
        os.makedirs(os.path.dirname(file), exist_ok=True)
        _write(aside, file, key, paths)
        os.replace(aside, file)
    except (OSError, sqlite3.Error):
        _remove(aside)
        return _in_memory(key, paths)
    except BaseException:
        _remove(aside)
        raise
    _sweep(os.path.dirname(file))
    connection = open_file(file)
    # Another process may have put its own there since, made for paths whose key has the same checksum.
    if connection is None or connection.execute("SELECT value FROM meta WHERE key = 'key'").fetchone() != (key,):
        return _in_memory(key, paths)
    return connection


def _write(aside: str, file: str, key: str, paths: list[str]) -> None:
    try:
        _fill(aside, file, key, paths)
    except (sqlite3.DatabaseError, ValueError, TypeError):  # the old file was damaged where it had looked well
        _remove(aside)
        _fill(aside, None, key, paths)
    with open(aside, "rb+") as stream:
        os.fsync(stream.fileno())


def _fill(aside: str, old: str | None, key: str, paths: list[str]) -> None:
    connection = sqlite3.connect(uri(aside).partition("?")[0], uri=True, isolation_level=None)
    try:
        # Nobody sees the file before it is whole, so a crash may leave it in any state.
        connection.execute("PRAGMA page_size = 16384")  # a whole listing is read in fewer pieces
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        index(connection, key, paths, old is not None and _attach(connection, old))
    finally:
        connection.close()


def _attach(connection: sqlite3.Connection, file: str) -> bool:
    """Make the old catalogue readable as `old`: the last one of the same folders, or else the last one of others."""
    others = [entry for entry in os.scandir(os.path.dirname(file)) if _is_catalogue(entry.name)]
    for old in (file, *(entry.path for entry in sorted(others, key=lambda entry: -entry.stat().st_mtime)[:1])):
        if open_file(old) is not None:
            connection.execute("ATTACH ? AS old", (uri(old),))
            return True
    return False


def _in_memory(key: str, paths: list[str]) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    index(connection, key, paths, False)
    return connection


def _sweep(folder: str) -> None:
    """Remove what killed processes left, and catalogues of environments that are long gone."""
    now = time.time()
    for entry in os.scandir(folder):
        abandoned = entry.name.startswith("catalog-") and entry.name.endswith(TEMPORARY)
        if not abandoned and not _is_catalogue(entry.name):
            continue
        limit = _ABANDONED_S if abandoned else _UNUSED_S
        try:
            old = now - entry.stat().st_mtime > limit
        except OSError:
            continue
        if old:
            _remove(entry.path)


def _is_catalogue(name: str) -> bool:
    return name.startswith("catalog-") and name.endswith(".sqlite")


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return
