"""Cascade R-CNN: three looks at each region, each pickier than the last. Cai, Vasconcelos 2018, arXiv:1712.00726.

images -> pyramid -> RPN: regions (M, 4) -> look 1, learned from IoU 0.5 on -> its boxes are the regions of
    look 2, from 0.6 on -> its boxes are the regions of look 3, from 0.7 on -> boxes, scores, labels (B, Q)

A region's classes are those of the three looks' average logits; its box is the last look's, one for all classes.
Cascade Mask R-CNN has a mask head for each look, and averages their masks. Numbers are mmdetection's.

B batch   M regions   K classes   Q detections an image   D width of the maps   S side of a cut-out   F of its vector
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from zoo.checkpoints.keymap import StateMap
from zoo.models.detector import InstanceSegmenter
from zoo_detection.box_coding import BoxCoder
from zoo_detection.boxes import clip_boxes
from zoo_detection.cascade_keys import mmdet_keys
from zoo_detection.levels import Norm
from zoo_detection.mask_rcnn import MaskStage, mask_stage
from zoo_detection.proposals import Regions, Sampling
from zoo_detection.roi_heads import BoxStage, Cut, Look, Looks, Samples
from zoo_detection.two_stage import WIDTH, TwoStage, TwoStageConfig, box_head

THRESHOLDS = (0.5, 0.6, 0.7)
"""IoU from which a region learns its object, look by look."""

CODERS = tuple(BoxCoder((1 / c, 1 / c, 1 / s, 1 / s)) for c, s in ((0.1, 0.2), (0.05, 0.1), (0.033, 0.067)))
"""Later looks correct less, and what they say is multiplied by less: the deviations of centres and sides."""

LOSS_WEIGHTS = (1.0, 0.5, 0.25)


class CascadeRCNNConfig(TwoStageConfig):
    """Config of `CascadeRCNN`."""

    round_anchors: bool = Field(False, description="anchors have whole pixels, unlike mmdetection's")
    roi_samples: int = Field(0, ge=0, le=64, description="samples a side of a cell of a cut-out; 0: as many as pixels")
    roi_aligned: bool = Field(True, description="cut-outs lie half a pixel elsewhere, as mmdetection's")


class CascadeRCNN(TwoStage):
    """Faster R-CNN with three looks."""

    Config = CascadeRCNNConfig
    config: CascadeRCNNConfig

    def __init__(self, config: CascadeRCNNConfig) -> None:
        super().__init__(config)
        self.looks = cascade(config, self.channels[0])
        self.report_parts()

    def key_maps(self) -> Mapping[str, StateMap]:
        return mmdet_keys(self.backbone)


class CascadeMaskRCNNConfig(CascadeRCNNConfig):
    """Config of `CascadeMaskRCNN`."""

    mask_norm: Norm = Field("none", description="behind each convolution of the mask heads")


class CascadeMaskRCNN(TwoStage, InstanceSegmenter):
    """Cascade R-CNN with a mask for each detection, on a grid of 28 x 28 cells."""

    Config = CascadeMaskRCNNConfig
    config: CascadeMaskRCNNConfig
    details: ClassVar[tuple[str, ...]] = ("masks",)
    needs: ClassVar[tuple[str, ...]] = ("masks",)

    def __init__(self, config: CascadeMaskRCNNConfig) -> None:
        super().__init__(config)
        self.looks = cascade(config, self.channels[0])
        self.masks = CascadeMasks(
            [mask_stage(config, config.mask_norm, self.channels[0], self.strides) for _ in THRESHOLDS]
        )
        self.report_parts()

    def key_maps(self) -> Mapping[str, StateMap]:
        return mmdet_keys(self.backbone)


def cascade(config: TwoStageConfig, width: int) -> CascadeLooks:
    """Cascade R-CNN's three looks, on maps of that width."""
    return CascadeLooks(
        [
            BoxStage(
                head=box_head(config.box_head, width),
                predictor=AgnosticPredictor(WIDTH, config.num_classes),
                coder=coder,
                beta=1.0,
                sampling=Sampling(
                    positive_iou=threshold, negative_iou=threshold, count=config.box_samples, positive_fraction=0.25
                ),
            )
            for threshold, coder in zip(THRESHOLDS, CODERS, strict=True)
        ]
    )


