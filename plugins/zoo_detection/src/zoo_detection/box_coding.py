"""How a head tells a box: as a correction of an anchor.

    BoxCoder        centre moved by shares of the anchor's sides, sides multiplied: R-CNN, RetinaNet, SSD
    DistanceCoder   from the anchor's centre to the four sides: FCOS

Both give `decode(encode(boxes, anchors), anchors) == boxes`, work in float32 at least and broadcast: codes (N, K, 4)
of K classes go with anchors (N, 1, 4).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from zoo_detection.boxes import at_least_float32

SMALLEST_SIDE = 1e-6  # a side of 0 has no logarithm; nothing that trains is this small


class BoxCoder(NamedTuple):
    """dx = wx (x - xa) / wa, dw = ww log(w / wa), and so for y and h. Girshick et al. 2014, arXiv:1311.2524, C.

    Attributes:
        weights: (wx, wy, ww, wh), what the codes are multiplied by, so that their variances are near 1.
        largest_log_scale: decoded sides grow by exp(this) at most.
    """

    weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    largest_log_scale: float = math.log(1000.0 / 16)

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Codes (..., 4) that turn the anchors (..., 4) into the boxes (..., 4), all xyxy."""
        boxes, anchors = at_least_float32(boxes), at_least_float32(anchors)
        anchor_x, anchor_y, anchor_w, anchor_h = _centre_and_sides(anchors)
        x, y, w, h = _centre_and_sides(boxes)
        anchor_w, anchor_h = anchor_w.clamp(min=SMALLEST_SIDE), anchor_h.clamp(min=SMALLEST_SIDE)
        wx, wy, ww, wh = self.weights
        return torch.stack(
            (
                wx * (x - anchor_x) / anchor_w,
                wy * (y - anchor_y) / anchor_h,
                ww * torch.log(w.clamp(min=SMALLEST_SIDE) / anchor_w),
                wh * torch.log(h.clamp(min=SMALLEST_SIDE) / anchor_h),
            ),
            dim=-1,
        )

    def decode(self, codes: Tensor, anchors: Tensor) -> Tensor:
        """Boxes (..., 4), xyxy, from codes (..., 4) and anchors (..., 4)."""
        codes = at_least_float32(codes)
        anchor_x, anchor_y, anchor_w, anchor_h = _centre_and_sides(anchors.to(codes.dtype))
        dx, dy, dw, dh = (code / weight for code, weight in zip(codes.unbind(-1), self.weights, strict=True))
        x, y = dx * anchor_w + anchor_x, dy * anchor_h + anchor_y
        half_w = 0.5 * (torch.exp(dw.clamp(max=self.largest_log_scale)) * anchor_w)
        half_h = 0.5 * (torch.exp(dh.clamp(max=self.largest_log_scale)) * anchor_h)
        return torch.stack((x - half_w, y - half_h, x + half_w, y + half_h), dim=-1)


class DistanceCoder(NamedTuple):
    """Distances from the anchor's centre to left, top, right and bottom. Tian et al. 2019, arXiv:1904.01355.

    Attributes:
        by_size: the distances are divided by the anchor's sides (its stride, in FCOS).
    """

    by_size: bool = True

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Distances (..., 4) of the boxes (..., 4), xyxy; negative where the centre is outside."""
        boxes, anchors = at_least_float32(boxes), at_least_float32(anchors)
        x, y, sides = self._parts(anchors)
        x1, y1, x2, y2 = boxes.unbind(-1)
        return torch.stack((x - x1, y - y1, x2 - x, y2 - y), dim=-1) / sides

    def decode(self, codes: Tensor, anchors: Tensor) -> Tensor:
        """Boxes (..., 4), xyxy, from distances (..., 4) and anchors (..., 4)."""
        codes = at_least_float32(codes)
        x, y, sides = self._parts(anchors.to(codes.dtype))
        left, top, right, bottom = (codes * sides).unbind(-1)
        return torch.stack((x - left, y - top, x + right, y + bottom), dim=-1)

    def _parts(self, anchors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x1, y1, x2, y2 = anchors.unbind(-1)
        sides = torch.stack((x2 - x1, y2 - y1, x2 - x1, y2 - y1), dim=-1).clamp(min=SMALLEST_SIDE)
        return 0.5 * (x1 + x2), 0.5 * (y1 + y2), sides if self.by_size else torch.ones_like(sides)


def _centre_and_sides(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x1, y1, x2, y2 = boxes.unbind(-1)
    width, height = x2 - x1, y2 - y1
    return x1 + 0.5 * width, y1 + 0.5 * height, width, height
