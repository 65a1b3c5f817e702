"""Published names of SAM, SAM 2 and Hiera against transformers and timm: equal maps, every key used, exact ways back.
Tiny networks with the published layouts."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
import torch
from hierarchical_reference import assert_back, assert_close, opened, published_by_transformers, randomised
from torch import Tensor, nn

from zoo_vit import Hiera, SAM2Hiera, SAMEncoder


def tiny_sam(side: int) -> nn.Module:
    from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

    vision = SamVisionConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=side,
        window_size=3,
        global_attn_indexes=[1],
        output_channels=256,
    )
    config = SamConfig(
        vision_config=vision,
        prompt_encoder_config=SamPromptEncoderConfig(image_size=side, image_embedding_size=side // 16),
        mask_decoder_config=SamMaskDecoderConfig(num_hidden_layers=1),
    )
    return randomised(SamModel(config))


def sam_encoder(side: int) -> SAMEncoder:
    return SAMEncoder(
        width=32, depth=3, heads=2, window_size=3, global_blocks=(1,), positions=side // 16, norm_eps=1e-6
    )


def metas(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names of SAM → Meta's, of what concerns the encoder; a few of the rest."""
    table = {
        r"^vision_encoder\.": "image_encoder.",
        r"\.layers\.": ".blocks.",
        r"\.layer_norm([12])\.(?=\w+$)": r".norm\1.",
        r"projection": "proj",
    }
    neck = {"conv1": 0, "layer_norm1": 1, "conv2": 2, "layer_norm2": 3}
    names: dict[str, Tensor] = {}
    for name, tensor in published.items():
        if not name.startswith("vision_encoder."):
            continue
        part = re.fullmatch(r"vision_encoder\.neck\.(\w+)\.(\w+)", name)
        if part:
            name = f"image_encoder.neck.{neck[part[1]]}.{part[2]}"
        for old, new in table.items():
            name = re.sub(old, new, name)
        names[name] = tensor
    return names


@pytest.mark.parametrize("side", [64, 112])
def test_sams_encoder_weights_give_transformers_map(side: int) -> None:
    theirs = tiny_sam(side)
    published = published_by_transformers(theirs)
    mine = {name for name in published if name.startswith("vision_encoder.")}
    ours = sam_encoder(side)
    report = opened(ours, published, "transformers")
    assert set(report.skipped) == published.keys() - mine
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        expected = theirs.get_image_embeddings(images)
        assert_close(ours.encoder.forward_features(images), expected)
        assert_close(ours(images)["embeddings"], expected.mean((2, 3)))
    assert_back(ours, "transformers", {name: published[name] for name in mine})


def test_sams_encoder_opens_metas_file_of_the_whole_model() -> None:
    theirs = tiny_sam(64)
    published = metas(published_by_transformers(theirs))
    assert {"image_encoder.neck.3.weight", "image_encoder.blocks.2.mlp.lin1.weight"} <= published.keys()
    rest = {
        "prompt_encoder.point_embeddings.0.weight": torch.ones(1, 256),
        "mask_decoder.iou_token.weight": torch.ones(1),
    }
    ours = sam_encoder(64)
    report = opened(ours, {**published, **rest}, "original")
    assert report.skipped == dict.fromkeys(rest, "not of the image encoder")
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert_close(ours.encoder.forward_features(images), theirs.get_image_embeddings(images))
    assert_back(ours, "original", published)


SAM2 = {"width": 16, "depths": (1, 2, 3, 1), "heads": 1, "window_sizes": (8, 4, 6, 3), "global_blocks": (4,)}


def tiny_sam2(side: int) -> nn.Module:
    from transformers import Sam2HieraDetConfig
    from transformers.models.sam2.modeling_sam2 import Sam2HieraDetModel

    config = Sam2HieraDetConfig(
        hidden_size=16,
        image_size=[side, side],
        blocks_per_stage=[1, 2, 3, 1],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 6, 3],
        global_attention_blocks=[4],
    )
    return randomised(Sam2HieraDetModel(config))


@pytest.mark.parametrize("format", ["transformers", "original"])
@pytest.mark.parametrize("side", [64, 96])
def test_sam2s_trunk_weights_give_transformers_maps(side: int, format: str) -> None:
    theirs = tiny_sam2(side)
    published = {f"vision_encoder.backbone.{name}": tensor.clone() for name, tensor in theirs.state_dict().items()}
    if format == "original":
        table = {
            "vision_encoder.backbone": "image_encoder.trunk",
            "projection": "proj",
            "layer_norm": "norm",
            "mlp.proj_in": "mlp.layers.0",
            "mlp.proj_out": "mlp.layers.1",
        }
        for old, new in table.items():
            published = {name.replace(old, new): tensor for name, tensor in published.items()}
    ours = SAM2Hiera(**SAM2)
    rest = {"no_memory_embedding": torch.ones(1), "memory_attention.norm.weight": torch.ones(1)}
    report = opened(ours, {**published, **rest}, format)
    assert set(report.skipped) == set(rest)
    assert set(report.adapted) == {"encoder.head.norm.weight", "encoder.head.norm.bias"}
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        expected = theirs(images).intermediate_hidden_states
        maps = ours(images, output_features=True)["features"]
    assert len(maps) == len(expected) == 4
    for found, wanted in zip(maps, expected, strict=True):
        assert_close(found, wanted.permute(0, 3, 1, 2))
    assert_back(ours, format, published)


def test_hieras_own_names_are_opened_as_timm_opens_them() -> None:
    config = {"width": 16, "depths": (1, 1, 1, 1), "num_classes": 7, "image_size": 64}
    theirs = randomised(Hiera(**config))
    published = {
        name.removeprefix("encoder.").replace("head.norm.", "norm.").replace("head.fc.", "head.projection."): tensor
        for name, tensor in theirs.state_dict().items()
    }
    assert {"norm.weight", "head.projection.bias"} <= published.keys()
    images = torch.randn(1, 3, 64, 64)
    for format in ("original", "timm"):
        ours = Hiera(**config)
        assert not opened(ours, published, format).skipped
        with torch.inference_mode():
            assert_close(ours(images)["logits"], theirs(images)["logits"])
    assert_back(theirs, "original", published)


def test_metas_file_is_opened_as_timm_opens_it() -> None:
    """timm has its own conversion of SAM's files."""
    published = metas(published_by_transformers(tiny_sam(64)))
    first, second = sam_encoder(64), sam_encoder(64)
    opened(first, published, "original")
    opened(second, published, "timm")
    expected = second.state_dict()
    assert [name for name, tensor in first.state_dict().items() if not torch.equal(tensor, expected[name])] == []
