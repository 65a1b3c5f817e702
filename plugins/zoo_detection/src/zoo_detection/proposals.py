"""The region proposal network: where an object may be, whatever it is. Ren et al. 2015, arXiv:1506.01497, 3.1.

maps (B, D, h, w) -> 3x3 convolutions -> at every cell A anchors: how likely an object, and a correction
    -> the best of each level -> suppression level by level -> the best of each image: regions (M, 4), images (M,)

The head is torchvision's, and so are the numbers. Regions of a whole batch lie flat, image after image.

B batch   D width   h w a map's sides   A anchors of a cell   N anchors of an image   M regions   T objects of an image
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.rpn import RPNHead

from zoo_detection.anchors import GridAnchors
from zoo_detection.box_coding import BoxCoder
from zoo_detection.boxes import at_least_float32, clip_boxes, iou, large_enough
from zoo_detection.losses import smooth_l1
from zoo_detection.matching import max_iou, sample_balanced
from zoo_detection.nms import keep_best, pad_detections

CODER = BoxCoder()
SMALLEST_SIDE = 1e-3  # pixels; narrower proposals are none
MOST = 2**31  # regions of a batch
BETA = 1 / 9  # of the smooth L1 loss, in both stages of R-CNN


class Regions(NamedTuple):
    """Boxes of a whole batch, flat: boxes (M, 4) xyxy in input pixels, images (M,) int64, ascending: whose they are."""

    boxes: Tensor
    images: Tensor


class Sampling(NamedTuple):
    """Which boxes a stage learns from.

    positive_iou, negative_iou: a box whose best overlap is at least the first learns that object, one whose best is
    below the second learns background. count: boxes an image. positive_fraction: at most this share have an object.
    """

    positive_iou: float
    negative_iou: float
    count: int
    positive_fraction: float


class Limits(NamedTuple):
    """Which anchors become proposals.

    per_level: the best of each level that suppression sees. count: the best left of each image. score_threshold: at
    least this likely an object. nms_threshold: IoU above which the weaker of two of a level goes.
    """

    per_level: int
    count: int
    score_threshold: float = 0.0
    nms_threshold: float = 0.7


class Objectness(NamedTuple):
    """What the network says, for each level: logits (B, n), codes (B, n, 4), and the anchors (n, 4), n = h * w * A."""

    logits: list[Tensor]
    codes: list[Tensor]
    anchors: list[Tensor]


class RPN(nn.Module):
    """A small network that slides over every map, the same for all.

    Args:
        width: D. depth: 3x3 convolutions.
        anchors: for each level; as many of a cell on every one.
        sampling: which anchors learn.
        limits: of proposals; training_limits: of those that the next stage learns from.
    """

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        anchors: GridAnchors,
        sampling: Sampling,
        limits: Limits,
        training_limits: Limits,
    ) -> None:
        super().__init__()
        self.head = RPNHead(width, anchors.per_cell[0], depth)
        self.anchors, self.sampling = anchors, sampling
        self.limits, self.training_limits = limits, training_limits

    def forward(self, images: Tensor, maps: list[Tensor]) -> Objectness:
        """What it says of a padded batch (B, C, H, W) by its maps."""
        logits, codes = self.head(maps)
        return Objectness(
            [level.permute(0, 2, 3, 1).flatten(1) for level in logits],
            [level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, 4) for level in codes],
            self.anchors(images, maps),
        )

    def propose(self, said: Objectness, sizes: Tensor, *, training: bool = False) -> Regions:
        """The best anchors, corrected, within their images of sizes (B, 2). No gradient goes through them."""
        limits = self.training_limits if training else self.limits
        chosen = [
            _best_of_level(logits.detach(), codes.detach(), anchors, limits.per_level)
            for logits, codes, anchors in zip(*said, strict=True)
        ]
        boxes = clip_boxes(torch.cat([level[0] for level in chosen], dim=1), sizes)  # (B, n, 4)
        scores = torch.cat([level[1] for level in chosen], dim=1)  # (B, n)
        levels = torch.cat([torch.full_like(level[1][0], i, dtype=torch.int64) for i, level in enumerate(chosen)])
        usable = large_enough(boxes, SMALLEST_SIDE) & (scores >= limits.score_threshold)
        images, places = usable.nonzero(as_tuple=True)
        boxes, scores, levels = boxes[images, places], scores[images, places], levels[places]  # flat
        kept = keep_best(boxes, scores, images * len(chosen) + levels, limits.nms_threshold)
        padded = pad_detections(boxes[kept], scores[kept], levels[kept], images[kept], sizes.shape[0], limits.count)
        return flat(padded[0], padded[3] >= 0)

    def losses(self, said: Objectness, targets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """`loss_objectness`, binary cross-entropy, and `loss_rpn_boxes`, smooth L1, over the sampled anchors."""
        anchors = torch.cat(said.anchors)  # (N, 4)
        positives, negatives, aims = [], [], []
        for target in targets:
            matches = max_iou(
                iou(target["boxes"], anchors),
                self.sampling.positive_iou,
                self.sampling.negative_iou,
                allow_low_quality=True,
            )
            learns = torch.where(matches >= 0, 1, matches + 1)  # 1 object, 0 background, -1 neither
            positive, negative = sample_balanced(learns, self.sampling.count, self.sampling.positive_fraction)
            aims.append(CODER.encode(target["boxes"][matches[positive]], anchors[positive]))
            positives.append(positive)
            negatives.append(negative)
        positive, negative = torch.stack(positives), torch.stack(negatives)  # (B, N)
        logits, codes = at_least_float32(torch.cat(said.logits, dim=1)), torch.cat(said.codes, dim=1)
        sampled = positive | negative
        return {
            "loss_objectness": F.binary_cross_entropy_with_logits(logits[sampled], positive[sampled].to(logits.dtype)),
            "loss_rpn_boxes": smooth_l1(codes[positive], torch.cat(aims), beta=BETA, normalizer=sampled.sum()),
        }


def flat(boxes: Tensor, found: Tensor) -> Regions:
    """Padded boxes (B, K, 4), of which those are some where `found` (B, K), as regions."""
    images, places = found.nonzero(as_tuple=True)
    if torch.compiler.is_exporting():
        # Without a bound, what is counted of so many regions could pass an int64, and ONNX has no larger number.
        torch._check(images.shape[0] <= MOST)
    return Regions(boxes[images, places], images)


def _best_of_level(logits: Tensor, codes: Tensor, anchors: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Boxes (B, k, 4) and their scores (B, k), of the anchors of a level that are likeliest an object."""
    best, places = logits.topk(torch.sym_min(most, logits.shape[1]), dim=1)
    codes = codes.gather(1, places[..., None].expand(-1, -1, 4))
    return CODER.decode(codes, anchors[places]), at_least_float32(best).sigmoid()
