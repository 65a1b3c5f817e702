"""Sixteen writers, readers among them, and collectors that take whatever they may, killed and replaced all the time."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import toll
import torch
from killing import Life
from soundness import flaws
from stones import stone, value_of

import zoo
from zoo.checkpoints import store as store_module
from zoo.checkpoints.collection import collect
from zoo.checkpoints.repair import HARMLESS, verify
from zoo.checkpoints.store import Store
from zoo.versions.keeping import registered_blobs, registered_versions

FORK = get_context("fork")
WRITERS = 16
VALUES = 5
"""Models that differ: their weights are shared by versions of all writers."""


def started(act: Callable[..., None], *arguments: object) -> tuple[Any, Connection]:
    """A child that runs `act(out, *arguments)`, and where its answers come out."""
    ours, theirs = FORK.Pipe(duplex=False)
    process = FORK.Process(target=act, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def write(answers: Connection, number: int, rounds: int) -> None:
    """Put, register, promote, load and read, beside the others; answer what was registered."""
    torch.set_num_threads(1)
    dice, registry, store = random.Random(number), zoo.ModelRegistry(), Store()
    for count in range(rounds):
        store.put([bytes([dice.randrange(VALUES)]) * 30_000])  # nothing roots it: it may go again
        value, version = dice.randrange(VALUES), f"{number}.0.{count}"
        registry.register(name="m", version=version, model=stone(value))
        answers.send((version, value))
        registry.promote("m", version, f"of-{number}")
        assert value_of(registry.load("m", f"{number}.0.{dice.randrange(count + 1)}")) in range(VALUES)
        read_any(store, dice)
    answers.send("done")


def read_any(store: Store, dice: random.Random) -> None:
    """Whatever blob is found has the bytes of its digest, or is gone by the time it is opened."""
    sha256 = hashlib.sha256(bytes([dice.randrange(VALUES)]) * 30_000).hexdigest()
    blob = store.find(sha256)
    with suppress(FileNotFoundError):
        assert blob is None or hashlib.sha256(Path(blob.path).read_bytes()).hexdigest() == sha256


def collect_for_ever(answers: Connection) -> None:
    """With no grace at all: what nobody has registered goes at once."""
    while True:
        answers.send(len(collect(Store(), [registered_blobs()], grace=0.0).taken))


def raced(rounds: int) -> list[tuple[str, int]]:
    """What the writers were told is registered."""
    writers = [started(write, number, rounds) for number in range(WRITERS)]
    dice, collected = random.Random(rounds), 0
    while any(process.is_alive() for process, _ in writers):
        collector, out = started(collect_for_ever)
        time.sleep(dice.uniform(0.05, 0.3))
        os.kill(collector.pid, signal.SIGKILL)
        toll.count("gc beside writers", "random", Life([], True, []))
        with suppress(EOFError):
            while True:
                collected += out.recv()
        collector.join()
    said: list[Any] = []
    for process, out in writers:
        with suppress(EOFError):
            while True:
                said.append(out.recv())
        process.join()
    assert said.count("done") == WRITERS, "a writer failed"
    assert collected > 0, "nothing was ever collected"
    return [fact for fact in said if fact != "done"]


@pytest.mark.parametrize("rounds", [4, pytest.param(20, marks=pytest.mark.long)])
def test_writers_readers_and_collectors_at_once_lose_nothing(zoo_home: Path, warm_home: Path, rounds: int) -> None:
    shutil.copytree(warm_home, zoo_home, dirs_exist_ok=True)
    registered = raced(rounds)
    assert len(registered) == WRITERS * rounds
    registry = zoo.ModelRegistry()
    assert {record.version for record in registry.list("m")} == {version for version, _ in registered}
    for version, value in registered:
        assert value_of(registry.load("m", version)) == value
    for number in range(WRITERS):
        told = [change.version for change in registry.history("m", f"of-{number}")]
        assert told == [f"{number}.0.{count}" for count in range(rounds)]
    assert flaws(zoo_home) == []
    assert [damage for damage in verify(Store(), registered_versions()) if damage.kind not in HARMLESS] == []
    collect(Store(), [registered_blobs()], grace=0.0)
    left = {path.name for path in zoo_home.glob("blobs/sha256/*/*")}
    assert left == {record.sha256 for record in registry.list("m")}


def test_a_blob_that_is_stored_anew_while_it_is_hashed_is_no_damage(
    zoo_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, digest_of = b"stored twice" * 999, store_module.digest_of

    def overtaken(path: str) -> str:
        monkeypatch.setattr(store_module, "digest_of", digest_of)  # only the first time
        found = digest_of(path)
        Store().put([body])
        return found

    path = Store().put([body]).path
    monkeypatch.setattr(store_module, "digest_of", overtaken)
    assert Store().digest(path) == hashlib.sha256(body).hexdigest()


def test_a_file_that_is_written_while_it_is_hashed_is_refused(
    zoo_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, digest_of = tmp_path / "weights", store_module.digest_of
    path.write_bytes(b"begun")

    def growing(path: str) -> str:
        found = digest_of(path)
        with open(path, "ab") as file:
            file.write(b"more")
        return found

    monkeypatch.setattr(store_module, "digest_of", growing)
    with pytest.raises(zoo.CheckpointError, match="changed while it was being read"):
        Store().digest(str(path))
