"""Keypoint R-CNN: Faster R-CNN that also places named points on the object. He et al. 2017, arXiv:1703.06870, 5.

maps (B, D, h, w), detections (n, 4) -> RoIAlign (n, D, 14, 14) -> eight 3x3 convolutions -> four times the size
    -> a map for each point (n, P, 56, 56) -> its highest place in the box: x, y and the score there (n, P, 3)

The head is torchvision's, and so are the numbers.

B batch   D width   h w a map's sides   n detections of the batch   P points of an object   T objects of an image
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.roi_heads import heatmaps_to_keypoints, keypointrcnn_loss

from zoo.checkpoints.keymap import StateMap
from zoo.models.detector import KeypointDetector
from zoo_detection.boxes import at_least_float32
from zoo_detection.faster_rcnn import single_look
from zoo_detection.mask_rcnn import by_image
from zoo_detection.proposals import Regions
from zoo_detection.rcnn_keys import rcnn_keys
from zoo_detection.roi_heads import RoIPool, Samples
from zoo_detection.two_stage import TwoStage, TwoStageConfig, roi_pool

CUT = 14  # side of a region cut out for its points
WIDTH = 512


class KeypointRCNNConfig(TwoStageConfig):
    """Config of `KeypointRCNN`. By default it finds COCO's persons and their 17 points."""

    num_classes: int = Field(1, ge=1, le=100_000, description="classes, a background not among them")
    num_keypoints: int = Field(17, ge=1, le=10_000, description="points of an object")


class KeypointRCNN(TwoStage, KeypointDetector):
    """Faster R-CNN with points on each detection."""

    Config = KeypointRCNNConfig
    config: KeypointRCNNConfig
    details: ClassVar[tuple[str, ...]] = ("keypoints",)
    needs: ClassVar[tuple[str, ...]] = ("keypoints",)

    def __init__(self, config: KeypointRCNNConfig) -> None:
        super().__init__(config)
        self.looks = single_look(config, self.channels[0])
        self.num_keypoints = config.num_keypoints
        self.keypoints = KeypointStage(
            pool=roi_pool(config, CUT, self.strides),
            head=KeypointRCNNHeads(self.channels[0], [WIDTH] * 8),
            predictor=KeypointRCNNPredictor(WIDTH, config.num_keypoints),
        )
        self.report_parts()

    def key_maps(self) -> Mapping[str, StateMap]:
        return rcnn_keys(self.backbone, frozen=self.config.freeze_norm)


class KeypointStage(nn.Module):
    """What places the points of detections.

    Args:
        pool: cuts out regions. head: cut-outs (n, D, S, S) → (n, C, S, S). predictor: → (n, P, 4S, 4S).
    """

    def __init__(self, *, pool: RoIPool, head: nn.Module, predictor: nn.Module) -> None:
        super().__init__()
        self.pool, self.head, self.predictor = pool, head, predictor

    def forward(self, maps: Sequence[Tensor], regions: Regions, labels: Tensor) -> dict[str, Tensor]:
        """`keypoints` (n, P, 3): x and y in input pixels, and the network's score, not bounded."""
        points, scores = heatmaps_to_keypoints(self.logits(maps, regions), regions.boxes)
        return {"keypoints": torch.cat((points[..., :2], scores[..., None]), dim=-1)}

    def logits(self, maps: Sequence[Tensor], regions: Regions) -> Tensor:
        """A map over the region for each point, (n, P, 4S, 4S), at least float32."""
        return at_least_float32(self.predictor(self.head(self.pool(maps, regions))))

    def losses(
        self, maps: Sequence[Tensor], looks: Sequence[Samples], targets: Sequence[Mapping[str, Tensor]], sizes: Tensor
    ) -> dict[str, Tensor]:
        """`loss_keypoints`, cross-entropy over a map's cells, of visible points within the last look's samples, which
        all have an object."""
        samples = looks[-1]
        logits = self.logits(maps, samples.regions)
        boxes, matches = by_image(samples, len(targets))
        points = logits.shape[1]
        placed = [
            target["keypoints"] if len(target["labels"]) else logits.new_zeros(0, points, 3) for target in targets
        ]
        return {"loss_keypoints": keypointrcnn_loss(logits, boxes, placed, matches)}

    def network(self, finest: Tensor, count: int) -> None:
        """All that is computed of `count` detections, of maps like this (B, D, h, w), for counting."""
        self.predictor(self.head(finest.new_zeros(count, finest.shape[1], CUT, CUT)))

    def reset_classes(self, num_classes: int) -> None:
        """Points are the same for all classes: nothing changes."""
