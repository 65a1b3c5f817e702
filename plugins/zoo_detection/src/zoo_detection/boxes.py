"""Boxes: four numbers for a rectangle, and how two rectangles agree.

    xyxy     left, top, right, bottom        what every function here takes unless it says otherwise
    xywh     left, top, width, height        COCO's files
    cxcywh   centre x, centre y, width, height

Coordinates are continuous: a box covers [x1, x2) x [y1, y2), its width is x2 - x1 and no pixel is added. A box with
x2 <= x1 or y2 <= y1 is degenerate: its area is 0 and every overlap with it is finite.

Functions of two sets take (..., N, 4) and (..., M, 4) and give the (..., N, M) matrix of every pair. Arithmetic is in
float32 at least (float16 has whole pixels only from 1024 on); float64 stays float64.

N M boxes   B images
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import box_convert

from zoo.errors import InputError

BoxFormat = Literal["xyxy", "xywh", "cxcywh"]
FORMATS: tuple[BoxFormat, ...] = ("xyxy", "xywh", "cxcywh")


def convert(boxes: Tensor, source: BoxFormat, target: BoxFormat) -> Tensor:
    """Boxes (..., 4) of one format as boxes of another, in their own floating dtype; integers become float32.

    Raises:
        InputError: a last axis that is not 4, or an unknown format.
    """
    check_boxes(boxes)
    for name in (source, target):
        if name not in FORMATS:
            raise InputError("no such box format", asked=str(name), fix=f"one of {', '.join(FORMATS)}")
    converted: Tensor = box_convert(at_least_float32(boxes), source, target)
    return converted.to(boxes.dtype) if boxes.is_floating_point() else converted


def area(boxes: Tensor) -> Tensor:
    """Areas (...,) of xyxy boxes (..., 4), in square units of the boxes; 0 where degenerate. At least float32."""
    sides = _sides(at_least_float32(check_boxes(boxes)))
    return sides[..., 0] * sides[..., 1]


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union (..., N, M) in [0, 1] of xyxy boxes (..., N, 4) and (..., M, 4): the Jaccard index.

    0 where both are degenerate. `torchvision.ops.box_iou` on boxes with an area.
    """
    boxes, others = _pair(boxes, others)
    shared, union = _shared_and_union(boxes, others)
    return _ratio(shared, union)


