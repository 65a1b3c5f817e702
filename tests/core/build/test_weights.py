"""Every key on both sides is accounted for; ties, buffers, dtypes and requires_grad survive; nothing is copied."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from zoo.build.fast_init import without_initialisation
from zoo.build.weights import check_structure, key_map, load_weights
from zoo.checkpoints.headers import TensorInfo
from zoo.checkpoints.keymap import Drop, KeyMap, Rename, StateMap
from zoo.errors import LoadError, OptionError
from zoo.models.config import ModelConfig
from zoo.models.model import Model


class TiedConfig(ModelConfig):
    width: int = 8


class Tied(Model):
    """An embedding tied to its output layer, a batch norm, an index table and a frozen scale."""

    Config = TiedConfig

    def __init__(self, config: TiedConfig) -> None:
        super().__init__(config)
        self.embed = nn.Embedding(5, config.width)
        self.norm = nn.BatchNorm1d(config.width)
        self.out = nn.Linear(config.width, 5, bias=False)
        self.out.weight = self.embed.weight
        self.scale = nn.Parameter(torch.ones(1), requires_grad=False)
        self.register_buffer("index", torch.arange(4))
        self.register_buffer("same_index", self.index)
        self.register_buffer("table", torch.linspace(0, 1, 4), persistent=False)

    def key_maps(self) -> Mapping[str, StateMap]:
        return {"old": KeyMap(Drop(r"aux\..*", "an auxiliary head"), Rename(r"bn\.(.*)", r"norm.\1"))}


def published(model: Tied) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def unwritten() -> Tied:
    with without_initialisation():
        model = Tied()
    assert isinstance(model, Tied)
    return model


def test_a_strict_load_assigns_without_copying() -> None:
    tensors = published(Tied())
    model = unwritten()
    report = load_weights(model, tensors, format="native", source="here")
    assert report.ok
    assert set(report.loaded) == set(tensors)
    for name, tensor in model.state_dict().items():
        assert tensor.data_ptr() == tensors[name].data_ptr() or name in ("out.weight", "same_index")
        assert torch.equal(tensor, tensors[name])


def test_tied_parameters_stay_one_parameter() -> None:
    model = unwritten()
    load_weights(model, published(Tied()), format="native", source="here")
    assert model.out.weight is model.embed.weight


@pytest.mark.parametrize("missing", ["out.weight", "embed.weight"])
def test_a_file_may_hold_a_tied_parameter_once(missing: str) -> None:
    tensors = published(Tied())
    expected = tensors.pop(missing)
    model = unwritten()
    assert load_weights(model, tensors, format="native", source="here").ok
    assert model.out.weight is model.embed.weight
    assert torch.equal(model.out.weight, expected)


def test_frozen_parameters_stay_frozen_and_buffers_computed_in_init_survive() -> None:
    model = unwritten()
    load_weights(model, published(Tied()), format="native", source="here")
    assert not model.scale.requires_grad
    assert model.embed.weight.requires_grad
    assert torch.equal(model.table, torch.linspace(0, 1, 4))


def test_integer_buffers_may_be_absent_and_are_reported_as_kept() -> None:
    tensors = published(Tied())
    del tensors["norm.num_batches_tracked"], tensors["index"], tensors["same_index"]
    report = load_weights(unwritten(), tensors, format="native", source="here")
    assert set(report.kept) == {"norm.num_batches_tracked", "index", "same_index"}


@pytest.mark.parametrize("name", ["norm.running_mean", "norm.weight", "scale"])
def test_a_missing_value_is_an_error_that_names_it(name: str) -> None:
    tensors = published(Tied())
    del tensors[name]
    with pytest.raises(LoadError, match=name.replace(".", r"\.")) as caught:
        load_weights(unwritten(), tensors, format="native", source="here")
    assert caught.value.report.missing == (name,)  # type: ignore[attr-defined]  # a LoadReport


def test_unexpected_and_misshapen_tensors_are_errors_that_name_them() -> None:
    tensors = published(Tied()) | {"extra.bias": torch.zeros(2), "norm.bias": torch.zeros(9)}
    with pytest.raises(LoadError) as caught:
        load_weights(unwritten(), tensors, format="native", source="here")
    report = caught.value.report
    assert report.unexpected == ("extra.bias",)  # type: ignore[attr-defined]  # a LoadReport
    assert report.mismatched == {"norm.bias": "file (9,), model (8,)"}  # type: ignore[attr-defined]  # a LoadReport


def test_a_published_format_is_mapped_and_what_it_drops_is_reported() -> None:
    tensors = {name.replace("norm.", "bn."): tensor for name, tensor in published(Tied()).items()}
    tensors["aux.weight"] = torch.zeros(3)
    report = load_weights(unwritten(), tensors, format="old", source="here")
    assert report.skipped == {"aux.weight": "an auxiliary head"}
    assert "norm.weight" in report.loaded


def test_an_unknown_format_names_those_there_are() -> None:
    with pytest.raises(OptionError, match="transformers") as caught:
        key_map(Tied(), "transformers")
    assert caught.value.found == "native, old"


def test_dtype_is_the_models_unless_another_is_asked_for() -> None:
    halves = {n: t.half() if t.is_floating_point() else t for n, t in published(Tied()).items()}
    model = unwritten()
    load_weights(model, halves, format="native", source="here")
    assert model.norm.weight.dtype == torch.float32
    model = unwritten()
    load_weights(model, halves, format="native", source="here", dtype=torch.bfloat16)
    assert model.norm.weight.dtype == torch.bfloat16
    assert model.index.dtype == torch.int64


def test_the_structure_alone_is_enough_to_refuse() -> None:
    structure = {
        name: TensorInfo("F32" if tensor.is_floating_point() else "I64", tuple(tensor.shape))
        for name, tensor in published(Tied()).items()
    }
    check_structure(Tied(), structure, "native", "there")
    structure["embed.weight"] = TensorInfo("F32", (5, 9))
    with pytest.raises(LoadError, match=r"embed\.weight"):
        check_structure(Tied(), structure, "native", "there")


@pytest.mark.parametrize(
    ("dtype", "told"), [(torch.int8, "int8"), (torch.bool, "bool"), (torch.complex64, "complex64")]
)
def test_values_of_another_kind_are_not_cast_to_weights(dtype: torch.dtype, told: str) -> None:
    tensors = published(Tied()) | {"scale": torch.ones(1).to(dtype)}
    for strict in (True, False):
        with pytest.raises(LoadError, match="quantised") as caught:
            load_weights(unwritten(), tensors, format="native", source="here", strict=strict)
        report = caught.value.report
        assert report.mismatched == {"scale": f"file {told}, model float32"}  # type: ignore[attr-defined]  # a LoadReport


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("format", ["native", "old"])
def test_what_wrappers_put_before_every_name_is_left_out_and_told(prefix: str, format: str) -> None:
    expected = published(Tied())
    tensors = {prefix + name: tensor for name, tensor in expected.items()} | {"n_averaged": torch.tensor(3)}
    if format == "old":
        tensors = {name.replace("norm.", "bn."): tensor for name, tensor in tensors.items()}
        tensors[f"{prefix}aux.weight"] = torch.zeros(3)
    model = unwritten()
    report = load_weights(model, tensors, format=format, source="here", inside="model_ema")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    assert (report.prefix, report.inside, report.ok) == (prefix, "model_ema", True)
    assert report.skipped["n_averaged"] == "a counter beside the model"
    assert set(report.skipped) == {"n_averaged"} | ({f"{prefix}aux.weight"} if format == "old" else set())
    assert f"'{prefix}' left out of every name" in str(report)
    assert "taken from 'model_ema'" in str(report)


def test_a_beginning_is_left_out_only_where_all_of_it_then_fits() -> None:
    whole = {f"module.{name}": tensor for name, tensor in published(Tied()).items()}
    some = {name: tensor for name, tensor in whole.items() if "scale" not in name}
    scale = whole["module.scale"]
    with pytest.raises(LoadError) as caught:
        load_weights(unwritten(), some | {"scale": scale}, format="native", source="here")
    assert caught.value.report.prefix == ""  # type: ignore[attr-defined]  # a LoadReport
    with pytest.raises(LoadError) as caught:
        load_weights(unwritten(), some, format="native", source="here")
    assert caught.value.report.missing == ("scale",)  # type: ignore[attr-defined]  # a LoadReport
    for strict in (True, False):
        with pytest.raises(LoadError):
            load_weights(unwritten(), whole | {"module.x": scale}, format="native", source="here", strict=strict)


def test_names_of_the_models_own_that_begin_so_stay() -> None:
    class Outer(Model):
        Config = TiedConfig

        def __init__(self, config: TiedConfig) -> None:
            super().__init__(config)
            self.module = nn.Linear(2, 2)

    model = Outer(TiedConfig())
    assert load_weights(model, Outer(TiedConfig()).state_dict(), format="native", source="here").prefix == ""


def test_a_header_with_such_a_beginning_is_not_refused() -> None:
    structure = {
        f"module.{name}": TensorInfo("F32" if tensor.is_floating_point() else "I64", tuple(tensor.shape))
        for name, tensor in published(Tied()).items()
    }
    check_structure(Tied(), structure, "native", "there")
