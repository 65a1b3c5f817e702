"""What the class DINOv2 promises, on small networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import zoo
from zoo.build.weights import load_weights
from zoo.errors import InputError, OptionError
from zoo_vit import DINOv2
from zoo_vit.dinov2 import gated_width

SMALL = {"width": 48, "depth": 2, "heads": 3}
NAMES = [f"dinov2_vit{letter}14{registers}" for letter in "sblg" for registers in ("", "_reg")]


@pytest.mark.parametrize("size", [(224, 224), (518, 518), (14, 14), (28, 70)])
@pytest.mark.parametrize("registers", [0, 4])
def test_one_model_takes_images_of_any_whole_patches(registers: int, size: tuple[int, int]) -> None:
    model = DINOv2({**SMALL, "registers": registers}).eval()
    with torch.inference_mode():
        outputs = model(torch.randn(2, 3, *size), output_features=True)
    assert outputs.keys() == {"embeddings", "features"}
    assert outputs["embeddings"].shape == (2, 48)
    assert [tuple(m.shape) for m in outputs["features"]] == [(2, 48, size[0] // 14, size[1] // 14)] * 2


def test_half_a_patch_is_refused_with_the_next_whole_one() -> None:
    with pytest.raises(InputError, match="pad or resize to 112 x 98"):
        DINOv2(SMALL)(torch.randn(1, 3, 100, 98))
    with pytest.raises(OptionError, match=r"image_size=224"):
        DINOv2({**SMALL, "image_size": 225})
    with pytest.raises(OptionError, match="less than 1"):  # a whole cell more: another grid than the image's
        DINOv2({**SMALL, "interpolate_offset": 1.0})
    with pytest.raises(OptionError, match=r"image_size=\(224, 98\)"):
        DINOv2({**SMALL, "image_size": (224, 100)})


def test_the_image_size_changes_the_preprocessing_and_nothing_else() -> None:
    torch.manual_seed(0)
    large, small = DINOv2(SMALL).eval(), DINOv2({**SMALL, "image_size": (98, 126)}).eval()
    assert (large.input_spec.size, small.input_spec.size) == ((518, 518), (98, 126))
    small.load_state_dict(large.state_dict(), strict=True)
    images = torch.randn(1, 3, 56, 56)
    with torch.inference_mode():
        assert torch.equal(large(images)["embeddings"], small(images)["embeddings"])


def test_an_assigned_head_makes_it_a_classifier() -> None:
    model = DINOv2(SMALL)
    model.head = nn.Linear(48, 7)
    outputs = model(torch.randn(2, 3, 28, 28), torch.tensor([0, 6]))
    assert outputs["logits"].shape == (2, 7)
    assert model.num_classes == 7
    outputs["loss"].backward()
    assert model.encoder.pos_embed.grad.abs().sum() > 0


def test_the_embedding_is_the_normed_class_token() -> None:
    model = DINOv2({**SMALL, "registers": 4}).eval()
    images = torch.randn(1, 3, 28, 28)
    with torch.inference_mode():
        tokens = model.encoder.forward_features(images)
        assert tokens.shape == (1, 1 + 4 + 4, 48)
        assert torch.equal(model.embed(images), tokens[:, 0])
    assert model.layout.prefix_tokens == 5


def test_the_backbone_takes_the_models_weights_and_follows_the_image_too() -> None:
    model = DINOv2(SMALL).eval()
    backbone = DINOv2.as_backbone(model.config, out_indices=(0, 1)).eval()
    backbone.load_state_dict(model.state_dict(), strict=True)
    images = torch.randn(1, 3, 42, 70)
    with torch.inference_mode():
        maps = backbone(images)
        assert [tuple(m.shape) for m in maps] == [(1, 48, 3, 5)] * 2
        expected = model(images, output_features=True)["features"]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(maps, expected, strict=True))


def test_attention_weights_are_those_of_every_token() -> None:
    model = DINOv2({**SMALL, "registers": 4}).eval()
    with torch.inference_mode():
        attentions = model(torch.randn(1, 3, 28, 42), output_attentions=True)["attentions"]
    assert [tuple(a.shape) for a in attentions] == [(1, 3, 11, 11)] * 2


def test_sizes_are_as_published() -> None:
    rows = {name: zoo.info(name).model for name in NAMES}
    millions = [round(row.params / 1e6, 2) for row in rows.values()]
    assert millions == [22.06, 22.06, 86.58, 86.58, 304.37, 304.37, 1136.48, 1136.48]
    assert [row.config.get("registers", 0) for row in rows.values()] == [0, 4] * 4
    assert gated_width(1536) == 4096


def test_published_positions_follow_the_image_as_their_publisher_has_it() -> None:
    rows = {name: zoo.info(name).model for name in NAMES}
    for name, row in rows.items():
        registers = name.endswith("_reg")
        assert row.config.get("interpolate_offset", 0.1) == (0.0 if registers else 0.1)
        assert row.config.get("interpolate_antialias", False) == registers
        hub = row.checkpoint("lvd142m_transformers")  # transformers has no offset, with registers or without
        assert {**row.config, **hub.config}["interpolate_offset"] == 0.0
        assert zoo.info(hub.aliases[0]).model.name == name


def test_a_file_in_metas_names_opens_by_its_format(tmp_path: Path) -> None:
    """Meta's layout of a whole ViT-S, through the front door."""
    model = DINOv2()
    weights = model.key_maps()["original"].save(model.state_dict())
    weights["mask_token"] = torch.zeros(1, 384)
    save_file(weights, tmp_path / "mine.safetensors")
    path = f"file://{tmp_path}/mine.safetensors"
    opened = zoo.create("dinov2_vits14", checkpoint=path, format="original", img_size=56).eval()
    images = torch.randn(1, 3, 56, 56)
    with torch.inference_mode():
        assert torch.equal(opened(images)["embeddings"], model.eval()(images)["embeddings"])
    assert opened.input_spec.size == (56, 56)


def test_a_file_without_a_part_of_the_attention_is_refused() -> None:
    model = DINOv2(SMALL)
    weights = model.key_maps()["transformers"].save(model.state_dict())
    del weights["encoder.layer.1.attention.attention.key.weight"]
    with pytest.raises(zoo.errors.FormatError, match=r"attention\.attention\.key\.weight"):
        load_weights(model, weights, format="transformers", source="a damaged file")


def test_another_patch_size_keeps_the_grid_of_positions() -> None:
    model = DINOv2({**SMALL, "patch_size": 16})
    assert model.encoder.pos_embed.shape == (1, 1 + 37 * 37, 48)
    assert model(torch.randn(1, 3, 64, 32))["embeddings"].shape == (1, 48)
