"""Imports that are killed, imports at once, exports that are killed: whole or absent, and the next one is right."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from children import started
from registered_models import pebble, register, value_of

import zoo
from zoo.versions.ledger import FILE

COUNT = 12


def whole_or_absent(registry: zoo.ModelRegistry) -> int:
    """How many versions there are: all of the import or none, each with its weights, in a sound database."""
    listed = registry.list()
    assert len(listed) in (0, COUNT)
    for record in listed:
        assert value_of(registry.load("m", record.version)) == int(record.version.split(".")[2])
        assert record.imported is not None
    if os.path.exists(os.path.join(registry.path, FILE)):
        with sqlite3.connect(os.path.join(registry.path, FILE)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert not connection.execute("PRAGMA foreign_key_check").fetchall()
    return len(listed)


def take(answers: Connection, path: str, there: str) -> None:
    answers.send("ready")
    answers.send(len(zoo.ModelRegistry(there).import_from(path).added))


@pytest.fixture
def exported(registry: zoo.ModelRegistry, tmp_path: Path) -> str:
    """An archive of versions whose weights are their patch number."""
    register(registry, *(f"1.0.{number}" for number in range(COUNT)))
    registry.export("m", tmp_path / "x.zip", every=True)
    return str(tmp_path / "x.zip")


def killed_imports(exported: str, tmp_path: Path, lives: int) -> list[int]:
    """The number of versions after each import that was killed at a random moment, each into a registry of its own."""
    dice, longest, seen = random.Random(lives), 0.0, []
    began = time.monotonic()
    zoo.ModelRegistry(tmp_path / "timed").import_from(exported)
    longest = time.monotonic() - began
    for life in range(lives):
        there = str(tmp_path / f"life {life}")
        process, out = started(take, exported, there)
        assert out.recv() == "ready"
        time.sleep(dice.uniform(0, longest * 1.2))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join(60)
        seen.append(whole_or_absent(zoo.ModelRegistry(there)))
        came = zoo.ModelRegistry(there).import_from(exported)  # needs no repair
        assert len(came.added) == COUNT - seen[-1]
        assert whole_or_absent(zoo.ModelRegistry(there)) == COUNT
    return seen


def test_a_killed_import_has_registered_everything_or_nothing(exported: str, tmp_path: Path) -> None:
    assert 0 in killed_imports(exported, tmp_path, 8)


@pytest.mark.long
def test_a_hundred_killed_imports_have_registered_everything_or_nothing(exported: str, tmp_path: Path) -> None:
    assert set(killed_imports(exported, tmp_path, 100)) == {0, COUNT}


def test_an_import_that_dies_inside_its_transaction_is_undone(
    exported: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.versions import importing

    filed = importing.filing.file_version

    def dying(*arguments: object) -> object:
        done = filed(*arguments)  # type: ignore[arg-type]  # whatever it was given
        if done.version == "1.0.5":
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    monkeypatch.setattr(importing.filing, "file_version", dying)
    process, _ = started(take, exported, str(tmp_path / "there"))
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert whole_or_absent(zoo.ModelRegistry(tmp_path / "there")) == 0


def test_importers_at_once_agree(exported: str, tmp_path: Path) -> None:
    there = str(tmp_path / "there")
    children = [started(take, exported, there) for _ in range(4)]
    added = []
    for process, out in children:
        assert out.recv() == "ready"
        added.append(out.recv())
        process.join(60)
    assert sorted(added) == [0, 0, 0, COUNT]  # each version was new to exactly one of them, and all to the same
    assert whole_or_absent(zoo.ModelRegistry(there)) == COUNT


def take_or_lose(answers: Connection, path: str, there: str) -> None:
    answers.send("ready")
    try:
        answers.send(len(zoo.ModelRegistry(there).import_from(path).added))
    except zoo.ZooError as error:
        answers.send("overwritten" in str(error))


def test_of_two_importers_of_other_content_one_wins_all(exported: str, tmp_path: Path) -> None:
    other = zoo.ModelRegistry(tmp_path / "other")
    for number in (0, COUNT - 1, COUNT):
        other.register(name="m", version=f"1.0.{number}", model=pebble(100.0 + number))
    other.export("m", tmp_path / "other.zip", every=True)
    there = str(tmp_path / "there")
    children = [started(take_or_lose, path, there) for path in (exported, str(tmp_path / "other.zip"))]
    answers = []
    for process, out in children:
        assert out.recv() == "ready"
        answers.append(out.recv())
        process.join(60)
    assert answers in ([COUNT, True], [True, 3])
    values = [value_of(zoo.ModelRegistry(there).load("m", r.version)) for r in zoo.ModelRegistry(there).list()]
    assert all(value < 100 for value in values) or all(value >= 100 for value in values)


def write(answers: Connection, path: str) -> None:
    answers.send("ready")
    zoo.ModelRegistry().export("m", path, every=True)
    answers.send("written")


@pytest.mark.parametrize("kind", ["x", "x.zip"])
def test_a_killed_export_is_whole_or_not_there(exported: str, tmp_path: Path, kind: str) -> None:
    dice = random.Random(7)
    for life in range(6):
        target = tmp_path / f"{life}" / kind
        process, out = started(write, str(target))
        assert out.recv() == "ready"
        time.sleep(dice.uniform(0, 0.05))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join(60)
        if target.exists():
            came = zoo.ModelRegistry(tmp_path / f"read {life}").import_from(target)
            assert len(came.added) == COUNT
        else:
            zoo.ModelRegistry().export("m", target, every=True)  # nothing is in the way
