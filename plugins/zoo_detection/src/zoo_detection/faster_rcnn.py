"""Faster R-CNN: proposals, and one look at each. Ren et al. 2015, arXiv:1506.01497; on a pyramid, arXiv:1612.03144.

images (B, C, H, W) -> pyramid: maps (B, D, h, w) -> RPN: regions (M, 4)
    -> RoIAlign (M, D, 7, 7) -> head (M, 1024) -> logits (M, K + 1), codes (M, K + 1, 4) -> boxes, scores, labels (B, Q)

With the head `conv`, two convolutions in the RPN and a neck with batch norm it is the second version of torchvision's
(Li et al. 2021, arXiv:2111.11429).

B batch   C channels   H W the padded batch's sides   D width   M regions   K classes   Q detections an image
"""

from __future__ import annotations

from collections.abc import Mapping

from torchvision.models.detection.faster_rcnn import FastRCNNPredictor

from zoo.checkpoints.keymap import StateMap
from zoo_detection.box_coding import BoxCoder
from zoo_detection.proposals import Sampling
from zoo_detection.rcnn_keys import rcnn_keys
from zoo_detection.roi_heads import BoxStage, SingleLook
from zoo_detection.two_stage import BOX_WEIGHTS, WIDTH, TwoStage, TwoStageConfig, box_head


class FasterRCNNConfig(TwoStageConfig):
    """Config of `FasterRCNN`. By default it is torchvision's first version."""


class FasterRCNN(TwoStage):
    """The detector with two stages."""

    Config = FasterRCNNConfig
    config: FasterRCNNConfig

    def __init__(self, config: FasterRCNNConfig) -> None:
        super().__init__(config)
        self.looks = single_look(config, self.channels[0])
        self.report_parts()

    def key_maps(self) -> Mapping[str, StateMap]:
        return rcnn_keys(self.backbone, frozen=self.config.freeze_norm)


def single_look(config: TwoStageConfig, width: int) -> SingleLook:
    """Faster R-CNN's second stage, on maps of that width."""
    return SingleLook(
        BoxStage(
            head=box_head(config.box_head, width),
            predictor=FastRCNNPredictor(WIDTH, config.num_classes + 1),
            coder=BoxCoder(BOX_WEIGHTS),
            sampling=Sampling(positive_iou=0.5, negative_iou=0.5, count=config.box_samples, positive_fraction=0.25),
        )
    )
