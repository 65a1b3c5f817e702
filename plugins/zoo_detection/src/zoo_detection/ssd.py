"""SSD: every cell of every map says what is in its default boxes, in one pass. Liu et al. 2016, arXiv:1512.02325.

images (B, C, H, W) -> backbone: two maps -> neck: L maps, each half the last -> head: at every cell of each map
A corrections of a box and A * (K + 1) class logits -> the best of each class -> suppression

With depthwise convolutions in neck and head it is SSDLite (Sandler et al. 2018, arXiv:1801.04381, 6.2).

B batch   C channels   H W the images' height and width   L levels   A default boxes of a cell   N of all cells
K classes   T objects of an image
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torchvision.ops.misc import Conv2dNormActivation

from zoo.checkpoints.keymap import StateMap
from zoo.errors import OptionError
from zoo.models.detector import Pixels, Selection, whole_sizes
from zoo.models.parts import Part
from zoo.models.targets import Target, check_targets
from zoo.specs import InputSpec
from zoo_detection.anchors import DefaultBoxes, ssd_shapes
from zoo_detection.box_coding import BoxCoder
from zoo_detection.boxes import clip_boxes
from zoo_detection.dense import by_anchor
from zoo_detection.nms import keep_best, pad_detections
from zoo_detection.object_embeddings import object_embeddings
from zoo_detection.pyramid import Plan, PyramidDetector, PyramidDetectorConfig
from zoo_detection.ssd_backbones import NORM, start_normal, start_uniform
from zoo_detection.ssd_extras import SSDExtras
from zoo_detection.ssd_keys import published_keys

Shapes = Sequence[Sequence[tuple[float, float]]]
Scoring = Literal["softmax", "sigmoid"]
CODER = BoxCoder(weights=(10.0, 10.0, 5.0, 5.0))


class SSDConfig(PyramidDetectorConfig):
    """Config of `SSD`. By default it is the paper's SSD300."""

    backbone: Part = Field("ssd_vgg16", description="network whose maps are the first levels")
    neck: Part | None = Field(
        {"name": "ssd_extras", "block": "plain", "widths": [512, 256, 256, 256], "strides": [2, 2, 1, 1]},
        description="what makes the further levels",
    )
    min_stride: int = Field(8, ge=1, description="of the backbone's first map that is used, in pixels")
    image_size: Pixels | tuple[Pixels, Pixels] | None = Field(
        (300, 300), description="pixels that images are stretched to: a side, or (height, width)"
    )
    predictors: Literal["plain", "separable"] = Field("plain", description="the head's 3x3 convolutions")
    scoring: Scoring = Field("softmax", description="over classes and background, or each class for itself")
    scales: tuple[float, ...] = Field(
        (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
        description="of the default boxes, as shares of the image: one a level, and one behind the last",
    )
    ratios: tuple[tuple[float, ...], ...] = Field(
        ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,)), description="width / height of each level's long default boxes"
    )
    shapes: tuple[tuple[tuple[float, float], ...], ...] | None = Field(
        None, description="(width, height) of each level's default boxes, in place of scales and ratios"
    )
    steps: tuple[int, ...] | None = Field(
        (8, 16, 32, 64, 100, 300),
        description="pixels from cell to cell, where the maps agree; otherwise the image is divided evenly",
    )
    clip_anchors: bool = Field(True, description="no default box is larger than the image")
    score_threshold: float = Field(0.01, ge=0, le=1, description="detections score more than this")
    nms_threshold: float = Field(0.45, ge=0, le=1, description="IoU above which the weaker box of a class goes")
    max_detections: int = Field(200, ge=1, le=100_000, description="detections an image")
    topk: int = Field(400, ge=1, description="candidates of each class and image that suppression sees")
    positive_iou: float = Field(0.5, ge=0, le=1, description="IoU from which a default box learns an object")
    negatives_per_positive: float = Field(3.0, gt=0, description="background boxes that learn, for each that has one")


