"""Rows by the hundred, on the meta device: what they build has the shapes the catalogue and the contracts promise."""

from __future__ import annotations

import random

import pytest
import timm
import torch

from zoo.build.fast_init import without_initialisation
from zoo_timm.adapter import TimmBackbone, TimmModel
from zoo_timm.catalog import PLUGIN

# Gemma's encoder reads a value from its input, which nothing on the meta device has.
MODELS = {model.name: model for model in PLUGIN.models if not model.name.startswith("gemma4")}
DRAWN = random.Random(11).sample(sorted(MODELS), 208)


def check_row(name: str) -> None:
    row = MODELS[name]
    factory = TimmBackbone if row.kind == "backbone" else TimmModel
    with torch.device("meta"), without_initialisation(), torch.inference_mode():
        component = factory(row.config).eval()
        published = timm.create_model(name).state_dict()
        images = torch.empty(2, row.input.channels, *row.input.size)
        assert sum(p.numel() for p in component.parameters()) == row.params
        assert component.input_spec == row.input
        state = component.key_maps()["timm"].load(published)
        assert {n: t.shape for n, t in state.tensors.items()} == {n: t.shape for n, t in component.state_dict().items()}
        assert (state.skipped, state.adapted) == ({}, {})
        backbone = component if row.kind == "backbone" else check_classifier(component, images)
        maps = backbone(images)
    assert tuple(m.shape[1] for m in maps) == backbone.channels == row.channels
    assert backbone.strides == row.strides
    for found, stride in zip(maps, backbone.strides, strict=True):
        for cells, pixels in zip(found.shape[2:], row.input.size, strict=True):
            assert cells == pytest.approx(pixels / stride, rel=0.15, abs=1)


def check_classifier(model: TimmModel, images: torch.Tensor) -> TimmBackbone:
    classes = model.num_classes
    outputs = model(images)
    assert outputs["embeddings"].shape == (2, model.encoder.head_hidden_size)
    assert ("logits" in outputs) == bool(classes)
    assert not classes or outputs["logits"].shape == (2, classes)
    backbone = TimmModel.as_backbone(model.config).eval()
    mine, its = set(model.state_dict()), set(backbone.state_dict())
    assert its <= mine
    assert bool(mine - its) == bool(classes)
    model.reset_head(3)
    assert model(images)["logits"].shape == (2, 3)
    fresh = TimmModel(model.config)
    assert {n: t.shape for n, t in model.state_dict().items()} == {n: t.shape for n, t in fresh.state_dict().items()}
    return backbone


@pytest.mark.parametrize("name", DRAWN[:8])
def test_a_row_builds_what_it_promises(name: str) -> None:
    check_row(name)


@pytest.mark.long
@pytest.mark.parametrize("name", DRAWN[8:])
def test_two_hundred_rows_build_what_they_promise(name: str) -> None:
    check_row(name)
