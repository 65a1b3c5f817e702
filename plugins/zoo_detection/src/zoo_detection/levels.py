"""What the necks agree on: how many maps they give, how coarser ones are made, and which maps they refuse.

B batch   C channels   h w a map's height and width
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from zoo.errors import InputError, OptionError
from zoo.models.config import ModelConfig
from zoo.models.model import Neck

Extra = Literal["pool", "conv", "conv_input"]
Norm = Literal["none", "batch"]

NORMS: Mapping[Norm, type[nn.BatchNorm2d] | None] = {"none": None, "batch": nn.BatchNorm2d}
"""What follows a convolution; one that nothing follows has a bias."""


class NeckConfig(ModelConfig):
    """What every neck may be told."""

    spellings: ClassVar[Mapping[str, str]] = {"out_channels": "width", "num_outs": "levels", "num_levels": "levels"}

    width: int = Field(256, ge=1, le=65536, description="channels of every map given")
    levels: int | None = Field(
        None, ge=1, le=12, description="maps given; None: as many as come in (`simple_pyramid`: four)"
    )


class Subsample(ExtraFPNBlock):
    """Every other pixel of the coarsest map given, again and again: Faster R-CNN's P6. No parameters."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """torchvision's contract: maps given so far, maps that came in, names → maps given and names, with more."""
        for _ in range(self.count):
            results = [*results, F.max_pool2d(results[-1], kernel_size=1, stride=2)]
        return results, [*names, *(f"pool{i}" for i in range(self.count))]


class Convolve(ExtraFPNBlock):
    """A 3x3 convolution of stride 2 a level, a ReLU between two: RetinaNet's P6 and P7, under torchvision's names.

    Args:
        count: levels to add.
        channels: of the map the first one starts from.
        width: channels of every map given.
        from_input: start from the coarsest map that came in, not from the coarsest given.
    """

    def __init__(self, count: int, channels: int, width: int, from_input: bool) -> None:
        super().__init__()
        self.from_input = from_input
        self.names = [f"p{6 + i}" for i in range(count)]
        for i, name in enumerate(self.names):
            self.add_module(name, nn.Conv2d(width if i else channels, width, 3, stride=2, padding=1))
        self.apply(initialise)

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """torchvision's contract: maps given so far, maps that came in, names → maps given and names, with more."""
        coarsest = x[-1] if self.from_input else results[-1]
        for i, name in enumerate(self.names):
            coarsest = self.get_submodule(name)(F.relu(coarsest) if i else coarsest)
            results = [*results, coarsest]
        return results, [*names, *self.names]


def coarser(extra: Extra, count: int, channels: int, width: int) -> ExtraFPNBlock:
    """The block that adds `count` levels; `channels` of the coarsest map that comes in."""
    if extra == "pool":
        return Subsample(count)
    from_input = extra == "conv_input"
    return Convolve(count, channels if from_input else width, width, from_input)


def fit(feature: Tensor, like: Tensor) -> Tensor:
    """The nearest pixels of a map (B, C, h, w) for the sides of another: twice as many, or one fewer at odd sides."""
    return F.interpolate(feature, size=like.shape[-2:], mode="nearest")


def initialise(module: nn.Module) -> None:
    """Convolutions as torchvision's pyramid starts them: uniform by fan-in, biases zero."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_uniform_(module.weight, a=1)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def check_bind(neck: Neck, channels: Sequence[int], strides: Sequence[int]) -> None:
    """Raises `OptionError` where a neck is bound a second time, or to no maps or maps half described."""
    name = type(neck).__name__
    if neck.channels:
        raise OptionError(
            f"this {name} is bound to maps already",
            found=f"it gives strides {neck.strides}",
            fix=f"{name}(…), one for every model",
        )
    if not channels or len(channels) != len(strides) or min(*channels, *strides) < 1:
        raise OptionError(
            f"{name} is bound to maps with channels and strides, one of each a map",
            asked=f"channels={tuple(channels)}, strides={tuple(strides)}",
            fix="neck.bind(backbone.channels, backbone.strides)",
        )


def check_steps(neck: Neck, strides: Sequence[int], steps: tuple[int, ...]) -> None:
    """Raises `OptionError` where neighbouring strides are not one of `steps` times each other, or there is one only."""
    name, found = type(neck).__name__, f"strides {tuple(strides)}"
    if 1 not in steps and len(set(strides)) == 1:
        raise OptionError(
            f"{name} merges maps of several strides, and this backbone gives one stride only",
            found=found,
            fix='neck="simple_pyramid"',
        )
    if any(b not in [a * step for step in steps] for a, b in pairwise(strides)):
        wanted = "twice" if steps == (2,) else f"{', '.join(map(str, steps[:-1]))} or {steps[-1]} times"
        raise OptionError(
            f"{name} takes maps fine to coarse, each stride {wanted} the one before",
            found=found,
            fix='backbone={"name": "…", "out_indices": (-1,)}, neck="simple_pyramid"',
        )


def extra_levels(neck: Neck, levels: int | None, incoming: int) -> int:
    """How many maps are to be added to those that come in. Raises `OptionError` where fewer are wanted."""
    wanted = incoming if levels is None else levels
    if wanted < incoming:
        raise OptionError(
            f"{type(neck).__name__} gives every map that comes in, and {incoming} do",
            asked=f"levels={wanted}",
            fix=f"levels={incoming}, or out_indices=… of the backbone for fewer maps",
        )
    return wanted - incoming


def doubled(strides: Sequence[int], extra: int) -> tuple[int, ...]:
    """The strides that come in, and those of the maps added behind."""
    return (*strides, *(strides[-1] * 2 ** (i + 1) for i in range(extra)))


def check_maps(neck: Neck, maps: Sequence[Tensor], channels: Sequence[int]) -> None:
    """Raises `InputError` where a neck is not bound, or given other maps than it is bound to."""
    name = type(neck).__name__
    if not neck.channels:
        raise InputError(
            f"this {name} is not bound to a backbone's maps yet", fix="neck.bind(backbone.channels, backbone.strides)"
        )
    if len(maps) != len(channels) or any(m.ndim != 4 or m.shape[1] != c for m, c in zip(maps, channels, strict=False)):
        raise InputError(
            f"this {name} is bound to {len(channels)} maps (B, C, h, w), fine to coarse, of {tuple(channels)} channels",
            found=", ".join(str(tuple(m.shape)) for m in maps) or "no maps",
            fix="the maps of the backbone it is bound to",
        )


def check_enough_to_norm(neck: Neck, coarsest: Tensor, halvings: int = 0) -> None:
    """Raises `InputError` where batch norm, in training, has one pixel a channel and so no deviation.

    Args:
        coarsest: the coarsest map that comes in, (B, C, h, w).
        halvings: how often it is halved before the last norm sees it.
    """
    if not neck.training:
        return
    batch, _, *sides = coarsest.shape
    height, width = (-(-side // 2**halvings) for side in sides)
    if batch * height * width < 2:
        raise InputError(
            f"the coarsest map of this {type(neck).__name__} is one pixel of one image: too little for batch norm to "
            "train on",
            found=f"{batch} x {height} x {width}",
            fix="two images a batch, larger images, or fewer levels",
        )
