"""Many processes at once, a kill at any moment, damaged files, places where nothing can be written."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from children import received, started
from registered_models import pebble, value_of

import zoo
from zoo.checkpoints.store import Store
from zoo.versions.ledger import Ledger

# At once


def race(answers: Connection, number: int) -> None:
    registry = zoo.ModelRegistry()
    for version in ("1.0.0", f"0.{number}.0", "2.0.0"):
        try:
            registry.register(name="m", version=version, model=pebble(number))
            registry.promote("m", version, "production")
            answers.send((version, "won", number))
        except zoo.ZooError as error:
            answers.send((version, "lost" if "overwritten" in str(error) else str(error), number))


def test_of_eight_processes_exactly_one_has_a_version_and_none_is_lost() -> None:
    children = [started(race, number) for number in range(8)]
    said = [answer for _, out in children for answer in received(out)]
    for process, _ in children:
        process.join(60)
    registry = zoo.ModelRegistry()
    for version in ("1.0.0", "2.0.0"):
        assert Counter(outcome for v, outcome, _ in said if v == version) == {"won": 1, "lost": 7}
        winner = next(number for v, outcome, number in said if (v, outcome) == (version, "won"))
        assert value_of(registry.load("m", version)) == winner
    for number in range(8):
        assert value_of(registry.load("m", f"0.{number}.0")) == number
    assert len(registry.history("m")) == 10
    stack = [change.version for change in registry.history("m", "production")]
    for expected in reversed(stack[:-1]):  # every promotion lies on the one before it, whoever made it
        assert registry.rollback("m", "production").version == expected


def retry(answers: Connection) -> None:
    answers.send(zoo.register_model(pebble(5.0), name="m", version="1.0.0").created)


def test_eight_processes_with_the_same_content_agree() -> None:
    children = [started(retry) for _ in range(8)]
    said = [answer for _, out in children for answer in received(out)]
    for process, _ in children:
        process.join(60)
    assert said == [zoo.ModelRegistry().show("m").created] * 8


# Killed


def register_for_ever(answers: Connection, life: int) -> None:
    registry = zoo.ModelRegistry()
    answers.send(("ready", "", 0.0))
    for count in range(1000):
        version, value = f"{life}.0.{count}", life * 1000 + count
        registry.register(name="m", version=version, model=pebble(value), tags=["kept"])
        answers.send(("registered", version, value))
        registry.promote("m", version, "production")
        answers.send(("promoted", version, value))


def lives_and_deaths(lives: int) -> list[tuple[str, str, float]]:
    """What that many processes, killed one after the other, had been acknowledged."""
    dice = random.Random(lives)
    said = []
    for life in range(lives):
        process, out = started(register_for_ever, life)
        assert out.recv()[0] == "ready"
        said += [out.recv() for _ in range(dice.randrange(4))]
        time.sleep(dice.uniform(0, 0.03))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join(60)
        said += received(out)
    return said


def hold_everything_acknowledged(said: list[tuple[str, str, float]]) -> None:
    registry = zoo.ModelRegistry()
    values = {version: value for action, version, value in said if action == "registered"}
    listed = {record.version for record in registry.list("m", tag="kept")}
    assert values.keys() <= listed
    for version in listed:  # what was never acknowledged may be there, but whole
        life, _, count = version.split(".")
        assert value_of(registry.load("m", version)) == int(life) * 1000 + int(count)
    promoted = [version for action, version, _ in said if action == "promoted"]
    history = [change.version for change in registry.history("m", "production")]
    assert [version for version in history if version in set(promoted)] == promoted
    with sqlite3.connect(Ledger(registry.path).path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert not connection.execute("PRAGMA foreign_key_check").fetchall()
        assert {row[0] for row in connection.execute("SELECT sha256 FROM blobs")} == {
            record.sha256 for record in registry.list()
        }


def test_a_kill_at_any_moment_loses_nothing_and_leaves_nothing_half() -> None:
    said = lives_and_deaths(24)
    assert sum(action == "registered" for action, _, _ in said) > 10
    hold_everything_acknowledged(said)


@pytest.mark.long
def test_hundreds_of_kills_lose_nothing() -> None:
    hold_everything_acknowledged(lives_and_deaths(400))


def die_inside(answers: Connection) -> None:
    with Ledger(zoo.ModelRegistry().path).writing() as connection:
        connection.execute("PRAGMA cache_spill = 1")
        connection.execute("INSERT INTO blobs VALUES ('half', 1)")
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_transaction_that_dies_is_undone_and_holds_nobody_up() -> None:
    zoo.register_model(pebble(1.0), name="m", version="1.0.0")
    process, _ = started(die_inside)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    zoo.register_model(pebble(2.0), name="m", version="1.0.1")
    with Ledger(zoo.ModelRegistry().path).reading() as connection:
        assert connection.execute("SELECT count(*) FROM blobs WHERE sha256 = 'half'").fetchone() == (0,)


def test_an_error_inside_a_transaction_undoes_all_of_it() -> None:
    ledger = Ledger(zoo.ModelRegistry().path)

    def broken_off() -> None:
        with ledger.writing() as connection:
            connection.execute("INSERT INTO blobs VALUES ('half', 1)")
            raise KeyError

    with pytest.raises(KeyError):
        broken_off()
    with ledger.reading() as connection:
        assert connection.execute("SELECT count(*) FROM blobs").fetchone() == (0,)


def test_weights_that_are_collected_while_they_are_registered_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    put = Store.put

    def collected(store: Store, *arguments: object) -> object:
        monkeypatch.setattr(Store, "put", put)  # only the first time
        blob = put(store, *arguments)  # type: ignore[arg-type]  # whatever it was given
        os.unlink(blob.path)
        return blob

    monkeypatch.setattr(Store, "put", collected)
    zoo.register_model(pebble(6.0), name="m", version="1.0.0")
    assert value_of(zoo.create("local/m")) == 6.0


# Damaged


def damaged(path: str, change: Callable[[bytearray], bytes | bytearray]) -> None:
    body = change(bytearray(Path(path).read_bytes()))
    os.chmod(path, 0o644)
    Path(path).write_bytes(body)


def flipped(body: bytearray) -> bytearray:
    body[-1] ^= 1
    return body


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (flipped, zoo.DigestError),
        (lambda body: body[:-1], zoo.CheckpointError),
        (lambda body: b"", zoo.CheckpointError),
        (lambda body: bytes(len(body)), zoo.DigestError),
    ],
)
def test_damaged_weights_are_an_error_and_not_garbage(change: Callable[..., bytes], kind: type[Exception]) -> None:
    registry = zoo.ModelRegistry()
    bad = registry.register(name="m", version="1.0.0", model=pebble(1.0))
    registry.register(name="m", version="1.1.0", model=pebble(2.0))
    assert value_of(registry.load("m", "1.0.0")) == 1.0  # so that its digest is known from before the damage
    damaged(Store().blob_path(bad.sha256), change)
    with pytest.raises(kind, match=r"local/m@1\.0\.0"):
        registry.load("m", "1.0.0")
    assert value_of(registry.load("m", "1.1.0")) == 2.0
    assert registry.show("m", "1.0.0") == bad


@pytest.mark.parametrize(
    "change", [lambda body: b"no database" * 100, lambda body: body[:5000], lambda body: body[:100] + bytes(len(body))]
)
def test_a_damaged_database_is_named(change: Callable[..., bytes]) -> None:
    registry = zoo.ModelRegistry()
    registry.register(name="m", version="1.0.0", model=pebble(1.0))
    damaged(Ledger(registry.path).path, change)
    for call in (registry.list, lambda: registry.load("m"), lambda: registry.promote("m", "1.0.0", "production")):
        with pytest.raises(zoo.ZooError, match="registry"):
            call()


def test_an_empty_file_is_an_empty_registry_and_a_newer_one_is_left_alone() -> None:
    registry = zoo.ModelRegistry()
    path = Path(Ledger(registry.path).path)
    path.parent.mkdir()
    path.touch()  # its creator was killed
    assert not registry.list()
    registry.register(name="m", version="1.0.0", model=pebble(1.0))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(zoo.ZooError, match="newer zoo"):
        registry.list()


# Where nothing can be written


def test_a_home_that_cannot_be_written_is_an_error_that_says_how_to_choose_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for home in (str(tmp_path / "file"), "/proc/nowhere"):
        monkeypatch.setenv("ZOO_HOME", home)
        with pytest.raises(zoo.ZooError, match="cannot be written") as caught:
            zoo.register_model(pebble(1.0), name="m", version="1.0.0")
        assert "ZOO_HOME" in str(caught.value)
        assert not zoo.ModelRegistry().list()
        with pytest.raises(zoo.ZooError, match="registry"):
            zoo.ModelRegistry().rollback("m", "production")


def test_a_registry_that_cannot_be_written_can_be_read(tmp_path: Path) -> None:
    registry = zoo.ModelRegistry(tmp_path / "registry")
    registry.register(name="m", version="1.0.0", model=pebble(1.0))
    for root, folders, files in os.walk(tmp_path / "registry", topdown=False):
        for name in (*files, *folders):
            os.chmod(os.path.join(root, name), 0o444 if name in files else 0o555)
    os.chmod(tmp_path / "registry", 0o555)
    try:
        assert value_of(registry.load("m")) == 1.0
        if os.geteuid():  # the superuser writes anywhere
            with pytest.raises(zoo.ZooError, match="cannot be"):
                registry.promote("m", "1.0.0", "production")
    finally:
        for root, folders, _ in os.walk(tmp_path):
            for name in folders:
                os.chmod(os.path.join(root, name), 0o755)


def test_records_are_plain_json(tmp_path: Path) -> None:
    registry = zoo.ModelRegistry(tmp_path)
    registry.register(name="m", version="1.0.0", model=pebble(1.0), metrics={"top1": 0.1}, data="naïve — 写真")
    with sqlite3.connect(tmp_path / "registry.sqlite") as connection:
        (text,) = connection.execute("SELECT record FROM versions").fetchone()
    assert json.loads(text) == json.loads(json.dumps(registry.show("m").to_dict()))
