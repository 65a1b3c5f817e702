"""FCOS: no anchors, every cell says how far the four sides of its object are. Tian et al. 2019, arXiv:1904.01355.

images (B, C, H, W) -> backbone, neck: maps (B, D, h, w) of strides 8 to 128 -> at each, four 3x3 convolutions and one
    for the logits of K classes, four and two for the distances to the sides and for how central the cell is

As torchvision has it: centre sampling, centre-ness beside the distances, GIoU loss (Tian et al. 2020,
arXiv:2006.09214).

B batch   D channels   h w a map's height and width   N cells of all maps   K classes   T targets   P cells with one
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from zoo.checkpoints.keymap import Prefix, Rename, Rule
from zoo.models.parts import Part
from zoo.models.targets import Target
from zoo_detection.anchors import GridAnchors
from zoo_detection.box_coding import DistanceCoder
from zoo_detection.boxes import at_least_float32
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
from zoo_detection.losses import giou_loss, sigmoid_focal
from zoo_detection.matching import fcos_assign

CODER = DistanceCoder()


class FCOSConfig(DenseDetectorConfig):
    """Config of `FCOS`."""

    head: Part = Field("fcos_head", description="a registered head's name, a mapping with options, or a module")
    score_threshold: float = Field(0.2, ge=0, le=1, description="detections score more than this")
    nms_threshold: float = Field(0.6, ge=0, le=1, description="IoU above which the weaker box of a class goes")


class FCOS(DenseDetector):
    """The one-stage detector with an `FCOSHead`, or another head."""

    Config = FCOSConfig


class FCOSHeadConfig(DenseHeadConfig):
    """Config of `FCOSHead`."""

    radius: float = Field(1.5, gt=0, description="strides from an object's centre within which cells learn it")


class FCOSHead(DenseHead):
    """The anchor-free head: `logits` (B, N, K), `boxes` (B, N, 4), distances in strides, and `centreness` (B, N, 1).

    A score is the root of class times centre-ness, each a sigmoid. `loss_classification` is the focal loss,
    `loss_boxes` the GIoU loss and `loss_centreness` the cross entropy, each divided by the batch's cells that have an
    object.
    """

    architecture = "detection/fcos"
    Config = FCOSHeadConfig
    config: FCOSHeadConfig

    def bind(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        width, config = one_width(self, channels), self.config
        self.grid = GridAnchors([(stride,) for stride in strides], (1.0,))  # squares around the cells' places
        self.class_tower = tower(width, config.depth, norm=True, bias=True)
        self.logits = class_predictor(width, config.num_classes)
        self.box_tower = tower(width, config.depth, norm=True, bias=True)
        self.boxes = predictor(width, 4)
        self.centreness = predictor(width, 1)

    def forward(self, maps: list[Tensor]) -> dict[str, Tensor]:
        logits, boxes, centreness = [], [], []
        for m in maps:
            logits.append(by_anchor(self.logits(self.class_tower(m)), 1))
            told = self.box_tower(m)
            boxes.append(by_anchor(F.relu(self.boxes(told)), 1))
            centreness.append(by_anchor(self.centreness(told), 1))
        return {
            "logits": torch.cat(logits, dim=1),
            "boxes": torch.cat(boxes, dim=1),
            "centreness": torch.cat(centreness, dim=1),
        }

    def anchors(self, images: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
        return self.grid(images, maps)

    def scores(self, raw: Mapping[str, Tensor]) -> Tensor:
        logits, centreness = at_least_float32(raw["logits"]), at_least_float32(raw["centreness"])
        return (logits.sigmoid() * centreness.sigmoid()).sqrt()

    def decode(self, codes: Tensor, anchors: Tensor) -> Tensor:
        return CODER.decode(codes, anchors)

    def losses(
        self, raw: Mapping[str, Tensor], anchors: Sequence[Tensor], targets: Sequence[Target]
    ) -> dict[str, Tensor]:
        cells, per_level = torch.cat(list(anchors)), [len(a) for a in anchors]
        matches = [fcos_assign(cells, t["boxes"], per_level, radius=self.config.radius) for t in targets]
        images, places = torch.where(torch.stack(matches) >= 0)  # (P,)
        boxes = torch.cat([t["boxes"][m[m >= 0]] for t, m in zip(targets, matches, strict=True)])  # (P, 4)
        labels = torch.cat([t["labels"][m[m >= 0]] for t, m in zip(targets, matches, strict=True)])
        wanted = torch.zeros_like(raw["logits"])
        wanted[images, places, labels] = 1.0
        told = CODER.decode(raw["boxes"][images, places], cells[places])
        centreness = at_least_float32(raw["centreness"][images, places, 0])
        central = centreness_of(CODER.encode(boxes, cells[places]))
        normalizer = max(1, len(places))
        return {
            "loss_classification": sigmoid_focal(raw["logits"], wanted, normalizer=normalizer),
            "loss_boxes": giou_loss(told, boxes, normalizer=normalizer),
            "loss_centreness": F.binary_cross_entropy_with_logits(centreness, central, reduction="sum") / normalizer,
        }

    def reset_classes(self, num_classes: int) -> None:
        self.logits = class_predictor(self.logits.in_channels, num_classes, like=self.logits)
        self.config = self.config.replace(num_classes=num_classes)

    def published(self) -> Sequence[Rule]:
        # torchvision counts a convolution, its norm and a ReLU one after another.
        towers = (("classification", "class"), ("regression", "box"))
        return (
            *(
                Rename(rf"head.{theirs}_head.conv.{3 * i + j}.(weight|bias)", rf"head.{ours}_tower.{i}.{j}.\1")
                for theirs, ours in towers
                for i in range(self.config.depth)
                for j in range(2)
            ),
            Prefix("head.classification_head.cls_logits.", "head.logits."),
            Prefix("head.regression_head.bbox_reg.", "head.boxes."),
            Prefix("head.regression_head.bbox_ctrness.", "head.centreness."),
        )


def centreness_of(distances: Tensor) -> Tensor:
    """How central a point is (P,) in a box, from its positive distances (P, 4) to left, top, right and bottom.

    1 in the middle and 0 at a side: the root of shorter over longer, horizontally times vertically.
    """
    left, top, right, bottom = distances.unbind(-1)
    horizontal = torch.minimum(left, right) / torch.maximum(left, right)
    vertical = torch.minimum(top, bottom) / torch.maximum(top, bottom)
    return (horizontal * vertical).sqrt()
