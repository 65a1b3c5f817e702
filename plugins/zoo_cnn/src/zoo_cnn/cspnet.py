"""CSPNet: half of each stage's channels pass its blocks by. Wang et al. 2019, arXiv:1911.11929.

images (B, 3, H, W) -> stem -> stages, strides up to 32 -> pooled embeddings -> logits
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from zoo_timm.adapter import TimmClassifier, TimmClassifierConfig

Body = Literal[
    "cspresnet50",
    "cspresnext50",
    "cspdarknet53",
    "darknet53",
    "cs3darknet_focus_m",
    "cs3darknet_focus_l",
    "cs3darknet_m",
    "cs3darknet_l",
    "cs3darknet_x",
    "cs3sedarknet_l",
    "cs3sedarknet_x",
]


class CSPNetConfig(TimmClassifierConfig):
    """Config of `CSPNet`."""

    body: Body = Field("cspdarknet53", description="what the stages are made of, and how many there are")


class CSPNet(TimmClassifier):
    """Cross-stage partial ResNet, ResNeXt and Darknet, the three-convolution CS3 Darknets of newer YOLOs with (`focus`)
    and without a space-to-depth stem, and plain Darknet-53."""

    Config = CSPNetConfig

    @classmethod
    def architecture(cls, config: CSPNetConfig) -> str:
        return config.body
