"""Anchors: the boxes that a head corrects, laid over the cells of the feature maps.

    cell anchors (A, 4) around 0  +  the cells' places (h * w, 2)  ->  (h * w * A, 4), row by row, anchors innermost

Faster R-CNN and RetinaNet lay boxes of given sizes and ratios (`GridAnchors`, as torchvision's AnchorGenerator), SSD
boxes that are fractions of the image (`DefaultBoxes`, as its DefaultBoxGenerator).

A anchors of a cell   h w a map's height and width   L levels
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.errors import InputError, OptionError
from zoo_detection.boxes import iou

Pair = tuple[int, int]


class GridAnchors:
    """Anchors of given sizes and aspect ratios at every cell of every map. Ren et al. 2015, arXiv:1506.01497.

    The first cell's centre is the image's corner, (0, 0), as in torchvision.

    Args:
        sizes: for each level the anchors' sizes, in pixels: the square root of their area.
        ratios: height / width: for each level its own, or one list for all levels.
        rounded: the cell's corners are rounded to whole pixels, as in torchvision; mmdetection does not.

    Attributes:
        per_cell: A for each level.
    """

    def __init__(
        self,
        sizes: Sequence[Sequence[float]],
        ratios: Sequence[Sequence[float]] | Sequence[float],
        *,
        rounded: bool = True,
    ) -> None:
        by_level = [[float(r) for r in row] if isinstance(row, Sequence) else None for row in ratios]
        per_level = [row for row in by_level if row is not None]
        if not per_level:
            per_level = [[float(r) for r in ratios if not isinstance(r, Sequence)]] * len(sizes)
        if len(per_level) != len(sizes):
            raise OptionError(
                "anchors need ratios for every level", asked=f"{len(sizes)} levels", found=f"{len(per_level)} of ratios"
            )
        self.cells = [_cell_anchors(size, ratio, rounded) for size, ratio in zip(sizes, per_level, strict=True)]
        self.per_cell = tuple(len(cell) for cell in self.cells)

    def __call__(self, images: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
        """Anchors for a batch (B, C, H, W) and its maps (B, C, h, w): for each level (h * w * A, 4), xyxy, pixels.

        A level's stride is H // h and W // w. At least float32, on the maps' device.
        """
        sizes = [(level.shape[-2], level.shape[-1]) for level in maps]
        strides = [(images.shape[-2] // h, images.shape[-1] // w) for h, w in sizes]
        return self.at(sizes, strides, dtype=maps[0].dtype, device=maps[0].device)

    def at(
        self,
        map_sizes: Sequence[Pair],
        strides: Sequence[Pair],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> list[Tensor]:
        """Anchors (h * w * A, 4) for each level, from the maps' (h, w) and their (vertical, horizontal) strides."""
        if not len(map_sizes) == len(strides) == len(self.cells):
            raise OptionError(
                "anchors and feature maps differ in number",
                asked=f"anchors for {len(self.cells)} levels",
                found=f"{len(map_sizes)} maps",
            )
        dtype = torch.promote_types(dtype, torch.float32)
        anchors = []
        for cell, (h, w), (down, right) in zip(self.cells, map_sizes, strides, strict=True):
            y, x = torch.meshgrid(
                torch.arange(h, device=device) * down, torch.arange(w, device=device) * right, indexing="ij"
            )
            places = torch.stack((x, y, x, y), dim=-1).view(-1, 1, 4).to(dtype)  # (h * w, 1, 4)
            anchors.append((places + torch.tensor(cell, dtype=dtype, device=device)).view(-1, 4))
        return anchors


