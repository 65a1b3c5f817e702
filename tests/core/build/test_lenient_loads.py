"""strict=False: what a file lacks is initialised as its class does, what is unknown is left, and all of it is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import zoo
from loopback_hub import LoopbackHub
from zoo.build.weights import load_weights
from zoo.checkpoints.writing import serialize, write_weights


@pytest.fixture
def state(resnet18: nn.Module) -> dict[str, Tensor]:
    """timm's resnet18, a copy to take apart."""
    return {name: tensor.clone() for name, tensor in resnet18.state_dict().items()}


def written(tmp_path: Path, state: dict[str, Tensor]) -> str:
    """A file of the caller's."""
    write_weights(str(tmp_path / "m.safetensors"), state)
    return f"file://{tmp_path}/m.safetensors"


def test_missing_tensors_are_initialised_as_the_class_does(tmp_path: Path, state: dict[str, Tensor]) -> None:
    lacking = ("conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var")
    path = written(tmp_path, {name: tensor for name, tensor in state.items() if name not in lacking})
    with pytest.raises(zoo.LoadError, match="5 missing"):
        zoo.create("resnet18", checkpoint=path, format="timm")
    torch.manual_seed(3)
    model = zoo.create("resnet18", checkpoint=path, format="timm", strict=False)
    encoder = model.encoder
    assert dict(model.load_report.reinitialised) == dict.fromkeys((f"encoder.{n}" for n in lacking), "not in the file")
    assert model.load_report.ok
    # timm draws convolutions from N(0, 2 / fan_out): 64 * 7 * 7 values behind each output channel's fan.
    assert abs(float(encoder.conv1.weight.detach().std()) - (2 / (64 * 49)) ** 0.5) < 2e-3
    assert torch.equal(encoder.bn1.weight, torch.ones(64))
    assert torch.equal(encoder.bn1.bias, torch.zeros(64))
    assert torch.equal(encoder.bn1.running_mean, torch.zeros(64))
    assert torch.equal(encoder.bn1.running_var, torch.ones(64))
    assert torch.equal(encoder.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])
    assert encoder.conv1.weight.requires_grad
    assert torch.isfinite(model(torch.rand(1, 3, 64, 64))["logits"]).all()


