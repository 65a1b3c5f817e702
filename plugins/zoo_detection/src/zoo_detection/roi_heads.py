"""What R-CNN does with a region: cut it out of the pyramid, say what it is, and correct its box.

maps (B, D, h, w), regions (M, 4) -> RoIAlign (M, D, S, S) -> head (M, F) -> logits (M, K + 1), codes (M, K + 1, 4)
    -> the likely ones of each class -> suppression -> boxes (B, Q, 4), scores (B, Q), labels (B, Q)

Girshick 2015, arXiv:1504.08083; RoIAlign: He et al. 2017, arXiv:1703.06870; which level: Lin et al. 2017,
arXiv:1612.03144, eq. 1. The heads are torchvision's, and so are the numbers.

B batch   D width   h w a map's sides   M regions   S side of a cut-out   F width of its vector   K classes
Q detections an image   T objects of an image
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import roi_align, roi_pool

from zoo.models.detector import Selection
from zoo_detection.box_coding import BoxCoder
from zoo_detection.boxes import area, at_least_float32, clip_boxes, iou, large_enough
from zoo_detection.losses import smooth_l1
from zoo_detection.matching import BACKGROUND, max_iou, sample_balanced
from zoo_detection.nms import keep_best, pad_detections
from zoo_detection.proposals import BETA, Regions, Sampling

COARSEST = 32  # stride of the last map that regions are cut out of; coarser ones are for proposals
SMALLEST_SIDE = 1e-2  # pixels; narrower detections are none


class RoIPool(nn.Module):
    """Cuts regions out of the map that suits their size: one of 224 pixels out of stride 16, of 448 out of 32.

    Args:
        size: S. strides: of the maps. Of several maps with one stride the first is used.
        operation: `align`, RoIAlign, averages samples between pixels; `max`, RoI pooling as Fast R-CNN had it, takes
            the largest pixel of each cell, whole pixels only.
        samples: of a cell's side, 0 for as many as the cell has pixels. aligned: pixels' centres, not corners, count.
    """

    def __init__(
        self,
        *,
        size: int,
        strides: Sequence[int],
        operation: Literal["align", "max"] = "align",
        samples: int = 2,
        aligned: bool = False,
    ) -> None:
        super().__init__()
        self.size, self.operation, self.samples, self.aligned = size, operation, samples, aligned
        usable = [i for i, stride in enumerate(strides) if stride <= COARSEST] or [0]
        self.levels = [i for i in usable if strides[i] not in strides[:i]]
        self.scales = [1 / strides[i] for i in self.levels]
        self.steps = [round(math.log2(strides[i])) for i in self.levels]

    def forward(self, maps: Sequence[Tensor], regions: Regions) -> Tensor:
        """Maps (B, D, h, w) and M regions → (M, D, S, S), of the maps' dtype."""
        # A box that is not a number has no pixels: it would be read from outside of the map's memory.
        regions = Regions(torch.where(regions.boxes.isnan(), 0, regions.boxes), regions.images)
        boxes = torch.cat((regions.images[:, None].to(regions.boxes.dtype), regions.boxes), dim=1)  # (M, 5)
        maps = [maps[i] for i in self.levels]
        if len(maps) == 1:
            return self._cut(maps[0], boxes, self.scales[0])
        level = self._level(regions.boxes)
        pooled = maps[0].new_empty(boxes.shape[0], maps[0].shape[1], self.size, self.size)  # all of it is written
        for i, (feature, scale) in enumerate(zip(maps, self.scales, strict=True)):
            (rows,) = (level == i).nonzero(as_tuple=True)
            pooled[rows] = self._cut(feature, boxes[rows], scale)  # in place: it is the largest tensor of all
        return pooled

    def _level(self, boxes: Tensor) -> Tensor:
        wanted = torch.floor(4 + torch.log2(area(boxes).sqrt() / 224) + 1e-6)
        return sum(((wanted >= step).long() for step in self.steps[1:]), torch.zeros_like(wanted, dtype=torch.int64))

    def _cut(self, feature: Tensor, boxes: Tensor, scale: float) -> Tensor:
        precise = at_least_float32(feature)  # torchvision has no bfloat16 here
        boxes = boxes.to(precise.dtype)
        if self.operation == "max":
            return roi_pool(precise, boxes, self.size, scale).to(feature.dtype)
        return roi_align(precise, boxes, self.size, scale, self.samples, self.aligned).to(feature.dtype)


