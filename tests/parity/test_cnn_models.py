"""Every curated CNN against timm's architecture of the same weights: logits, embeddings and every feature map."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from timm_reference import feature_maps, image, largest_difference, reference

from zoo.build.fast_init import without_initialisation
from zoo.build.weights import load_weights
from zoo_cnn.catalog import FAMILIES
from zoo_cnn.checkpoints import TF_CONFIG

TOLERANCE = 1e-5
QUICK = {
    "resnet18",
    "efficientnet_b0",
    "tf_efficientnet_b0",
    "tf_efficientnet_lite0",
    "mobilenetv2_100",
    "tf_mobilenetv3_small_100",
    "convnext_tiny",
    "cs3darknet_m",
    "lcnet_100",
}

ROWS = [
    pytest.param(
        family.factory,
        {**size.config, **(TF_CONFIG if architecture.startswith("tf_") else {})},
        architecture,
        marks=() if architecture in QUICK else pytest.mark.long,
        id=architecture,
    )
    for family in FAMILIES
    for size in family.sizes
    for architecture in size.timm
    if architecture == size.timm[0] or architecture in QUICK  # one of each size, and what is done in a second way
]


@pytest.mark.parametrize(("factory", "config", "architecture"), ROWS)
def test_a_curated_model_computes_what_timms_does(factory: str, config: dict[str, object], architecture: str) -> None:
    module, _, name = factory.partition(":")
    family = getattr(import_module(module), name)
    theirs = reference(architecture)
    images = image(theirs, side=64)
    with without_initialisation():
        model, backbone = family(config), family.as_backbone(family.Config.of(config, {}))
    for ours in (model, backbone):
        load_weights(ours, theirs.state_dict(), format="timm", source=architecture)
        ours.eval()
    with torch.inference_mode():
        logits, embeddings = theirs(images), theirs.forward_head(theirs.forward_features(images), pre_logits=True)
        outputs, maps = model(images), backbone(images)
    assert largest_difference(outputs["logits"], logits) <= TOLERANCE
    assert largest_difference(outputs["embeddings"], embeddings) <= TOLERANCE
    expected = feature_maps(theirs, architecture, images)
    assert len(maps) == len(backbone.channels) == len(backbone.strides) == len(expected)
    for ours, wanted, channels, stride in zip(maps, expected, backbone.channels, backbone.strides, strict=True):
        assert largest_difference(ours, wanted) <= TOLERANCE
        assert tuple(ours.shape[1:]) == (channels, -(-images.shape[2] // stride), -(-images.shape[3] // stride))
