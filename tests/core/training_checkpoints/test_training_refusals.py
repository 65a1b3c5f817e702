"""What does not fit is refused before anything changes, and what cannot be written leaves nothing."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_runs import Run

import zoo
from zoo.checkpoints.training import saving


def state_of(run: Run) -> list[Any]:
    parts = (run.model, run.optimizer, run.scheduler, run.scaler, run.ema)
    return [torch.get_rng_state(), run.generator.get_state(), *(part.state_dict() for part in parts)]


def flat(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), value.tolist())
    if isinstance(value, dict):
        return {key: flat(item) for key, item in value.items()}
    return [flat(item) for item in value] if isinstance(value, list | tuple) else value


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    run = Run()
    run.train(1)
    run.save(tmp_path)
    return tmp_path


class Refusing:
    """A part that takes its state at first, and then no more."""

    def __init__(self) -> None:
        self.value = 1

    def state_dict(self) -> dict[str, int]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, int]) -> None:
        if state["value"] == 1:
            self.value = 1
        else:
            self.value = -1
            raise RuntimeError("not in the mood")


def other_model(run: Run) -> None:
    run.model = nn.Sequential(nn.Linear(2, 2))


def other_shape(run: Run) -> None:
    run.model[5] = nn.Linear(64, 4)


def fewer_parameters(run: Run) -> None:
    run.optimizer = torch.optim.AdamW(list(run.model.parameters())[:-1], 0.1)


def parameters_in_another_order(run: Run) -> None:
    run.optimizer = torch.optim.AdamW(list(run.model.parameters())[::-1], 0.1)


def equal_shapes_swapped(run: Run) -> None:
    parameters = list(run.model.parameters())
    assert parameters[2].shape == parameters[3].shape  # weight and bias of the batch norm
    parameters[2], parameters[3] = parameters[3], parameters[2]
    run.optimizer = torch.optim.AdamW(parameters, 0.1)


def other_groups(run: Run) -> None:
    parameters = list(run.model.parameters())
    run.optimizer = torch.optim.AdamW([{"params": parameters[:1]}, {"params": parameters[1:]}], 0.1)


def other_optimizer(run: Run) -> None:
    run.optimizer = torch.optim.SGD(run.model.parameters(), 0.1)


def other_scheduler(run: Run) -> None:
    run.scheduler = torch.optim.lr_scheduler.StepLR(run.optimizer, 3)


def other_average(run: Run) -> None:
    run.ema = torch.optim.swa_utils.AveragedModel(nn.Linear(2, 2))


def other_generator(run: Run) -> None:
    run.generator = random.Random(3)


def not_a_part(run: Run) -> None:
    run.scaler = 3


CHANGES = [
    (other_model, zoo.LoadError, "other tensors"),
    (other_shape, zoo.LoadError, "5.bias"),
    (fewer_parameters, zoo.LoadError, "5 parameters"),
    (parameters_in_another_order, zoo.LoadError, "parameter 0"),
    (equal_shapes_swapped, zoo.LoadError, "1.bias"),
    (other_groups, zoo.LoadError, "group 1"),
    (other_optimizer, zoo.LoadError, "torch.optim.sgd.SGD"),
    (other_scheduler, zoo.LoadError, "StepLR"),
    (other_average, zoo.LoadError, "the ema"),
    (other_generator, zoo.LoadError, "loader"),
    (not_a_part, zoo.OptionError, "scaler is a int"),
]


@pytest.mark.parametrize(("change", "kind", "says"), CHANGES)
def test_what_does_not_fit_is_refused_and_nothing_has_changed(
    change: Callable[[Run], None], kind: type[zoo.ZooError], says: str, trained: Path
) -> None:
    run = Run(seed=3)
    run.train(1)
    change(run)
    before = None if change in (not_a_part, other_generator) else flat(state_of(run))
    model = flat(run.model.state_dict())
    with pytest.raises(kind, match=says):
        run.load(trained)
    assert flat(run.model.state_dict()) == model
    assert before is None or flat(state_of(run)) == before


def test_a_part_that_fails_late_undoes_all_that_was_restored_before_it(tmp_path: Path) -> None:
    run, part = Run(), Refusing()
    run.train(1)
    part.value = 2
    zoo.save_checkpoint(run.model, run.optimizer, path=tmp_path, scheduler=run.scheduler, ema=[run.ema, part])
    other, part.value = Run(seed=4), 1
    other.train(1)
    before = flat(state_of(other))
    with pytest.raises(zoo.LoadError, match="not in the mood") as caught:
        zoo.load_checkpoint(tmp_path, other.model, other.optimizer, scheduler=other.scheduler, ema=[other.ema, part])
    assert "nothing was changed" in str(caught.value)
    assert flat(state_of(other)) == before
    assert part.value == 1
    other.train(1)  # and it is still in working order


class Late(nn.Linear):
    """Takes its weights, and then refuses the rest; but its own old weights with everything."""

    own: torch.Tensor | None = None

    def get_extra_state(self) -> int:
        return 1

    def set_extra_state(self, state: int) -> None:
        if self.own is not None and not torch.equal(self.weight, self.own):
            raise ValueError("too late")


def test_a_model_that_fails_after_it_was_filled_gets_its_weights_back(tmp_path: Path) -> None:
    zoo.save_checkpoint(Late(2, 2), None, path=tmp_path)
    model = Late(2, 2)
    model.own = model.weight.detach().clone()
    before = flat(model.state_dict())
    with pytest.raises(zoo.LoadError, match="too late"):
        zoo.load_checkpoint(tmp_path, model)
    assert flat(model.state_dict()) == before


def test_a_resume_that_leaves_something_out_is_refused_unless_it_says_so(trained: Path) -> None:
    run = Run(seed=3)
    with pytest.raises(zoo.OptionError, match=r"ema, generators\['loader'\], scaler, scheduler") as caught:
        zoo.load_checkpoint(trained, run.model, run.optimizer)
    assert "strict=False" in str(caught.value.fix)
    zoo.load_checkpoint(trained, run.model, run.optimizer, strict=False)
    with pytest.raises(zoo.OptionError, match=r"saved without optimizer\[0\]"):
        zoo.load_checkpoint(trained, run.model, [run.optimizer])


def test_strict_false_takes_the_weights_that_fit_by_name_but_no_other_shapes(trained: Path) -> None:
    longer = nn.Sequential(*Run(seed=4).model, nn.Linear(3, 2))
    with pytest.raises(zoo.LoadError, match=r"6\.bias"):
        zoo.load_checkpoint(trained, longer)
    zoo.load_checkpoint(trained, longer, strict=False)
    with pytest.raises(zoo.LoadError, match="another shape"):
        zoo.load_checkpoint(trained, nn.Sequential(nn.Conv2d(1, 5, 3)), strict=False)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"epoch": -1}, "epoch is a whole number"),
        ({"epoch": 1.5}, "epoch is a whole number"),
        ({"epoch": True}, "epoch is a whole number"),
        ({"epoch": "3"}, "epoch is a whole number"),
        ({"step": -1}, "step is a whole number"),
        ({"metrics": {"a": "0.5"}}, "numbers by name"),
        ({"metrics": {1: 0.5}}, "numbers by name"),
        ({"metrics": {"a": torch.ones(2)}}, "numbers by name"),
        ({"metrics": [0.5]}, "numbers by name"),
        ({"keep_last": 0}, "at least the last"),
        ({"keep_last": True}, "at least the last"),
        ({"best": ("loss", "low")}, "highest value or its lowest"),
        ({"best": 3}, "highest value or its lowest"),
        ({"extra": {"f": print}}, r"extra\.f cannot be kept"),
        ({"optimizer": 3}, "optimizer is a int"),
        ({"generators": {"a": 3}}, "generators"),
        ({"model": "resnet18"}, "a checkpoint is of a model"),
        ({"model": nn.LazyLinear(3)}, "run one batch"),
        ({"model": nn.Linear(2, 2, device="meta")}, "meta device"),
    ],
)
def test_bad_arguments_are_refused_and_leave_no_folder(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(zoo.OptionError, match=says):
        zoo.save_checkpoint(**{"model": nn.Linear(1, 1), "path": tmp_path / "run", **options})
    assert not (tmp_path / "run").exists()


def test_what_an_optimizer_holds_that_cannot_be_kept_is_named(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    optimizer.param_groups[0]["foo"] = print
    with pytest.raises(zoo.OptionError, match=r"optimizer\.param_groups\[0\]\.foo"):
        zoo.save_checkpoint(model, optimizer, path=tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_file_in_place_of_the_folder_and_a_folder_that_cannot_be_written_say_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(zoo.CheckpointError):
            zoo.save_checkpoint(nn.Linear(1, 1), path=path)
        with pytest.raises(zoo.CheckpointError):
            zoo.load_checkpoint(path, nn.Linear(1, 1))


def test_a_link_to_nothing_says_that_it_is_one(tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(tmp_path / "nowhere")
    with pytest.raises(zoo.CheckpointError, match="a link to nothing"):
        zoo.save_checkpoint(nn.Linear(1, 1), path=tmp_path / "run")


@pytest.mark.parametrize("path", [b"run", None, 3])
def test_what_is_no_path_is_an_option_error(path: Any) -> None:
    for call in (
        lambda: zoo.save_checkpoint(nn.Linear(1, 1), path=path),
        lambda: zoo.CheckpointSaver(path),
        lambda: zoo.load_checkpoint(path, nn.Linear(1, 1)),
        lambda: zoo.list_checkpoints(path),
    ):
        with pytest.raises(zoo.OptionError, match="is a path"):
            call()


@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors", "state.json", "checkpoint.json"])
def test_a_full_disk_leaves_what_was_there_and_nothing_else(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Linear(1, 1)
    zoo.save_checkpoint(model, None, 1, path=tmp_path)
    write_file = saving.write_file

    def full(folder: str, file: str, chunks: Any) -> Any:
        if file == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_file(folder, file, chunks)

    monkeypatch.setattr(saving, "write_file", full)
    with pytest.raises(zoo.CheckpointError, match="No space left"):
        zoo.save_checkpoint(model, None, 2, path=tmp_path, keep_last=1)
    assert os.listdir(tmp_path) == ["epoch-0001"]
    assert zoo.load_checkpoint(tmp_path, model).epoch == 1