class Samples(NamedTuple):
    """Regions to learn from, and what: labels (M,) int64, 0 for background and the class + 1; matches (M,) int64, the
    object among its image's, meaningless for background; aims (M, 4), that object's box."""

    regions: Regions
    labels: Tensor
    matches: Tensor
    aims: Tensor

    def positive(self) -> Samples:
        """Those that have an object."""
        found = self.labels > 0
        regions = Regions(self.regions.boxes[found], self.regions.images[found])
        return Samples(regions, self.labels[found], self.matches[found], self.aims[found])


class BoxStage(nn.Module):
    """One look at every region: what it is, and where its box should be.

    Args:
        head: cut-outs (M, D, S, S) → vectors (M, F).
        predictor: vectors → logits (M, K + 1), background first, and codes (M, (K + 1) * 4), or (M, 4) for all classes.
        coder: what the codes mean.
        sampling: which regions learn.
        beta: below it the smooth L1 loss of the codes is quadratic.
    """

    def __init__(
        self, *, head: nn.Module, predictor: nn.Module, coder: BoxCoder, sampling: Sampling, beta: float = BETA
    ) -> None:
        super().__init__()
        self.head, self.predictor = head, predictor
        self.coder, self.sampling, self.beta = coder, sampling, beta

    def forward(self, cuts: Tensor) -> tuple[Tensor, Tensor]:
        """Cut-outs (M, D, S, S) → logits (M, K + 1), codes (M, K + 1 or 1, 4); in float32 at least."""
        logits, codes = self.predictor(self.head(cuts))
        return at_least_float32(logits), at_least_float32(codes).unflatten(1, (-1, 4))

    def sample(self, regions: Regions, targets: Sequence[Mapping[str, Tensor]]) -> Samples:
        """Regions of the images of B targets, and the targets' own boxes, as this stage learns from them."""
        parts = [self._sample_one(regions, image, target) for image, target in enumerate(targets)]
        boxes, images, labels, matches, aims = (torch.cat(part) for part in zip(*parts, strict=True))
        return Samples(Regions(boxes, images), labels, matches, aims)

    def losses(self, logits: Tensor, codes: Tensor, samples: Samples) -> dict[str, Tensor]:
        """`loss_classification`, cross-entropy, and `loss_boxes`, smooth L1, of what was said about the samples."""
        (rows,) = torch.where(samples.labels > 0)
        columns = samples.labels[rows] if codes.shape[1] > 1 else torch.zeros_like(rows)
        aims = self.coder.encode(samples.aims[rows], samples.regions.boxes[rows])
        count = max(1, len(samples.labels))
        return {
            "loss_classification": F.cross_entropy(logits, samples.labels, reduction="sum") / count,
            "loss_boxes": smooth_l1(codes[rows, columns], aims, beta=self.beta, normalizer=count),
        }

    def _sample_one(
        self, regions: Regions, image: int, target: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        boxes = torch.cat((regions.boxes[regions.images == image], target["boxes"]))
        matches = max_iou(iou(target["boxes"], boxes), self.sampling.positive_iou, self.sampling.negative_iou)
        labels = torch.where(matches == BACKGROUND, 0, -1)
        found = matches >= 0
        labels[found] = target["labels"][matches[found]] + 1
        positive, negative = sample_balanced(labels, self.sampling.count, self.sampling.positive_fraction)
        (drawn,) = torch.where(positive | negative)
        boxes, labels, matches = boxes[drawn], labels[drawn], matches[drawn].clamp(min=0)
        aims = target["boxes"][matches] if len(target["boxes"]) else torch.zeros_like(boxes)
        return boxes, torch.full_like(matches, image), labels, matches, aims


class Look(NamedTuple):
    """What was said about regions: scores (M, K) in [0, 1], codes (M, K, 4) or (M, 1, 4) for all classes, the regions
    that these correct, what they mean, and the networks' own words, by name."""

    scores: Tensor
    codes: Tensor
    regions: Regions
    coder: BoxCoder
    raw: dict[str, Tensor]


Cut = Callable[[Regions], Tensor]
"""Regions → their cut-outs (M, D, S, S)."""


class Looks(nn.Module):
    """Interface of what turns proposals into detections, by one look or several."""

    def forward(self, cut: Cut, regions: Regions, sizes: Tensor) -> Look:
        """What is said about proposals in images of sizes (B, 2)."""
        raise NotImplementedError

    def learn(
        self, cut: Cut, regions: Regions, targets: Sequence[Mapping[str, Tensor]], sizes: Tensor
    ) -> tuple[dict[str, Tensor], list[Samples]]:
        """The losses by name, and the regions that were learned from, look by look."""
        raise NotImplementedError

    def embed(self, cuts: Tensor) -> Tensor:
        """Cut-outs (M, D, S, S) → vectors (M, F)."""
        raise NotImplementedError

    def network(self, cuts: Tensor) -> None:
        """All that is computed of cut-outs (M, D, S, S), for counting."""
        raise NotImplementedError

    def reset_classes(self, num_classes: int) -> None:
        """Fresh predictors for K classes and a background."""
        raise NotImplementedError


class SingleLook(Looks):
    """One look, as in Faster R-CNN.

    Attributes:
        stage: its predictor is torchvision's, of all classes' boxes.
    """

    def __init__(self, stage: BoxStage) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, cut: Cut, regions: Regions, sizes: Tensor) -> Look:
        logits, codes = self.stage(cut(regions))
        raw = {"logits": logits, "codes": codes}
        return Look(logits.softmax(dim=-1)[:, 1:], codes[:, 1:], regions, self.stage.coder, raw)

    def learn(
        self, cut: Cut, regions: Regions, targets: Sequence[Mapping[str, Tensor]], sizes: Tensor
    ) -> tuple[dict[str, Tensor], list[Samples]]:
        samples = self.stage.sample(regions, targets)
        logits, codes = self.stage(cut(samples.regions))
        return self.stage.losses(logits, codes, samples), [samples]

    def embed(self, cuts: Tensor) -> Tensor:
        vectors: Tensor = self.stage.head(cuts)
        return vectors

    def network(self, cuts: Tensor) -> None:
        self.stage(cuts)

    def reset_classes(self, num_classes: int) -> None:
        old: nn.Linear = self.stage.predictor.cls_score
        self.stage.predictor = FastRCNNPredictor(old.in_features, num_classes + 1).to(old.weight)


