"""The store against the machine's hash rate and a plain copy, and the registry with ten thousand versions in it."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import zoo
from benchmarks.measuring import Table, in_turns, shown_ratio, shown_seconds
from zoo.checkpoints.store import Store, digest_of, read_chunks
from zoo.versions.filing import file_version
from zoo.versions.ledger import Ledger

MEBI = 1 << 20


def storing(quick: bool) -> list[Table]:
    """One table: seconds for one large file."""
    size = (128 if quick else 512) * MEBI
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "weights")
        block = os.urandom(MEBI)
        with open(file, "wb") as opened:
            opened.writelines(block for _ in range(size // MEBI))
        figures = in_turns(_competitors(file, Path(folder)), 3 if quick else 7)
    hashing = median(figures["hashing it"])
    rows = [
        (
            name,
            shown_seconds(median(found)),
            f"{size / MEBI / median(found):.0f} MiB/s",
            shown_ratio(median(found) / hashing),
        )
        for name, found in figures.items()
    ]
    return [
        Table(
            "Storing a file",
            f"One file of {size // MEBI} MiB, in the page cache. A file is acknowledged when it is hashed, on the disk "
            "and under its name; the copy is synced to the disk too. Medians, in turns.",
            ("what", "time", "rate", "÷ hashing"),
            rows,
        )
    ]


def _competitors(file: Path, folder: Path) -> dict[str, Callable[[], float]]:
    def copied() -> None:
        target = folder / "copy"
        shutil.copyfile(file, target)
        with open(target, "rb") as opened:
            os.fsync(opened.fileno())
        target.unlink()

    def copied_and_hashed() -> None:
        digest_of(str(file))
        copied()

    def stored() -> None:
        with open(file, "rb") as opened:
            blob = Store(str(folder / "home")).put(read_chunks(opened))
        os.unlink(blob.path)

    def hashed() -> None:
        digest_of(str(file))

    def reference() -> None:
        with open(file, "rb") as opened:
            hashlib.file_digest(opened, "sha256")

    named = {
        "hashing it": hashed,
        "hashlib.file_digest": reference,
        "copying it": copied,
        "hashing, then copying it": copied_and_hashed,
        "storing it": stored,
    }
    return {name: _timed(action) for name, action in named.items()}


def registry(quick: bool) -> list[Table]:
    """One table: seconds of questions to a registry with ten thousand versions."""
    count, rounds = 10_000, 5 if quick else 25
    with tempfile.TemporaryDirectory() as folder:
        filled = _filled(Path(folder), count)
        questions: dict[str, Callable[[], object]] = {
            "the newest": lambda: filled.show("model_07"),
            "one version": lambda: filled.show("model_07", "3.4.5"),
            "a range": lambda: filled.show("model_07", ">=3,<4"),
            "an alias": lambda: filled.show("model_07", "production"),
            "all of one model": lambda: filled.list("model_07"),
            "all of them": lambda: filled.list(),
        }
        assert len(filled.list()) == count
        figures = in_turns({name: _timed(ask) for name, ask in questions.items()}, rounds)
        plain = _plain_query(Path(folder))
        figures["SQLite: every name and version, nothing else"] = [plain() for _ in range(rounds)]
    rows = [(name, shown_seconds(median(found))) for name, found in figures.items()]
    return [
        Table(
            "A registry with 10,000 versions",
            "A hundred versions of each of a hundred models, asked in one process; each question opens the database "
            "anew. Medians.",
            ("what is asked", "time"),
            rows,
        )
    ]


def _filled(folder: Path, count: int) -> zoo.ModelRegistry:
    """A registry with one model registered, and its record filed under other names and versions in one transaction."""
    filled = zoo.ModelRegistry(folder)
    blueprint = filled.register(
        name="blueprint",
        version="1.0.0",
        model=zoo.create("timm/test_vit", num_classes=3),
        tags=["good"],
        metrics={"top1": 0.9, "loss": 0.4},
        data="our photos of May",
    )
    with Ledger(filled.path).writing() as connection:
        for number in range(count - 1):
            name, version = f"model_{number % 100:02}", f"{number // 1000}.{number // 100 % 10}.5"
            file_version(connection, replace(blueprint, name=name, version=version))
    filled.promote("model_07", "latest", "production")
    return filled


def _plain_query(folder: Path) -> Callable[[], float]:
    def read() -> None:
        with sqlite3.connect(folder / "registry.sqlite") as connection:
            connection.execute("SELECT name, version FROM versions ORDER BY name").fetchall()
        connection.close()

    return _timed(read)


def _timed(action: Callable[[], object]) -> Callable[[], float]:
    def run() -> float:
        start = time.perf_counter()
        action()
        return time.perf_counter() - start

    return run