def giou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalised IoU (..., N, M) in [-1, 1]: IoU less the share of the enclosing box that neither covers.

    Rezatofighi et al. 2019, arXiv:1902.09630.
    """
    boxes, others = _pair(boxes, others)
    shared, union = _shared_and_union(boxes, others)
    width, height = _enclosing_sides(boxes, others).unbind(-1)
    hull = width * height
    return _ratio(shared, union) - _ratio(hull - union, hull)


def diou(boxes: Tensor, others: Tensor) -> Tensor:
    """Distance IoU (..., N, M) in [-1, 1]: IoU less the squared distance of the centres over the squared diagonal of
    the enclosing box. Zheng et al. 2020, arXiv:1911.08287.
    """
    boxes, others = _pair(boxes, others)
    shared, union = _shared_and_union(boxes, others)
    return _ratio(shared, union) - _distance(boxes, others)


def ciou(boxes: Tensor, others: Tensor) -> Tensor:
    """Complete IoU (..., N, M): DIoU less a penalty for unequal aspect ratios. Zheng et al. 2020, arXiv:1911.08287.

    The penalty is alpha * v, where v = (4 / pi^2) (atan(w / h) - atan(w' / h'))^2 and alpha = v / (1 - IoU + v) is a
    constant for the gradient, as in the paper.
    """
    boxes, others = _pair(boxes, others)
    shared, union = _shared_and_union(boxes, others)
    overlap = _ratio(shared, union)
    angles, other_angles = aspect_angle(boxes)[..., :, None], aspect_angle(others)[..., None, :]
    unequal = (4 / math.pi**2) * (angles - other_angles) ** 2
    with torch.no_grad():
        weight = _ratio(unequal, 1 - overlap + unequal)
    return overlap - _distance(boxes, others) - weight * unequal


def clip_boxes(boxes: Tensor, sizes: Tensor | Sequence[int]) -> Tensor:
    """Boxes (..., 4) moved into their images: x into [0, width], y into [0, height].

    Args:
        boxes: xyxy, pixels.
        sizes: (height, width) in pixels: a pair for all boxes, or a tensor (..., 2) whose leading axes are those of the
            boxes: (B, 2) for boxes (B, N, 4), (M, 2) for boxes (M, 4).
    """
    check_boxes(boxes)
    if not isinstance(sizes, Tensor):
        height, width = sizes  # may be symbolic: not made a tensor
        x1, y1, x2, y2 = boxes.unbind(-1)
        x1, x2 = x1.clamp(0, width), x2.clamp(0, width)
        return torch.stack((x1, y1.clamp(0, height), x2, y2.clamp(0, height)), dim=-1)
    if sizes.shape[-1] != 2 or sizes.dim() > boxes.dim():
        raise InputError(
            "sizes do not fit the boxes",
            found=f"sizes {tuple(sizes.shape)}, boxes {tuple(boxes.shape)}",
            fix="sizes=(height, width), or one such row for each leading index of the boxes",
        )
    between = [1] * (boxes.dim() - sizes.dim())
    limits = sizes.to(boxes).flip(-1).view(*sizes.shape[:-1], *between, 2)  # (..., 1, 2): width, height
    return torch.minimum(boxes.clamp(min=0), torch.cat((limits, limits), dim=-1))


def large_enough(boxes: Tensor, smallest: float) -> Tensor:
    """Bool (...,): both sides of the xyxy box (..., 4) are `smallest` or more, in units of the boxes."""
    sides = check_boxes(boxes)[..., 2:] - boxes[..., :2]
    return (sides >= smallest).all(dim=-1)


def contains(boxes: Tensor, points: Tensor) -> Tensor:
    """Bool (N, M): the point (x, y) of `points` (M, 2) lies inside the xyxy box of `boxes` (N, 4), not on its edge."""
    x, y = points.unbind(-1)
    x1, y1, x2, y2 = check_boxes(boxes)[:, None].unbind(-1)  # each (N, 1)
    return (x > x1) & (x < x2) & (y > y1) & (y < y2)


def centres(boxes: Tensor) -> Tensor:
    """Centres (..., 2), x and y, of xyxy boxes (..., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def aspect_angle(boxes: Tensor) -> Tensor:
    """atan(width / height) (...,) of xyxy boxes (..., 4), in [0, pi / 2]; 0 and without gradient where both are 0."""
    width, height = _sides(boxes).unbind(-1)
    return torch.atan2(width, height)


def check_boxes(boxes: Tensor) -> Tensor:
    """`boxes`, if its last axis is 4 long; raises InputError otherwise."""
    if boxes.dim() == 0 or boxes.shape[-1] != 4:
        raise InputError(
            "boxes need four numbers each", found=f"a tensor of shape {tuple(boxes.shape)}", fix="(..., 4)"
        )
    return boxes


def at_least_float32(values: Tensor) -> Tensor:
    """The values as they are if float32 or float64, else as float32."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def _pair(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    return at_least_float32(check_boxes(boxes)), at_least_float32(check_boxes(others))


def _sides(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)


def _shared_and_union(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    start = torch.maximum(boxes[..., :, None, :2], others[..., None, :, :2])  # (..., N, M, 2)
    end = torch.minimum(boxes[..., :, None, 2:], others[..., None, :, 2:])
    width, height = (end - start).clamp(min=0).unbind(-1)
    shared = width * height
    return shared, area(boxes)[..., :, None] + area(others)[..., None, :] - shared


def _enclosing_sides(boxes: Tensor, others: Tensor) -> Tensor:
    start = torch.minimum(boxes[..., :, None, :2], others[..., None, :, :2])  # (..., N, M, 2)
    end = torch.maximum(boxes[..., :, None, 2:], others[..., None, :, 2:])
    return (end - start).clamp(min=0)


def _distance(boxes: Tensor, others: Tensor) -> Tensor:
    apart = (centres(boxes)[..., :, None, :] - centres(others)[..., None, :, :]).square().sum(-1)
    return _ratio(apart, _enclosing_sides(boxes, others).square().sum(-1))


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, 0 where the whole is 0: chosen before the division, so that the gradient is finite too."""
    empty = whole == 0
    return torch.where(empty, 0.0, part) / torch.where(empty, 1.0, whole)
