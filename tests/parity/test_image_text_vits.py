"""Image towers of CLIP, SigLIP and InternVL against timm's architectures of the same weights: each with one block, and
one of each shape up to 320 million parameters whole. The larger differ from the next in the shapes of a block and in
the number of blocks, which their parameters show in `test_image_text_catalogue`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from timm_reference import largest_difference, reference
from torch import nn

from zoo.build.fast_init import without_initialisation
from zoo.build.weights import load_weights
from zoo_timm.adapter import TimmBackbone, TimmClassifier
from zoo_timm.catalog import ARCHITECTURES
from zoo_vit.rows.image_text import CLIP, FAMILIES
from zoo_vit.rows.row import Timm

TOLERANCE = 1e-5

# In the usual run with one block, and with all of them in the long one.
QUICK = {
    "vit_base_patch32_clip_quickgelu_224",
    "vit_base_patch32_clip_224",
    "vit_base_patch16_clip_quickgelu_224",
    "vit_base_patch16_plus_clip_240",
    "vit_large_patch14_clip_quickgelu_224",
    "vit_base_patch32_siglip_256",
    "vit_base_patch16_siglip_224",
}

# Every architecture with the config its weights are loaded into, once for each activation.
ROWS = {
    (entry.architecture, config.get("activation")): (family.factory, config, entry.architecture)
    for family in FAMILIES
    for size in family.sizes
    for entry in (named if isinstance(named, Timm) else Timm(named) for named in size.timm)
    for config in [{**size.config, **entry.config}]
}
SHALLOW = [
    pytest.param(*row, marks=() if row[2] in QUICK else pytest.mark.long, id="-".join(filter(None, names)))
    for names, row in ROWS.items()
]
LARGEST = 3.2e8


def shape(factory: str, config: dict[str, Any]) -> tuple[object, ...]:
    """What tells two towers apart, the image's size aside."""
    own = (config.get(name) for name in ("patch_size", "width", "depth", "heads", "activation"))
    return (factory, *own)


# The first architecture of each shape.
WHOLE = [
    pytest.param(*row, id="-".join(filter(None, names)))
    for names, row in {shape(r[0], r[1]): (n, r) for n, r in reversed(ROWS.items())}.values()
    if (ARCHITECTURES[row[2]].params or 0) < LARGEST
]


def exact_gelu(architecture: str) -> bool:
    """Whether timm has the exact GELU in a SigLIP tower that was trained with the approximation by tanh."""
    return isinstance(reference(architecture, depth=1, embed_dim=16, num_heads=1).blocks[0].mlp.act, nn.GELU)


def pair(factory: str, config: dict[str, Any], architecture: str) -> tuple[nn.Module, TimmClassifier, TimmBackbone]:
    module, _, name = factory.partition(":")
    family = getattr(import_module(module), name)
    about = ARCHITECTURES[architecture]
    options: dict[str, Any] = {"depth": config["depth"]}
    if name == "SigLIPImageEncoder" and config.get("activation") != "gelu" and exact_gelu(architecture):
        options["act_layer"] = "gelu_tanh"
    classes = about.checkpoints[0].num_classes or 10  # a head over the pooled vectors too
    theirs = reference(architecture, num_classes=classes, **options)
    config = {**config, "num_classes": classes, "image_size": about.input.size[0]}
    with without_initialisation():
        ours = family(config), family.as_backbone(family.Config.of(config, {}))
    for component in ours:
        load_weights(component, theirs.state_dict(), format="timm", source=architecture)
        component.eval()
    return theirs, *ours


def check(factory: str, config: dict[str, Any], architecture: str) -> None:
    theirs, model, backbone = pair(factory, config, architecture)
    images = torch.randn(1, 3, *model.input_spec.size)
    with torch.inference_mode():
        tokens, expected = theirs.forward_intermediates(images, output_fmt="NCHW")
        embeddings = theirs.forward_head(tokens, pre_logits=True)
        logits = theirs(images)
        outputs, maps = model(images), backbone(images)
    assert logits.std() > 0.01
    assert largest_difference(outputs["logits"], logits) <= TOLERANCE
    assert largest_difference(outputs["embeddings"], embeddings) <= TOLERANCE
    assert len(backbone.channels) == len(maps) == 1  # one grid: the last block's map
    assert largest_difference(maps[0], expected[-1]) <= TOLERANCE


@pytest.mark.parametrize(("factory", "config", "architecture"), SHALLOW)
def test_one_block_of_a_tower_computes_what_timms_does(factory: str, config: dict[str, Any], architecture: str) -> None:
    check(factory, {**config, "depth": 1}, architecture)


@pytest.mark.long
@pytest.mark.parametrize(("factory", "config", "architecture"), WHOLE)
def test_a_tower_computes_what_timms_does(factory: str, config: dict[str, Any], architecture: str) -> None:
    check(factory, config, architecture)


def test_openais_weights_compute_quick_gelu_and_laions_do_not() -> None:
    """Both were published under timm's plain names too, where OpenAI's get the wrong activation."""
    from zoo_vit.catalog import PLUGIN

    rows = {model.name: model for model in PLUGIN.models}
    found = {c.name: c.config["activation"] for c in rows["clip_b_32"].checkpoints}
    assert found["openai"] == found["openai_transformers"] == found["laion400m_e32"] == "quick_gelu"
    assert found["laion2b"] == found["laion2b_open_clip"] == found["datacompxl"] == "gelu"
    noted = {
        (entry.architecture, published.name): entry.config["activation"]
        for size in CLIP
        for entry in size.timm
        if isinstance(entry, Timm)
        for published in ARCHITECTURES[entry.architecture].checkpoints
        if published.name in entry.tags
        and ("natively QuickGELU" in published.notes) != (entry.config["activation"] == "quick_gelu")
    }
    assert noted == {}


def test_the_activation_shows_in_the_numbers() -> None:
    """Otherwise every test above would pass with the wrong one."""
    from zoo_vit import CLIPImageEncoder, SigLIPImageEncoder

    for family, activations in (
        (CLIPImageEncoder, ("quick_gelu", "gelu")),
        (SigLIPImageEncoder, ("gelu_tanh", "gelu")),
    ):
        torch.manual_seed(0)
        config = {"width": 64, "depth": 2, "heads": 4, "patch_size": 8, "image_size": 32}
        first, second = (family({**config, "activation": name}).eval() for name in activations)
        with torch.no_grad():
            for parameter in first.parameters():
                parameter.normal_(0, 0.2)
        second.load_state_dict(first.state_dict())
        images = torch.randn(1, 3, 32, 32)
        with torch.inference_mode():
            assert largest_difference(first.embed(images), second.embed(images)) > 10 * TOLERANCE
