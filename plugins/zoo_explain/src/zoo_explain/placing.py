"""Where the image is in what a layer gives: plain maps, maps with the channels last, or tokens behind prefix tokens.

B batch   D channels   N tokens   r c rows and columns of the map   P prefix tokens
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from zoo.models.model import Layout


class Placing(NamedTuple):
    """How one output holds the image. prefix: tokens before the patches. grid: (r, c)."""

    kind: Literal["maps", "channels-last", "tokens"]
    prefix: int
    grid: tuple[int, int]

    def to_map(self, output: Tensor) -> Tensor:
        """The output → (B, D, r, c)."""
        if self.kind == "maps":
            return output
        if self.kind == "channels-last":
            return output.permute(0, 3, 1, 2)
        cells = output[:, self.prefix :].transpose(1, 2)
        return cells.reshape(*cells.shape[:2], *self.grid)

    def from_map(self, cells: Tensor, output: Tensor) -> Tensor:
        """(B, D, r, c) → an output as the layer gave it, with its own prefix tokens."""
        if self.kind == "maps":
            return cells
        if self.kind == "channels-last":
            return cells.permute(0, 2, 3, 1)
        return torch.cat((output[:, : self.prefix], cells.flatten(2).transpose(1, 2)), dim=1)


def placing(output: Any, layout: Layout | None, images: tuple[int, int, int]) -> Placing | None:
    """How a layer's output holds a batch of images; None where it does not, or only in a single cell.

    A map's rows and columns are in the ratio of the image's sides. Where several readings are, the one of the model's
    layout comes first: parts of a block may keep other ways than the block.

    Args:
        output: what the layer gave.
        layout: of the model; None allows plain maps only.
        images: (B, H, W) of what the model was given.
    """
    batch, *size = images
    if not isinstance(output, Tensor) or output.ndim not in (3, 4) or output.shape[0] != batch:
        return None
    if output.ndim == 4:
        readings = [Placing("maps", 0, (output.shape[2], output.shape[3]))]
        if layout is not None:
            last = Placing("channels-last", 0, (output.shape[1], output.shape[2]))
            readings = [last, *readings] if layout.channels_last else [*readings, last]
    elif layout is not None:
        prefixes = dict.fromkeys((layout.prefix_tokens, 0))  # before the class token joins them there is none
        grids = ((prefix, grid_of(output.shape[1] - prefix, (size[0], size[1]))) for prefix in prefixes)
        readings = [Placing("tokens", prefix, grid) for prefix, grid in grids if grid]
    else:
        readings = []
    fitting = [r for r in readings if r.grid[0] * r.grid[1] > 1 and _misfit(r.grid, size[0], size[1]) < 1]
    return min(fitting, key=lambda r: _misfit(r.grid, size[0], size[1]), default=None)


def grid_of(cells: int, size: tuple[int, int]) -> tuple[int, int] | None:
    """The (rows, columns) of that many cells over an image (H, W) whose cells are nearest to squares; None below 1."""
    divisors = [n for n in range(1, cells + 1) if cells % n == 0] if cells > 0 else []
    grids = [(n, cells // n) for n in divisors]
    return min(grids, key=lambda grid: _misfit(grid, *size), default=None)


def _misfit(grid: tuple[int, int], height: int, width: int) -> float:
    """How far a grid's ratio is from the image's; below 1 where rounding each side to whole cells can explain it."""
    rows, columns = grid
    return abs(rows * width - columns * height) / max(height, width)
