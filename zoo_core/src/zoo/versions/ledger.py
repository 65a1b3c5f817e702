"""The registry's database: one SQLite file, safe for any number of processes and a kill at any moment.

A change is one transaction that takes the write lock first and is synced before it is acknowledged. Versions and the
history of aliases are only ever added: the database itself refuses to change or delete them. The weights lie in the
content-addressed store and are there before their row is; `blobs` is the list of those that must stay. Whoever removes
blobs from that store does so inside `writing()`, for those that are not in the list: then no version that is just being
registered can lose its weights.

The file keeps a rollback journal rather than a write-ahead log, so that a registry can also be read where nothing can
be written.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from zoo.errors import ZooError
from zoo.versions import layouts

FILE = "registry.sqlite"
_PATIENCE = 60  # seconds; a transaction takes milliseconds, so whoever waits longer waits for something stuck


class Ledger:
    """One registry's database; neither it nor its folder need exist yet."""

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, FILE)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A view of one moment; of an empty registry where there is none. Changes nothing. Raises `ZooError`."""
        with self.translated(), ExitStack() as opened:
            there = opened.enter_context(closing(self._open("rw"))) if os.path.exists(self.path) else None
            if there is not None:
                there.execute("BEGIN")
                layout = layouts.found(there, self.path)
                _check_length(there, self.path)
                if layout == layouts.LAYOUT:
                    yield there
                    return
            shown = opened.enter_context(closing(sqlite3.connect(":memory:", isolation_level=None)))
            if there is not None:
                there.backup(shown)  # an older layout, or nothing yet; only a writer brings the file itself up to date
            layouts.bring_up_to_date(shown, self.path)
            yield shown

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that nobody else writes beside: committed at the end, undone by an error. Raises `ZooError`."""
        with self.translated():
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            with closing(self._open("rwc")) as connection:
                connection.execute("BEGIN IMMEDIATE")
                _check_length(connection, self.path)
                layouts.bring_up_to_date(connection, self.path)
                yield connection
                connection.execute("COMMIT")  # closing without it undoes everything

    def _open(self, mode: str) -> sqlite3.Connection:
        path = self.path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        connection = sqlite3.connect(f"file:{path}?mode={mode}", uri=True, timeout=_PATIENCE, isolation_level=None)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = EXTRA")  # the folder too: what is acknowledged survives a power cut
        return connection

    @contextmanager
    def translated(self) -> Iterator[None]:
        """The system's and SQLite's errors as ours."""
        try:
            yield
        except OSError as error:
            raise ZooError(
                f"the registry cannot be written: {error.strerror or error}",
                found=self.path,
                fix="another folder: ZOO_HOME=/path/you/may/write/to, or zoo.ModelRegistry(path)",
            ) from error
        except sqlite3.Error as error:
            damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError)
            raise ZooError(
                f"the registry cannot be {'read' if damaged else 'used'}: {error}",
                found=self.path,
                fix="restore the file from a copy" if damaged else "check the folder's permissions and free space",
            ) from error


def _check_length(connection: sqlite3.Connection, path: str) -> None:
    """Raise `sqlite3.DatabaseError` for a file that ends within a page; SQLite would read zeros there.

    Asked inside a transaction, when nobody else writes the file. (It is not opened for that: to close it again would
    give up SQLite's locks on it.)
    """
    if os.stat(path).st_size % connection.execute("PRAGMA page_size").fetchone()[0]:
        raise sqlite3.DatabaseError("it is cut short")
