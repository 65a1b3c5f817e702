"""MobileNetV2: inverted residuals with linear bottlenecks. Sandler et al. 2018, arXiv:1801.04381.

images (B, 3, H, W) -> stem -> 7 stages of blocks, strides up to 32 -> 1x1 convolution -> embeddings -> logits
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from zoo.checkpoints.keymap import KeyMap, Prefix, StateMap
from zoo_cnn.inverted_residual import name_parts, place_blocks
from zoo_timm.adapter import TimmClassifier, TimmClassifierConfig


class MobileNetV2Config(TimmClassifierConfig):
    """Config of `MobileNetV2`."""

    width: Literal[0.35, 0.5, 0.75, 1.0, 1.4] = Field(1.0, description="factor on the channels of every layer")


class MobileNetV2(TimmClassifier):
    """MobileNetV2 in its published widths."""

    Config = MobileNetV2Config

    @classmethod
    def architecture(cls, config: MobileNetV2Config) -> str:
        return f"mobilenetv2_{round(100 * config.width):03d}"

    @classmethod
    def published(cls, config: MobileNetV2Config) -> Mapping[str, StateMap]:
        return {"torchvision": TORCHVISION_KEYS}


TORCHVISION_KEYS = KeyMap(
    Prefix("features.0.0.", "conv_stem."),
    Prefix("features.0.1.", "bn1."),
    Prefix("features.18.0.", "conv_head."),
    Prefix("features.18.1.", "bn2."),
    Prefix("classifier.1.", "classifier."),
    *place_blocks("features", first=1, depths=(1, 2, 3, 4, 3, 3, 1)),
    *name_parts("0", {"conv.0.0": "conv_dw", "conv.0.1": "bn1", "conv.1": "conv_pw", "conv.2": "bn2"}),
    *name_parts(
        "123456",
        {
            "conv.0.0": "conv_pw",
            "conv.0.1": "bn1",
            "conv.1.0": "conv_dw",
            "conv.1.1": "bn2",
            "conv.2": "conv_pwl",
            "conv.3": "bn3",
        },
    ),
)
