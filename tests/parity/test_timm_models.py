"""zoo_timm against timm: the same weights give the same logits, embeddings and feature maps."""

from __future__ import annotations

import random

import pytest
import timm
import torch
from timm_reference import feature_maps, image, largest_difference, reference

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


def check_against_timm(architecture: str) -> None:
    theirs = reference(architecture)
    images = image(theirs, MODELS[architecture].input.divisor)
    with without_initialisation():
        backbone = TimmBackbone(architecture=architecture, out_indices=range(len(theirs.feature_info))).eval()
    backbone.load_state_dict(backbone.key_maps()["timm"].load(theirs.state_dict()).tensors, assign=True)
    maps = feature_maps(theirs, architecture, images)
    with torch.inference_mode():
        ours = backbone(images)
    assert len(ours) == len(maps)
    for found, expected, channels, stride in zip(ours, maps, backbone.channels, backbone.strides, strict=True):
        assert largest_difference(found, expected) <= TOLERANCE
        assert found.shape[1] == channels
        assert found.shape[2] == pytest.approx(images.shape[2] / stride, rel=0.15, abs=1.01)
    if MODELS[architecture].kind == "backbone":
        return  # one of timm's plain encoders
    check_classifier(architecture, theirs, images)


def check_classifier(architecture: str, theirs: torch.nn.Module, images: torch.Tensor) -> None:
    with without_initialisation():
        model = TimmModel(architecture=architecture, num_classes=theirs.num_classes).eval()
    model.load_state_dict(model.key_maps()["timm"].load(theirs.state_dict()).tensors, assign=True)
    with torch.inference_mode():
        outputs = model(images, output_features=True)
        plain = model(images)
        logits, tokens = theirs(images), theirs.forward_features(images)
        embeddings = theirs.forward_head(tokens, pre_logits=True)
    if theirs.num_classes:
        assert largest_difference(plain["logits"], logits) <= TOLERANCE
        assert largest_difference(outputs["logits"], logits) <= TOLERANCE
    assert ("logits" in plain) == bool(theirs.num_classes)
    assert largest_difference(plain["embeddings"], embeddings) <= TOLERANCE
    assert len(outputs["features"]) == len(theirs.feature_info)


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
    check_classifier(architecture, theirs, image(theirs, MODELS[architecture].input.divisor))
