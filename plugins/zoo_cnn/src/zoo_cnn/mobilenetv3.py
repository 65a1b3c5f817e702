"""MobileNetV3: searched inverted residuals with hard swish. Howard et al. 2019, arXiv:1905.02244.

images (B, 3, H, W) -> stem -> stages of blocks, strides up to 32 -> pooled -> 1x1 convolution -> embeddings -> logits
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from zoo.checkpoints.keymap import KeyMap, Prefix, Reshape, Rule, StateMap
from zoo_cnn.inverted_residual import (
    EXPANDING,
    EXPANDING_EXCITED,
    SEPARABLE,
    SEPARABLE_EXCITED,
    name_parts,
    place_blocks,
)
from zoo_timm.adapter import TimmClassifier, TimmClassifierConfig


class MobileNetV3Config(TimmClassifierConfig):
    """Config of `MobileNetV3`."""

    size: Literal["large", "small"] = Field("large", description="which of the two searched networks")
    width: Literal[0.5, 0.75, 1.0] = Field(1.0, description="factor on the channels of every layer")
    padding: Literal["symmetric", "same"] = Field("symmetric", description="`same` as in TensorFlow")
    bn_eps: float = Field(1e-5, gt=0, description="batch normalisation's epsilon; 1e-3 in TensorFlow and torchvision")


class MobileNetV3(TimmClassifier):
    """MobileNetV3 large and small."""

    Config = MobileNetV3Config

    @classmethod
    def architecture(cls, config: MobileNetV3Config) -> str:
        return f"mobilenetv3_{config.size}_{round(100 * config.width):03d}"

    @classmethod
    def arguments(cls, config: MobileNetV3Config) -> Mapping[str, float | str]:
        return {"pad_type": "" if config.padding == "symmetric" else "same", "bn_eps": config.bn_eps}

    @classmethod
    def published(cls, config: MobileNetV3Config) -> Mapping[str, StateMap]:
        return {"torchvision": TORCHVISION_KEYS[config.size]}


def _torchvision_keys(depths: tuple[int, ...], channels: tuple[int, int], *parts: Rule) -> KeyMap:
    """depths: of the stages before the last convolution. channels: in and out of the convolution after the pooling."""
    last = 1 + sum(depths)
    return KeyMap(
        Prefix("features.0.0.", "conv_stem."),
        Prefix("features.0.1.", "bn1."),
        Prefix(f"features.{last}.0.", f"blocks.{len(depths)}.0.conv."),
        Prefix(f"features.{last}.1.", f"blocks.{len(depths)}.0.bn1."),
        Prefix("classifier.0.", "conv_head."),
        Prefix("classifier.3.", "classifier."),
        *place_blocks("features", first=1, depths=depths),
        *parts,
        # A linear layer there, a convolution after the pooling here.
        Reshape(r"conv_head\.weight", channels[::-1], (*channels[::-1], 1, 1)),
    )


TORCHVISION_KEYS = {
    "large": _torchvision_keys(
        (1, 2, 3, 4, 2, 3),
        (960, 1280),
        *name_parts("0", SEPARABLE),
        *name_parts("13", EXPANDING),
        *name_parts("245", EXPANDING_EXCITED),
    ),
    "small": _torchvision_keys(
        (1, 2, 3, 2, 3),
        (576, 1024),
        *name_parts("0", SEPARABLE_EXCITED),
        *name_parts("1", EXPANDING),
        *name_parts("234", EXPANDING_EXCITED),
    ),
}
