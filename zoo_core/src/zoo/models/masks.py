"""Masks of objects: from a grid over each box to the pixels of the picture.

N objects   M side of the grid   H W the picture's sides
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def paste_masks(masks: Tensor, boxes_xyxy: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Soft masks (N, M, M) over boxes (N, 4) → (N, H, W) bool: the pixels where the mask is above the threshold.

    As in Mask R-CNN (He et al. 2017, arXiv:1703.06870): the mask is resized to its box, bilinearly. It is given a
    border of zeros before, so that its edge may fall inside of the box; boxes are rounded to whole pixels.
    """
    height, width = size
    side = masks.shape[-1]
    pasted = torch.zeros(len(masks), height, width, dtype=torch.bool)
    padded = F.pad(masks, (1, 1, 1, 1))
    center, half = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2, (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) / 2
    half = half * ((side + 2) / side)
    corners = torch.cat([center - half, center + half], dim=1).to(torch.int64)  # towards zero, as torchvision
    for place, mask, (x1, y1, x2, y2) in zip(pasted, padded, corners.tolist(), strict=True):
        columns, rows = max(x2 - x1 + 1, 1), max(y2 - y1 + 1, 1)
        left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2 + 1, width), min(y2 + 1, height)
        if left >= right or top >= bottom:
            continue
        resized = F.interpolate(mask[None, None], size=(rows, columns), mode="bilinear", align_corners=False)[0, 0]
        place[top:bottom, left:right] = resized[top - y1 : bottom - y1, left - x1 : right - x1] > threshold
    return pasted
