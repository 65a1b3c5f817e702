"""BiFPN: maps merged both ways, again and again, each with a learned weight. Tan et al. 2020, arXiv:1911.09070.

maps (B, C, h, w) fine to coarse -> 1x1 convolutions to one width, max-pooled to further levels behind the coarsest
    -> cells: from the coarsest on, each map merges with the one above it; from the finest on, each merges with what
       came in, what the way down made of it, and the one below it -> maps (B, D, h, w)

    a merge: (w_1 M_1 + w_2 M_2 …) / (w_1 + w_2 … + 1e-4), w_i = max(0, learned)
             -> SiLU -> 3x3 convolution depth by depth -> 1x1 convolution -> batch norm

As in the authors' code, a map that comes in is brought to the common width twice: once for the way down, once for the
way up; and the ways of the finest and the coarsest level have one merge, not two.

B batch   C channels   D width   h w a map's height and width
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from zoo.models.model import Neck
from zoo_detection.levels import (
    NeckConfig,
    check_bind,
    check_enough_to_norm,
    check_maps,
    check_steps,
    doubled,
    extra_levels,
    fit,
    initialise,
)

NORM_EPS, NORM_MOMENTUM = 1e-3, 0.01
FUSION_EPS = 1e-4


class BiFPNConfig(NeckConfig):
    """Config of `BiFPN`. EfficientDet-D0 to D6 have widths 64, 88, 112, 160, 224, 288 and 384."""

    cells: int = Field(3, ge=1, le=100, description="how often the maps are merged down and up; D0 to D6: 3 to 8")


class BiFPN(Neck):
    """The bidirectional feature pyramid with fast normalised fusion.

    `forward` takes the maps it is bound to, (B, C_i, h_i, w_i) of any sides, and gives `levels` maps
    (B, width, h_i, w_i); the sides of further ones are halved and rounded up.

    Attributes:
        takes: channels of the maps it is bound to.
        laterals, skips: to the common width, for the way down and for the way up; the finest has no skip.
        coarser: to the common width, where further levels start. cells: the merges. All are built by `bind`.
    """

    Config = BiFPNConfig
    config: BiFPNConfig
    takes: tuple[int, ...] = ()

    def bind(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        """Build it for a backbone's maps.

        Raises:
            OptionError: it is bound already, a stride is not twice the one before or there is one only (a plain
                ViT's), or `levels` is less than the maps that come in.
        """
        check_bind(self, channels, strides)
        check_steps(self, strides, (2,))
        self.extra, width = extra_levels(self, self.config.levels, len(strides)), self.config.width
        levels = len(strides) + self.extra
        self.laterals = nn.ModuleList(Lateral(c, width) for c in channels)
        self.skips = nn.ModuleList(Lateral(c, width) for c in channels[1:])
        self.coarser = Lateral(channels[-1], width) if self.extra else nn.Identity()
        self.cells = nn.ModuleList(Cell(levels, width) for _ in range(self.config.cells))
        self.takes = tuple(channels)
        self.strides = doubled(strides, self.extra)
        self.channels = (width,) * len(self.strides)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        check_maps(self, maps, self.takes)
        check_enough_to_norm(self, maps[-1], self.extra)
        down = [lateral(feature) for lateral, feature in zip(self.laterals, maps, strict=True)]
        up = down[:1] + [skip(feature) for skip, feature in zip(self.skips, maps[1:], strict=True)]
        further, coarsest = [], self.coarser(maps[-1])
        for _ in range(self.extra):
            coarsest = halve(coarsest)
            further.append(coarsest)
        down, up = down + further, up + further
        for cell in self.cells:
            down = up = cell(down, up)
        return down


class Lateral(nn.Module):
    """A map (B, C, h, w) in the common width (B, D, h, w)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 1)
        self.norm = nn.BatchNorm2d(width, eps=NORM_EPS, momentum=NORM_MOMENTUM)
        self.apply(initialise)

    def forward(self, feature: Tensor) -> Tensor:
        normed: Tensor = self.norm(self.conv(feature))
        return normed


class Cell(nn.Module):
    """Once down and once up through L levels.

    L maps (B, D, h, w) for the way down and L for the way up, the same two times but in the first cell → L maps.
    """

    def __init__(self, levels: int, width: int) -> None:
        super().__init__()
        self.top_down = nn.ModuleList(Fusion(2, width) for _ in range(levels - 1))
        self.bottom_up = nn.ModuleList(Fusion(2 if i == levels - 1 else 3, width) for i in range(1, levels))

    def forward(self, down: list[Tensor], up: list[Tensor]) -> list[Tensor]:
        middle = [down[-1]]  # coarse to fine
        for fusion, feature in zip(self.top_down, down[-2::-1], strict=True):
            middle.append(fusion([feature, fit(middle[-1], feature)]))
        merged = [middle.pop()]  # fine to coarse: the way down ends where the way up begins
        for fusion, feature, between in zip(self.bottom_up[:-1], up[1:-1], middle[:0:-1], strict=True):
            merged.append(fusion([feature, between, fit(halve(merged[-1]), feature)]))
        merged.append(self.bottom_up[-1]([up[-1], fit(halve(merged[-1]), up[-1])]))
        return merged


class Fusion(nn.Module):
    """I maps (B, D, h, w), weighted by how much each tells → their mean, convolved (B, D, h, w).

    Attributes:
        weights: (I,) learned; what is below zero counts as zero.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(inputs))
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.pointwise = nn.Conv2d(width, width, 1)
        self.norm = nn.BatchNorm2d(width, eps=NORM_EPS, momentum=NORM_MOMENTUM)
        self.apply(initialise)

    def shares(self) -> Tensor:
        """(I,) what each map counts for, in [0, 1]; they sum to a little less than 1."""
        positive = F.relu(self.weights)
        return positive / (positive.sum() + FUSION_EPS)

    def forward(self, maps: list[Tensor]) -> Tensor:
        shares = self.shares().unbind()
        mean = shares[0] * maps[0]
        for share, feature in zip(shares[1:], maps[1:], strict=True):
            mean = mean + share * feature
        merged: Tensor = self.norm(self.pointwise(self.depthwise(F.silu(mean))))
        return merged


def halve(feature: Tensor) -> Tensor:
    """The largest of 3x3 pixels around every other: (B, D, h, w) → (B, D, h / 2, w / 2), rounded up."""
    return F.max_pool2d(feature, kernel_size=3, stride=2, padding=1)