def choose(look: Look, sizes: Tensor, selection: Selection) -> dict[str, Tensor]:
    """What was said about regions as the detections of B images, within their sizes (B, 2).

    Returns:
        `boxes` (B, Q, 4), `scores` (B, Q) and `labels` (B, Q), padded, best first.
    """
    scores, codes, regions = look.scores, look.codes, look.regions
    classes, num_classes = torch.arange(scores.shape[1], device=scores.device), scores.shape[1]
    if selection.classes is not None:
        classes = torch.tensor(selection.classes, dtype=torch.int64, device=scores.device)
        scores = scores[:, classes]
    rows, columns = (scores > selection.score_threshold).nonzero(as_tuple=True)
    scores, labels, images = scores[rows, columns], classes[columns], regions.images[rows]  # flat
    codes = codes[rows, labels] if codes.shape[1] > 1 else codes[rows, 0]
    boxes = clip_boxes(look.coder.decode(codes, regions.boxes[rows]), sizes[images])
    (usable,) = large_enough(boxes, SMALLEST_SIDE).nonzero(as_tuple=True)
    boxes, scores, labels, images = boxes[usable], scores[usable], labels[usable], images[usable]
    kept = keep_best(boxes, scores, images * num_classes + labels, selection.nms_threshold)
    padded = pad_detections(
        boxes[kept], scores[kept], labels[kept], images[kept], sizes.shape[0], selection.max_detections
    )
    return dict(zip(("boxes", "scores", "labels"), padded[:3], strict=True))


def spread(values: Tensor, found: Tensor) -> Tensor:
    """A value (n, …) for each place that is true in `found` (B, Q) → (B, Q, …), 0 at the others."""
    places = found.nonzero(as_tuple=True)
    return values.new_zeros(*found.shape, *values.shape[1:]).index_put(places, values)
