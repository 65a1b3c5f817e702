"""PANet: a short way up for what the fine maps see. Liu et al. 2018, arXiv:1803.01534.

maps (B, C, h, w) fine to coarse -> FPN (top-down) -> from the finest on, each map so far is halved by a 3x3
    convolution of stride 2, added to the next coarser one and convolved 3x3 -> further maps of stride 2 behind

The paper puts a ReLU behind every convolution of the way up; the finest map is the FPN's own.

B batch   C channels   h w a map's height and width
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from pydantic import Field
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork

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
    fit,
    initialise,
)


class PANetConfig(NeckConfig):
    """Config of `PANet`."""

    norm: Norm = Field("none", description="behind each convolution; with `batch` it has no bias")
    extra: Extra = Field(
        "pool",
        description="further levels: every other pixel of the last, or 3x3 convolutions of stride 2 that start from "
        "the coarsest map given (`conv`) or that came in (`conv_input`)",
    )


class PANet(Neck):
    """The path aggregation network: an FPN, and a bottom-up path behind it.

    `forward` takes the maps it is bound to, (B, C_i, h_i, w_i) of any sides, and gives `levels` maps
    (B, width, h_i, w_i); the sides of further ones are halved and rounded up.

    Attributes:
        takes: channels of the maps it is bound to.
        fpn: torchvision's `FeaturePyramidNetwork`. steps: the way up, one a map but the finest. extra_blocks: the
            further levels. All are built by `bind`.
    """

    Config = PANetConfig
    config: PANetConfig
    takes: tuple[int, ...] = ()

    def bind(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        """Build it for a backbone's maps.

        Raises:
            OptionError: it is bound already, a stride is not twice the one before or there is one only (a plain
                ViT's), or `levels` is less than the maps that come in.
        """
        check_bind(self, channels, strides)
        check_steps(self, strides, (2,))
        extra, width = extra_levels(self, self.config.levels, len(strides)), self.config.width
        norm = NORMS[self.config.norm]
        self.fpn = FeaturePyramidNetwork(list(channels), width, norm_layer=norm)
        self.steps = nn.ModuleList(Step(width, norm) for _ in strides[1:])
        self.extra_blocks = coarser(self.config.extra, extra, channels[-1], width)
        self.takes = tuple(channels)
        self.strides = doubled(strides, extra)
        self.channels = (width,) * len(self.strides)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        check_maps(self, maps, self.takes)
        if self.config.norm == "batch":
            check_enough_to_norm(self, maps[-1])
        finest, *pyramid = self.fpn(OrderedDict((str(i), feature) for i, feature in enumerate(maps))).values()
        merged = [finest]
        for step, feature in zip(self.steps, pyramid, strict=True):
            merged.append(step(merged[-1], feature))
        given: list[Tensor] = self.extra_blocks(merged, maps, [])[0]
        return given


class Step(nn.Module):
    """One level up: the merged map (B, D, h, w) and the pyramid's next (B, D, h / 2, w / 2) → merged, as the next."""

    def __init__(self, width: int, norm: type[nn.BatchNorm2d] | None) -> None:
        super().__init__()
        self.down = Conv2dNormActivation(width, width, 3, stride=2, norm_layer=norm)
        self.output = Conv2dNormActivation(width, width, 3, norm_layer=norm)
        self.apply(initialise)

    def forward(self, finer: Tensor, feature: Tensor) -> Tensor:
        merged: Tensor = self.output(feature + fit(self.down(finer), feature))
        return merged