class SSD(PyramidDetector):
    """The maps of a backbone, a neck that makes the further ones, and a pair of convolutions on each.

    `raw` holds `boxes` (B, N, 4), corrections of the default boxes, and `logits` (B, N, K + 1), background first.
    `embeddings` (B, K, D) are averages over the box on the map whose stride is nearest to 16; where all maps have one
    width, on the map for the box's size.
    """

    Config = SSDConfig
    config: SSDConfig

    def __init__(self, config: SSDConfig) -> None:
        super().__init__(config)
        self.input_spec = _stretched(self.backbone.input_spec, config.image_size)
        if isinstance(self.neck, SSDExtras):
            self.neck.check_size(self.input_spec.size)
        shapes, steps = _default_boxes(config, len(self.channels))
        self.even_boxes = DefaultBoxes(shapes, clip=config.clip_anchors)
        self.stepped_boxes = DefaultBoxes(shapes, steps=steps, clip=config.clip_anchors)
        self.head = SSDHead(
            self.channels, self.even_boxes.per_cell, config.num_classes, config.predictors == "separable"
        )
        self.report_parts()

    @classmethod
    def plan(cls, config: SSDConfig) -> Plan:
        return Plan(min_stride=config.min_stride, levels=len(config.shapes or config.ratios))

    def key_maps(self) -> Mapping[str, StateMap]:
        return published_keys(self.backbone)

    def reset_head(self, num_classes: int) -> None:
        self.config = self.config.replace(num_classes=num_classes)
        self.label_space = None
        self.head.reset_classes(num_classes)

    def forward(
        self,
        images: Tensor,
        targets: Sequence[Target] | None = None,
        *,
        sizes: Tensor | None = None,
        selection: Selection | None = None,
        output_raw: bool = False,
        output_embeddings: bool = False,
    ) -> dict[str, Any]:
        sizes = whole_sizes(images, sizes)
        maps = self.maps(images)
        raw = self.head(maps)
        anchors = self.anchors(images, maps)
        if targets is not None:
            outputs = self.losses(raw, anchors, self.checked(targets, images, sizes))
        else:
            outputs = self.detections(raw, anchors, sizes, selection or self.selection)
            if output_embeddings:
                outputs["embeddings"] = object_embeddings(maps, self.strides, outputs["boxes"], outputs["labels"])
        return {**outputs, "raw": raw} if output_raw else outputs

    def network(self, images: Tensor) -> dict[str, Tensor]:
        """What the head says, before boxes are chosen."""
        raw: dict[str, Tensor] = self.head(self.maps(images))
        return raw

    def anchors(self, images: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """The default boxes (N, 4) of all levels, xyxy, in input pixels."""
        steps = self.stepped_boxes.steps
        agree = steps is not None and all(
            cells == math.ceil(side / step)
            for m, step in zip(maps, steps, strict=True)
            for side, cells in zip(images.shape[2:], m.shape[2:], strict=True)
        )
        return torch.cat((self.stepped_boxes if agree else self.even_boxes)(images, maps))

    def detections(
        self, raw: Mapping[str, Tensor], anchors: Tensor, sizes: Tensor, selection: Selection
    ) -> dict[str, Tensor]:
        """What the head said, `raw`, as the best boxes of each image, sizes (B, 2).

        What is not a number stays among them: it is to be refused, and not to look like an empty image.
        """
        logits = raw["logits"].float()  # (B, N, K + 1)
        scores = logits.softmax(dim=-1) if self.config.scoring == "softmax" else logits.sigmoid()
        boxes = clip_boxes(CODER.decode(raw["boxes"], anchors), sizes)  # (B, N, 4)
        labels = torch.arange(self.num_classes, device=logits.device)
        if selection.classes is not None:
            labels = torch.tensor(selection.classes, device=logits.device)
        scores = scores[..., labels + 1].transpose(1, 2)  # (B, K, N)
        best, places = scores.topk(min(self.config.topk, scores.shape[2]), dim=2)
        images, columns, ranks = (~(best <= selection.score_threshold)).nonzero(as_tuple=True)
        places, scores, labels = places[images, columns, ranks], best[images, columns, ranks], labels[columns]  # flat
        boxes = boxes[images, places]
        kept = keep_best(boxes, scores, images * self.num_classes + labels, selection.nms_threshold)
        padded = pad_detections(
            boxes[kept], scores[kept], labels[kept], images[kept], logits.shape[0], selection.max_detections
        )
        return dict(zip(("boxes", "scores", "labels"), padded[:3], strict=True))

    def checked(self, targets: Sequence[Target], images: Tensor, sizes: Tensor) -> list[dict[str, Tensor]]:
        """The targets, if the images can have them. Raises `InputError` that names the image and the object."""
        return check_targets(targets, images, sizes, num_classes=self.num_classes, labels=self.label_space)

    def losses(self, raw: Mapping[str, Tensor], anchors: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        """`loss_boxes` and `loss_classification`, each a sum over the batch by the default boxes with an object."""
        from zoo_detection.ssd_loss import ssd_losses

        config = self.config
        return ssd_losses(
            raw["boxes"].float(),
            raw["logits"].float(),
            anchors,
            targets,
            coder=CODER,
            scoring=config.scoring,
            positive_iou=config.positive_iou,
            negatives_per_positive=config.negatives_per_positive,
        )


class SSDHead(nn.Module):
    """At every cell of every map: A corrections of a box, and for each the logits of background and K classes."""

    def __init__(self, channels: Sequence[int], per_cell: Sequence[int], num_classes: int, separable: bool) -> None:
        super().__init__()
        self.channels, self.per_cell, self.separable = tuple(channels), tuple(per_cell), separable
        self.boxes = self._convolutions(4)
        self.reset_classes(num_classes)

    def reset_classes(self, num_classes: int) -> None:
        """Fresh convolutions for K classes and a background."""
        self.logits = self._convolutions(num_classes + 1).to(next(self.boxes.parameters()))

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        return {
            name: torch.cat([by_anchor(conv(m), a) for conv, m, a in zip(convs, maps, self.per_cell, strict=True)], 1)
            for name, convs in (("boxes", self.boxes), ("logits", self.logits))
        }

    def _convolutions(self, values: int) -> nn.ModuleList:
        make = _separable if self.separable else _plain
        convolutions = nn.ModuleList(make(c, a * values) for c, a in zip(self.channels, self.per_cell, strict=True))
        (start_normal if self.separable else start_uniform)(convolutions)
        return convolutions.train(self.training)


def _stretched(backbone: InputSpec, image_size: int | tuple[int, int] | None) -> InputSpec:
    """How images become an SSD's input: stretched to `image_size`, normalised as the backbone is used to."""
    size = image_size or backbone.size
    size = (size, size) if isinstance(size, int) else size
    return replace(backbone, size=size, resize="stretch", crop_pct=1.0, antialias=False)


def _default_boxes(config: SSDConfig, levels: int) -> tuple[Shapes, tuple[int, ...] | None]:
    """(The default boxes' shapes, the steps) of so many levels: where there are more, those of the last ones."""
    shapes = config.shapes or ssd_shapes(config.ratios, config.scales)
    most = len(shapes) if config.steps is None else min(len(shapes), len(config.steps))
    if levels > most:
        raise OptionError(
            f"the neck gives {levels} maps, and there are default boxes for {most} levels",
            fix=f"ratios={((2, 3),) * levels}, scales=… with {levels + 1} values, steps=None",
        )
    return shapes[-levels:], None if config.steps is None else config.steps[-levels:]


def _plain(channels: int, values: int) -> nn.Module:
    return nn.Conv2d(channels, values, 3, padding=1)


def _separable(channels: int, values: int) -> nn.Module:
    around = Conv2dNormActivation(channels, channels, 3, groups=channels, norm_layer=NORM, activation_layer=nn.ReLU6)
    return nn.Sequential(around, nn.Conv2d(channels, values, 1))
