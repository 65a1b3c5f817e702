"""Swin, Swin V2, Hiera, SAM's encoders and TinyViT against timm: outputs and every feature map.

Of architectures that differ in the image's size alone there is one. What has more than 320 million parameters, Hiera H
and SAM's encoder H, differs from the next in widths and numbers of blocks alone, and is left to
`test_hierarchical_catalogue`, which counts parameters."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from timm_reference import feature_maps, largest_difference, reference

from zoo.build.fast_init import without_initialisation
from zoo.build.weights import load_weights
from zoo_timm.catalog import ARCHITECTURES
from zoo_vit.rows.hierarchical import FAMILIES
from zoo_vit.rows.row import Size, Timm

TOLERANCE = 1e-5
QUICK = {
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "hiera_tiny_224",
    "sam2_hiera_tiny",
    "samvit_base_patch16",
    "tiny_vit_5m_224",
}
SIDES = {"SAMEncoder": 160, "SAM2Hiera": 128, "TinyViT": 200}  # of families that take any: windows need padding


LARGEST = 3.2e8


def rows() -> list[Any]:
    found, seen = [], []
    for family in FAMILIES:
        for size in family.sizes:
            for entry in size.timm:
                about = entry if isinstance(entry, Timm) else Timm(entry)
                config = {n: v for n, v in {**size.config, **about.config}.items() if n != "image_size"}
                if (ARCHITECTURES[about.architecture].params or 0) > LARGEST or (family.factory, config) in seen:
                    continue
                seen.append((family.factory, config))
                marks = () if about.architecture in QUICK else pytest.mark.long
                found.append(pytest.param(family.factory, size, about, marks=marks, id=about.architecture))
    return found


@pytest.mark.parametrize(("factory", "size", "about"), rows())
def test_a_curated_transformer_computes_what_timms_does(factory: str, size: Size, about: Timm) -> None:
    module, _, name = factory.partition(":")
    family = getattr(import_module(module), name)
    config = family.Config.of({**size.config, **about.config}, {})
    theirs = reference(about.architecture, num_classes=config.num_classes)
    if name not in SIDES:
        config = config.replace(image_size=theirs.pretrained_cfg["input_size"][1])
    side = SIDES.get(name, config.image_size)
    images = torch.randn(1, 3, side, side)
    indices = tuple(range(len(theirs.feature_info)))
    with without_initialisation():
        model, backbone = family(config), family.as_backbone(config, indices)
    for ours in (model, backbone):
        report = load_weights(ours, theirs.state_dict(), format="timm", source=about.architecture)
        assert not report.adapted
        ours.eval()
    with torch.inference_mode():
        tokens = theirs.forward_features(images)
        outputs, maps = model(images, output_features=True), backbone(images)
        if config.num_classes:
            assert largest_difference(outputs["logits"], theirs(images)) <= TOLERANCE
        assert largest_difference(outputs["embeddings"], theirs.forward_head(tokens, pre_logits=True)) <= TOLERANCE
    expected = feature_maps(theirs, about.architecture, images)
    assert len(maps) == len(outputs["features"]) == len(backbone.channels) == len(backbone.strides) == len(expected)
    for ours, inside, wanted, channels, stride in zip(
        maps, outputs["features"], expected, backbone.channels, backbone.strides, strict=True
    ):
        assert largest_difference(ours, wanted) <= TOLERANCE
        assert largest_difference(inside, wanted) <= TOLERANCE
        assert tuple(ours.shape[1:]) == (channels, -(-side // stride), -(-side // stride))
