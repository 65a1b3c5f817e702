"""Every model of every first-party catalogue keeps its task's contract. On the meta device, so that the largest costs
what the smallest costs."""

from __future__ import annotations

import warnings
from functools import cache

import pytest
import torch

import zoo
from zoo.build.options import check_options
from zoo.catalog import open_catalog
from zoo.errors import OptionError, UnsupportedError
from zoo.models.classifier import Classifier
from zoo.models.config import ModelConfig
from zoo.models.counting import multiply_accumulates
from zoo.models.model import Backbone, Model
from zoo.plugin.compile import structure_of, structure_sha256
from zoo.plugin.loading import load_factory
from zoo.plugin.rows import is_composed
from zoo.specs import ModelSpec

PLUGINS = ("cnn", "vit")  # zoo-timm's rows are held against timm itself, in tests/plugins/zoo_timm

ROWS = [
    info.model
    for namespace in PLUGINS
    for info in map(zoo.info, zoo.list_models(f"{namespace}/*"))
    if not is_composed(info.model)
]
TASKS: dict[str, type[Model]] = {"classification": Classifier, "features": Classifier}
"""The task base behind each task's name; a task without one promises only what every model does."""


@cache
def built(name: str) -> Model:
    with torch.device("meta"):
        return zoo.create(name).eval()


def test_no_plugin_is_left_out_and_none_is_empty() -> None:
    curated = [ref for ref in zoo.list_models() if not ref.startswith("timm/")]
    assert {zoo.info(ref).plugin.namespace for ref in curated} - {"core"} == set(PLUGINS)
    assert len(ROWS) > 100


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_model_is_what_its_row_says(row: ModelSpec) -> None:
    model = built(row.name)
    assert sum(p.numel() for p in model.parameters()) == row.params
    assert structure_sha256(structure_of(model.state_dict())) == row.structure_sha256
    assert multiply_accumulates(model, model.input_spec) == row.macs
    assert isinstance(model, TASKS.get(row.task, Model))
    assert model.task == row.task or row.task == "features"
    assert {"native", *model.key_maps()} == set(row.formats)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_outputs_and_maps_are_what_the_task_promises(row: ModelSpec) -> None:
    model = built(row.name)
    spec = model.input_spec
    images = torch.empty(2, spec.channels, *spec.size, device="meta")
    with torch.no_grad():
        outputs = model(images)
        assert all(isinstance(name, str) for name in outputs)
        if isinstance(model, Classifier):
            embeddings = outputs["embeddings"]
            assert embeddings.ndim == 2
            assert len(embeddings) == 2
            assert model.embed(images).shape == embeddings.shape
            assert ("logits" in outputs) == (model.num_classes > 0)
            if model.num_classes:
                assert outputs["logits"].shape == (2, model.num_classes)
        if row.channels:
            with torch.device("meta"):
                backbone = zoo.create(row.name, features_only=True).eval()
            assert isinstance(backbone, Backbone)
            maps = backbone(images)
            assert [m.shape[:2] for m in maps] == [(2, channels) for channels in row.channels]
            for m, stride in zip(maps, row.strides, strict=True):
                for side, cells in zip(spec.size, m.shape[2:], strict=True):
                    assert cells in (side // stride, -(-side // stride))  # whole patches only, or a part of one too


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_config_round_trips_and_a_misspelt_option_is_refused(row: ModelSpec) -> None:
    resolved = open_catalog().resolve(row.name)
    factory = load_factory(row.factory, resolved.plugin)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # rows use the zoo's own words
        config: ModelConfig = factory.Config.of(row.config, {})
        assert factory.Config.of(config.to_dict(), {}) == config
        assert factory.Config.of(built(row.name).config.to_dict(), {}) == built(row.name).config
    name = next(iter(resolved.schema["properties"]))
    misspelt = name[:-1] + "_" + name[-1]
    with pytest.raises(OptionError, match=name):
        check_options({misspelt: 1}, resolved.schema, resolved.ref)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_attention_is_given_by_every_family_that_attends(row: ModelSpec) -> None:
    model = built(row.name)
    if not isinstance(model, Classifier):
        pytest.skip("only classifiers promise attentions")
    images = torch.empty(1, model.input_spec.channels, *model.input_spec.size, device="meta")
    with torch.no_grad():
        if row.factory.startswith("zoo_cnn."):
            with pytest.raises(UnsupportedError, match="attention"):
                model(images, output_attentions=True)
            return
        attentions = model(images, output_attentions=True)["attentions"]
    # Every layer has one projection for queries, keys and values, or one for each; a pooling head has neither.
    layers = [m for m in model.modules() if any(getattr(m, name, None) is not None for name in ("qkv", "q_proj"))]
    assert len(attentions) == len(layers) > 0
    assert all(a.ndim >= 3 and a.shape[-1] > 1 for a in attentions)
