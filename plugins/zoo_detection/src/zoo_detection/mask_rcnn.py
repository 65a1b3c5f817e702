"""Mask R-CNN: Faster R-CNN that also says which pixels are the object's. He et al. 2017, arXiv:1703.06870.

maps (B, D, h, w), detections (n, 4) -> RoIAlign (n, D, 14, 14) -> four 3x3 convolutions -> twice the size
    -> a mask for each class (n, K + 1, 28, 28) -> the detected class's, as probabilities (n, 28, 28)

The head is torchvision's, and so are the numbers.

B batch   D width   h w a map's sides   n detections of the batch   K classes   T objects of an image
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import maskrcnn_loss

from zoo.checkpoints.keymap import StateMap
from zoo.models.detector import InstanceSegmenter
from zoo_detection.boxes import at_least_float32
from zoo_detection.faster_rcnn import single_look
from zoo_detection.levels import NORMS, Norm
from zoo_detection.proposals import Regions
from zoo_detection.rcnn_keys import rcnn_keys
from zoo_detection.roi_heads import RoIPool, Samples
from zoo_detection.two_stage import TwoStage, TwoStageConfig, roi_pool

CUT = 14  # side of a region cut out for its mask
WIDTH = 256


class MaskRCNNConfig(TwoStageConfig):
    """Config of `MaskRCNN`. By default it is torchvision's first version."""

    mask_norm: Norm = Field("none", description="behind each convolution of the mask head")


class MaskRCNN(TwoStage, InstanceSegmenter):
    """Faster R-CNN with a mask for each detection, on a grid of 28 x 28 cells."""

    Config = MaskRCNNConfig
    config: MaskRCNNConfig
    details: ClassVar[tuple[str, ...]] = ("mask",)
    needs: ClassVar[tuple[str, ...]] = ("masks",)

    def __init__(self, config: MaskRCNNConfig) -> None:
        super().__init__(config)
        self.looks = single_look(config, self.channels[0])
        self.mask = mask_stage(config, config.mask_norm, self.channels[0], self.strides)
        self.report_parts()

    def key_maps(self) -> Mapping[str, StateMap]:
        return rcnn_keys(self.backbone, frozen=self.config.freeze_norm)


class MaskStage(nn.Module):
    """What says the masks of detections.

    Args:
        pool: cuts out regions. head: cut-outs (n, D, S, S) → (n, C, S, S). predictor: → logits (n, K + 1, 2S, 2S),
            background first.
    """

    def __init__(self, *, pool: RoIPool, head: nn.Module, predictor: nn.Module) -> None:
        super().__init__()
        self.pool, self.head, self.predictor = pool, head, predictor

    def forward(self, maps: Sequence[Tensor], regions: Regions, labels: Tensor) -> dict[str, Tensor]:
        """`masks` (n, 2S, 2S) in [0, 1], of n detections and their labels (n,)."""
        logits = self.logits(maps, regions)
        return {"masks": logits[torch.arange(labels.shape[0], device=labels.device), labels + 1].sigmoid()}

    def logits(self, maps: Sequence[Tensor], regions: Regions) -> Tensor:
        """A mask for background and every class, (n, K + 1, 2S, 2S), at least float32."""
        return at_least_float32(self.predictor(self.head(self.pool(maps, regions))))

    def losses(
        self, maps: Sequence[Tensor], looks: Sequence[Samples], targets: Sequence[Mapping[str, Tensor]], sizes: Tensor
    ) -> dict[str, Tensor]:
        """`loss_masks`, binary cross-entropy of the object's class's masks, of the last look's samples, which all have
        an object."""
        samples = looks[-1]
        logits = self.logits(maps, samples.regions)
        boxes, matches = by_image(samples, len(targets))
        # Masks end where their image does: a box at its edge does not reach into the padding.
        masks = [_within(target, size) for target, size in zip(targets, sizes.tolist(), strict=True)]
        labels = [target["labels"] + 1 for target in targets]
        return {"loss_masks": maskrcnn_loss(logits, boxes, masks, labels, matches)}

    def network(self, finest: Tensor, count: int) -> None:
        """All that is computed of `count` detections, of maps like this (B, D, h, w), for counting."""
        self.predictor(self.head(finest.new_zeros(count, finest.shape[1], CUT, CUT)))

    def reset_classes(self, num_classes: int) -> None:
        """A fresh last convolution for K classes and a background."""
        old: nn.Conv2d = self.predictor.mask_fcn_logits
        fresh: nn.Module = MaskRCNNPredictor(old.in_channels, old.in_channels, num_classes + 1).mask_fcn_logits
        self.predictor.mask_fcn_logits = fresh.to(old.weight)


def mask_stage(config: TwoStageConfig, norm: Norm, width: int, strides: Sequence[int]) -> MaskStage:
    """Mask R-CNN's third stage, on maps of that width and those strides."""
    return MaskStage(
        pool=roi_pool(config, CUT, strides),
        head=MaskRCNNHeads(width, [WIDTH] * 4, 1, NORMS[norm]),
        predictor=MaskRCNNPredictor(WIDTH, WIDTH, config.num_classes + 1),
    )


def by_image(samples: Samples, batch: int) -> tuple[list[Tensor], list[Tensor]]:
    """The samples' boxes (n, 4) and matches (n,) of each image, as torchvision's losses take them."""
    counts = torch.bincount(samples.regions.images, minlength=batch).tolist()
    return list(samples.regions.boxes.split(counts)), list(samples.matches.split(counts))


def _within(target: Mapping[str, Tensor], size: Sequence[int]) -> Tensor:
    """The target's masks (T, h, w) of an image of size (h, w)."""
    height, width = size
    if "masks" not in target or not len(target["labels"]):
        return torch.zeros(0, height, width, device=target["boxes"].device)
    return target["masks"][:, :height, :width]