def test_unknown_tensors_are_ignored_and_named(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = written(tmp_path, {**state, "aux.weight": torch.ones(3)})
    with pytest.raises(zoo.LoadError, match="1 unexpected"):
        zoo.create("resnet18", checkpoint=path, format="timm")
    model = zoo.create("resnet18", checkpoint=path, format="timm", strict=False)
    assert model.load_report.unexpected == ("aux.weight",)
    assert not model.load_report.reinitialised
    assert "aux.weight" in str(model.load_report)


def test_a_head_of_another_shape_is_a_fresh_head(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = written(tmp_path, state)
    with pytest.raises(zoo.LoadError, match="2 of another shape"):
        zoo.create("resnet18", checkpoint=path, format="timm", num_classes=7)
    model = zoo.create("resnet18", checkpoint=path, format="timm", num_classes=7, strict=False)
    assert dict(model.load_report.reinitialised) == {
        "encoder.fc.weight": "file (1000, 512), model (7, 512)",
        "encoder.fc.bias": "file (1000,), model (7,)",
    }
    assert 0 < float(model.encoder.fc.weight.detach().std()) < 1
    assert torch.equal(model.encoder.conv1.weight, state["conv1.weight"])


def test_another_shape_elsewhere_stays_an_error(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = written(tmp_path, {**state, "layer1.0.conv1.weight": torch.ones(1), "fc.bias": torch.ones(3)})
    with pytest.raises(zoo.LoadError, match=r"1 of another shape") as caught:
        zoo.create("resnet18", checkpoint=path, format="timm", strict=False)
    assert list(caught.value.report.mismatched) == ["encoder.layer1.0.conv1.weight"]  # type: ignore[attr-defined]  # a LoadReport


def test_a_file_of_which_nothing_fits_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path, {"something.else": torch.ones(3)})
    with pytest.raises(zoo.LoadError, match="1 unexpected"):
        zoo.create("resnet18", checkpoint=path, format="timm", strict=False)


def test_a_lenient_load_looks_at_the_header_first(hub: LoopbackHub, state: dict[str, Tensor]) -> None:
    del state["bn1.bias"]
    hub.add("acme/part", "model.safetensors", b"".join(serialize({**state, "layer1.0.conv1.weight": torch.ones(1)})))
    with pytest.raises(zoo.LoadError):
        zoo.create(
            "resnet18",
            checkpoint="hf://acme/part/model.safetensors",
            format="timm",
            strict=False,
            allow_licenses="unknown",
        )
    assert hub.body_bytes < 100_000
    hub.add("acme/part", "model.safetensors", b"".join(serialize(state)))
    model = zoo.create(
        "resnet18", checkpoint="hf://acme/part/model.safetensors", format="timm", strict=False, allow_licenses="unknown"
    )
    assert list(model.load_report.reinitialised) == ["encoder.bn1.bias"]


def test_the_meta_device_holds_no_weights(tmp_path: Path, state: dict[str, Tensor]) -> None:
    with pytest.raises(zoo.OptionError, match="meta device"):
        zoo.create("resnet18", checkpoint=written(tmp_path, state), format="timm", device="meta")
    zoo.create("resnet18", num_classes=5).save_pretrained(tmp_path / "saved")
    with pytest.raises(zoo.OptionError, match="meta device"):
        zoo.create(f"file://{tmp_path}/saved", device="meta")
    assert next(zoo.create("resnet18", device="meta").parameters()).is_meta


def test_strict_is_about_weights() -> None:
    with pytest.raises(zoo.OptionError, match="strict"):
        zoo.create("resnet18", strict=False)


def test_a_saved_folder_may_lack_tensors_too(tmp_path: Path) -> None:
    model = zoo.create("resnet18", num_classes=5)
    model.save_pretrained(tmp_path / "saved")
    state = model.state_dict()
    bias = state.pop("encoder.bn1.bias")
    write_weights(str(tmp_path / "saved" / "model.safetensors"), state)
    with pytest.raises(zoo.LoadError):
        zoo.create(f"file://{tmp_path}/saved")
    for again in (
        zoo.create(f"file://{tmp_path}/saved", strict=False, num_classes=3),
        type(model).from_pretrained(tmp_path / "saved", strict=False, num_classes=3),
    ):
        assert again.load_report.reinitialised["encoder.bn1.bias"] == "not in the file"
        assert again.load_report.reinitialised["encoder.fc.weight"] == "3 classes asked for, the checkpoint has 5"
        assert torch.equal(again.encoder.bn1.bias, torch.zeros_like(bias))


def test_a_missing_tensor_has_the_dtype_and_device_that_were_asked(tmp_path: Path, state: dict[str, Tensor]) -> None:
    del state["bn1.bias"]
    path = written(tmp_path, state)
    model = zoo.create("resnet18", checkpoint=path, format="timm", strict=False, dtype="bfloat16")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


class TiedConfig(zoo.ModelConfig):
    width: int = 4


class Tied(zoo.Model):
    """Two names for one matrix, and a scale."""

    Config = TiedConfig

    def __init__(self, config: TiedConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(5, config.width)
        self.out = nn.Linear(config.width, 5, bias=False)
        self.out.weight = self.embed.weight
        self.scale = nn.Parameter(torch.full((1,), 7.0))


def test_a_model_that_is_initialised_keeps_its_own_values() -> None:
    model = Tied()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = load_weights(model, {"scale": torch.ones(1)}, format="native", source="here", strict=False)
    assert set(report.reinitialised) == {"embed.weight", "out.weight"}
    assert torch.equal(model.embed.weight, before["embed.weight"])
    assert model.out.weight is model.embed.weight
    assert model.scale.tolist() == [1.0]
