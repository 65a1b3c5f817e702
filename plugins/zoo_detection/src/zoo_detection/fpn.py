"""FPN: what coarse maps know, told to the fine ones. Lin et al. 2017, arXiv:1612.03144.

maps (B, C, h, w) fine to coarse -> 1x1 convolutions to one width -> from the coarsest on, each is added, enlarged,
    to the next finer one -> a 3x3 convolution each -> further maps of stride 2 behind the coarsest

The network is torchvision's `FeaturePyramidNetwork`, so that its files fit and its numbers are ours.

B batch   C channels   h w a map's height and width
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from pydantic import Field
from torch import Tensor
from torchvision.ops import FeaturePyramidNetwork

from zoo.models.model import Neck
from zoo_detection.levels import (
    NORMS,
    Extra,
    NeckConfig,
    Norm,
    check_bind,
    check_enough_to_norm,
    check_maps,
    check_steps,
    coarser,
    doubled,
    extra_levels,
)


class FPNConfig(NeckConfig):
    """Config of `FPN`."""

    norm: Norm = Field("none", description="behind each convolution; with `batch` it has no bias")
    extra: Extra = Field(
        "pool",
        description="further levels: every other pixel of the last, or 3x3 convolutions of stride 2 that start from "
        "the coarsest map given (`conv`) or that came in (`conv_input`)",
    )
    equal_strides: bool = Field(
        False, description="let neighbouring maps have one stride, as torchvision's MobileNet detectors do"
    )


class FPN(Neck):
    """The feature pyramid network.

    `forward` takes the maps it is bound to, (B, C_i, h_i, w_i) of any sides, and gives `levels` maps
    (B, width, h_i, w_i); the sides of further ones are halved and rounded up.

    Attributes:
        takes: channels of the maps it is bound to. fpn: torchvision's module, built by `bind`.
    """

    Config = FPNConfig
    config: FPNConfig
    takes: tuple[int, ...] = ()

    def bind(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        """Build it for a backbone's maps.

        Raises:
            OptionError: it is bound already, the strides do not ascend by twos or are one only (a plain ViT's), or
                `levels` is less than the maps that come in.
        """
        check_bind(self, channels, strides)
        check_steps(self, strides, (1, 2, 4, 8) if self.config.equal_strides else (2, 4, 8))
        extra, width = extra_levels(self, self.config.levels, len(strides)), self.config.width
        blocks = coarser(self.config.extra, extra, channels[-1], width)
        self.fpn = FeaturePyramidNetwork(list(channels), width, blocks, NORMS[self.config.norm])
        self.takes = tuple(channels)
        self.strides = doubled(strides, extra)
        self.channels = (width,) * len(self.strides)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        check_maps(self, maps, self.takes)
        if self.config.norm == "batch":
            check_enough_to_norm(self, maps[-1])
        pyramid = self.fpn(OrderedDict((str(i), feature) for i, feature in enumerate(maps)))
        return list(pyramid.values())
