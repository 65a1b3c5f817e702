"""ResNet: layers learn what to add to their input. He et al. 2015, arXiv:1512.03385.

images (B, 3, H, W) -> stem -> 4 stages of residual blocks, strides 4, 8, 16, 32 -> pooled embeddings -> logits

In the bottlenecks the 3x3 convolution has the stride (v1.5), as in every weight published for PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from zoo.checkpoints.keymap import KeyMap, Prefix, Rename, StateMap
from zoo_timm.adapter import TimmClassifier, TimmClassifierConfig


class ResNetConfig(TimmClassifierConfig):
    """Config of `ResNet`."""

    depth: Literal[18, 34, 50, 101, 152] = Field(50, description="layers with weights")


class ResNet(TimmClassifier):
    """ResNet 18 and 34 of basic blocks, 50, 101 and 152 of bottlenecks."""

    Config = ResNetConfig

    @classmethod
    def architecture(cls, config: ResNetConfig) -> str:
        return f"resnet{config.depth}"

    @classmethod
    def published(cls, config: ResNetConfig) -> Mapping[str, StateMap]:
        return {"torchvision": KeyMap(), "transformers": TRANSFORMERS_KEYS}


TRANSFORMERS_KEYS = KeyMap(
    Prefix("resnet.embedder.embedder.convolution.", "conv1."),
    Prefix("resnet.embedder.embedder.normalization.", "bn1."),
    *(Prefix(f"resnet.encoder.stages.{i}.", f"layer{i + 1}.") for i in range(4)),
    *(Rename(rf"(layer\d).layers.(\d+).layer.{i}.convolution.(.+)", rf"\1.\2.conv{i + 1}.\3") for i in range(3)),
    *(Rename(rf"(layer\d).layers.(\d+).layer.{i}.normalization.(.+)", rf"\1.\2.bn{i + 1}.\3") for i in range(3)),
    Rename(r"(layer\d).layers.(\d+).shortcut.convolution.(.+)", r"\1.\2.downsample.0.\3"),
    Rename(r"(layer\d).layers.(\d+).shortcut.normalization.(.+)", r"\1.\2.downsample.1.\3"),
    Prefix("classifier.1.", "fc."),
)
