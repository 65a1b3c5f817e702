"""Killed anywhere: what was acknowledged is there and right, nothing is half there, the next process just works."""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path

import pytest
import toll
from killing import End, lived, traced, unsynced, unsynced_renames, untraceable
from lives import Stage
from syscalls import Change

traceable = pytest.mark.skipif(bool(untraceable()), reason=untraceable())

WAYS = {"killed": {}, "torn": {"torn": True}, "power cut": {"power_cut": True}}
"""How a life may end before a change: cleanly, with half of that write done, with all that was not synced lost."""


def some_of(number: int, count: int) -> list[int]:
    """That many of the changes, evenly spread, with the last."""
    return sorted({round(index * (number - 1) / max(1, count - 1)) for index in range(count)})


def ends(stage: Stage, way: str, count: int) -> None:
    """A life killed before each of the changes it would make, or before that many of them."""
    changes = stage.whole.changes
    places = [at for at, change in enumerate(changes) if way != "torn" or change.name in ("write", "pwrite64")]
    for place in some_of(len(places), min(count, len(places))):
        toll.count(stage.operation.name, way, stage.killed(End(places[place], **WAYS[way])))


@traceable
def test_a_kill_before_some_changes(stage: Stage) -> None:
    ends(stage, "killed", 3)
    ends(stage, "torn", 2)


@traceable
def test_a_power_cut_before_some_changes_and_at_the_end(stage: Stage) -> None:
    ends(stage, "power cut", 2)
    life = stage.killed(End(sys.maxsize, power_cut=True))
    assert not life.killed
    assert life.said  # and its check found all of it


@traceable
@pytest.mark.long
@pytest.mark.parametrize(("way", "count"), [("killed", 60), ("torn", 8), ("power cut", 10)])
def test_a_kill_before_every_change(stage: Stage, way: str, count: int) -> None:
    ends(stage, way, count)  # only the catalogue makes more changes than 60


@pytest.mark.long
def test_a_kill_at_random_moments(stage: Stage) -> None:
    dice = random.Random(stage.operation.name)
    for _ in range(5):
        toll.count(stage.operation.name, "random", stage.killed_after(dice.uniform(0, stage.seconds)))


# The harness itself


def two_files(folder: Path) -> object:
    def act(answer: object) -> None:
        (folder / "one").write_text("1" * 100)
        (folder / "two.tmp").write_text("2" * 100)
        os.rename(folder / "two.tmp", folder / "two")

    return act


@traceable
def test_every_change_is_counted_and_the_last_is_not_carried_out(tmp_path: Path) -> None:
    act = two_files(tmp_path)
    changes = traced(act, str(tmp_path)).changes
    assert [change.name.removesuffix("at") for change in changes] == ["open", "write", "open", "write", "rename"]
    for at, expected in enumerate(([], ["one"], ["one"], ["one", "two.tmp"], ["one", "two.tmp"])):
        for path in tmp_path.iterdir():
            path.unlink()
        life = traced(act, str(tmp_path), End(at))
        assert life.killed
        assert sorted(os.listdir(tmp_path)) == expected
        assert life.changes == changes[: at + 1]


@traceable
def test_half_a_write_is_half_of_its_bytes(tmp_path: Path) -> None:
    traced(two_files(tmp_path), str(tmp_path), End(3, torn=True))
    assert (tmp_path / "one").read_text() == "1" * 100
    assert (tmp_path / "two.tmp").read_text() == "2" * 50


@traceable
def test_a_power_cut_loses_what_was_not_synced(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "two").write_text("before")
    traced(two_files(root), str(root), End(99, power_cut=True))
    assert (root / "one").read_text() == ""
    assert (root / "two").read_text() == "before"
    assert (root / "two.tmp").read_text() == ""


def test_what_was_synced_is_known_from_the_changes() -> None:
    made, written = Change("openat", "a/x.tmp", made=True), Change("write", "a/x.tmp")
    renamed, synced, kept = Change("rename", "a/x.tmp", "a/x", True), Change("fsync", "a/x.tmp"), Change("fsync", "a")
    assert unsynced([made, written, renamed]) == ["a/x"]
    assert unsynced([made, written, synced, renamed]) == []
    assert unsynced([made, written, synced, written, Change("rename", "a", "b", True)]) == ["b/x.tmp"]
    assert unsynced_renames([made, written, synced, renamed]) == [3]
    assert unsynced_renames([made, written, synced, renamed, kept]) == []


def test_a_child_that_fails_says_why() -> None:
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        lived(lambda answer: 1 / 0)  # type: ignore[arg-type, return-value]  # whatever it returns


def test_a_child_that_is_killed_has_said_what_it_said() -> None:
    def act(answer: object) -> None:
        answer("first")  # type: ignore[operator]  # it is a function
        os.kill(os.getpid(), signal.SIGKILL)

    assert lived(act) == ["first"]
