"""InternViT: the image encoder of InternVL. Chen et al. 2023, arXiv:2312.14238.

images (B, C, H, W) -> patches (B, N, D) -> class token in front, positions added -> `depth` blocks, each branch scaled
    per channel -> class token: embeddings (B, D)

There is no norm at the end, and no classifier in the published files. InternVL reads the patches' tokens of the last
block rather than the class token: they are the last map of `output_features=True` and of `features_only=True`.
Large images are for InternVL cut into tiles of 448 pixels, and every tile is an image of its own here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from pydantic import Field, model_validator

from zoo.checkpoints.keymap import Drop, KeyMap, Merge, Prefix, Rename, StateMap
from zoo_timm.adapter import TimmClassifier, TimmClassifierConfig
from zoo_vit.patches import check_whole_patches


class InternViTConfig(TimmClassifierConfig):
    """Config of `InternViT`."""

    patch_size: int = Field(14, ge=1, le=1024, description="pixels of a patch's side")
    width: int = Field(1024, ge=1, le=65536, description="values a token")
    depth: int = Field(24, ge=1, le=1000, description="blocks")
    heads: int = Field(16, ge=1, le=1024, description="attention heads a block")
    num_classes: int = Field(
        0, ge=0, le=10_000_000, description="outputs of a classifier over the class token; 0: none"
    )

    @model_validator(mode="after")
    def _whole_patches(self) -> Self:
        check_whole_patches(self.image_size or 448, self.patch_size)
        return self


class InternViT(TimmClassifier):
    """InternViT with LayerNorm and biases, as the 300M one is. Images may have any sides that are whole patches."""

    Config = InternViTConfig

    @classmethod
    def architecture(cls, config: InternViTConfig) -> str:
        return "vit_intern300m_patch14_448"

    @classmethod
    def arguments(cls, config: InternViTConfig) -> Mapping[str, bool | int | float | str]:
        return {
            "patch_size": config.patch_size,
            "embed_dim": config.width,
            "depth": config.depth,
            "num_heads": config.heads,
            "position_antialias": False,
        }

    @classmethod
    def published(cls, config: InternViTConfig) -> Mapping[str, StateMap]:
        return {"original": ORIGINAL_KEYS, "transformers": TRANSFORMERS_KEYS}


_REST = "what InternVL does with the image's tokens: this is the image encoder alone"

# OpenGVLab's own code: InternVL's files, and those of the encoder alone, whose names have no beginning in common.
ORIGINAL_KEYS = KeyMap(
    Drop(r"language_model\..+|mlp1\..+", _REST),
    Prefix("vision_model.", ""),
    Rename("embeddings.class_embedding", "cls_token"),
    Rename("embeddings.position_embedding", "pos_embed"),
    Prefix("embeddings.patch_embedding.", "patch_embed.proj."),
    Rename(r"encoder.layers.(\d+).(.+)", r"blocks.\1.\2"),
    Rename(r"blocks.(\d+).ls(1|2)", r"blocks.\1.ls\2.gamma"),
)

# The same in transformers: InternVLForConditionalGeneration and InternVLVisionModel.
TRANSFORMERS_KEYS = KeyMap(
    Drop(r"language_model\..+|multi_modal_projector\..+", _REST),
    Prefix("vision_tower.", ""),
    Rename("embeddings.cls_token", "cls_token"),
    Rename("embeddings.position_embeddings", "pos_embed"),
    Prefix("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    Rename(r"encoder.layer.(\d+).lambda_(1|2)", r"blocks.\1.ls\2.gamma"),
    Rename(r"encoder.layer.(\d+).layernorm_before.(weight|bias)", r"blocks.\1.norm1.\2"),
    Rename(r"encoder.layer.(\d+).layernorm_after.(weight|bias)", r"blocks.\1.norm2.\2"),
    Rename(r"encoder.layer.(\d+).mlp.(.+)", r"blocks.\1.mlp.\2"),
    Rename(r"encoder.layer.(\d+).attention.projection_layer.(weight|bias)", r"blocks.\1.attn.proj.\2"),
    Merge(
        [rf"encoder.layer.(\d+).attention.{part}_proj.(weight|bias)" for part in "qkv"],
        r"blocks.\1.attn.qkv.\2",
    ),
)
