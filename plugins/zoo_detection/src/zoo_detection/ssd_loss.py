"""SSD's loss: the default boxes with an object, and the background ones that are most wrong. arXiv:1512.02325, 2.2.

B images   N default boxes   K classes   T objects of an image
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo_detection.box_coding import BoxCoder
from zoo_detection.boxes import iou
from zoo_detection.matching import ssd_assign


def ssd_losses(
    codes: Tensor,
    logits: Tensor,
    anchors: Tensor,
    targets: Sequence[Mapping[str, Tensor]],
    *,
    coder: BoxCoder,
    scoring: Literal["softmax", "sigmoid"],
    positive_iou: float,
    negatives_per_positive: float,
) -> dict[str, Tensor]:
    """Sums over the batch, divided by the number of default boxes that have an object, as torchvision's SSD.

    Args:
        codes: (B, N, 4), the corrections of the default boxes `anchors` (N, 4).
        logits: (B, N, K + 1), background first.
        targets: one an image: `boxes` (T, 4) xyxy, `labels` (T,) in [0, K).
        scoring: cross-entropy over classes and background, or binary over each of them, summed, as TensorFlow's.
        positive_iou: from which a default box has an object. The best one of an object always has.
        negatives_per_positive: background boxes that count in each image, the greatest losses first.

    Returns:
        `loss_boxes` (smooth L1), `loss_classification` and `loss`, their sum.
    """
    matches = torch.stack([ssd_assign(iou(target["boxes"], anchors), positive_iou) for target in targets])  # (B, N)
    positive = matches >= 0
    wanted = torch.zeros_like(matches)  # the class counted from 1, 0 for background
    aims = []
    for image, target in enumerate(targets):
        own = positive[image]
        matched = matches[image, own]
        wanted[image, own] = target["labels"][matched] + 1
        aims.append(coder.encode(target["boxes"][matched], anchors[own]))
    count = positive.sum().clamp(min=1)
    boxes = F.smooth_l1_loss(codes[positive], torch.cat(aims), reduction="sum") / count
    each = _classification(logits, wanted, scoring)  # (B, N)
    kept = positive | hardest(each.detach(), positive, negatives_per_positive)
    classification = each[kept].sum() / count
    return {"loss_boxes": boxes, "loss_classification": classification, "loss": boxes + classification}


def hardest(losses: Tensor, positive: Tensor, negatives_per_positive: float) -> Tensor:
    """Bool (B, N): of the default boxes (B, N) that are not positive so many a positive one, the greatest losses."""
    order = losses.masked_fill(positive, -torch.inf).argsort(dim=1, descending=True)
    rank = order.argsort(dim=1)
    return (rank < negatives_per_positive * positive.sum(dim=1, keepdim=True)) & ~positive


def _classification(logits: Tensor, wanted: Tensor, scoring: str) -> Tensor:
    """The loss (B, N) of logits (B, N, K + 1) for classes wanted (B, N)."""
    if scoring == "softmax":
        return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none").view_as(wanted)
    one_hot = F.one_hot(wanted, logits.shape[-1]).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none").sum(dim=-1)
