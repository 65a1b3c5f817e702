"""TinyViT: a small hierarchical transformer, distilled while it is pre-trained. Wu et al. 2022, arXiv:2207.10666.

images (B, C, H, W) -> two convolutions -> a stage of inverted bottlenecks and 3 of windowed attention,
    strides 4, 8, 16, 32 -> mean over the map, norm: embeddings (B, D) -> logits (B, K)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from zoo_timm.adapter import Argument, TimmClassifier, TimmClassifierConfig
from zoo_vit.stages import Counts, Widths


class TinyViTConfig(TimmClassifierConfig):
    """Config of `TinyViT`. It takes images of any size; maps that windows do not fill are padded."""

    spellings: ClassVar[Mapping[str, str]] = {"embed_dims": "widths"}
    widths: Widths = Field((64, 128, 160, 320), description="channels, stage by stage")
    depths: Counts = Field((2, 2, 6, 2), description="blocks, stage by stage")
    heads: Counts = Field((2, 4, 5, 10), description="attention heads of a block, stage by stage; none in the first")
    window_sizes: Counts = Field(
        (7, 7, 14, 7), description="cells along a window's side, stage by stage; none in the first"
    )


class TinyViT(TimmClassifier):
    """TinyViT of 5, 11 or 21 million parameters."""

    Config = TinyViTConfig

    @classmethod
    def architecture(cls, config: TinyViTConfig) -> str:
        return "tiny_vit_5m_224"

    @classmethod
    def arguments(cls, config: TinyViTConfig) -> Mapping[str, Argument]:
        return {
            "embed_dims": config.widths,
            "depths": config.depths,
            "num_heads": config.heads,
            "window_sizes": config.window_sizes,
        }
