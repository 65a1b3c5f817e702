"""ConvNeXt: a ResNet brought up to a vision transformer's habits. Liu et al. 2022, arXiv:2201.03545.

images (B, 3, H, W) -> 4x4 patches -> 4 stages of blocks, strides 4, 8, 16, 32 -> pooled, normed embeddings -> logits

A block is a 7x7 depthwise convolution, LayerNorm, two pointwise layers with GELU between, and a scale per channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from zoo.checkpoints.keymap import KeyMap, Prefix, Rename, Reshape, StateMap
from zoo_timm.adapter import TimmClassifier, TimmClassifierConfig

_TIMM_NAMES = {"t": "tiny", "s": "small", "b": "base", "l": "large", "xl": "xlarge"}


class ConvNeXtConfig(TimmClassifierConfig):
    """Config of `ConvNeXt`."""

    size: Literal["t", "s", "b", "l", "xl"] = Field("t", description="depth and width together, as published")


class ConvNeXt(TimmClassifier):
    """ConvNeXt tiny to extra large."""

    Config = ConvNeXtConfig

    @classmethod
    def architecture(cls, config: ConvNeXtConfig) -> str:
        return f"convnext_{_TIMM_NAMES[config.size]}"

    @classmethod
    def published(cls, config: ConvNeXtConfig) -> Mapping[str, StateMap]:
        return {"torchvision": TORCHVISION_KEYS, "transformers": TRANSFORMERS_KEYS}


# torchvision counts stem, stages and what is between them as one sequence.
TORCHVISION_KEYS = KeyMap(
    Prefix("features.0.", "stem."),
    *(Rename(rf"features.{2 * i + 1}.(\d+).(.+)", rf"stages.{i}.blocks.\1.\2") for i in range(4)),
    *(Prefix(f"features.{2 * i}.", f"stages.{i}.downsample.") for i in range(1, 4)),
    Rename(r"stages.(\d).blocks.(\d+).layer_scale", r"stages.\1.blocks.\2.gamma"),
    Rename(r"stages.(\d).blocks.(\d+).block.0.(.+)", r"stages.\1.blocks.\2.conv_dw.\3"),
    Rename(r"stages.(\d).blocks.(\d+).block.2.(.+)", r"stages.\1.blocks.\2.norm.\3"),
    Rename(r"stages.(\d).blocks.(\d+).block.3.(.+)", r"stages.\1.blocks.\2.mlp.fc1.\3"),
    Rename(r"stages.(\d).blocks.(\d+).block.5.(.+)", r"stages.\1.blocks.\2.mlp.fc2.\3"),
    Prefix("classifier.0.", "head.norm."),
    Prefix("classifier.2.", "head.fc."),
    Reshape(r"stages\.\d\.blocks\.\d+\.gamma", (-1, 1, 1), (-1,)),
)

TRANSFORMERS_KEYS = KeyMap(
    Prefix("convnext.embeddings.patch_embeddings.", "stem.0."),
    Prefix("convnext.embeddings.layernorm.", "stem.1."),
    Prefix("convnext.encoder.stages.", "stages."),
    Prefix("convnext.layernorm.", "head.norm."),
    Prefix("classifier.", "head.fc."),
    Rename(r"stages.(\d).downsampling_layer.(.+)", r"stages.\1.downsample.\2"),
    Rename(r"stages.(\d).layers.(\d+).layer_scale_parameter", r"stages.\1.blocks.\2.gamma"),
    Rename(r"stages.(\d).layers.(\d+).dwconv.(.+)", r"stages.\1.blocks.\2.conv_dw.\3"),
    Rename(r"stages.(\d).layers.(\d+).layernorm.(.+)", r"stages.\1.blocks.\2.norm.\3"),
    Rename(r"stages.(\d).layers.(\d+).pwconv1.(.+)", r"stages.\1.blocks.\2.mlp.fc1.\3"),
    Rename(r"stages.(\d).layers.(\d+).pwconv2.(.+)", r"stages.\1.blocks.\2.mlp.fc2.\3"),
)
