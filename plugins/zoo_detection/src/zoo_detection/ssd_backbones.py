"""The two backbone maps that SSD starts from, of the networks it was published with.

images (B, C, H, W) -> VGG16:     conv4_3 (B, 512, H/8, W/8), each pixel's vector scaled to a learned length
                                  -> conv5_3 -> fc6 with holes, fc7 (B, 1024, H/16, W/16)
                    -> MobileNet: what the last strided block expands to (B, C', H/16, W/16)
                                  -> the rest of the network (B, C'', H/32, W/32)

Liu et al. 2016, arXiv:1512.02325; Sandler et al. 2018, arXiv:1801.04381, 6.2; Howard et al. 2019, arXiv:1905.02244.
The networks are torchvision's.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torchvision.models import mobilenet_v2, mobilenet_v3_large
from torchvision.models.vgg import cfgs, make_layers

from zoo.models.config import ModelConfig
from zoo.models.model import Backbone
from zoo_detection.same_padding import pad_as_tensorflow

NORM = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.03)
"""The batch normalisation of every SSD on a MobileNet."""


class SSDVGG16Config(ModelConfig):
    """Config of `SSDVGG16`."""

    in_chans: int = Field(3, ge=1, description="image channels")


class SSDVGG16(Backbone):
    """VGG16 without its classifier; the two fully connected layers are convolutions, the first with holes of 6."""

    Config = SSDVGG16Config
    channels = (512, 1024)
    strides = (8, 16)

    def __init__(self, config: SSDVGG16Config) -> None:
        super().__init__(config)
        layers = make_layers(cfgs["D"], batch_norm=False)  # VGG16
        pools = [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
        layers[pools[2]].ceil_mode = True  # 75 pixels become 38, as in the paper
        layers[0] = _first(layers[0], config.in_chans)
        full = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1),
            nn.Conv2d(512, 1024, 3, padding=6, dilation=6),
            nn.ReLU(inplace=True),
            nn.Conv2d(1024, 1024, 1),
            nn.ReLU(inplace=True),
        )
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        start_uniform(full)
        self.features = nn.ModuleList(
            [nn.Sequential(*layers[: pools[3]]), nn.Sequential(*layers[pools[3] : pools[4]], full)]
        )
        self.scale = nn.Parameter(torch.full((512,), 20.0))

    def forward(self, images: Tensor) -> list[Tensor]:
        shallow = self.features[0](images)
        return [self.scale.view(1, -1, 1, 1) * F.normalize(shallow), self.features[1](shallow)]


class SSDMobileNetConfig(ModelConfig):
    """Config of `SSDMobileNet`."""

    in_chans: int = Field(3, ge=1, description="image channels")
    body: Literal["v2", "v3_large"] = Field("v2", description="which MobileNet")
    same_padding: bool = Field(False, description="strided convolutions pad as TensorFlow's")
    reduced_tail: bool = Field(False, description="half the channels behind the last strided block; of v3 only")


class SSDMobileNet(Backbone):
    """A MobileNet cut inside its last strided block, behind the expansion."""

    Config = SSDMobileNetConfig
    strides = (16, 32)

    def __init__(self, config: SSDMobileNetConfig) -> None:
        super().__init__(config)
        if config.body == "v2":
            layers = mobilenet_v2(weights=None, norm_layer=NORM).features
            cut, block = 14, layers[14].conv
        else:
            layers = mobilenet_v3_large(weights=None, norm_layer=NORM, reduced_tail=config.reduced_tail).features
            cut, block = 13, layers[13].block
        layers[0][0] = _first(layers[0][0], config.in_chans)
        start_normal(layers)
        self.features = nn.ModuleList(
            [nn.Sequential(*layers[:cut], block[0]), nn.Sequential(block[1:], *layers[cut + 1 :])]
        )
        self.channels = (block[0].out_channels, layers[-1].out_channels)
        if config.same_padding:
            pad_as_tensorflow(self.features)

    def forward(self, images: Tensor) -> list[Tensor]:
        shallow = self.features[0](images)
        return [shallow, self.features[1](shallow)]


def start_normal(layers: nn.Module) -> None:
    """Fresh values as MobileNet's SSDs start from: normal, deviation 0.03; biases 0."""
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.03)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def start_uniform(layers: nn.Module) -> None:
    """Fresh values as the original SSD starts from: Glorot's uniform; biases 0."""
    for layer in layers.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _first(conv: nn.Conv2d, in_chans: int) -> nn.Conv2d:
    """The first convolution for images of that many channels."""
    if conv.in_channels == in_chans:
        return conv
    options = {"stride": conv.stride, "padding": conv.padding, "bias": conv.bias is not None}
    return nn.Conv2d(in_chans, conv.out_channels, conv.kernel_size, **options)
