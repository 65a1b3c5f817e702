"""A run that was saved and resumed is, bit for bit, the run that never stopped."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_runs
from torch import nn
from training_runs import EPOCHS, OPTIMIZERS, SCHEDULERS, Run

import zoo

RUNS = [*((name, "cosine") for name in OPTIMIZERS), *(("momentum", name) for name in SCHEDULERS if name != "cosine")]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Fingerprints of all runs, saved half way here and resumed by one other process."""
    folder = tmp_path_factory.mktemp("runs")
    torch.set_num_threads(1)
    for optimizer, scheduler in RUNS:
        run = Run(optimizer, scheduler)
        run.train(EPOCHS)
        run.save(folder / f"{optimizer}+{scheduler}")
    command = [sys.executable, training_runs.__file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    prints: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return prints


def test_saving_and_loading_pickle_nothing(resumed: dict[str, str]) -> None:
    """The other process dies of it: see `training_runs.refuse_pickle`."""
    assert len(resumed) == len(RUNS)


@pytest.mark.parametrize(("optimizer", "scheduler"), RUNS)
def test_two_halves_in_two_processes_are_the_whole(optimizer: str, scheduler: str, resumed: dict[str, str]) -> None:
    whole = Run(optimizer, scheduler)
    whole.train(2 * EPOCHS)
    assert resumed[f"{optimizer}+{scheduler}"] == whole.fingerprint()


def test_saving_in_the_middle_of_an_epoch_does_not_change_the_run(tmp_path: Path) -> None:
    prints = []
    for saves in (False, True):
        run = Run()
        batches = run.batches()
        for number, _ in enumerate(batches):
            if saves and number == 1:
                run.save(tmp_path, step=number)
        run.train(1)
        prints.append(run.fingerprint())
    assert prints[0] == prints[1]


class Drawing(zoo.Classifier):
    """Draws from every source when it is built."""

    built = 0

    def __init__(self, config: zoo.ModelConfig) -> None:
        super().__init__(config)
        Drawing.built += 1
        self.fc = nn.Linear(3, 2)
        self.drawn = random.random() + float(np.random.random()) + torch.rand(1).item()


def test_saving_a_zoo_model_builds_one_more_of_it_and_still_draws_nothing(tmp_path: Path) -> None:
    model = Drawing()
    before = torch.get_rng_state(), random.getstate(), np.random.get_state(legacy=False)
    assert "config.json" in zoo.save_checkpoint(model, None, 1, path=tmp_path).files
    after = torch.get_rng_state(), random.getstate(), np.random.get_state(legacy=False)
    assert torch.equal(before[0], after[0])
    assert before[1] == after[1]
    assert str(before[2]) == str(after[2])


def test_a_zoo_model_is_built_once_more_for_its_first_save_and_when_it_has_changed(tmp_path: Path) -> None:
    model, other = Drawing(), Drawing()
    texts = []
    for epoch, built in enumerate((1, 0, 1, 0, 1)):
        if epoch == 2:
            model.label_space = zoo.LabelSpace(name="pets", names=("cat", "dog"))
        if epoch == 4:
            model = other
        before = Drawing.built
        saved = zoo.save_checkpoint(model, None, epoch, path=tmp_path)
        assert Drawing.built - before == built, epoch
        texts.append((Path(saved.path) / "config.json").read_text())
    assert texts[0] == texts[1] == texts[4] != texts[2] == texts[3]
    model.fc = nn.Linear(3, 4)
    for epoch in (6, 7):
        with pytest.warns(UserWarning, match="cannot build a model from it"):
            assert "config.json" not in zoo.save_checkpoint(model, None, epoch, path=tmp_path).files


def test_the_call_of_the_mission_runs_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo import load_checkpoint, save_checkpoint

    monkeypatch.chdir(tmp_path)
    run = Run()
    model, optimizer, epoch, metrics = run.model, run.optimizer, 3, {"top1": 0.5}
    run.train(1)
    save_checkpoint(model, optimizer, epoch, metrics, path="checkpoints/v1.0.0/")
    other = Run(seed=1)
    found = load_checkpoint("checkpoints/v1.0.0/", other.model, other.optimizer)
    assert (found.epoch, found.metrics, found.name) == (3, {"top1": 0.5}, "epoch-0003")
    assert torch.equal(other.model[0].weight, model[0].weight)
    assert (tmp_path / "checkpoints" / "v1.0.0" / "epoch-0003" / "model.safetensors").is_file()


def test_a_zoo_model_is_created_from_a_checkpoint_of_its_training(tmp_path: Path) -> None:
    model = zoo.create("resnet18", num_classes=2)
    saved = zoo.save_checkpoint(model, None, 1, path=tmp_path)
    again = zoo.create(f"file://{saved.path}")
    assert type(again) is type(model)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


def test_a_zoo_model_that_was_changed_is_saved_with_a_warning_that_create_cannot_open_it(tmp_path: Path) -> None:
    model = zoo.create("resnet18", num_classes=2)
    model.encoder.conv1 = nn.Conv2d(4, 64, 7)
    with pytest.warns(UserWarning, match="cannot build a model from it"):
        saved = zoo.save_checkpoint(model, None, 1, path=tmp_path)
    assert "config.json" not in saved.files
    zoo.load_checkpoint(tmp_path, model)


def test_states_go_where_the_parameters_are_in_their_own_precision(tmp_path: Path) -> None:
    """torch would cast a float32 state of a bfloat16 parameter to bfloat16."""
    model = nn.Linear(3, 2).bfloat16()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for parameter in model.parameters():
        optimizer.state[parameter]["momentum_buffer"] = torch.rand(parameter.shape)
    zoo.save_checkpoint(model, optimizer, path=tmp_path)
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        other = nn.Linear(3, 2).to(dtype)
        resumed = torch.optim.SGD(other.parameters(), 0.1, momentum=0.9)
        zoo.load_checkpoint(tmp_path, other, resumed)
        buffer = resumed.state[other.weight]["momentum_buffer"]
        assert buffer.dtype == expected
        assert torch.equal(buffer.float(), optimizer.state[model.weight]["momentum_buffer"])


class Tied(nn.Module):
    """Two names of one weight, and state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.out = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.out.weight = self.embedding.weight

    def get_extra_state(self) -> dict[str, object]:
        return {"seen": 7}

    def set_extra_state(self, state: dict[str, object]) -> None:
        self.seen = state["seen"]


@pytest.mark.long
def test_what_torch_compile_wraps_is_saved_under_its_own_names(tmp_path: Path) -> None:
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    zoo.save_checkpoint(torch.compile(model), None, path=tmp_path)
    zoo.load_checkpoint(tmp_path, other)
    zoo.load_checkpoint(tmp_path, torch.compile(other))
    assert torch.equal(other.weight, model.weight)


def test_tied_weights_wrappers_and_layouts_come_back_as_they_were(tmp_path: Path) -> None:
    model, other = Tied(), Tied()
    zoo.save_checkpoint(nn.DataParallel(model), None, path=tmp_path)
    zoo.load_checkpoint(tmp_path, other)
    assert other.out.weight is other.embedding.weight
    assert torch.equal(other.out.weight, model.out.weight)
    assert other.seen == 7

    conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(conv.parameters())
    conv(torch.rand(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    zoo.save_checkpoint(conv, optimizer, path=tmp_path / "conv")
    resumed = torch.optim.Adam(conv.parameters())
    zoo.load_checkpoint(tmp_path / "conv", conv, resumed)
    assert resumed.state[conv.weight]["exp_avg"].is_contiguous(memory_format=torch.channels_last)


class Outer:
    class Inner:
        """A schedule of the caller's, as one in a notebook's function is."""

        def __init__(self, seen: int) -> None:
            self.seen = seen

        def state_dict(self) -> dict[str, int]:
            return {"seen": self.seen}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.seen = state["seen"]


def test_a_part_of_a_nested_or_local_class_comes_back(tmp_path: Path) -> None:
    class Local(Outer.Inner):
        pass

    for name, kind in (("nested", Outer.Inner), ("local", Local)):
        zoo.save_checkpoint(nn.Linear(1, 1), path=tmp_path / name, scheduler=kind(7))
        other = kind(0)
        zoo.load_checkpoint(tmp_path / name, nn.Linear(1, 1), scheduler=other)
        assert other.seen == 7


def test_several_optimizers_of_one_run_are_saved_by_name(tmp_path: Path) -> None:
    model = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    optimizers = {name: torch.optim.SGD(part.parameters(), 0.1 * (1 + len(name))) for name, part in model.items()}
    optimizers["b"].param_groups[0]["lr"] = 0.7
    zoo.save_checkpoint(model, optimizers, path=tmp_path, extra={"seen": 12, "order": (1, 2)})
    optimizers["b"].param_groups[0]["lr"] = 0.1
    found = zoo.load_checkpoint(tmp_path, model, optimizers)
    assert optimizers["b"].param_groups[0]["lr"] == 0.7
    assert found.extra == {"seen": 12, "order": (1, 2)}
    with pytest.raises(zoo.OptionError, match=r"optimizer\['b'\]"):
        zoo.load_checkpoint(tmp_path, model, {"a": optimizers["a"]})


def test_a_model_alone_is_for_evaluation_and_moves_no_random_numbers(tmp_path: Path) -> None:
    run = Run()
    run.train(1)
    run.save(tmp_path)
    other = Run(seed=5)
    torch.manual_seed(11)
    zoo.load_checkpoint(tmp_path, other.model)
    assert torch.equal(other.model[0].weight, run.model[0].weight)
    after = torch.rand(3)
    torch.manual_seed(11)
    assert torch.equal(after, torch.rand(3))
    zoo.load_checkpoint(tmp_path, other.model, rng=True)
    assert not torch.equal(after, torch.rand(3))


def test_a_model_alone_is_loaded_without_the_optimizer_s_file(tmp_path: Path) -> None:
    run = Run()
    run.train(1)
    path = Path(run.save(tmp_path, extra={"seen": 7}).path) / "state.safetensors"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    other = Run(seed=5)
    assert zoo.load_checkpoint(tmp_path, other.model).extra == {"seen": 7}
    assert torch.equal(other.model[0].weight, run.model[0].weight)
    assert zoo.load_checkpoint(tmp_path).extra == {"seen": 7}
    for needs in ({"rng": True}, {"ema": other.ema}, {"generators": {"loader": other.generator}}):
        with pytest.raises(zoo.DigestError, match=r"state\.safetensors"):
            zoo.load_checkpoint(tmp_path, other.model, **needs)


class Growing(nn.Linear):
    """State of its own whose length changes while it trains, as that of 8-bit layers does."""

    seen = torch.zeros(0, dtype=torch.uint8)

    def get_extra_state(self) -> torch.Tensor:
        return self.seen

    def set_extra_state(self, state: torch.Tensor) -> None:
        self.seen = state


def test_a_module_s_extra_state_may_have_grown(tmp_path: Path) -> None:
    model, other = nn.Sequential(Growing(2, 2)), nn.Sequential(Growing(2, 2))
    model[0].seen = torch.arange(5, dtype=torch.uint8)
    zoo.save_checkpoint(model, path=tmp_path)
    zoo.load_checkpoint(tmp_path, other)
    assert other[0].seen.tolist() == [0, 1, 2, 3, 4]


class Wrapped(torch.optim.SGD):
    """An optimizer whose state is not laid out as torch's, as that of one around another."""

    slow = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"base": super().state_dict(), "slow": self.slow}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict["base"])
        self.slow = state_dict["slow"]


