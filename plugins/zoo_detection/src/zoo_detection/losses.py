"""Losses of detectors: for classes that are rare among thousands of anchors, and for boxes.

Each is a sum over its elements divided by `normalizer` (the number of positives, of samples, ...: what the detector's
paper divides by; a tensor or a number above 0, 1 where it is left out), a scalar in float32 at least. Nothing to sum is
0, with a gradient of 0.

N boxes or anchors   K classes
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import ops

from zoo.errors import InputError, OptionError
from zoo_detection.boxes import aspect_angle, at_least_float32

Normalizer = Tensor | float


def sigmoid_focal(
    logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0, normalizer: Normalizer = 1.0
) -> Tensor:
    """Focal loss, -alpha_t (1 - p_t)^gamma log p_t: well-told examples hardly count. Lin et al. 2017, arXiv:1708.02002.

    Args:
        logits: any shape.
        targets: of the same shape, 1 for the class and 0 for not; between for soft labels.
        alpha: weight of the 1s in [0, 1], 1 - alpha that of the 0s; -1 for no weights.
        gamma: 0 is cross entropy; 0 or at least 1.
        normalizer: the number of positive anchors, in RetinaNet.
    """
    _same_shape(logits, targets)
    if gamma < 0 or 0 < gamma < 1:
        raise OptionError(
            "gamma is 0 or at least 1: between, the gradient of a sure answer is infinite", found=str(gamma)
        )
    logits = at_least_float32(logits)
    loss: Tensor = ops.sigmoid_focal_loss(logits, targets.to(logits.dtype), alpha=alpha, gamma=gamma, reduction="sum")
    return loss / normalizer


def smooth_l1(codes: Tensor, targets: Tensor, *, beta: float = 1.0, normalizer: Normalizer = 1.0) -> Tensor:
    """d^2 / (2 beta) where d = |codes - targets| is below beta, d - beta / 2 above. Girshick 2015, arXiv:1504.08083.

    Args:
        codes, targets: of one shape.
        beta: 0 is L1. torchvision: 1 / 9 in both stages of R-CNN, 1 in SSD, 0 (L1) in RetinaNet.
        normalizer: the number of sampled anchors, in R-CNN.
    """
    codes, targets = _same_shape(codes, targets)
    return F.smooth_l1_loss(codes, targets, reduction="sum", beta=beta) / normalizer


def huber(codes: Tensor, targets: Tensor, *, delta: float = 1.0, normalizer: Normalizer = 1.0) -> Tensor:
    """d^2 / 2 where d = |codes - targets| is below delta, delta (d - delta / 2) above: delta times `smooth_l1`.

    Huber 1964. `codes` and `targets` are of one shape; delta is above 0.
    """
    codes, targets = _same_shape(codes, targets)
    return F.huber_loss(codes, targets, reduction="sum", delta=delta) / normalizer


def giou_loss(boxes: Tensor, targets: Tensor, *, weights: Tensor | None = None, normalizer: Normalizer = 1.0) -> Tensor:
    """1 - GIoU of each box with its target. Rezatofighi et al. 2019, arXiv:1902.09630.

    Args:
        boxes, targets: (N, 4) xyxy, row by row.
        weights: (N,), a factor for each box (centre-ness, in FCOS and ATSS); None: 1.
        normalizer: the number of boxes or the sum of the weights, for a mean.
    """
    boxes, targets = _same_shape(boxes, targets)
    return _weighted(ops.generalized_box_iou_loss(boxes, targets), weights, normalizer)


def diou_loss(boxes: Tensor, targets: Tensor, *, weights: Tensor | None = None, normalizer: Normalizer = 1.0) -> Tensor:
    """1 - DIoU of each box with its target. Zheng et al. 2020, arXiv:1911.08287. Arguments: `giou_loss`."""
    boxes, targets = _same_shape(boxes, targets)
    return _weighted(ops.distance_box_iou_loss(boxes, targets), weights, normalizer)


def ciou_loss(boxes: Tensor, targets: Tensor, *, weights: Tensor | None = None, normalizer: Normalizer = 1.0) -> Tensor:
    """1 - CIoU of each box with its target. Zheng et al. 2020, arXiv:1911.08287. Arguments: `giou_loss`.

    torchvision's `complete_box_iou_loss`, but finite for boxes without a side, in value and gradient.
    """
    boxes, targets = _same_shape(boxes, targets)
    by_distance = ops.distance_box_iou_loss(boxes, targets)
    unequal = (4 / math.pi**2) * (aspect_angle(targets) - aspect_angle(boxes)) ** 2
    with torch.no_grad():
        start, end = torch.maximum(boxes[:, :2], targets[:, :2]), torch.minimum(boxes[:, 2:], targets[:, 2:])
        shared = (end - start).clamp(min=0).prod(dim=1)
        union = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1) + (targets[:, 2:] - targets[:, :2]).prod(dim=1) - shared
        weight = unequal / (1 - shared / (union + 1e-7) + unequal + 1e-7)
    return _weighted(by_distance + weight * unequal, weights, normalizer)


def _weighted(losses: Tensor, weights: Tensor | None, normalizer: Normalizer) -> Tensor:
    return (losses if weights is None else losses * weights).sum() / normalizer


def _same_shape(values: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    if values.shape != targets.shape:  # PyTorch would broadcast, and the loss be wrong
        raise InputError(
            "a loss needs a target for every value", found=f"{tuple(values.shape)} against {tuple(targets.shape)}"
        )
    return at_least_float32(values), at_least_float32(targets)
