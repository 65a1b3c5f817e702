"""Which anchor answers for which target, and which anchors the loss looks at.

Every assigner gives `matches` (A,) int64: the index of the anchor's target, or BACKGROUND, or BETWEEN (neither: the
loss leaves it out). Nothing here has a gradient. No targets: all background.

A anchors   T targets
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.errors import InputError
from zoo_detection import boxes as geometry

BACKGROUND = -1
BETWEEN = -2


@torch.no_grad()
def max_iou(overlaps: Tensor, high: float, low: float, *, allow_low_quality: bool = False) -> Tensor:
    """An anchor gets the target it overlaps most. Ren et al. 2015, arXiv:1506.01497; torchvision's Matcher.

    Args:
        overlaps: (T, A) IoU.
        high: a match from this IoU on.
        low: background below this IoU; BETWEEN from `low` to `high`.
        allow_low_quality: the anchors that overlap a target most of all (ties included) are matched however little that
            is, each to the target that it overlaps most itself.
    """
    if low > high:
        raise InputError("low may not be above high", asked=f"low={low}, high={high}")
    if 0 in overlaps.shape:
        return _all_background(overlaps.shape[1], overlaps)
    best, nearest = overlaps.max(dim=0)  # (A,)
    matches = torch.where(best < low, BACKGROUND, torch.where(best < high, BETWEEN, nearest))
    if allow_low_quality:
        is_best_of_a_target = (overlaps == overlaps.max(dim=1, keepdim=True).values).any(dim=0)
        matches = torch.where(is_best_of_a_target, nearest, matches)
    return matches


@torch.no_grad()
def ssd_assign(overlaps: Tensor, threshold: float) -> Tensor:
    """An anchor gets the target it overlaps most, from `threshold` on; then each target gets its best anchor, however
    little that is. Liu et al. 2016, arXiv:1512.02325, 2.2; torchvision's SSDMatcher.

    Where two targets have the same best anchor the later one has it, on every device.

    Args:
        overlaps: (T, A) IoU.
        threshold: in [0, 1].
    """
    matches = max_iou(overlaps, threshold, threshold)
    if 0 in overlaps.shape:
        return matches
    forced = torch.full_like(matches, -1).scatter_reduce(
        0, overlaps.argmax(dim=1), torch.arange(len(overlaps), device=overlaps.device), reduce="amax"
    )
    return torch.where(forced >= 0, forced, matches)


@torch.no_grad()
def fcos_assign(anchors: Tensor, targets: Tensor, per_level: Sequence[int], *, radius: float = 1.5) -> Tensor:
    """A cell gets the smallest target that its centre lies in, near the target's centre, of the level's size.

    Tian et al. 2019, arXiv:1904.01355, with centre sampling; torchvision's FCOS. A level takes targets whose farthest
    side is between 4 and 8 strides from the cell; the first level also smaller, the last also larger ones.

    Args:
        anchors: (A, 4) xyxy, squares of a stride's side around the cells' centres, level by level.
        targets: (T, 4) xyxy.
        per_level: the number of anchors of each level.
        radius: in strides, how far a cell may be from the target's centre, in x and in y.
    """
    if 0 in (len(anchors), len(targets)):
        return _all_background(len(anchors), anchors)
    cells, middles = geometry.centres(anchors), geometry.centres(targets)
    stride = (anchors[:, 2] - anchors[:, 0])[:, None]  # (A, 1)
    near = (cells[:, None] - middles).abs().amax(dim=-1) < radius * stride  # (A, T)
    sides = torch.cat((cells[:, None] - targets[:, :2], targets[:, 2:] - cells[:, None]), dim=-1)  # (A, T, 4)
    lower, upper = 4 * stride, 8 * stride
    lower[: per_level[0]] = 0
    upper[len(anchors) - per_level[-1] :] = torch.inf
    farthest = sides.amax(dim=-1)
    fits = near & (sides.amin(dim=-1) > 0) & (farthest > lower) & (farthest < upper)
    smallest, matches = torch.where(fits, geometry.area(targets), torch.inf).min(dim=1)
    return torch.where(smallest.isinf(), BACKGROUND, matches)


@torch.no_grad()
def atss(anchors: Tensor, targets: Tensor, per_level: Sequence[int], *, nearest: int = 9) -> Tensor:
    """Each target sets its own IoU threshold from the anchors near it. Zhang et al. 2020, arXiv:1912.02424.

    Of every level the `nearest` anchors by centre are the target's candidates; those are matched whose IoU is at least
    the mean plus the standard deviation of the candidates' IoUs and whose centre lies inside the target. An anchor that
    several targets want goes to the one it overlaps most.

    Args:
        anchors: (A, 4) xyxy, level by level.
        targets: (T, 4) xyxy.
        per_level: the number of anchors of each level; their sum is A.
        nearest: the paper's k.
    """
    if 0 in (len(anchors), len(targets)):
        return _all_background(len(anchors), anchors)
    places = geometry.centres(anchors)
    away = (geometry.centres(targets)[:, None] - places).square().sum(dim=-1)  # (T, A)
    starts = torch.tensor([0, *per_level]).cumsum(0).tolist()
    candidates = torch.cat(
        [
            level.topk(min(nearest, level.shape[1]), largest=False).indices + start
            for level, start in zip(away.split(list(per_level), dim=1), starts, strict=False)
        ],
        dim=1,
    )  # (T, levels * k)
    overlaps = geometry.iou(targets, anchors).gather(1, candidates)
    spread = overlaps.std(dim=1, correction=min(1, candidates.shape[1] - 1), keepdim=True)
    wanted = overlaps >= overlaps.mean(dim=1, keepdim=True) + spread
    wanted &= geometry.contains(targets, places).gather(1, candidates)
    overlaps = torch.where(wanted, overlaps, -1.0)
    best, matches = overlaps.new_full(away.shape, -1.0).scatter(1, candidates, overlaps).max(dim=0)  # (A,)
    return torch.where(best < 0, BACKGROUND, matches)


def sample_balanced(
    labels: Tensor, batch_size: int, positive_fraction: float, *, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """A random batch of one image's anchors with at most a share of positives, filled up with negatives.

    Draws as torchvision's BalancedPositiveNegativeSampler: two `torch.randperm`, of the positives, then the negatives.

    Args:
        labels: (A,): 1 and above positive, 0 negative, below 0 never drawn.
        batch_size: how many to draw; fewer where there are too few.
        positive_fraction: the greatest share of positives, in [0, 1].
        generator: of the labels' device; None is torch's own.

    Returns:
        Two bool masks (A,): the positives and the negatives that were drawn.
    """
    positive, negative = torch.where(labels >= 1)[0], torch.where(labels == 0)[0]
    positives = min(len(positive), int(batch_size * positive_fraction))
    negatives = min(len(negative), batch_size - positives)
    masks = []
    for found, count in ((positive, positives), (negative, negatives)):
        drawn = found[torch.randperm(len(found), device=labels.device, generator=generator)[:count]]
        masks.append(torch.zeros_like(labels, dtype=torch.bool).index_fill(0, drawn, True))
    return masks[0], masks[1]


def _all_background(anchors: int, like: Tensor) -> Tensor:
    return torch.full((anchors,), BACKGROUND, dtype=torch.int64, device=like.device)
