"""zoo_timm against timm: the same weights give the same logits, embeddings and feature maps."""

from __future__ import annotations

import random

import pytest
import timm
import torch
from timm_reference import feature_maps, image, largest_difference, reference
from torch import Tensor, nn

from zoo.build.fast_init import without_initialisation
from zoo_timm.adapter import TimmBackbone, TimmModel
from zoo_timm.catalog import PLUGIN

TOLERANCE = 1e-5
MODELS = {model.name: model for model in PLUGIN.models}

# 60 others drawn once for all, from what a small machine can run: under 100M parameters and 288 pixels.
_RUNNABLE = sorted(m.name for m in MODELS.values() if (m.params or 0) < 100e6 and max(m.input.size) <= 288)
SAMPLE = sorted(random.Random(20).sample(_RUNNABLE, 60))
QUICK = (
    "test_resnet",
    "test_efficientnet",
    "test_convnext",
    "test_vit",
    "test_vit3",
    "test_coatnet",
    "swin_s3_tiny_224",
)


def check_maps(architecture: str, theirs: nn.Module, images: Tensor) -> None:
    """The backbone gives every map of timm's features-only wrapper, with the channels and strides it declares."""
    with without_initialisation():
        backbone = TimmBackbone(architecture=architecture, out_indices=range(len(theirs.feature_info))).eval()
    backbone.load_state_dict(backbone.key_maps()["timm"].load(theirs.state_dict()).tensors, assign=True)
    expected = feature_maps(theirs, architecture, images)
    with torch.inference_mode():
        ours = backbone(images)
    assert len(ours) == len(expected)
    for found, wanted, channels, stride in zip(ours, expected, backbone.channels, backbone.strides, strict=True):
        assert largest_difference(found, wanted) <= TOLERANCE
        assert found.shape[1] == channels
        assert found.shape[2] == pytest.approx(images.shape[2] / stride, rel=0.15, abs=1.01)


def check_classifier(architecture: str, theirs: nn.Module, images: Tensor) -> None:
    """Logits and embeddings are timm's, also where maps are asked for along with them."""
    with without_initialisation():
        model = TimmModel(architecture=architecture, num_classes=theirs.num_classes).eval()
    model.load_state_dict(model.key_maps()["timm"].load(theirs.state_dict()).tensors, assign=True)
    with torch.inference_mode():
        plain, detailed = model(images), model(images, output_features=True)
        tokens = theirs.forward_features(images)
        logits, embeddings = theirs.forward_head(tokens), theirs.forward_head(tokens, pre_logits=True)
    for outputs in (plain, detailed):
        assert largest_difference(outputs["embeddings"], embeddings) <= TOLERANCE
        assert ("logits" in outputs) == bool(theirs.num_classes)
        assert "logits" not in outputs or largest_difference(outputs["logits"], logits) <= TOLERANCE
    assert len(detailed["features"]) == len(theirs.feature_info)


def check_against_timm(architecture: str) -> None:
    row, theirs = MODELS[architecture], reference(architecture)
    images = image(theirs, row.input.divisor)
    check_maps(architecture, theirs, images)
    if row.kind == "model":  # the others are timm's plain encoders
        check_classifier(architecture, theirs, images)


@pytest.mark.parametrize("architecture", QUICK)
def test_the_same_weights_give_timms_logits_embeddings_and_maps(architecture: str) -> None:
    check_against_timm(architecture)


@pytest.mark.long
@pytest.mark.parametrize("architecture", SAMPLE)
def test_sixty_others_give_timms_logits_embeddings_and_maps(architecture: str) -> None:
    check_against_timm(architecture)


def _smallest_of_each_class() -> list[str]:
    """One architecture for every way a family of timm declares its classifier."""
    found: dict[tuple[str, str], str] = {}
    sizes = {m.name: m.params or 0 for m in MODELS.values() if m.kind == "model"}
    for name in sorted(sizes, key=sizes.__getitem__):
        cfg = timm.get_pretrained_cfg(name)
        found.setdefault((timm.model_entrypoint(name).__module__, str(cfg.classifier)), name)
    return sorted(name for name in found.values() if sizes[name] < 200e6)


@pytest.mark.long
@pytest.mark.parametrize("architecture", _smallest_of_each_class())
def test_every_kind_of_head_gives_timms_logits(architecture: str) -> None:
    theirs = reference(architecture)
    images = image(theirs, MODELS[architecture].input.divisor)
    check_classifier(architecture, theirs, images)
    with torch.inference_mode():
        heads_own = theirs.forward_head(theirs.forward_features(images))
        assert largest_difference(heads_own, theirs(images)) <= TOLERANCE
