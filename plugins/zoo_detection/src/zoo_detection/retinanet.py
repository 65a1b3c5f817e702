"""RetinaNet: anchors on five maps, and a loss that thousands of easy ones cannot drown. Lin et al. 2017, 1708.02002.

images (B, C, H, W) -> backbone, neck: maps (B, D, h, w) of strides 8 to 128 -> at each, four 3x3 convolutions and one
    for the logits of K classes, four and one for corrections of the box, for A anchors of every cell

As torchvision has it, first (`retinanet_resnet50_fpn`) and second version: group norm, GIoU loss.

B batch   D channels   h w a map's height and width   A anchors of a cell   N of all cells   K classes   T targets
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from zoo.checkpoints.keymap import Formerly, Prefix, Rename, Rule
from zoo.errors import OptionError
from zoo.models.targets import Target
from zoo_detection.anchors import GridAnchors
from zoo_detection.box_coding import BoxCoder
from zoo_detection.boxes import at_least_float32, iou
from zoo_detection.dense import (
    DenseDetector,
    DenseDetectorConfig,
    DenseHead,
    DenseHeadConfig,
    by_anchor,
    class_predictor,
    one_width,
    predictor,
    tower,
)
from zoo_detection.losses import giou_loss, sigmoid_focal, smooth_l1
from zoo_detection.matching import BETWEEN, atss, max_iou

CODER = BoxCoder()


class RetinaNetConfig(DenseDetectorConfig):
    """Config of `RetinaNet`."""

    score_threshold: float = Field(0.05, ge=0, le=1, description="detections score more than this")
    max_detections: int = Field(300, ge=1, le=100_000, description="detections an image")


class RetinaNet(DenseDetector):
    """The one-stage detector with a `DetectionHead`, or another head."""

    Config = RetinaNetConfig


class DetectionHeadConfig(DenseHeadConfig):
    """Config of `DetectionHead`."""

    norm: Literal["none", "group"] = Field("none", description="behind each convolution; with `group` it has no bias")
    anchor_sizes: tuple[tuple[float, ...], ...] | None = Field(
        None, description="pixels, the root of an anchor's area, for each level; None: 4, 5 and 6.3 strides"
    )
    anchor_ratios: tuple[float, ...] = Field((0.5, 1.0, 2.0), min_length=1, description="height / width")
    box_loss: Literal["l1", "giou"] = Field("l1", description="of the corrections, or of the boxes they lead to")
    matching: Literal["max_iou", "atss"] = Field("max_iou", description="which anchors learn which object")
    positive_iou: float = Field(0.5, ge=0, le=1, description="`max_iou`: an anchor learns an object from here on")
    negative_iou: float = Field(0.4, ge=0, le=1, description="`max_iou`: an anchor is background below")


class DetectionHead(DenseHead):
    """The anchor-based head: `logits` (B, N, K) and `boxes` (B, N, 4), corrections of the anchors (`BoxCoder`).

    Every class is a sigmoid of its own. `loss_classification` is the focal loss and `loss_boxes` the loss of the
    corrections, each divided by the image's matched anchors and averaged over images.
    """

    Config = DetectionHeadConfig
    config: DetectionHeadConfig

    def bind(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        width, config = one_width(self, channels), self.config
        if config.anchor_sizes is not None and len(config.anchor_sizes) != len(strides):
            raise OptionError(
                "a head has sizes of anchors for each of its maps",
                asked=f"{len(config.anchor_sizes)} rows of anchor_sizes",
                found=f"{len(strides)} maps, of strides {tuple(strides)}",
            )
        # Three a doubling, in whole pixels, as torchvision has them.
        sizes = config.anchor_sizes or [[int(4 * s * 2 ** (i / 3)) for i in range(3)] for s in strides]
        self.grid = GridAnchors(sizes, config.anchor_ratios)
        if len(set(self.grid.per_cell)) != 1:
            raise OptionError("a head has as many anchors on every map", found=str(self.grid.per_cell))
        self.per_cell = self.grid.per_cell[0]
        grouped = config.norm == "group"
        self.class_tower = tower(width, config.depth, grouped, bias=not grouped)
        self.logits = class_predictor(width, self.per_cell * config.num_classes)
        self.box_tower = tower(width, config.depth, grouped, bias=not grouped)
        self.boxes = predictor(width, self.per_cell * 4)

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        logits = [by_anchor(self.logits(self.class_tower(m)), self.per_cell) for m in maps]
        boxes = [by_anchor(self.boxes(self.box_tower(m)), self.per_cell) for m in maps]
        return {"logits": torch.cat(logits, dim=1), "boxes": torch.cat(boxes, dim=1)}

    def anchors(self, images: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
        return self.grid(images, maps)

    def scores(self, raw: Mapping[str, Tensor]) -> Tensor:
        return at_least_float32(raw["logits"]).sigmoid()

    def decode(self, codes: Tensor, anchors: Tensor) -> Tensor:
        return CODER.decode(codes, anchors)

    def losses(
        self, raw: Mapping[str, Tensor], anchors: Sequence[Tensor], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        rows = zip(raw["logits"], raw["boxes"], targets, strict=True)
        losses = [self._losses_of_one(logits, codes, anchors, target) for logits, codes, target in rows]
        of_classes, of_boxes = zip(*losses, strict=True)
        return {
            "loss_classification": torch.stack(of_classes).mean(),
            "loss_boxes": torch.stack(of_boxes).mean(),
        }

    def reset_classes(self, num_classes: int) -> None:
        values = self.per_cell * num_classes
        self.logits = class_predictor(self.logits.in_channels, values, like=self.logits)
        self.config = self.config.replace(num_classes=num_classes)

    def published(self) -> Sequence[Rule]:
        return KEYS if self.config.norm == "group" else (*OLDER_KEYS, *KEYS)

    def _losses_of_one(
        self, logits: Tensor, codes: Tensor, anchors: Sequence[Tensor], target: Target
    ) -> tuple[Tensor, Tensor]:
        """Both losses of one image, from logits (N, K) and codes (N, 4)."""
        all_anchors = torch.cat(list(anchors))
        matches = self._matches(anchors, target["boxes"])  # (N,)
        positive = torch.where(matches >= 0)[0]
        boxes, labels = target["boxes"][matches[positive]], target["labels"][matches[positive]]
        normalizer = max(1, len(positive))
        wanted = torch.zeros_like(logits)
        wanted[positive, labels] = 1.0
        judged = matches != BETWEEN
        of_classes = sigmoid_focal(logits[judged], wanted[judged], normalizer=normalizer)
        if self.config.box_loss == "giou":
            told = CODER.decode(codes[positive], all_anchors[positive])
            return of_classes, giou_loss(told, boxes, normalizer=normalizer)
        wanted = CODER.encode(boxes, all_anchors[positive])
        return of_classes, smooth_l1(codes[positive], wanted, beta=0.0, normalizer=normalizer)

    def _matches(self, anchors: Sequence[Tensor], boxes: Tensor) -> Tensor:
        config = self.config
        if config.matching == "atss":
            return atss(torch.cat(list(anchors)), boxes, [len(a) for a in anchors])
        overlaps = iou(boxes, torch.cat(list(anchors)))  # (T, N)
        return max_iou(overlaps, config.positive_iou, config.negative_iou, allow_low_quality=True)


KEYS = (
    Rename(r"head.classification_head.conv.(\d+).(\d+).(weight|bias)", r"head.class_tower.\1.\2.\3"),
    Rename(r"head.regression_head.conv.(\d+).(\d+).(weight|bias)", r"head.box_tower.\1.\2.\3"),
    Prefix("head.classification_head.cls_logits.", "head.logits."),
    Prefix("head.regression_head.bbox_reg.", "head.boxes."),
)

# Before torchvision 0.13 a ReLU was counted between two convolutions.
OLDER_KEYS = tuple(
    Formerly(rf"head.(\w+)_head.conv.{2 * i}.(weight|bias)", rf"head.\1_head.conv.{i}.0.\2") for i in range(4)
)
