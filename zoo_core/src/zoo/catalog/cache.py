"""Where the catalogue lies, and whether it still says what is installed.

The cache is one SQLite file for one set of import paths and switches. It is written under another name in the same
folder and then renamed, so that any number of processes may read and rebuild it at once; it is opened read-only; and
wherever it is missing, stale, damaged or cannot be written, the answer is the same, only later. This module is on the
way of every `zoo list` and imports accordingly.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from binascii import crc32

from zoo.paths import home
from zoo.plugin.stamps import unchanged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

LAYOUT = 2
"""The layout of the file, and of the lines in it. Files of another layout are other files: old and new cores do not
disturb each other."""

_SWITCHES = ("ZOO_NO_PLUGINS", "ZOO_PLUGINS")
_open: dict[str, sqlite3.Connection] = {}


def open_cache() -> sqlite3.Connection:
    """A connection to a catalogue that is fresh at this moment. Never raises for a bad cache; it is made anew."""
    paths = searched_paths()
    key = repr((LAYOUT, [os.environ.get(name, "").strip() for name in _SWITCHES], paths))
    file = os.path.join(home(), f"catalog-{crc32(key.encode('utf-8', 'surrogatepass')):08x}.sqlite")
    slot = file + key
    connection = _open.get(slot) or open_file(file)
    if connection is None or not _is_fresh(connection, key):
        from zoo.catalog.rebuilding import rebuild

        connection = rebuild(file, key, paths)
    _open.clear()  # one is enough: a process rarely changes its paths or its home
    _open[slot] = connection
    return connection


def forget(connection: sqlite3.Connection) -> None:
    """A query found this catalogue damaged: the next `open_cache` must not give it again, nor build on its file."""
    for slot, known in list(_open.items()):
        if known is connection:
            del _open[slot]
    for _, _, file in connection.execute("PRAGMA database_list"):
        if file:
            try:
                os.unlink(file)
            except OSError:
                continue


def open_file(file: str) -> sqlite3.Connection | None:
    """The catalogue in a file, read-only; None if there is none that can be read."""
    try:
        with open(file, "rb") as stream:
            header = stream.read(100)
            size = os.fstat(stream.fileno()).st_size
        page = int.from_bytes(header[16:18], "big")
        if size < 100 or size != (65536 if page == 1 else page) * int.from_bytes(header[28:32], "big"):
            return None  # cut short: SQLite itself would notice only on reaching the missing page
        connection = sqlite3.connect(uri(file), uri=True, check_same_thread=False, isolation_level=None)
        connection.execute("SELECT count(*) FROM meta")
    except (OSError, sqlite3.Error):
        return None
    return connection


def uri(file: str) -> str:
    """The address under which SQLite opens a file without locking it or looking for a journal."""
    path = os.path.abspath(file).replace(os.sep, "/")
    path = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return f"file:{'' if path.startswith('/') else '/'}{path}?mode=ro&immutable=1"


def searched_paths() -> list[str]:
    """The folders of `sys.path` that can decide which plugins there are.

    Those are where distributions are installed and where a plugin's package lies. To count the others too would make
    a catalogue for every folder that someone works in.
    """
    found: dict[str, None] = {}
    for entry in sys.path:
        try:
            path = os.path.abspath(entry)
        except (OSError, TypeError, ValueError):  # a deleted working directory, or junk that something put there
            continue
        if path.endswith(("site-packages", "dist-packages")) or _matters(path):
            found[path] = None
    return list(found)


def _matters(path: str) -> bool:
    try:
        names = os.listdir(path)
    except (OSError, ValueError):
        return False
    return path.endswith(".egg") or any(
        name.startswith("zoo_") or name[-10:].lower() == ".dist-info" or name[-9:].lower() == ".egg-info"
        for name in names
    )


def _is_fresh(connection: sqlite3.Connection, key: str) -> bool:
    try:
        (known,) = connection.execute("SELECT value FROM meta WHERE key = 'key'").fetchone()
        stamps: Sequence[Sequence[str | int]] = connection.execute("SELECT path, mtime, tag FROM stamps").fetchall()
    except (sqlite3.Error, TypeError, ValueError):
        return False
    return bool(known == key and unchanged(stamps))