class Refusing:
    refuses = False

    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        if self.refuses:
            raise RuntimeError("not in the mood")


def test_an_optimizer_with_a_state_of_its_own_comes_back_and_is_undone(tmp_path: Path) -> None:
    model, after = nn.Linear(2, 2), Refusing()
    optimizer = Wrapped(model.parameters(), 0.1, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.slow = 3.0
    zoo.save_checkpoint(model, optimizer, path=tmp_path, scheduler=after)
    resumed = Wrapped(model.parameters(), 0.5, momentum=0.9)
    after.refuses = True
    with pytest.raises(zoo.LoadError, match=r"the scheduler did not take .* either(.|\n)*not in the mood"):
        zoo.load_checkpoint(tmp_path, model, resumed, scheduler=after)
    assert (resumed.slow, resumed.param_groups[0]["lr"], dict(resumed.state)) == (0.0, 0.5, {})
    after.refuses = False
    zoo.load_checkpoint(tmp_path, model, resumed, scheduler=after)
    assert (resumed.slow, resumed.param_groups[0]["lr"]) == (3.0, 0.1)
    for parameter in model.parameters():
        expected = optimizer.state[parameter]["momentum_buffer"]
        assert torch.equal(resumed.state[parameter]["momentum_buffer"], expected)


class Shadow:
    """An average that was made with gradients on, so that its tensors have a graph."""

    def __init__(self, model: nn.Module) -> None:
        self.shadow = {name: p * 1.0 for name, p in model.named_parameters()}

    def state_dict(self) -> dict[str, Any]:
        return {"shadow": self.shadow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.shadow = state["shadow"]


def test_an_average_whose_tensors_have_a_graph_comes_back(tmp_path: Path) -> None:
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    zoo.save_checkpoint(model, path=tmp_path, ema=Shadow(model))
    average = Shadow(other)
    zoo.load_checkpoint(tmp_path, other, ema=average)
    assert torch.equal(average.shadow["weight"], model.weight)


def test_a_model_without_data_says_what_to_do_first(tmp_path: Path) -> None:
    zoo.save_checkpoint(nn.Linear(2, 2), path=tmp_path)
    model = nn.Linear(2, 2, device="meta")
    with pytest.raises(zoo.LoadError, match="meta device") as caught:
        zoo.load_checkpoint(tmp_path, model)
    assert "to_empty" in str(caught.value.fix)
    zoo.load_checkpoint(tmp_path, model.to_empty(device="cpu"))


def test_gradients_are_not_saved_and_those_that_are_there_stay(tmp_path: Path) -> None:
    """As the guide says: what was summed over several batches is lost with the process."""
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    model(torch.ones(1, 2)).sum().backward()
    zoo.save_checkpoint(model, torch.optim.SGD(model.parameters(), 0.1), path=tmp_path)
    zoo.load_checkpoint(tmp_path, other, torch.optim.SGD(other.parameters(), 0.1))
    assert other.weight.grad is None
    other.weight.grad = torch.full((2, 2), 7.0)
    zoo.load_checkpoint(tmp_path, other)
    assert other.weight.grad.tolist() == [[7.0, 7.0], [7.0, 7.0]]


def test_an_average_of_the_bare_model_loads_whether_or_not_the_model_is_wrapped(tmp_path: Path) -> None:
    model, other = nn.Linear(2, 2), nn.Linear(2, 2)
    average, bare = (torch.optim.swa_utils.AveragedModel(m) for m in (model, other))
    zoo.save_checkpoint(nn.DataParallel(model), path=tmp_path, ema=average)
    zoo.load_checkpoint(tmp_path, other, ema=bare)
    assert torch.equal(bare.module.weight, model.weight)


def test_lambdas_are_not_kept_and_callable_objects_are(tmp_path: Path) -> None:
    class Warm:
        def __init__(self) -> None:
            self.length = 3

        def __call__(self, step: int) -> float:
            return min(1.0, (step + 1) / self.length)

    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, Warm())
    scheduler.lr_lambdas[0].length = 8
    zoo.save_checkpoint(model, optimizer, path=tmp_path, scheduler=scheduler)
    other = torch.optim.lr_scheduler.LambdaLR(optimizer, Warm())
    zoo.load_checkpoint(tmp_path, model, optimizer, scheduler=other)
    assert other.lr_lambdas[0].length == 8