class AgnosticPredictor(nn.Module):
    """Vectors (M, F) → logits (M, K + 1), background first, and codes (M, 4), one for all classes."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(width, num_classes + 1)
        self.bbox_pred = nn.Linear(width, 4)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(vectors), self.bbox_pred(vectors)


class CascadeLooks(Looks):
    """Looks one behind the other, each at the boxes of the one before.

    Args:
        stages: each with its coder and its sampling, and an `AgnosticPredictor`.
    """

    def __init__(self, stages: Sequence[BoxStage]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, cut: Cut, regions: Regions, sizes: Tensor) -> Look:
        *before, last = self.stages
        said: list[Tensor] = []
        for stage in before:
            logits, codes = stage(cut(regions))
            regions = corrected(regions, codes, stage.coder, sizes)
            said.append(logits)
        logits, codes = last(cut(regions))
        logits = torch.stack([*said, logits]).mean(dim=0)  # (M, K + 1)
        raw = {"logits": logits, "codes": codes}
        return Look(logits.softmax(dim=-1)[:, 1:], codes, regions, last.coder, raw)

    def learn(
        self, cut: Cut, regions: Regions, targets: Sequence[Mapping[str, Tensor]], sizes: Tensor
    ) -> tuple[dict[str, Tensor], list[Samples]]:
        losses: dict[str, Tensor] = {}
        looked_at: list[Samples] = []
        for number, (stage, weight) in enumerate(zip(self.stages, LOSS_WEIGHTS, strict=True), start=1):
            samples = stage.sample(regions, targets)
            logits, codes = stage(cut(samples.regions))
            of_stage = stage.losses(logits, codes, samples)
            losses |= {f"{name}_{number}": weight * value for name, value in of_stage.items()}
            looked_at.append(samples)
            # The objects' own boxes join in anew at every look; where they are, nothing is left to correct.
            own = (samples.regions.boxes == samples.aims).all(dim=1) & (samples.labels > 0)
            regions = corrected(samples.regions, codes.detach(), stage.coder, sizes)
            regions = Regions(regions.boxes[~own], regions.images[~own])
        return losses, looked_at

    def embed(self, cuts: Tensor) -> Tensor:
        vectors: Tensor = self.stages[-1].head(cuts)
        return vectors

    def network(self, cuts: Tensor) -> None:
        for stage in self.stages:
            stage(cuts)

    def reset_classes(self, num_classes: int) -> None:
        for stage in self.stages:
            old = stage.predictor.cls_score
            stage.predictor.cls_score = nn.Linear(old.in_features, num_classes + 1).to(old.weight)


class CascadeMasks(nn.Module):
    """Masks of detections, the average of what a mask head for each look says.

    Args:
        stages: as many as there are looks.
    """

    def __init__(self, stages: Sequence[MaskStage]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, maps: Sequence[Tensor], regions: Regions, labels: Tensor) -> dict[str, Tensor]:
        """`masks` (n, 2S, 2S) in [0, 1], of n detections and their labels (n,)."""
        return {"masks": torch.stack([stage(maps, regions, labels)["masks"] for stage in self.stages]).mean(dim=0)}

    def losses(
        self, maps: Sequence[Tensor], looks: Sequence[Samples], targets: Sequence[Mapping[str, Tensor]], sizes: Tensor
    ) -> dict[str, Tensor]:
        """`loss_masks_1` to `_3`: each head learns from its look's samples, which all have an object."""
        losses = {}
        for number, (stage, samples, weight) in enumerate(zip(self.stages, looks, LOSS_WEIGHTS, strict=True), start=1):
            loss = stage.losses(maps, [samples], targets, sizes)["loss_masks"]
            losses[f"loss_masks_{number}"] = weight * loss
        return losses

    def network(self, finest: Tensor, count: int) -> None:
        """All that is computed of `count` detections, of maps like this (B, D, h, w), for counting."""
        for stage in self.stages:
            stage.network(finest, count)

    def reset_classes(self, num_classes: int) -> None:
        """Fresh last convolutions for K classes and a background."""
        for stage in self.stages:
            stage.reset_classes(num_classes)


def corrected(regions: Regions, codes: Tensor, coder: BoxCoder, sizes: Tensor) -> Regions:
    """Regions moved to where codes (M, 1, 4) say, within their images of sizes (B, 2)."""
    boxes = coder.decode(codes[:, 0], regions.boxes)
    return Regions(clip_boxes(boxes, sizes[regions.images]), regions.images)
