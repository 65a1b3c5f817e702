"""What lies in a run's folder: plain files, names that are never used twice, the best and the last."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn
from training_runs import Run

import zoo
from zoo.checkpoints.training import folders
from zoo.checkpoints.training.folders import File, list_checkpoints, record_text


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def saved(folder: Path, epoch: int, metrics: dict[str, float] | None = None, **options: object) -> str:
    return zoo.save_checkpoint(nn.Linear(1, 1), None, epoch, metrics, folder, **options).name


# What is written


def test_a_checkpoint_is_json_and_safetensors_and_nothing_else(tmp_path: Path) -> None:
    run = Run()
    run.train(1)
    checkpoint = run.save(tmp_path, extra={"note": "x", "t": torch.ones(2)})
    there = names(Path(checkpoint.path))
    assert there == ["checkpoint.json", "model.safetensors", "state.json", "state.safetensors"]
    for name in there:
        path = os.path.join(checkpoint.path, name)
        if name.endswith(".json"):
            json.loads(Path(path).read_text(), parse_constant=pytest.fail)
        else:
            with safe_open(path, "pt") as file:
                assert file.keys()
    assert names(tmp_path) == ["epoch-0002"]


def test_the_record_says_what_it_is(tmp_path: Path) -> None:
    metrics = {"top1": torch.tensor(0.5, requires_grad=True), "loss": math.inf, "other": math.nan}
    checkpoint = zoo.save_checkpoint(nn.Linear(1, 1), None, 3, metrics, tmp_path, step=120, best=("loss", "min"))
    (listed,) = zoo.list_checkpoints(tmp_path)
    assert listed.name == checkpoint.name == "epoch-0003-step-000120"
    assert (listed.epoch, listed.step, listed.best, listed.sequence) == (3, 120, ("loss", "min"), 1)
    assert (listed.metrics["top1"], listed.metrics["loss"]) == (0.5, math.inf)
    assert math.isnan(listed.metrics["other"])
    assert listed.torch_version == torch.__version__
    assert {name: file.size for name, file in listed.files.items()} == {
        name: os.path.getsize(os.path.join(checkpoint.path, name)) for name in listed.files
    }
    assert str(listed) == "epoch-0003-step-000120: top1 0.5, loss inf, other nan"


def test_a_listed_checkpoint_and_a_file_address_are_paths_too(tmp_path: Path) -> None:
    model, folder = nn.Linear(1, 1), tmp_path / "my run"
    zoo.save_checkpoint(model, None, 3, path=f"file://{folder}")
    (listed,) = zoo.list_checkpoints(folder)
    assert os.fspath(listed) == listed.path
    for path in (listed, f"file://{folder}", f"file://{folder}".replace(" ", "%20")):
        other = nn.Linear(1, 1)
        assert zoo.load_checkpoint(path, other).epoch == 3
        assert torch.equal(other.weight, model.weight)


# Which is which


def test_an_epoch_that_is_saved_again_overwrites_nothing_and_is_the_newest(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    for epoch, value in ((3, 1.0), (7, 2.0), (3, 3.0), (3, 4.0)):
        nn.init.constant_(model.weight, value)
        zoo.save_checkpoint(model, None, epoch, path=tmp_path)
    assert [c.name for c in zoo.list_checkpoints(tmp_path)] == [
        "epoch-0003", "epoch-0007", "epoch-0003-again-2", "epoch-0003-again-3",
    ]  # fmt: skip
    for which, value in (("latest", 4.0), ("epoch-0003", 1.0), ("epoch-0007", 2.0), ("epoch-0003-again-2", 3.0)):
        zoo.load_checkpoint(tmp_path, model, which=which)
        assert model.weight.item() == value
    zoo.load_checkpoint(tmp_path / "epoch-0007", model)
    assert model.weight.item() == 2.0


def test_an_empty_or_absent_folder_has_no_checkpoints(tmp_path: Path) -> None:
    assert zoo.list_checkpoints(tmp_path / "none") == []
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(zoo.CheckpointError, match="no checkpoint to load"):
            zoo.load_checkpoint(folder, nn.Linear(1, 1))
    saved(tmp_path, 1)
    with pytest.raises(zoo.NotFoundError, match="epoch-0001"):
        zoo.load_checkpoint(tmp_path, nn.Linear(1, 1), which="epoch-0002")


@pytest.mark.parametrize(
    ("values", "rule", "best"),
    [
        ([0.1, 0.3, 0.2], "m", 1),
        ([0.1, 0.3, 0.2], ("m", "max"), 1),
        ([0.2, 0.3, 0.1], ("m", "min"), 2),
        ([0.3, 0.3, 0.1], "m", 0),
        ([math.nan, 0.1, math.nan], "m", 1),
        ([math.nan, 0.1, math.nan], ("m", "min"), 1),
        ([None, 0.1, None], "m", 1),
        ([math.inf, 0.1, 0.2], ("m", "min"), 1),
        ([-math.inf, None, math.nan], "m", 0),
    ],
)
def test_the_best_is_the_first_with_the_best_number(
    values: list[float | None], rule: str | tuple[str, str], best: int, tmp_path: Path
) -> None:
    for epoch, value in enumerate(values):
        saved(tmp_path, epoch, {} if value is None else {"m": value}, best=rule)
    assert zoo.load_checkpoint(tmp_path, which="best").epoch == best


def test_a_best_that_nobody_can_tell_is_an_error(tmp_path: Path) -> None:
    saved(tmp_path, 1, {"loss": math.nan})
    with pytest.raises(zoo.OptionError, match="does not say what its best is"):
        zoo.load_checkpoint(tmp_path, which="best")
    with pytest.raises(zoo.NotFoundError, match="found: loss"):
        zoo.load_checkpoint(tmp_path, which="best", best="top1")
    with pytest.raises(zoo.NotFoundError, match="no checkpoint"):
        zoo.load_checkpoint(tmp_path, which="best", best=("loss", "min"))


@pytest.mark.parametrize(("best", "fix"), [("top-1", "'top1'"), (("loss", "min"), "nan")])
def test_a_best_that_is_no_metric_of_the_run_is_refused_before_anything_is_written(
    best: str | tuple[str, str], fix: str, tmp_path: Path
) -> None:
    with pytest.raises(zoo.OptionError, match="not among the metrics") as caught:
        saved(tmp_path, 1, {"top1": 0.5}, best=best, keep_last=1)
    assert fix in str(caught.value)
    assert names(tmp_path) == []


def test_a_metric_that_is_not_measured_every_time_is_no_reason_not_to_save(tmp_path: Path) -> None:
    for epoch, metrics in enumerate(({}, {"m": 0.3, "loss": 1}, {"loss": 0.5}, {"m": 0.2}, {"loss": 0.1})):
        saved(tmp_path, epoch, metrics, best="m", keep_last=1)
    assert names(tmp_path) == ["epoch-0001", "epoch-0004"]


def test_a_record_is_read_once_and_again_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, reads = folders.read_record, []
    monkeypatch.setattr(folders, "SETTLED", -1.0)
    monkeypatch.setattr(folders, "read_record", lambda folder: reads.append(os.path.basename(folder)) or read(folder))
    for epoch in range(3):
        saved(tmp_path, epoch, {"m": epoch}, keep_last=9)
    assert sorted(reads) == ["epoch-0000", "epoch-0001", "epoch-0002"]
    for checkpoint in zoo.list_checkpoints(tmp_path):
        checkpoint.metrics.clear()
        checkpoint.files.clear()
    assert [c.metrics for c in zoo.list_checkpoints(tmp_path)] == [{"m": 0}, {"m": 1}, {"m": 2}]
    assert all(c.files for c in zoo.list_checkpoints(tmp_path))
    assert len(reads) == 3
    (tmp_path / "epoch-0001" / "checkpoint.json").write_text("{")
    with pytest.warns(UserWarning, match="epoch-0001"):
        assert [c.epoch for c in zoo.list_checkpoints(tmp_path)] == [0, 2]


# What stays


def test_the_last_ones_and_the_best_stay(tmp_path: Path) -> None:
    for epoch, value in enumerate([0.1, 0.9, 0.2, 0.3, 0.4, 0.5]):
        saved(tmp_path, epoch, {"m": value}, keep_last=2, best="m")
    assert names(tmp_path) == ["epoch-0001", "epoch-0004", "epoch-0005"]
    saved(tmp_path, 6, {"m": 0.95}, keep_last=1, best="m")
    assert names(tmp_path) == ["epoch-0006"]
    saved(tmp_path, 2, {"m": 0.1}, keep_last=1)  # the newest is the one saved last
    assert names(tmp_path) == ["epoch-0002"]


def test_without_keep_last_everything_stays(tmp_path: Path) -> None:
    for epoch in range(5):
        saved(tmp_path, epoch, {"m": epoch}, best="m")
    assert len(names(tmp_path)) == 5


def test_what_others_put_there_is_never_removed_nor_taken_for_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "epoch-0000").mkdir()
    (tmp_path / "epoch-0000" / "photo.jpg").write_text("mine")
    (tmp_path / "epoch-0004").write_text("a file of mine")
    (tmp_path / "epoch-0005").mkdir()
    (tmp_path / "notes").mkdir()
    elsewhere = tmp_path.parent / "elsewhere"
    saved(elsewhere, 8)
    (tmp_path / "epoch-0008").symlink_to(elsewhere / "epoch-0008")
    (tmp_path / ".removed-treasure").mkdir()
    theirs = names(tmp_path)
    assert saved(tmp_path, 0) == "epoch-0000-again-2"
    noted = saved(tmp_path, 1)
    (tmp_path / noted / "notes.txt").write_text("mine")
    for epoch in (4, 5, 8, 9):
        saved(tmp_path, epoch, keep_last=1)
    assert names(tmp_path) == sorted([*theirs, noted, "epoch-0009"])
    assert (elsewhere / "epoch-0008" / "model.safetensors").is_file()
    assert [c.name for c in zoo.list_checkpoints(tmp_path)] == [noted, "epoch-0009"]


# What is damaged


def damage(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors", "state.json", "checkpoint.json"])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone", "empty"])
def test_a_damaged_newest_is_an_error_that_names_the_next_whole_one(name: str, how: str, tmp_path: Path) -> None:
    run = Run("momentum")
    for epoch in range(4):
        run.train(1)
        run.save(tmp_path, epoch)
    path = tmp_path / "epoch-0003" / name
    damage(tmp_path / "epoch-0002" / "model.safetensors")
    if how == "flipped":
        damage(path)
    elif how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: -3 if how == "cut" else 0])
    with pytest.raises((zoo.DigestError, zoo.FormatError), match=name) as caught:
        run.load(tmp_path)
    assert "epoch-0003" in str(caught.value)
    expected = "epoch-0002" if name == "checkpoint.json" else "epoch-0001"  # a record's fault is found without hashing
    assert caught.value.fix == f'which="{expected}"'
    if expected == "epoch-0001":
        assert run.load(tmp_path, which="epoch-0001").epoch == 1


def test_an_old_damaged_record_does_not_stop_the_run_and_is_never_removed(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    damage(tmp_path / "epoch-0001" / "checkpoint.json")
    saved(tmp_path, 2, keep_last=1)
    assert zoo.load_checkpoint(tmp_path).epoch == 2
    assert names(tmp_path) == ["epoch-0001", "epoch-0002"]
    with pytest.warns(UserWarning, match="left out") as warned:
        assert [c.epoch for c in zoo.list_checkpoints(tmp_path)] == [2]
    assert "epoch-0001" in str(warned[0].message)
    assert warned[0].filename == __file__
    with pytest.raises(zoo.FormatError, match="epoch-0001"):
        zoo.load_checkpoint(tmp_path, which="epoch-0001")


def test_a_checkpoint_of_a_newer_zoo_says_so(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    path = tmp_path / "epoch-0001" / "checkpoint.json"
    path.write_text(path.read_text().replace('"zoo_checkpoint": 1', '"zoo_checkpoint": 2'))
    with pytest.raises(zoo.FormatError, match="newer zoo"):
        zoo.load_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b", "", ".."])
def test_a_record_that_names_a_file_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    saved(tmp_path, 1)
    (checkpoint,) = list_checkpoints(tmp_path)
    lying = replace(checkpoint, files={**checkpoint.files, name: File("0" * 64, 3)})
    (tmp_path / "epoch-0001" / "checkpoint.json").write_text(record_text(lying))
    with pytest.raises(zoo.FormatError):
        zoo.load_checkpoint(tmp_path, nn.Linear(1, 1))
