"""A vector an object: what a detector's maps say inside its box, averaged.

boxes (B, K, 4) -> each looks at the level for its size -> RoI align (B * K, D, 7, 7) -> mean -> (B, K, D)

B images   K objects an image   L levels   D channels of the maps
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import roi_align

from zoo_detection.boxes import area

CELLS = 7
SAMPLES = 2  # a side of a cell
CANONICAL_SIDE, CANONICAL_STRIDE = 224, 16
"""A box as large as ImageNet's images looks at the map of stride 16. Lin et al. 2017, arXiv:1612.03144, 4.2."""


def object_embeddings(maps: Sequence[Tensor], strides: Sequence[int], boxes: Tensor, labels: Tensor) -> Tensor:
    """Vectors (B, K, D) in float32 of the objects in boxes (B, K, 4), xyxy in input pixels; 0 where the label is -1.

    A box looks at the coarsest map whose stride is at most 16 * sqrt(area) / 224, the finest if there is none. Maps
    that differ in channels cannot stand for each other: there every box looks at the one whose stride is nearest to 16.

    Args:
        maps: L maps (B, D, h, w), fine to coarse.
        strides: of each, in pixels.
        labels: (B, K) int64; -1 for no object.
    """
    if len({m.shape[1] for m in maps}) > 1:
        one = min(range(len(maps)), key=lambda i: abs(math.log2(strides[i] / CANONICAL_STRIDE)))
        maps, strides = maps[one : one + 1], strides[one : one + 1]
    count, most = labels.shape
    images = torch.arange(count, device=boxes.device).repeat_interleave(most)
    flat = boxes.flatten(0, 1).float()  # (B * K, 4)
    flat = torch.where(flat.isnan(), 0, flat)  # which has no pixels, and reading there would be outside of the map
    regions = torch.cat((images[:, None].to(flat.dtype), flat), dim=1)
    levels = _levels(flat, strides)
    vectors = flat.new_zeros(len(flat), maps[0].shape[1])
    for level, (features, stride) in enumerate(zip(maps, strides, strict=True)):
        mine = torch.where((levels == level) & (labels.flatten() >= 0))[0]
        cells = roi_align(features.float(), regions[mine], CELLS, 1 / stride, SAMPLES, aligned=True)
        vectors = vectors.index_copy(0, mine, cells.mean(dim=(2, 3)))
    return vectors.unflatten(0, (count, most))


def _levels(boxes: Tensor, strides: Sequence[int]) -> Tensor:
    """Which map (N,) each box (N, 4) looks at."""
    wanted = CANONICAL_STRIDE * area(boxes).sqrt() / CANONICAL_SIDE
    given = torch.tensor(strides, dtype=wanted.dtype, device=wanted.device)
    return ((given <= wanted[:, None] * (1 + 1e-6)).sum(dim=1) - 1).clamp(min=0)
