"""SSD's further maps: each block halves the last map's size, or takes two pixels off it.

maps [(B, C, h, w), (B, C', h/2, w/2)] -> + (B, 512, h/4, w/4), (B, 256, h/8, w/8) … one a block

Liu et al. 2016, arXiv:1512.02325, 2.1; with depthwise convolutions Sandler et al. 2018, arXiv:1801.04381, 6.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torchvision.ops.misc import Conv2dNormActivation

from zoo.errors import InputError, OptionError
from zoo.models.config import ModelConfig
from zoo.models.model import Neck
from zoo_detection.same_padding import pad_as_tensorflow
from zoo_detection.ssd_backbones import NORM, start_normal, start_uniform

USUAL = 2
"""Maps that the backbones of the published networks give."""


class SSDExtrasConfig(ModelConfig):
    """Config of `SSDExtras`."""

    widths: tuple[int, ...] = Field((512, 256, 256, 128), min_length=1, description="channels of each further map")
    strides: tuple[Literal[1, 2], ...] = Field(
        (2, 2, 2, 2), description="of each block: 2 halves the map, 1 takes a pixel off every side"
    )
    block: Literal["plain", "separable"] = Field(
        "separable", description="a 3x3 convolution, or a depthwise one and a 1x1, with batch normalisation"
    )
    same_padding: bool = Field(False, description="strided convolutions pad as TensorFlow's")


class SSDExtras(Neck):
    """The maps as they come, and a further one a block, each made of the one before.

    Blocks are left out from the front where more than two maps come, so that the coarsest map stays the same.

    Attributes:
        least: cells a side that the last map bound to must have, for all further ones to have one.
    """

    Config = SSDExtrasConfig

    def __init__(self, config: SSDExtrasConfig) -> None:
        super().__init__(config)
        if len(config.widths) != len(config.strides):
            raise OptionError(
                "every further map has a width and a stride",
                found=f"widths={config.widths}, strides={config.strides}",
                fix=f"strides={(2,) * len(config.widths)}",
            )

    def bind(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        config = self.config
        first = min(max(len(channels) - USUAL, 0), len(config.widths))
        widths, self._steps = (channels[-1], *config.widths[first:]), config.strides[first:]
        make = _plain if config.block == "plain" else _separable
        self.blocks = nn.ModuleList(make(n, w, s) for n, w, s in zip(widths, widths[1:], self._steps, strict=False))
        (start_uniform if config.block == "plain" else start_normal)(self.blocks)
        if config.same_padding:
            pad_as_tensorflow(self.blocks)
        self.least, self._stride = 1, strides[-1]
        for stride in reversed(self._steps):
            self.least = self.least + 2 if stride == 1 else 2 * self.least - 1  # halves are rounded up
        self.channels = (*channels, *widths[1:])
        self.strides = (*strides, *list(accumulate(self._steps, mul, initial=strides[-1]))[1:])

    def check_size(self, size: tuple[int, int]) -> None:
        """Refuse images of (height, width) that can have too few cells only. Raises `OptionError`."""
        cells = [math.ceil(side / self._stride) for side in size]  # or one less, as the backbone rounds
        if min(cells) < self.least:
            raise OptionError(
                f"images of {size[0]} x {size[1]} pixels are too small for the last of SSD's maps",
                found=f"{cells[0]} x {cells[1]} cells of {self._stride} pixels; it takes {self.least}",
                fix=self._larger(),
            )

    def _larger(self) -> str:
        return f"img_size={self.least * self._stride}, or a neck with fewer blocks"

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = list(maps)
        for block, stride in zip(self.blocks, self._steps, strict=True):
            if stride == 1 and min(maps[-1].shape[2:]) < 3:
                raise InputError(
                    "the image is too small for the last of SSD's maps",
                    found=f"{maps[-1].shape[2]} x {maps[-1].shape[3]} cells, of which the next block takes two",
                    fix=self._larger(),
                )
            maps.append(block(maps[-1]))
        return maps


def _plain(narrow: int, wide: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(narrow, wide // 2, 1),
        nn.ReLU(inplace=True),
        nn.Conv2d(wide // 2, wide, 3, stride, padding=stride - 1),
        nn.ReLU(inplace=True),
    )


def _separable(narrow: int, wide: int, stride: int) -> nn.Sequential:
    middle, layer = wide // 2, {"norm_layer": NORM, "activation_layer": nn.ReLU6}
    return nn.Sequential(
        Conv2dNormActivation(narrow, middle, 1, **layer),
        Conv2dNormActivation(middle, middle, 3, stride, padding=stride - 1, groups=middle, **layer),
        Conv2dNormActivation(middle, wide, 1, **layer),
    )
