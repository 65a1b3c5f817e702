"""Masked autoencoders against transformers' ViTMAEForPreTraining: published names in, same noise, same numbers out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm_reference import largest_difference
from torch import Tensor, nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining
from transformers.core_model_loading import revert_weight_conversion
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

from zoo.build.fast_init import without_initialisation
from zoo.build.weights import load_weights
from zoo_vit.mae import MaskedAutoencoder

TOLERANCE = 1e-5

LAYER = """attention.attention.key.B attention.attention.key.W attention.attention.query.B attention.attention.query.W
    attention.attention.value.B attention.attention.value.W attention.output.dense.B attention.output.dense.W
    intermediate.dense.B intermediate.dense.W layernorm_after.B layernorm_after.W layernorm_before.B
    layernorm_before.W output.dense.B output.dense.W"""
"""What the files on the Hub have in every layer; W weight, B bias."""

AROUND = """vit.embeddings.cls_token vit.embeddings.position_embeddings vit.embeddings.patch_embeddings.projection.W
    vit.embeddings.patch_embeddings.projection.B vit.layernorm.W vit.layernorm.B decoder.mask_token
    decoder.decoder_pos_embed decoder.decoder_embed.W decoder.decoder_embed.B decoder.decoder_norm.W
    decoder.decoder_norm.B decoder.decoder_pred.W decoder.decoder_pred.B"""


def published_names(depth: int, decoder_depth: int) -> set[str]:
    names = [*AROUND.split(), *(f"vit.encoder.layer.{i}.{name}" for i in range(depth) for name in LAYER.split())]
    names += [f"decoder.decoder_layers.{i}.{name}" for i in range(decoder_depth) for name in LAYER.split()]
    return {name.replace(".W", ".weight").replace(".B", ".bias") for name in names}


def published(model: nn.Module) -> dict[str, Tensor]:
    """The layout of the files on the Hub; transformers' own way back misnames the decoder's layers."""
    state = revert_weight_conversion(model, model.state_dict())
    renamed = {n.replace("decoder.decoder_encoder.layer.", "decoder.decoder_layers."): t for n, t in state.items()}
    return {name: tensor.clone() for name, tensor in renamed.items()}


def pair(side: int, **options: Any) -> tuple[nn.Module, MaskedAutoencoder, dict[str, Tensor]]:
    """transformers' model, and ours with its weights."""
    theirs = ViTMAEForPreTraining(
        ViTMAEConfig(
            image_size=side,
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=192,
            decoder_hidden_size=32,
            decoder_num_hidden_layers=2,
            decoder_num_attention_heads=8,
            decoder_intermediate_size=128,
            mask_ratio=options.get("mask_ratio", 0.75),
            norm_pix_loss=options.get("norm_pixel_loss", False),
            attn_implementation="eager",
        )
    ).eval()
    torch.manual_seed(side)
    for name, tensor in theirs.state_dict().items():  # positions too: ours must not be recomputed
        if tensor.ndim > 1 and "embed" not in name and "token" not in name:
            tensor.normal_(0, tensor[0].numel() ** -0.5)
        else:
            tensor.uniform_(0.5, 1.5) if "norm" in name and name.endswith("weight") else tensor.uniform_(-0.3, 0.3)
    values: dict[str, Any] = {"width": 48, "depth": 3, "heads": 4, "norm_eps": 1e-12, "image_size": side, **options}
    values |= {"decoder_width": 32, "decoder_depth": 2, "decoder_heads": 8}
    with without_initialisation():
        ours = MaskedAutoencoder(values).eval()
    weights = published(theirs)
    report = load_weights(ours, weights, format="transformers", source="transformers")
    assert not report.skipped
    assert weights.keys() == published_names(3, 2)
    return theirs, ours, weights


@pytest.mark.parametrize("side", [64, 112])
@pytest.mark.parametrize("normalised", [False, True])
def test_loss_reconstruction_and_mask_are_transformers(side: int, normalised: bool) -> None:
    theirs, ours, _ = pair(side, norm_pixel_loss=normalised)
    images, noise = torch.randn(2, 3, side, side), torch.rand(2, (side // 16) ** 2)
    with torch.inference_mode():
        expected, found = theirs(images, noise=noise), ours(images, noise=noise)
    assert torch.equal(found["mask"], expected.mask)
    assert expected.logits.std() > 0.1
    assert largest_difference(found["reconstruction"], expected.logits) < TOLERANCE
    assert float(found["loss"]) == pytest.approx(float(expected.loss), rel=TOLERANCE)
    assert torch.equal(found["loss"], found["loss_reconstruction"])


def test_another_share_of_patches_is_hidden_as_in_transformers() -> None:
    theirs, ours, _ = pair(64, mask_ratio=0.4)
    images, noise = torch.randn(3, 3, 64, 64), torch.rand(3, 16)
    with torch.inference_mode():
        expected, found = theirs(images, noise=noise), ours(images, noise=noise)
    assert found["mask"].sum(dim=1).tolist() == [7, 7, 7]
    assert torch.equal(found["mask"], expected.mask)
    assert largest_difference(found["reconstruction"], expected.logits) < TOLERANCE


def test_embeddings_are_of_every_patch() -> None:
    """transformers' encoder with nothing masked gives the patches in an order of its own, and the class token."""
    theirs, ours, _ = pair(64)
    theirs.vit.embeddings.config.mask_ratio = 0.0
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = theirs.vit(images).last_hidden_state[:, 0]
        assert largest_difference(ours.embed(images), expected) < TOLERANCE


def test_patches_become_images_as_in_transformers() -> None:
    theirs, ours, _ = pair(64)
    images, noise = torch.randn(2, 3, 64, 64), torch.rand(2, 16)
    with torch.inference_mode():
        expected = theirs(images, noise=noise)
        painted = theirs.unpatchify(expected.logits)
        hidden = theirs.unpatchify(expected.mask[:, :, None].expand_as(expected.logits))
        found = ours.reconstruct(images, noise=noise)
    assert largest_difference(found, torch.where(hidden > 0, painted, images)) < TOLERANCE


def test_the_way_back_gives_the_published_file() -> None:
    _, ours, weights = pair(64)
    saved = ours.key_maps()["transformers"].save(ours.state_dict())
    assert saved.keys() == weights.keys()
    assert [name for name, tensor in saved.items() if not torch.equal(tensor, weights[name])] == []


def test_positions_of_a_fresh_model_are_those_transformers_was_published_with() -> None:
    ours = MaskedAutoencoder(image_size=80, depth=1, decoder_depth=1)
    for positions in (ours.encoder.pos_embed, ours.decoder.pos_embed):
        width = positions.shape[2]
        canonical = build_2d_sinusoidal_position_embedding(height=5, width=5, embed_dim=width, cls_token=True)
        swapped = torch.cat(
            [canonical[..., width // 2 :], canonical[..., : width // 2]], dim=-1
        )  # as its own code does
        assert largest_difference(positions[0].detach(), swapped.reshape(26, width)) < 1e-6


def test_the_base_model_has_the_published_structure() -> None:
    with torch.device("meta"):
        ours, theirs = MaskedAutoencoder(), ViTMAEForPreTraining(ViTMAEConfig())
    saved = ours.key_maps()["transformers"].save(ours.state_dict())
    assert saved.keys() == published_names(12, 8)
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
