"""Which feature maps a timm encoder gives: channels and strides, as it declares them, and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import nn

from zoo.errors import OptionError


class MapInfo(NamedTuple):
    """One feature map. stride: input pixels a map pixel."""

    channels: int
    stride: int


# Where timm's declaration and the maps that come differ: class name -> strides in order.
_MEASURED_STRIDES: Mapping[str, tuple[int, ...]] = {"TResNet": (4, 4, 8, 16, 32)}


def map_table(encoder: nn.Module) -> tuple[MapInfo, ...]:
    """Every map the encoder gives, in order of depth."""
    declared = [(int(row["num_chs"]), round(row["reduction"])) for row in encoder.feature_info]
    strides = _MEASURED_STRIDES.get(type(encoder).__name__, [stride for _, stride in declared])
    return tuple(MapInfo(channels, stride) for (channels, _), stride in zip(declared, strides, strict=True))


def choose_maps(table: Sequence[MapInfo], indices: Sequence[int] | None, architecture: str) -> tuple[int, ...]:
    """Indices counted from 0, ascending; by default the last map of each stride.

    Raises:
        OptionError: an index out of range, or not in ascending order; the message lists the maps there are.
    """
    if indices is None:
        return tuple(sorted({info.stride: i for i, info in enumerate(table)}.values()))
    count = len(table)
    chosen = tuple(i + count if i < 0 else i for i in indices)
    if not chosen or not all(0 <= i < count for i in chosen) or list(chosen) != sorted(set(chosen)):
        there = ", ".join(f"{i}: {info.channels} channels at stride {info.stride}" for i, info in enumerate(table))
        raise OptionError(
            f"{architecture} gives {count} maps; out_indices names them from 0, or from -1 backwards, fine to coarse",
            asked=f"out_indices={tuple(indices)}",
            found=there,
            fix=f"out_indices=({count - 1},)",
        )
    return chosen
