"""ViT: an image as a sequence of patches. Dosovitskiy et al. 2020, arXiv:2010.11929.

images (B, C, H, W) -> patches (B, N, D) -> class token in front, positions added -> `depth` blocks -> norm
    -> class token: embeddings (B, D) -> logits (B, K)
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from zoo_timm.adapter import TimmClassifier, TimmClassifierConfig


class VisionTransformerConfig(TimmClassifierConfig):
    """Config of `VisionTransformer`."""

    patch_size: int = Field(16, ge=1, le=1024, description="pixels of a patch's side")
    width: int = Field(768, ge=1, le=65536, description="values a token")
    depth: int = Field(12, ge=1, le=1000, description="blocks")
    heads: int = Field(12, ge=1, le=1024, description="attention heads a block")


class VisionTransformer(TimmClassifier):
    """A plain vision transformer."""

    Config = VisionTransformerConfig

    @classmethod
    def architecture(cls, config: VisionTransformerConfig) -> str:
        return "vit_base_patch16_224"

    @classmethod
    def arguments(cls, config: VisionTransformerConfig) -> Mapping[str, bool | int | float | str]:
        return {
            "patch_size": config.patch_size,
            "embed_dim": config.width,
            "depth": config.depth,
            "num_heads": config.heads,
        }
