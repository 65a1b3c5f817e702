"""Many processes in one run's folder: whole checkpoints or none, whoever dies when."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import zoo
from zoo.checkpoints.training import commit, saving

FORK = multiprocessing.get_context("fork")  # a child costs no import of torch


def started(target: Callable[..., None], *arguments: object) -> multiprocessing.process.BaseProcess:
    process = FORK.Process(target=_child, args=(target, *arguments), daemon=True)
    process.start()
    return process


def _child(target: Callable[..., None], *arguments: object) -> None:
    torch.set_num_threads(1)
    target(*arguments)


def constant(value: float, size: int = 8) -> nn.Linear:
    model = nn.Linear(size, size)
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model


def value_of(model: nn.Linear) -> float:
    values = {float(v) for parameter in model.parameters() for v in parameter.detach().flatten()}
    assert len(values) == 1, "torn"
    return values.pop()


def save_many(folder: Path, writer: int, count: int, keep_last: int | None) -> None:
    for number in range(count):
        value = 100.0 * writer + number
        zoo.save_checkpoint(constant(value), None, number, {"value": value}, folder, keep_last=keep_last)


def test_two_runs_that_save_in_one_folder_lose_nothing(tmp_path: Path) -> None:
    writers = [started(save_many, tmp_path, writer, 6, None) for writer in range(3)]
    for writer in writers:
        writer.join(60)
    found = zoo.list_checkpoints(tmp_path)
    assert sorted(c.metrics["value"] for c in found) == sorted(100.0 * w + n for w in range(3) for n in range(6))
    for checkpoint in found:
        model = constant(-1)
        zoo.load_checkpoint(checkpoint.path, model)
        assert value_of(model) == checkpoint.metrics["value"]
    assert {name for name in os.listdir(tmp_path) if name.startswith(".")} == set()


def test_readers_beside_a_writer_that_keeps_one_see_whole_checkpoints_only(tmp_path: Path) -> None:
    save_many(tmp_path, 0, 1, None)
    writer = started(save_many, tmp_path, 1, 40, 1)
    loads, newest = 0, -1.0
    model = constant(-1)
    while writer.is_alive():
        found = zoo.load_checkpoint(tmp_path, model)
        assert value_of(model) == found.metrics["value"] >= newest
        newest = found.metrics["value"]
        loads += 1
    assert loads > 3
    assert zoo.load_checkpoint(tmp_path, model).metrics["value"] == 139.0


def save_until_killed(folder: Path, acknowledged: Path) -> None:
    number = len(zoo.list_checkpoints(folder))
    with open(acknowledged, "a", buffering=1) as said:
        while True:
            saved = zoo.save_checkpoint(
                constant(number, 64), None, number, {"value": number}, folder, keep_last=3, best=("value", "min")
            )
            said.write(f"{saved.name} {saved.sequence}\n")
            number += 1


def test_a_kill_at_any_moment_loses_nothing_that_was_acknowledged_and_leaves_nothing_for_ever(tmp_path: Path) -> None:
    folder, acknowledged = tmp_path / "run", tmp_path / "said"
    chance = random.Random(0)
    for _ in range(15):
        writer = started(save_until_killed, folder, acknowledged)
        time.sleep(chance.uniform(0.03, 0.15))
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        said = acknowledged.read_text().splitlines() if acknowledged.exists() else []
        if not said:  # it was killed before it had saved anything
            continue
        last = said[-1].split()
        model = constant(-1, 64)
        found = zoo.load_checkpoint(folder, model)
        assert found.sequence >= int(last[1])
        assert value_of(model) == found.metrics["value"]
        for checkpoint in zoo.list_checkpoints(folder):
            zoo.load_checkpoint(checkpoint.path, model)
            assert value_of(model) == checkpoint.metrics["value"]
        assert zoo.list_checkpoints(folder)[0].metrics["value"] == 0  # the best is always there
    zoo.save_checkpoint(constant(1, 64), None, 0, {"value": 1}, folder, keep_last=3, best=("value", "min"))
    left = os.listdir(folder)
    assert not [name for name in left if name.startswith(".")]
    assert len(left) == 4


def hold(folder: Path, ready: Path, go_on: Path) -> None:
    write_file = saving.write_file

    def slow(made: str, name: str, chunks: object) -> object:
        done = write_file(made, name, chunks)
        ready.touch()
        while not go_on.exists():
            time.sleep(0.01)
        return done

    saving.write_file = slow
    zoo.save_checkpoint(constant(1), None, 1, path=folder)


def test_a_live_writers_folder_is_left_alone_and_a_dead_ones_is_removed(tmp_path: Path) -> None:
    folder, ready, go_on = tmp_path / "run", tmp_path / "ready", tmp_path / "go"
    folder.mkdir()
    writer = started(hold, folder, ready, go_on)
    while not ready.exists():
        time.sleep(0.01)
    (theirs,) = os.listdir(folder)
    assert theirs.startswith(commit.ASIDE)
    zoo.save_checkpoint(constant(2), None, 2, path=folder)
    assert theirs in os.listdir(folder)
    go_on.touch()
    writer.join(60)
    assert sorted(os.listdir(folder)) == ["epoch-0001", "epoch-0002"]

    for path in (ready, go_on):
        path.unlink()
    writer = started(hold, folder, ready, go_on)
    while not ready.exists():
        time.sleep(0.01)
    writer.kill()
    writer.join()
    assert len(os.listdir(folder)) == 3
    zoo.save_checkpoint(constant(3), None, 3, path=folder)
    assert sorted(os.listdir(folder)) == ["epoch-0001", "epoch-0002", "epoch-0003"]


@pytest.mark.parametrize("moment", ["before the rename", "after it"])
def test_a_removal_that_is_cut_short_is_finished_by_the_next_save(moment: str, tmp_path: Path) -> None:
    def cut(folder: Path) -> None:
        saving.retire.__globals__["put_away"] = lambda path: die(path)
        zoo.save_checkpoint(constant(2), None, 2, path=folder, keep_last=1)

    def die(path: str) -> None:
        if moment == "after it":
            commit.shutil.rmtree = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
            commit.put_away(path)
        os.kill(os.getpid(), signal.SIGKILL)

    zoo.save_checkpoint(constant(1), None, 1, path=tmp_path)
    process = started(cut, tmp_path)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert [c.epoch for c in zoo.list_checkpoints(tmp_path)] == ([1, 2] if moment == "before the rename" else [2])
    zoo.save_checkpoint(constant(3), None, 3, path=tmp_path, keep_last=1)
    assert os.listdir(tmp_path) == ["epoch-0003"]


def test_where_folders_cannot_be_locked_only_old_leftovers_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(38, "no locks here")

    monkeypatch.setattr(commit.fcntl, "flock", no_locks)
    young, old = tmp_path / f"{commit.ASIDE}young", tmp_path / f"{commit.ASIDE}old"
    for path in (young, old):
        path.mkdir()
        (path / "model.safetensors").write_text("x")
    long_ago = time.time() - 2 * commit.SURELY_DEAD
    for path in (old / "model.safetensors", old):
        os.utime(path, (long_ago, long_ago))
    zoo.save_checkpoint(constant(1), None, 1, path=tmp_path)
    assert sorted(os.listdir(tmp_path)) == [young.name, "epoch-0001"]
