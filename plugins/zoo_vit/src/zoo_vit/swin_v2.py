"""Swin V2: cosine attention, norms after the blocks, positions from a small network. Liu et al. 2021, arXiv:2111.09883.

images (B, C, H, W) -> 4x4 patches (B, h, w, D) -> 4 stages, strides 4, 8, 16, 32, the width doubled between them
    -> norm -> mean over the map: embeddings (B, 8 D) -> logits (B, K)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field

from zoo.checkpoints.keymap import KeyMap, Merge, Piece, Pieces, Prefix, Rename, Rule, StateMap
from zoo.checkpoints.patterns import pattern
from zoo_timm.adapter import Argument, TimmClassifier
from zoo_vit.stages import Count
from zoo_vit.swin import COMPUTED, MERGED_AT_THE_END, ORIGINAL_KEYS, SwinConfig

_Window = Annotated[int, Field(ge=0, le=1024)]


class SwinV2Config(SwinConfig):
    """Config of `SwinV2`."""

    own_size: ClassVar[int] = 256
    window_size: Count = Field(8, description="tokens along a window's side; a smaller map is one window")
    pretrained_window_sizes: tuple[_Window, _Window, _Window, _Window] = Field(
        (0, 0, 0, 0),
        description="the windows its positions were trained for, stage by stage, where they are others; 0: the same",
    )


class SwinV2(TimmClassifier):
    """Swin Transformer, its second version."""

    Config = SwinV2Config

    @classmethod
    def architecture(cls, config: SwinV2Config) -> str:
        return "swinv2_tiny_window8_256"

    @classmethod
    def arguments(cls, config: SwinV2Config) -> Mapping[str, Argument]:
        return {
            "patch_size": config.patch_size,
            "embed_dim": config.width,
            "depths": config.depths,
            "num_heads": config.heads,
            "window_size": config.window_size,
            "pretrained_window_sizes": config.pretrained_window_sizes,
            **({"pad_before_shift": True} if config.pad_before_shift else {}),
        }

    @classmethod
    def published(cls, config: SwinV2Config) -> Mapping[str, StateMap]:
        return {"transformers": TRANSFORMERS_KEYS, "original": ORIGINAL_KEYS, "torchvision": TORCHVISION_KEYS}


class NoKeyBias(Rule):
    """torchvision keeps one bias for queries, keys and values and sets the keys' to zero in every pass; timm keeps the
    queries' and the values'. Saving writes zeros for the keys."""

    fused = pattern(r"layers.(\d+).blocks.(\d+).attn.qkv.bias")

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native."""
        split: Pieces = {}
        for name, piece in pieces.items():
            if self.fused.read(name) is None:
                split[name] = piece
                continue
            query, _, value = piece.tensor.chunk(3)
            attention = name.removesuffix("qkv.bias")
            split[f"{attention}q_bias"] = piece.changed(query.clone(), "the queries' part")
            split[f"{attention}v_bias"] = piece.changed(value.clone(), "the values' part")
        return split

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published."""
        joined: Pieces = {}
        for name, piece in pieces.items():
            if name.endswith(".attn.q_bias"):
                attention = name.removesuffix("q_bias")
                parts = (piece.tensor, torch.zeros_like(piece.tensor), pieces[f"{attention}v_bias"].tensor)
                joined[f"{attention}qkv.bias"] = Piece(torch.cat(parts), name)
            elif not name.endswith(".attn.v_bias"):
                joined[name] = piece
        return joined


_BLOCK = r"layers.(\d+).blocks.(\d+)"

TRANSFORMERS_KEYS = KeyMap(
    COMPUTED,
    Prefix("swinv2.embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    Prefix("swinv2.embeddings.norm.", "patch_embed.norm."),
    Prefix("swinv2.layernorm.", "norm."),
    Prefix("swinv2.encoder.layers.", "layers."),
    Prefix("classifier.", "head.fc."),
    MERGED_AT_THE_END,
    Merge(
        [rf"{_BLOCK}.attention.self.{part}.weight" for part in ("query", "key", "value")],
        r"layers.\1.blocks.\2.attn.qkv.weight",
    ),
    Rename(rf"{_BLOCK}.attention.self.query.bias", r"layers.\1.blocks.\2.attn.q_bias"),
    Rename(rf"{_BLOCK}.attention.self.value.bias", r"layers.\1.blocks.\2.attn.v_bias"),
    Rename(rf"{_BLOCK}.attention.self.logit_scale", r"layers.\1.blocks.\2.attn.logit_scale"),
    Rename(rf"{_BLOCK}.attention.self.continuous_position_bias_mlp.(.+)", r"layers.\1.blocks.\2.attn.cpb_mlp.\3"),
    Rename(rf"{_BLOCK}.attention.output.dense.(.+)", r"layers.\1.blocks.\2.attn.proj.\3"),
    Rename(rf"{_BLOCK}.layernorm_before.(.+)", r"layers.\1.blocks.\2.norm1.\3"),
    Rename(rf"{_BLOCK}.layernorm_after.(.+)", r"layers.\1.blocks.\2.norm2.\3"),
    Rename(rf"{_BLOCK}.intermediate.dense.(.+)", r"layers.\1.blocks.\2.mlp.fc1.\3"),
    Rename(rf"{_BLOCK}.output.dense.(.+)", r"layers.\1.blocks.\2.mlp.fc2.\3"),
)

# torchvision counts the stem, the stages and what is between them as one sequence.
TORCHVISION_KEYS = KeyMap(
    COMPUTED,
    Prefix("features.0.0.", "patch_embed.proj."),
    Prefix("features.0.2.", "patch_embed.norm."),
    *(Rename(rf"features.{2 * i + 1}.(\d+).(.+)", rf"layers.{i}.blocks.\1.\2") for i in range(4)),
    *(Prefix(f"features.{2 * i}.", f"layers.{i}.downsample.") for i in range(1, 4)),
    NoKeyBias(),
    Rename(rf"{_BLOCK}.mlp.0.(.+)", r"layers.\1.blocks.\2.mlp.fc1.\3"),
    Rename(rf"{_BLOCK}.mlp.3.(.+)", r"layers.\1.blocks.\2.mlp.fc2.\3"),
    Rename(r"head.(weight|bias)", r"head.fc.\1"),
)