class DefaultBoxes:
    """SSD's default boxes: fractions of the image around every cell's middle. Liu et al. 2016, arXiv:1512.02325.

    Args:
        shapes: for each level the (width, height) of its boxes as fractions of the image: `ssd_shapes`.
        steps: for each level the pixels from cell to cell; None: the image divided by the map.
        clip: no side is longer than the image.

    Attributes:
        per_cell: A for each level.
    """

    def __init__(
        self,
        shapes: Sequence[Sequence[tuple[float, float]]],
        *,
        steps: Sequence[int] | None = None,
        clip: bool = True,
    ) -> None:
        if steps is not None and len(steps) != len(shapes):
            raise OptionError(
                "default boxes need a step for every level", asked=f"{len(shapes)} levels", found=f"{len(steps)} steps"
            )
        self.shapes = [[(min(w, 1.0), min(h, 1.0)) if clip else (w, h) for w, h in level] for level in shapes]
        self.steps = None if steps is None else tuple(steps)
        self.per_cell = tuple(len(level) for level in self.shapes)

    def __call__(self, images: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
        """Boxes for a batch (B, C, H, W) and its maps (B, C, h, w): for each level (h * w * A, 4), xyxy, pixels.

        At least float32, on the maps' device. They may reach past the image's edge.
        """
        sizes = [(level.shape[-2], level.shape[-1]) for level in maps]
        return self.at((images.shape[-2], images.shape[-1]), sizes, dtype=maps[0].dtype, device=maps[0].device)

    def at(
        self,
        image_size: Pair,
        map_sizes: Sequence[Pair],
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> list[Tensor]:
        """Boxes (h * w * A, 4) for each level, from the image's (H, W) and the maps' (h, w)."""
        if len(map_sizes) != len(self.shapes):
            raise OptionError(
                "default boxes and feature maps differ in number",
                asked=f"boxes for {len(self.shapes)} levels",
                found=f"{len(map_sizes)} maps",
            )
        dtype = torch.promote_types(dtype, torch.float32)
        height, width = image_size
        boxes = []
        for level, (h, w) in enumerate(map_sizes):
            rows, columns = (h, w) if self.steps is None else (height / self.steps[level], width / self.steps[level])
            y, x = torch.meshgrid(
                (torch.arange(h, device=device) + 0.5) / rows,
                (torch.arange(w, device=device) + 0.5) / columns,
                indexing="ij",
            )
            x, y = x.to(dtype).reshape(-1, 1), y.to(dtype).reshape(-1, 1)  # (h * w, 1)
            half_w, half_h = 0.5 * torch.tensor(self.shapes[level], dtype=dtype, device=device).T  # (A,)
            corners = ((x - half_w) * width, (y - half_h) * height, (x + half_w) * width, (y + half_h) * height)
            boxes.append(torch.stack(corners, dim=-1).view(-1, 4))
        return boxes


def ssd_shapes(ratios: Sequence[Sequence[float]], scales: Sequence[float]) -> list[list[tuple[float, float]]]:
    """The (width, height) of SSD's default boxes, for each level, as fractions of the image.

    Two squares, of the level's scale and of the geometric mean of it and the next, then for each ratio r a box of that
    ratio and one of 1 / r. `scales` has one more than the levels.
    """
    if len(scales) != len(ratios) + 1:
        raise OptionError(
            "default boxes need one scale more than levels",
            asked=f"{len(ratios)} levels",
            found=f"{len(scales)} scales",
        )
    shapes = []
    for row, scale, following in zip(ratios, scales[:-1], scales[1:], strict=True):
        between = math.sqrt(scale * following)
        level = [(scale, scale), (between, between)]
        for ratio in row:
            long, short = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
            level += [(long, short), (short, long)]
        shapes.append(level)
    return shapes


def spaced_scales(levels: int, smallest: float, largest: float) -> list[float]:
    """Evenly spaced scales from `smallest` to `largest` for the levels, and 1 behind the last, as torchvision's SSD."""
    if levels == 1:
        return [smallest, largest]
    return [smallest + (largest - smallest) * k / (levels - 1.0) for k in range(levels)] + [1.0]


def kmeans_anchors(sides: Tensor, count: int, *, generator: torch.Generator | None = None, rounds: int = 300) -> Tensor:
    """Anchor sides that fit a data set: k-means with the distance 1 - IoU. Redmon & Farhadi 2017, arXiv:1612.08242, 2.

    Boxes are compared as if they had the same centre; a cluster's centre is the mean of its sides. The first centres
    are drawn far from one another (k-means++); of all rounds the one with the best mean IoU counts.

    Args:
        sides: (N, 2) width and height of the targets, in any unit, above 0.
        count: how many anchors.
        generator: on the CPU; the same seed gives the same anchors. None is torch's own.
        rounds: at most; it ends as soon as no target changes its anchor.

    Returns:
        (count, 2) float32 width and height, by ascending area, in the unit of `sides`.

    Raises:
        InputError: sides of another shape, not above 0, or fewer different ones than `count`.
    """
    if sides.dim() != 2 or sides.shape[1] != 2 or not bool((sides > 0).all() & sides.isfinite().all()):
        raise InputError("k-means needs (N, 2) widths and heights above 0", found=f"a tensor {tuple(sides.shape)}")
    sides = sides.double().cpu()
    different = len(sides.unique(dim=0))
    if not 1 <= count <= different:
        raise InputError("too few different boxes", asked=f"{count} anchors", found=f"{different} different sides")
    centres = _spread_centres(sides, count, generator)
    best, best_fit, clusters = centres, -1.0, torch.empty(0)
    for _ in range(rounds):
        overlaps, nearest = _same_centre_iou(sides, centres).max(dim=1)
        if float(overlaps.mean()) > best_fit:
            best, best_fit = centres, float(overlaps.mean())
        if torch.equal(nearest, clusters):
            break
        clusters = nearest
        sizes = torch.bincount(clusters, minlength=count)[:, None]
        means = torch.zeros_like(centres).index_add(0, clusters, sides) / sizes.clamp(min=1)
        centres = torch.where(sizes > 0, means, centres)  # an empty cluster stays where it is
    return best[best.prod(dim=1).argsort()].float()


def _spread_centres(sides: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    chosen = torch.randint(len(sides), (1,), generator=generator)
    while len(chosen) < count:
        away = 1 - _same_centre_iou(sides, sides[chosen]).amax(dim=1)
        chosen = torch.cat((chosen, torch.multinomial(away.clamp(min=1e-15) ** 2, 1, generator=generator)))
    return sides[chosen]


def _same_centre_iou(sides: Tensor, others: Tensor) -> Tensor:
    return iou(*(torch.cat((torch.zeros_like(each), each), dim=1) for each in (sides, others)))


def _cell_anchors(sizes: Sequence[float], ratios: Sequence[float], rounded: bool) -> list[list[float]]:
    # In float32, so that halves round as in torchvision; on the CPU, also where models are built on meta.
    scales = torch.tensor(sizes, dtype=torch.float32, device="cpu")
    stretch = torch.tensor(ratios, dtype=torch.float32, device="cpu").sqrt()
    widths = ((1 / stretch)[:, None] * scales).flatten()
    heights = (stretch[:, None] * scales).flatten()
    corners = torch.stack((-widths, -heights, widths, heights), dim=1) / 2
    return (corners.round() if rounded else corners).tolist()
