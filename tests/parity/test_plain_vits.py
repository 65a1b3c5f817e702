"""Every size of ViT, DeiT and DeiT III against timm's architecture of the same weights: logits, embeddings and maps.

Above 320 million parameters sizes are built with two blocks: they differ from the next in the shapes of a block and in
the number of blocks, which their parameters show in `test_plain_catalogue`."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from timm_reference import largest_difference, reference
from torch import Tensor, nn

import zoo_vit
from zoo.build.fast_init import without_initialisation
from zoo.build.weights import load_weights
from zoo_timm.adapter import TimmClassifier
from zoo_timm.catalog import ARCHITECTURES
from zoo_vit.rows.plain import CLIP, FAMILIES
from zoo_vit.rows.row import Timm

TOLERANCE = 1e-5
QUICK = {"vit_ti_16", "deit_ti_distilled", "deit3_s"}
LARGEST = 3.2e8  # parameters of a network built whole
NOT_IN_TIMM = {"vit_h_16"}


def shallow(architecture: str) -> dict[str, int]:
    """Two blocks of what is too large to be built whole."""
    return {} if (ARCHITECTURES[architecture].params or 0) < LARGEST else {"depth": 2}


SIZES = [
    pytest.param(
        family.factory,
        {**size.config, **entry.config, **shallow(entry.architecture)},
        entry.architecture,
        cells,
        marks=() if size.name in QUICK else pytest.mark.long,
        id=f"{size.name}-{shape}",
    )
    for family in FAMILIES
    for size in family.sizes
    if size.name not in NOT_IN_TIMM
    for entry in [size.timm[0] if isinstance(size.timm[0], Timm) else Timm(size.timm[0])]
    for shape, cells in (("square", (4, 4)), ("oblong", (3, 5)))
    if shape == "oblong" or size.name in QUICK
]


def family_of(factory: str) -> type[TimmClassifier]:
    module, _, name = factory.partition(":")
    family: type[TimmClassifier] = getattr(import_module(module), name)
    return family


def timms_maps(theirs: nn.Module, images: Tensor) -> list[Tensor]:
    return theirs.forward_intermediates(images, output_fmt="NCHW", intermediates_only=True)


@pytest.mark.parametrize(("factory", "config", "architecture", "cells"), SIZES)
def test_a_plain_transformer_computes_what_timms_does(
    factory: str, config: dict[str, object], architecture: str, cells: tuple[int, int]
) -> None:
    patch = config.get("patch_size", 16)
    size = (cells[0] * patch, cells[1] * patch)
    theirs = reference(architecture, img_size=size, num_classes=50, depth=config.get("depth", 12))
    images = torch.randn(2, 3, *size)
    family = family_of(factory)
    config = {**config, "image_size": size, "num_classes": 50}
    with without_initialisation():
        model, backbone = family(config), family.as_backbone(family.Config.of(config, {}))
    # Names and shapes are today's: timm's own conversion of a file for 224 pixels is another test's.
    model.encoder.load_state_dict(theirs.state_dict(), assign=True)
    headless = {name: tensor for name, tensor in theirs.state_dict().items() if not name.startswith("head")}
    backbone.encoder.load_state_dict(headless, assign=True)
    model.eval(), backbone.eval()
    with torch.inference_mode():
        expected, embeddings = theirs(images), theirs.forward_head(theirs.forward_features(images), pre_logits=True)
        outputs, maps = model(images), backbone(images)
        wanted = timms_maps(theirs, images)
    assert expected.std() > 0.05
    assert largest_difference(outputs["logits"], expected) <= TOLERANCE
    assert largest_difference(outputs["embeddings"], embeddings) <= TOLERANCE
    assert len(backbone.channels) == len(backbone.strides) == len(maps) == 1
    assert maps[0].shape == (2, config["width"], *cells)
    assert largest_difference(maps[0], wanted[-1]) <= TOLERANCE


def test_timms_published_file_opens_by_its_own_names() -> None:
    theirs = reference("vit_tiny_patch16_224")
    with without_initialisation():
        model = zoo_vit.VisionTransformer(width=192, heads=3)
    report = load_weights(model, theirs.state_dict(), format="timm", source="timm")
    assert (len(report.loaded), report.adapted, report.skipped) == (len(theirs.state_dict()), {}, {})


def test_a_norm_before_the_blocks_is_clips() -> None:
    """At two blocks: the sizes that have it are large."""
    theirs = reference("vit_base_patch32_clip_224", img_size=64, depth=2)
    with without_initialisation():
        model = zoo_vit.VisionTransformer({"patch_size": 32, "depth": 2, "image_size": 64, **CLIP})
    report = load_weights(model, theirs.state_dict(), format="timm", source="timm")
    assert "encoder.norm_pre.weight" in report.loaded
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert largest_difference(model.eval()(images)["logits"], theirs(images)) <= TOLERANCE


def test_the_mean_of_the_patches_is_normalised_behind_the_pooling() -> None:
    """As fine-tuned masked autoencoders have it."""
    options = {"global_pool": "avg", "img_size": 64, "depth": 2}
    theirs = reference("vit_tiny_patch16_224", **options)
    model = zoo_vit.VisionTransformer(width=192, depth=2, heads=3, pool="avg", image_size=64)
    model.encoder.load_state_dict(theirs.state_dict(), assign=True)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        outputs, tokens = model.eval()(images), theirs.forward_features(images)
        assert largest_difference(outputs["logits"], theirs(images)) <= TOLERANCE
        mean = tokens[:, 1:].mean(dim=1)
        expected = nn.functional.layer_norm(mean, (192,), theirs.fc_norm.weight, theirs.fc_norm.bias, 1e-6)
    assert largest_difference(outputs["embeddings"], expected) <= TOLERANCE
