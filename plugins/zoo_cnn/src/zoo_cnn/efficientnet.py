"""EfficientNet: depth, width and resolution scaled together. Tan, Le 2019, arXiv:1905.11946.

images (B, 3, H, W) -> stem -> 7 stages of inverted residuals, strides up to 32 -> 1x1 convolution, pooled -> logits

B0 to B7 have squeeze-and-excitation and SiLU; Lite 0 to 4, for small devices, neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Literal

from pydantic import Field

from zoo.checkpoints.keymap import KeyMap, Prefix, StateMap
from zoo_cnn.inverted_residual import EXPANDING_EXCITED, SEPARABLE_EXCITED, name_parts, place_blocks
from zoo_timm.adapter import TimmClassifier, TimmClassifierConfig

Size = Literal["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "lite0", "lite1", "lite2", "lite3", "lite4"]


class EfficientNetConfig(TimmClassifierConfig):
    """Config of `EfficientNet`."""

    size: Size = Field("b0", description="depth and width together, as published")
    padding: Literal["symmetric", "same"] = Field("symmetric", description="`same` as in TensorFlow")
    bn_eps: float = Field(1e-5, gt=0, description="batch normalisation's epsilon; 1e-3 in TensorFlow")


class EfficientNet(TimmClassifier):
    """EfficientNet B0 to B7 and Lite 0 to 4."""

    Config = EfficientNetConfig

    @classmethod
    def architecture(cls, config: EfficientNetConfig) -> str:
        return f"efficientnet_{config.size}"

    @classmethod
    def arguments(cls, config: EfficientNetConfig) -> Mapping[str, float | str]:
        return {"pad_type": "" if config.padding == "symmetric" else "same", "bn_eps": config.bn_eps}

    @classmethod
    def published(cls, config: EfficientNetConfig) -> Mapping[str, StateMap]:
        maps: dict[str, StateMap] = {"efficientnet_pytorch": efficientnet_pytorch_keys(config.size)}
        return maps if "lite" in config.size else maps | {"torchvision": TORCHVISION_KEYS}


TORCHVISION_KEYS = KeyMap(
    Prefix("features.0.0.", "conv_stem."),
    Prefix("features.0.1.", "bn1."),
    Prefix("features.8.0.", "conv_head."),
    Prefix("features.8.1.", "bn2."),
    Prefix("classifier.1.", "classifier."),
    *(Prefix(f"features.{stage + 1}.", f"blocks.{stage}.") for stage in range(7)),
    *name_parts("0", SEPARABLE_EXCITED),
    *name_parts("123456", EXPANDING_EXCITED),
)


def efficientnet_pytorch_keys(size: Size) -> KeyMap:
    """The names of the package efficientnet-pytorch, which counts the blocks through the network."""
    return KeyMap(
        Prefix("_conv_stem.", "conv_stem."),
        Prefix("_bn0.", "bn1."),
        Prefix("_conv_head.", "conv_head."),
        Prefix("_bn1.", "bn2."),
        Prefix("_fc.", "classifier."),
        *place_blocks("_blocks", first=0, depths=depths(size)),
        *name_parts("0123456", {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}),
        *name_parts("0", {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}),
        *name_parts(
            "123456",
            {
                "_expand_conv": "conv_pw",
                "_bn0": "bn1",
                "_depthwise_conv": "conv_dw",
                "_bn1": "bn2",
                "_project_conv": "conv_pwl",
                "_bn2": "bn3",
            },
        ),
    )


_DEPTH_FACTORS = {"b0": 1.0, "b1": 1.1, "b2": 1.2, "b3": 1.4, "b4": 1.8, "b5": 2.2, "b6": 2.6, "b7": 3.1}


def depths(size: Size) -> tuple[int, ...]:
    """Blocks in each of the seven stages. Lite 0 to 4 leave the first and the last stage as they are."""
    lite = size.startswith("lite")
    factor = _DEPTH_FACTORS[size.replace("lite", "b")]
    scaled = [ceil(factor * blocks) for blocks in (1, 2, 2, 3, 3, 4, 1)]
    return (1, *scaled[1:-1], 1) if lite else tuple(scaled)
