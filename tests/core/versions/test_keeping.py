"""What a collector is told about the registry, and that nobody registers while it is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch import nn

import zoo
from zoo.versions.keeping import registered_blobs, registered_versions
from zoo.versions.ledger import FILE


class CatConfig(zoo.ModelConfig):
    num_classes: int = 2


class Cat(zoo.Classifier):
    """A model of a few bytes."""

    Config = CatConfig

    def __init__(self, config: CatConfig) -> None:
        super().__init__(config)
        self.fc = nn.Linear(3, config.num_classes)


def test_every_registered_version_keeps_its_weights(registry: zoo.ModelRegistry, tmp_path: Path) -> None:
    one = registry.register(name="cats", version="1.0.0", model=Cat)
    two = registry.register(name="cats", version="2.0.0", model=Cat, config={"num_classes": 3})
    with registered_blobs() as kept:
        assert kept == {one.sha256, two.sha256}
    assert registered_versions() == {one.sha256: ("cats@1.0.0",), two.sha256: ("cats@2.0.0",)}
    elsewhere = zoo.ModelRegistry(tmp_path / "own").register(name="dogs", version="1.0.0", model=Cat)
    with registered_blobs(str(tmp_path / "own")) as kept:
        assert kept == {elsewhere.sha256}


def test_no_registry_keeps_nothing_and_is_not_made_by_asking(zoo_home: Path) -> None:
    before = sorted(os.listdir(zoo_home))
    with registered_blobs() as kept:
        assert kept == frozenset()
    assert registered_versions() == {}
    assert sorted(os.listdir(zoo_home)) == before
    with registered_blobs(str(zoo_home / "nowhere")) as kept:
        assert kept == frozenset()
    assert not (zoo_home / "nowhere").exists()


def test_who_removes_nothing_waits_for_nobody(registry: zoo.ModelRegistry) -> None:
    one = registry.register(name="cats", version="1.0.0", model=Cat)
    with registered_blobs(), registered_blobs(hold=False) as kept:  # the first has the lock that writers wait for
        assert kept == {one.sha256}


def test_while_it_is_open_another_process_cannot_change_the_registry(registry: zoo.ModelRegistry) -> None:
    registry.register(name="cats", version="1.0.0", model=Cat)
    code = (
        "import sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], timeout=0.2, isolation_level=None)\n"
        "try: c.execute('BEGIN IMMEDIATE'); print('in')\n"
        "except sqlite3.OperationalError: print('out')\n"
    )

    def ask() -> str:
        command = [sys.executable, "-c", code, os.path.join(registry.path, FILE)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    with registered_blobs():
        assert ask() == "out"
    assert ask() == "in"


def test_a_registry_that_cannot_be_read_is_an_error_and_no_empty_answer(registry: zoo.ModelRegistry) -> None:
    registry.register(name="cats", version="1.0.0", model=Cat)
    Path(registry.path, FILE).write_bytes(b"no database" * 1000)
    with pytest.raises(zoo.ZooError, match="registry cannot be read"), registered_blobs():
        raise AssertionError
