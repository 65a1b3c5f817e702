"""VGG: nothing but 3x3 convolutions, two or more between poolings. Simonyan, Zisserman 2014, arXiv:1409.1556.

images (B, 3, H, W) -> 5 stages of convolutions, strides 1, 2, 4, 8, 16, 32 -> two layers of 4096 -> logits
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from zoo.checkpoints.keymap import KeyMap, Prefix, Reshape, StateMap
from zoo_timm.adapter import TimmClassifier, TimmClassifierConfig


class VGGConfig(TimmClassifierConfig):
    """Config of `VGG`."""

    depth: Literal[11, 13, 16, 19] = Field(16, description="layers with weights")
    batch_norm: bool = Field(False, description="batch normalisation after every convolution")


class VGG(TimmClassifier):
    """VGG 11, 13, 16 and 19 (configurations A, B, D and E), with or without batch normalisation."""

    Config = VGGConfig

    @classmethod
    def architecture(cls, config: VGGConfig) -> str:
        return f"vgg{config.depth}_bn" if config.batch_norm else f"vgg{config.depth}"

    @classmethod
    def published(cls, config: VGGConfig) -> Mapping[str, StateMap]:
        return {"torchvision": TORCHVISION_KEYS}


TORCHVISION_KEYS = KeyMap(
    Prefix("classifier.0.", "pre_logits.fc1."),
    Prefix("classifier.3.", "pre_logits.fc2."),
    Prefix("classifier.6.", "head.fc."),
    # The layers of 4096 are convolutions here, so that an image of any size has a map of them.
    Reshape(r"pre_logits\.fc1\.weight", (4096, 512 * 7 * 7), (4096, 512, 7, 7)),
    Reshape(r"pre_logits\.fc2\.weight", (4096, 4096), (4096, 4096, 1, 1)),
)
