"""MobileNetV3-Large as torchvision's Faster R-CNN looks at it: two maps of one stride.

images (B, C, H, W) -> features 0 to 13 (B, 160, H/32, W/32) -> features 14 to 16 (B, 960, H/32, W/32)

Howard et al. 2019, arXiv:1905.02244. The network is torchvision's, under its names.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large

from zoo.checkpoints.keymap import Drop, KeyMap, StateMap
from zoo.models.config import ModelConfig
from zoo.models.model import Backbone
from zoo.specs import InputSpec

SHALLOW = 13  # the first block of the last stage, which has its stride


class RCNNMobileNetConfig(ModelConfig):
    """Config of `RCNNMobileNet`."""

    in_chans: int = Field(3, ge=1, description="image channels")


class RCNNMobileNet(Backbone):
    """The first and the last map of stride 32 of MobileNetV3-Large."""

    Config = RCNNMobileNetConfig
    config: RCNNMobileNetConfig
    channels = (160, 960)
    strides = (32, 32)

    def __init__(self, config: RCNNMobileNetConfig) -> None:
        super().__init__(config)
        self.features = mobilenet_v3_large(weights=None).features
        self.input_spec = InputSpec().with_channels(config.in_chans)
        if config.in_chans != 3:
            first = self.features[0][0]
            self.features[0][0] = nn.Conv2d(config.in_chans, first.out_channels, 3, stride=2, padding=1, bias=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        shallow = self.features[: SHALLOW + 1](images)
        return [shallow, self.features[SHALLOW + 1 :](shallow)]

    def key_maps(self) -> Mapping[str, StateMap]:
        return {"torchvision": KeyMap(Drop(r"classifier\..+", "the published classifier; a backbone has none"))}
