"""Two processes save their shards together; one or two read them back."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from sharded_runs import Run, assert_same, die_while_saving, train_save_and_resume

import zoo
from zoo.checkpoints.training.folders import read_record, record_text


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes have trained, saved and resumed."""
    folder = tmp_path_factory.mktemp("sharded")
    torch.set_num_threads(1)
    one = Run(shards=False)
    one.train(2)
    one.save(folder / "one", 1)
    torch.save(one.whole(), folder / "one.pt")
    torch.multiprocessing.spawn(train_save_and_resume, (folder,), nprocs=2)
    return folder


@pytest.mark.long
def test_two_processes_save_and_resume_to_the_same_bits_and_read_what_one_has_saved(worked: Path) -> None:
    """What the processes assert themselves: see `sharded_runs`."""
    assert_same(torch.load(worked / "at_save_0.pt"), torch.load(worked / "at_save_1.pt"))


@pytest.fixture
def sound(worked: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint of two, as it was before a bit of it was flipped."""
    folder = tmp_path / "epoch-0003"
    folder.mkdir()
    for name in os.listdir(worked / "two-damaged" / "epoch-0003"):
        raw = bytearray((worked / "two-damaged" / "epoch-0003" / name).read_bytes())
        if name == "shard-00001.safetensors":
            raw[-1] ^= 1
        (folder / name).write_bytes(raw)
    return folder


@pytest.mark.long
def test_one_process_reads_what_two_have_saved(worked: Path, sound: Path) -> None:
    run = Run(shards=False, seed=3)
    run.train(1)
    with pytest.warns(UserWarning, match="not to the same bits"):
        assert run.load(sound.parent).extra == {"seen": 7}
    assert_same(run.whole(), torch.load(worked / "at_save_0.pt"))
    model = Run(shards=False, seed=4).model
    zoo.load_checkpoint(sound, model)
    assert torch.equal(model[0].weight, run.model[0].weight)


@pytest.mark.long
def test_a_sharded_checkpoint_is_json_and_safetensors_too(sound: Path) -> None:
    assert sorted(os.listdir(sound)) == [
        "checkpoint.json", "shard-00000.safetensors", "shard-00001.safetensors", "shards.json", "state.json",
    ]  # fmt: skip
    for path in sound.iterdir():
        if path.suffix == ".json":
            json.loads(path.read_text())
        else:
            with safe_open(path, "pt") as file:
                assert any("exp_avg" in key for key in file.keys())  # noqa: SIM118  # it is no dict


@pytest.mark.long
@pytest.mark.parametrize(
    ("piece", "value"),
    [
        ("file", "../../outside.safetensors"),
        ("file", "checkpoint.json"),
        ("key", "nowhere"),
        ("offsets", [1, 0]),
        ("offsets", [-4, 0]),
        ("offsets", [0]),
        ("sizes", [4, 4]),
        ("sizes", [1 << 40, 5]),
    ],
)
def test_an_index_that_lies_is_a_format_error(piece: str, value: Any, sound: Path) -> None:
    index = json.loads((sound / "shards.json").read_text())
    index["tensors"]["weight:0.weight"]["pieces"][0][piece] = value
    raw = json.dumps(index).encode()
    (sound / "shards.json").write_bytes(raw)
    record = read_record(str(sound))
    facts = {
        **record.files,
        "shards.json": record.files["shards.json"]._replace(sha256=sha256(raw).hexdigest(), size=len(raw)),
    }
    (sound / "checkpoint.json").write_text(record_text(replace(record, files=facts)))
    with pytest.raises(zoo.FormatError, match=r"shards\.json is damaged"):
        zoo.load_checkpoint(sound, Run(shards=False).model)


@pytest.mark.long
@pytest.mark.parametrize(("dying", "moment"), [(1, "write_data"), (0, "_finish")])
def test_a_process_that_dies_leaves_nothing_visible(dying: int, moment: str, tmp_path: Path) -> None:
    with pytest.raises(torch.multiprocessing.ProcessExitedException):
        torch.multiprocessing.spawn(die_while_saving, (tmp_path, dying, moment), nprocs=2)
    assert [c.epoch for c in zoo.list_checkpoints(tmp_path / "run")] == [1]
    model = Run(shards=False).model
    zoo.save_checkpoint(model, None, 3, path=tmp_path / "run")
    assert sorted(os.listdir(tmp_path / "run")) == ["epoch-0001", "epoch-0003"]
