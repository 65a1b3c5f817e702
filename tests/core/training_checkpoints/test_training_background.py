"""Saving in the background: what is copied is what is saved, nothing taken is lost, and failures are told."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import zoo
from zoo.checkpoints.training import commit, saving


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Writing waits until it is set."""
    event, write_file = threading.Event(), saving.write_file

    def gated(folder: str, name: str, chunks: Any) -> Any:
        assert event.wait(60)
        return write_file(folder, name, chunks)

    monkeypatch.setattr(saving, "write_file", gated)
    return event


def test_in_place_steps_right_after_save_are_not_saved(tmp_path: Path, gate: threading.Event) -> None:
    model = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    extra = {"tensor": torch.ones(3), "list": [1]}
    weight = model.weight.detach().clone()
    buffer = optimizer.state[model.weight]["momentum_buffer"].clone()
    saver = zoo.CheckpointSaver(tmp_path, background=True)
    saver.save(model, optimizer, 1, extra=extra)
    assert zoo.list_checkpoints(tmp_path) == []  # it is not written yet
    with torch.no_grad():
        model.weight.fill_(7)
        optimizer.state[model.weight]["momentum_buffer"].fill_(7)
        extra["tensor"].fill_(7)
        extra["list"].append(2)
        optimizer.param_groups[0]["lr"] = 7
    gate.set()
    assert saver.wait() == zoo.list_checkpoints(tmp_path)[0]
    found = zoo.load_checkpoint(tmp_path, model, optimizer)
    assert torch.equal(model.weight, weight)
    assert torch.equal(optimizer.state[model.weight]["momentum_buffer"], buffer)
    assert found.extra["tensor"].tolist() == [1, 1, 1]
    assert found.extra["list"] == [1]
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_one_save_is_under_way_at_a_time_and_the_next_waits(tmp_path: Path, gate: threading.Event) -> None:
    saver, model, done = zoo.CheckpointSaver(tmp_path, background=True), nn.Linear(1, 1), threading.Event()
    saver.save(model, None, 1)

    def second() -> None:
        saver.save(model, None, 2)
        done.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert not done.wait(0.2)
    assert sum(t.name == "zoo-checkpoint" for t in threading.enumerate()) == 1
    gate.set()
    thread.join(60)
    saver.close()
    assert [c.epoch for c in zoo.list_checkpoints(tmp_path)] == [1, 2]


@pytest.mark.parametrize("door", ["save", "wait", "close", "with"])
def test_a_failure_is_raised_at_the_next_call_and_once(door: str, tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    saver = zoo.CheckpointSaver(blocked, background=True)
    with pytest.raises(zoo.CheckpointError, match="this is a file") as caught:  # noqa: PT012  # where it is raised is the claim
        if door == "with":
            with saver:
                saver.save(model, None, 1)
        else:
            saver.save(model, None, 1)
            saver.save(model, None, 2) if door == "save" else getattr(saver, door)()
    assert "epoch 1" in caught.value.__notes__[0]
    blocked.unlink()
    saver.save(model, None, 3)
    saver.close()
    assert [c.epoch for c in zoo.list_checkpoints(blocked)] == [3]


def test_what_cannot_be_kept_is_refused_at_once(tmp_path: Path) -> None:
    saver = zoo.CheckpointSaver(tmp_path, background=True)
    with pytest.raises(zoo.OptionError, match=r"extra\[0\]"):
        saver.save(nn.Linear(1, 1), None, 1, extra=[print])
    assert saver.wait() is None


def test_the_saver_keeps_the_best_and_the_last(tmp_path: Path) -> None:
    with zoo.CheckpointSaver(tmp_path, keep_last=1, best=("loss", "min"), background=True) as saver:
        for epoch, loss in enumerate([0.5, 0.1, 0.3, 0.2]):
            saver.save(nn.Linear(1, 1), None, epoch, {"loss": loss})
    assert sorted(os.listdir(tmp_path)) == ["epoch-0001", "epoch-0003"]


def test_a_forked_child_leaves_its_parent_s_save_alone_and_saves_its_own(tmp_path: Path, gate: threading.Event) -> None:
    saver, model, slow = zoo.CheckpointSaver(tmp_path, background=True), nn.Linear(1, 1), saving.write_file
    saver.save(model, None, 1)

    def child() -> None:
        torch.set_num_threads(1)
        saving.write_file = commit.write_file
        assert saver.wait() is None
        saver.save(model, None, 2)
        saver.close()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert saving.write_file is slow
    gate.set()
    saver.close()
    assert sorted(c.epoch for c in zoo.list_checkpoints(tmp_path)) == [1, 2]


ENDS = """
import sys, torch, zoo
from torch import nn
saver = zoo.CheckpointSaver(sys.argv[1], background=True)
saver.save(nn.Sequential(*[nn.Linear(512, 512) for _ in range(24)]), None, 5)
saver.save(nn.Linear(1, 1), None, 6, extra=list(range(100_000)))
failing = zoo.CheckpointSaver(sys.executable, background=True)
failing.save(nn.Linear(1, 1), None, 1)
{end}
"""


@pytest.mark.parametrize("end", ["", pytest.param("raise RuntimeError", marks=pytest.mark.long)])
def test_a_program_that_just_ends_writes_what_save_has_taken_and_tells_what_failed(end: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENDS.format(end=end), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [c.epoch for c in zoo.list_checkpoints(tmp_path)] == [5, 6]
    assert sorted(os.listdir(tmp_path)) == ["epoch-0005", "epoch-0006"]
    assert len(zoo.load_checkpoint(tmp_path).extra) == 100_000
    assert "A checkpoint is missing: a run needs a folder" in done.stderr
