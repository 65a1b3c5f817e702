"""Non-maximum suppression: of boxes that tell the same object, the best stays.

All functions take the candidates of a whole batch flat, (M, 4), with a group for each: boxes of different groups never
suppress one another. Detectors use `image * num_classes + label` as the group.

    scores > threshold -> flat candidates -> keep_best (indices, best first) -> pad_detections (B, K, ...)

B images   M candidates   G groups   N the largest group's candidates   K detections kept for an image
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import nms

from zoo_detection.boxes import at_least_float32, diou, iou

AT_ONCE = 20_000  # candidates that one call on a grid takes off the CPU; it compares each with each
SMALL_GROUP = 32  # groups up to this size are settled together, larger ones by a call of their own


def keep_best(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Greedy NMS inside each group: indices (n,) int64 of the boxes kept, best score first.

    A box goes if its IoU with a better kept one of its group is greater than `threshold`. On the CPU the answer is that
    of `torchvision.ops.nms` on each group alone. On other devices, and in an exported program, groups are told apart by
    moving them to the cells of a grid, and one call does all; on other devices, where its memory grows with the square
    of the candidates, a call takes as many whole groups as have `AT_ONCE` candidates, and at least one.

    Args:
        boxes: (M, 4) xyxy; M may be 0.
        scores: (M,).
        groups: (M,) int64, not negative.
        threshold: in [0, 1].
    """
    boxes, scores = at_least_float32(boxes), at_least_float32(scores)
    if _exporting():
        return _keep_best_on_a_grid(boxes, scores.to(boxes.dtype), groups, threshold)
    if boxes.device.type != "cpu":
        return _keep_best_in_turns(boxes.double(), scores.double(), groups, threshold)
    return _keep_best_by_group(boxes, scores, groups, threshold)


def diou_nms(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """`keep_best` with distance IoU for IoU: boxes whose centres are apart are told apart. Indices (n,), best first.

    Zheng et al. 2020, arXiv:1911.08287, 4.2. `threshold` in [-1, 1]. Not for export.
    """
    best = _best_first(scores)
    places = torch.arange(len(best), 0, -1, device=best.device)  # for scores: only the order counts, and none is 0
    kept, _ = _one_after_another(
        boxes[best], places.double(), groups[best], diou, lambda overlap: (overlap <= threshold).double(), 0.0
    )
    return best[kept]


def soft_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, decay: Callable[[Tensor], Tensor], lowest: float = 0.001
) -> tuple[Tensor, Tensor]:
    """Soft-NMS: a box that overlaps a better one loses score instead of going. Bodla et al. 2017, arXiv:1704.04503.

    Args:
        boxes: (M, 4) xyxy; M may be 0.
        scores: (M,), not negative.
        groups: (M,) int64.
        decay: gives each IoU the factor of the score, in [0, 1]: `gaussian_decay(sigma)`, `linear_decay(threshold)`.
        lowest: boxes whose score has come down to this go; not negative.

    Returns:
        indices (n,) int64 and their new scores (n,), best first. Not for export.
    """
    return _one_after_another(boxes, scores, groups, iou, decay, lowest)


def gaussian_decay(sigma: float = 0.5) -> Callable[[Tensor], Tensor]:
    """exp(-IoU^2 / sigma), the paper's Gaussian penalty."""
    return lambda overlap: torch.exp(-(overlap**2) / sigma)


def linear_decay(threshold: float = 0.3) -> Callable[[Tensor], Tensor]:
    """1 - IoU from `threshold` on, 1 below: the paper's linear penalty."""
    return lambda overlap: torch.where(overlap >= threshold, 1 - overlap, 1.0)


