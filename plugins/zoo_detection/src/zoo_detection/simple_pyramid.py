"""ViTDet's simple feature pyramid: all levels from a plain ViT's last map. Li et al. 2022, arXiv:2203.16527.

the last map (B, C, h, w) -> for each level by itself: enlarged by 2x2 transposed convolutions, or halved by max-pooling
    -> 1x1 convolution, layer norm -> 3x3 convolution, layer norm -> maps (B, D, h, w) of strides 4, 8, 16, 32
    -> further maps of stride 2 behind the coarsest

    scale 4    deconvolution C -> C / 2, layer norm, GELU, deconvolution C / 2 -> C / 4
    scale 2    deconvolution C -> C / 2
    scale 1    the map
    scale 1/2  2x2 max-pooling of stride 2

B batch   C channels   D width   h w a map's height and width
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from pydantic import Field
from torch import Tensor, nn
from torchvision.models.convnext import LayerNorm2d
from torchvision.ops import Conv2dNormActivation

from zoo.errors import OptionError
from zoo.models.model import Neck
from zoo_detection.levels import NeckConfig, Subsample, check_bind, check_maps

Norm2d = partial(LayerNorm2d, eps=1e-6)
"""Layer norm over the channels of each pixel."""


class SimplePyramidConfig(NeckConfig):
    """Config of `SimplePyramid`."""

    finest_stride: int = Field(
        4,
        ge=1,
        le=1024,
        description="of the finest map: the nearest whole one that halving the backbone's stride leads to",
    )


class SimplePyramid(Neck):
    """A pyramid out of one map, for backbones of one stride.

    `forward` takes the maps it is bound to, uses the last, (B, C, h, w), and gives `levels` maps (B, width, …): of a
    stride-16 backbone, sides of 4, 2, 1 and 1/2 times h and w; those of coarser ones are rounded up. A stride of 14
    is halved to 7 and no further, so that strides are whole: they are 7, 14, 28 and 56.

    Attributes:
        takes: channels of the maps it is bound to.
        stages: levels of scales down to 1/2. extra_blocks: those behind. Both are built by `bind`.
    """

    Config = SimplePyramidConfig
    config: SimplePyramidConfig
    takes: tuple[int, ...] = ()

    def bind(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        """Build it for a backbone's maps, of which there may be several of one stride.

        Raises:
            OptionError: it is bound already, or the strides are several, as those of a hierarchical backbone.
        """
        check_bind(self, channels, strides)
        if len(set(strides)) > 1:
            raise OptionError(
                "SimplePyramid makes all levels from one map; this backbone gives several strides by itself",
                found=f"strides {tuple(strides)}",
                fix='neck="fpn"',
            )
        stride, width, levels = strides[-1], self.config.width, self.config.levels or 4
        doublings = doublings_to(self.config.finest_stride, stride)
        powers = list(range(doublings, -2, -1))[:levels]  # scales 2 ** power
        self.stages = nn.ModuleList(Stage(power, channels[-1], width) for power in powers)
        self.extra_blocks = Subsample(levels - len(powers))
        self.takes = tuple(channels)
        self.strides = tuple(stride // 2**doublings * 2**i for i in range(levels))
        self.channels = (width,) * levels

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        check_maps(self, maps, self.takes)
        pyramid = [stage(maps[-1]) for stage in self.stages]
        given: list[Tensor] = self.extra_blocks(pyramid, maps, [])[0]
        return given


class Stage(nn.Module):
    """One level: a map (B, C, h, w) → (B, D, h * scale, w * scale), scale = 2 ** power, power at least -1."""

    def __init__(self, power: int, channels: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i in range(power):
            layers += [Norm2d(channels), nn.GELU()] if i else []
            layers += [nn.ConvTranspose2d(channels, fewer := max(1, channels // 2), 2, stride=2)]
            channels = fewer
        if power < 0:
            layers = [nn.MaxPool2d(2, ceil_mode=True)]  # an odd last row or column is a pixel of its own
        self.scale = nn.Sequential(*layers)
        self.lateral = Conv2dNormActivation(channels, width, 1, norm_layer=Norm2d, activation_layer=None)
        self.output = Conv2dNormActivation(width, width, 3, norm_layer=Norm2d, activation_layer=None)

    def forward(self, feature: Tensor) -> Tensor:
        level: Tensor = self.output(self.lateral(self.scale(feature)))
        return level


def doublings_to(finest: int, stride: int) -> int:
    """How often a map is enlarged twice to come nearest to a finest stride, a whole one."""
    wanted = max(0, round(math.log2(stride / finest)))
    while stride % 2**wanted:
        wanted -= 1
    return wanted
