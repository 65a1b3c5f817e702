"""What is true of a folder that the zoo has written in, at every moment, whatever has happened.

Only names that are complete count: what is still arriving lies under names that nobody reads.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from zoo.catalog.cache import open_file
from zoo.checkpoints.headers import read_header
from zoo.checkpoints.training.folders import NAME, read_record
from zoo.checkpoints.training.loading import verify
from zoo.errors import ZooError
from zoo.versions.ledger import FILE

_RECORD = re.compile(r"[0-9a-f]{64}(\.[\w-]+)?\.json")
_RECORD_ARRIVING = re.compile(_RECORD.pattern + r"\.[0-9a-f]{8}")


def flaws(root: str | Path) -> list[str]:
    """What is half-written or wrong below a folder, one line each; empty where all is well."""
    return [f"{path.relative_to(root)}: {flaw}" for path in sorted(Path(root).rglob("*")) for flaw in _flaws_of(path)]


def left_over(root: str | Path) -> list[str]:
    """What killed processes have left: temporary files, below that folder."""
    paths = sorted(str(path.relative_to(root)) for path in Path(root).rglob("*") if path.is_file())
    return [path for path in paths if f"blobs{os.sep}tmp{os.sep}" in path or not _is_complete(Path(path))]


def _flaws_of(path: Path) -> Iterator[str]:
    if not _is_complete(path):
        return
    if path.is_dir():
        yield from _of_checkpoint(path) if NAME.fullmatch(path.name) else ()
        return
    if "sha256" in path.parts and "blobs" in path.parts:
        yield from _of_blob(path)
    elif "records" in path.parts:
        yield from _of_record(path)
    elif path.name == FILE:
        yield from _of_registry(path)
    elif path.name.startswith("catalog-") and path.suffix == ".sqlite":
        yield from _of_catalogue(path)
    elif path.suffix in (".json", ".lock"):
        yield from _of_json(path)
    elif path.suffix == ".safetensors":
        yield from _of_weights(path)


def _is_complete(path: Path) -> bool:
    """Whether a reader would look at a file of that name."""
    return not (
        path.name.endswith((".tmp", "-journal"))
        or any(part.startswith(".") for part in path.parts)
        or _RECORD_ARRIVING.fullmatch(path.name)
    )


def _of_blob(path: Path) -> Iterator[str]:
    if hashlib.sha256(path.read_bytes()).hexdigest() != path.name or path.parent.name != path.name[:2]:
        yield f"{path.stat().st_size} bytes that are not those of its digest"
    if path.stat().st_mode & 0o222:
        yield "can be written"


def _of_record(path: Path) -> Iterator[str]:
    if not _RECORD.fullmatch(path.name):
        yield "a name that no record has"
    yield from _of_json(path)


def _of_json(path: Path) -> Iterator[str]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        yield f"no JSON: {error}"
    else:
        if not isinstance(found, dict):
            yield "JSON, but no object"


def _of_registry(path: Path) -> Iterator[str]:
    with closing(sqlite3.connect(path)) as connection:  # as a next user would: an unfinished transaction is undone
        if connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            yield "its database is damaged"
        if connection.execute("PRAGMA foreign_key_check").fetchall():
            yield "rows that refer to nothing"
        if not connection.execute("PRAGMA user_version").fetchone()[0]:
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                yield "half a layout"
            return
        needed = {row[0] for row in connection.execute("SELECT blob FROM versions")}
        if needed - {row[0] for row in connection.execute("SELECT sha256 FROM blobs")}:
            yield "versions whose weights are not in its list"
    store = path.parent.parent if path.parent.name == "registry" else path.parent
    for digest in sorted(needed):
        if not (store / "blobs" / "sha256" / digest[:2] / digest).exists():
            yield f"a version whose weights {digest[:8]} are not in the store"


def _of_catalogue(path: Path) -> Iterator[str]:
    connection = open_file(str(path))
    if connection is None:
        yield "cannot be opened"
        return
    with closing(connection):
        if connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            yield "damaged"


def _of_checkpoint(folder: Path) -> Iterator[str]:
    try:
        verify(read_record(str(folder)))
    except ZooError as error:
        yield str(error)


def _of_weights(path: Path) -> Iterator[str]:
    try:
        read_header(str(path))
    except ZooError as error:
        yield str(error)