def pad_detections(
    boxes: Tensor, scores: Tensor, labels: Tensor, images: Tensor, batch_size: int, max_detections: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The flat candidates of a batch as padded rows, one for each image, best first.

    Args:
        boxes: (M, 4).
        scores: (M,), in any order; equal scores keep their order.
        labels: (M,) int64.
        images: (M,) int64 in [0, batch_size): the image of each candidate.
        batch_size: B; may be symbolic.
        max_detections: K.

    Returns:
        boxes (B, K, 4), scores (B, K) descending, labels (B, K) int64, kept (B, K) int64: the candidate's index in M.
        Padding: box 0, score 0, label -1, kept -1.
    """
    order = _best_first(scores)
    rows = images[order]
    of_image = rows == torch.arange(batch_size, device=images.device)[:, None]  # (B, M)
    rank = (of_image.cumsum(dim=1) * of_image).sum(dim=0) - 1  # how many of its own image are better
    spill = batch_size * max_detections  # one slot behind the last takes whatever is past K
    slots = torch.where(rank < max_detections, rows * max_detections + rank, spill)
    kept = torch.full((spill + 1,), -1, dtype=torch.int64, device=order.device).scatter(0, slots, order)
    kept = kept[:spill].view(batch_size, max_detections)
    return _rows(boxes, kept, 0), _rows(scores, kept, 0), _rows(labels, kept, -1), kept


def best_of_groups(scores: Tensor, groups: Tensor, count: int, most: int) -> Tensor:
    """Indices (n,) int64 of the `most` best of each group, group by group, best first.

    Args:
        scores: (M,); M may be 0.
        groups: (M,) int64 in [0, count).
        count: of the groups; may be symbolic.
        most: candidates a group may have.
    """
    best = _best_first(scores)
    order = best[_smallest_first(groups[best])]
    of_group = groups[order]
    members = torch.zeros(count, dtype=torch.int64, device=groups.device)
    members = members.scatter_add(0, of_group, torch.ones_like(of_group))
    rank = torch.arange(order.shape[0], device=order.device) - (members.cumsum(0) - members)[of_group]
    return order[rank < most]


def _rows(values: Tensor, kept: Tensor, fill: int) -> Tensor:
    # The padding row comes first, so that -1 + 1 finds it and M may be 0.
    padding = torch.full((1, *values.shape[1:]), fill, dtype=values.dtype, device=values.device)
    return torch.cat((padding, values))[kept + 1]


def _keep_best_by_group(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    best = _best_first(scores)
    by_group, rows, columns, sizes = _grouped(groups[best])
    boxes, scores = boxes[best[by_group]], scores[best[by_group]].to(boxes.dtype)
    kept = torch.ones_like(rows, dtype=torch.bool)  # a group of one keeps it
    ends = sizes.cumsum(0)
    for row in torch.where(sizes > SMALL_GROUP)[0].tolist():
        part = slice(int(ends[row] - sizes[row]), int(ends[row]))
        chosen = nms(boxes[part], scores[part], threshold)
        kept[part] = torch.zeros_like(kept[part]).index_fill(0, chosen, True)
    small = (sizes > 1) & (sizes <= SMALL_GROUP)
    members = torch.where(small[rows])[0]
    if len(members):
        small_rows = (small.cumsum(0) - 1)[rows[members]]
        kept[members] = _greedy(boxes[members], small_rows, columns[members], threshold)
    return best[torch.empty_like(kept).scatter(0, by_group, kept)]


def _greedy(boxes: Tensor, rows: Tensor, columns: Tensor, threshold: float) -> Tensor:
    """Whether each box (M, 4) is kept, where it is the `columns`-th best of group `rows`.

    A box is kept if no better kept one overlaps it. Repeated for all boxes at once until nothing changes, this ends
    with the greedy answer: after n rounds the n best of each group are settled. Zheng et al. 2020, arXiv:2005.03572.
    """
    padded = boxes.new_zeros(int(rows.max()) + 1, int(columns.max()) + 1, 4)  # (G, N, 4); padding overlaps nothing
    padded[rows, columns] = boxes
    # In float64, since torchvision compares a float32 overlap with a float64 threshold.
    suppresses = (iou(padded, padded).double() > threshold).triu(diagonal=1)  # (G, N better, N worse)
    alive = torch.ones(padded.shape[:2], dtype=torch.bool)
    while True:
        remaining = ~(suppresses & alive[:, :, None]).any(dim=1)
        if torch.equal(remaining, alive):
            return alive[rows, columns]
        alive = remaining


def _one_after_another(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    overlap: Callable[[Tensor, Tensor], Tensor],
    decay: Callable[[Tensor], Tensor],
    lowest: float,
) -> tuple[Tensor, Tensor]:
    """Takes the best box of every group at once, multiplies the scores of the group's others, and goes on."""
    boxes, scores = at_least_float32(boxes), at_least_float32(scores)
    if len(scores) == 0:
        return torch.empty_like(groups), scores
    members, rows, columns, sizes = _grouped(groups)
    padded = boxes.new_zeros(len(sizes), int(sizes.max()), 4)  # (G, N, 4)
    padded[rows, columns] = boxes[members]
    waiting = scores.new_zeros(padded.shape[:2], dtype=torch.float64)  # (G, N); 0 is done
    waiting[rows, columns] = scores[members].double()
    settled = torch.zeros_like(waiting)
    for _ in range(waiting.shape[1]):
        best, index = waiting.max(dim=1, keepdim=True)  # (G, 1)
        if not bool((best > lowest).any()):
            break
        settled.scatter_(1, index, torch.maximum(best, settled.gather(1, index)))  # a group that is done points at 0
        factors = decay(overlap(padded.gather(1, index[..., None].expand(-1, -1, 4)), padded).squeeze(1))
        waiting = (waiting * factors).scatter(1, index, 0)
    found = torch.empty_like(waiting[rows, columns]).scatter(0, members, settled[rows, columns])  # (M,)
    order = _best_first(found)
    order = order[found[order] > lowest]
    return order, found[order].to(scores.dtype)


def _grouped(groups: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Groups (M,) as rows: who stands where.

    Returns:
        members (M,): indices group by group, in a group in their order; row and column (M,) of each; sizes (G,).
    """
    members = _smallest_first(groups)
    _, rows, sizes = torch.unique_consecutive(groups[members], return_inverse=True, return_counts=True)
    columns = torch.arange(len(members), device=groups.device) - (sizes.cumsum(0) - sizes)[rows]
    return members, rows, columns, sizes


def _best_first(scores: Tensor) -> Tensor:
    # Equal values keep their order, also in ONNX: the exporter knows the plain sort only, and TopK, as which it writes
    # that, is stable. In a program of torch.export alone the order of equal values is open.
    if _exporting():
        return torch.sort(scores, descending=True).indices
    return torch.sort(scores, descending=True, stable=True).indices


def _smallest_first(groups: Tensor) -> Tensor:
    if _exporting():  # the place as the last digits makes all keys different, so that no sort need be stable
        count = groups.shape[0]
        return torch.sort(groups * count + torch.arange(count, device=groups.device)).indices
    return torch.sort(groups, stable=True).indices


def _exporting() -> bool:
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


def _keep_best_in_turns(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """`_keep_best_on_a_grid` of some whole groups after the other, so that none compares too many with each other."""
    if boxes.shape[0] <= AT_ONCE:
        return _keep_best_on_a_grid(boxes, scores, groups, threshold)
    members, rows, _, sizes = _grouped(groups)
    turns: list[int] = []  # of each group
    turn, taken = 0, 0
    for size in sizes.tolist():
        if taken and taken + size > AT_ONCE:
            turn, taken = turn + 1, 0
        turns.append(turn)
        taken += size
    turn_of = torch.tensor(turns, device=groups.device)[rows]  # (M,), ascending
    kept = [
        part[_keep_best_on_a_grid(boxes[part], scores[part], groups[part], threshold)]
        for part in members.split(torch.bincount(turn_of).tolist())
    ]
    found = torch.cat(kept).sort().values  # equal scores keep their order
    return found[_best_first(scores[found])]


def _keep_best_on_a_grid(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """One NMS over all groups, each moved to a cell of its own, where it meets no other.

    The cells make a square around the origin and not a line: G groups of boxes S wide reach to S * sqrt(G) / 2 instead
    of S * G, so that float32 keeps its digits.
    """
    # Two points, which suppress nothing, stand last: there is a largest coordinate of no boxes, and the program that
    # torchvision's NMS is exported to, which takes for granted that two boxes are kept, is right about it.
    boxes = torch.cat((boxes, boxes.new_zeros(2, 4)))
    scores = torch.cat((scores, scores.new_full((2,), -torch.inf)))
    places = torch.cat((groups, groups.new_zeros(2))).to(boxes.dtype)
    cell = (boxes.max() - boxes.min()).ceil() + 1
    columns = (places.max() + 1).sqrt().ceil()
    row = torch.floor((places + 0.5) / columns)  # half a step from a whole number: never rounded to a wrong one
    middle = torch.floor(columns / 2)
    offsets = torch.stack((places - row * columns - middle, row - middle), dim=1) * cell  # (M, 2)
    kept: Tensor = nms(boxes + torch.cat((offsets, offsets), dim=1), scores, threshold)
    return kept[:-2]
