"""Two stages: a network proposes regions, and another looks at each. Ren et al. 2015, arXiv:1506.01497.

images (B, C, H, W) -> pyramid: maps (B, D, h, w) -> RPN: regions (M, 4) -> looks: boxes, scores, labels (B, Q)
    -> what a family adds for each detection: masks, keypoints

B batch   C channels   H W the padded batch's sides   D width   M regions   K classes   Q detections an image
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, TwoMLPHead

from zoo.errors import OptionError
from zoo.models.detector import Selection, whole_sizes
from zoo.models.targets import Target, check_targets
from zoo_detection.anchors import GridAnchors
from zoo_detection.boxes import at_least_float32
from zoo_detection.proposals import RPN, Limits, Objectness, Sampling, flat
from zoo_detection.pyramid import Plan, PyramidDetector, PyramidDetectorConfig, whole_cells
from zoo_detection.roi_heads import Look, Looks, RoIPool, choose, spread

CUT = 7  # side of a region cut out for its box
WIDTH = 1024  # of the vector that a box head makes of it
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)

BoxHead = Literal["mlp", "conv"]


class TwoStageConfig(PyramidDetectorConfig):
    """What every two-stage detector may be told."""

    anchor_sizes: tuple[tuple[float, ...], ...] | None = Field(
        None, description="of each level, in pixels; None: one, eight times the level's stride"
    )
    anchor_ratios: tuple[float, ...] = Field((0.5, 1.0, 2.0), description="height / width of the anchors", min_length=1)
    round_anchors: bool = Field(True, description="anchors have whole pixels, unlike mmdetection's")
    roi_operation: Literal["align", "max"] = Field(
        "align", description="how a region is cut out: by RoIAlign, or by RoI max-pooling as in Fast R-CNN"
    )
    roi_samples: int = Field(2, ge=0, le=64, description="samples a side of a cell of a cut-out; 0: as many as pixels")
    roi_aligned: bool = Field(False, description="cut-outs lie half a pixel elsewhere, as mmdetection's")
    rpn_depth: int = Field(1, ge=1, le=16, description="convolutions of the proposal network")
    rpn_score_threshold: float = Field(0.0, ge=0, le=1, description="proposals score at least this")
    proposals_per_level: int = Field(1000, ge=1, description="anchors of a level that may become proposals")
    proposals: int = Field(1000, ge=1, description="proposals an image")
    training_proposals: int = Field(2000, ge=1, description="of a level and of an image, where there are targets")
    rpn_samples: int = Field(256, ge=1, description="anchors an image that the proposal network learns from")
    box_head: BoxHead = Field(
        "mlp", description="two linear layers, or four convolutions with batch norm and a linear layer"
    )
    box_samples: int = Field(512, ge=1, description="proposals an image that are learned from")


class TwoStage(PyramidDetector):
    """Interface of two-stage detectors. A family sets `looks`, and one attribute for each name in `details`.

    `raw` holds `objectness` (B, N) and `anchor_codes` (B, N, 4), the proposal network's logits and corrections;
    without targets also `proposals` (M, 4) and `images` (M,), flat, and what the looks say of them: `logits`
    (M, K + 1), background first, and `codes`. `embeddings` (B, Q, F) are what the box head makes of the final boxes.
    Where an image's values are not numbers, its scores are none either: it is to be refused, and not to look empty.

    Attributes:
        details: names of the attributes that say more of each detection. needs: keys of targets that they learn from.
        num_keypoints: points of an object, where there are some.
        rpn: proposes. pool: cuts out regions for `looks`.
    """

    Config = TwoStageConfig
    config: TwoStageConfig
    details: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    num_keypoints: int | None = None
    looks: Looks

    def __init__(self, config: TwoStageConfig) -> None:
        super().__init__(config)
        self._divisor = self.input_spec.divisor
        self.rpn = RPN(
            width=self.channels[0],
            depth=config.rpn_depth,
            anchors=_anchors(config, self.strides),
            sampling=Sampling(positive_iou=0.7, negative_iou=0.3, count=config.rpn_samples, positive_fraction=0.5),
            limits=Limits(config.proposals_per_level, config.proposals, config.rpn_score_threshold),
            training_limits=Limits(config.training_proposals, config.training_proposals, config.rpn_score_threshold),
        )
        self.pool = roi_pool(config, CUT, self.strides)

    @classmethod
    def plan(cls, config: TwoStageConfig) -> Plan:
        return Plan(min_stride=4, levels=5)

    def reset_head(self, num_classes: int) -> None:
        self.config = self.config.replace(num_classes=num_classes)
        self.label_space = None
        self.looks.reset_classes(num_classes)
        for name in self.details:
            getattr(self, name).reset_classes(num_classes)

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
        if targets is not None:
            targets = self._checked(targets, images, sizes)
        images = whole_cells(images, self._divisor)
        maps = self.maps(images)
        said = self.rpn(images, maps)
        if targets is not None:
            outputs = self.losses(maps, said, targets, sizes)
            return {**outputs, "raw": _raw(said)} if output_raw else outputs
        regions = self.rpn.propose(said, sizes)
        look = self.looks(lambda some: self.pool(maps, some), regions, sizes)
        outputs = choose(look, sizes, selection or self.selection)
        outputs["scores"] = outputs["scores"].masked_fill(_unknown(said, look)[:, None], torch.nan)
        outputs |= self.describe(maps, outputs, output_embeddings)
        if output_raw:
            outputs["raw"] = {**_raw(said), "proposals": regions.boxes, "images": regions.images, **look.raw}
        return outputs

    def network(self, images: Tensor) -> None:
        """The proposal network, looks at as many regions as there can be, and what is said of as many detections."""
        maps = self.maps(whole_cells(images, self._divisor))
        self.rpn.head(maps)
        width, batch = self.channels[0], images.shape[0]
        self.looks.network(maps[0].new_zeros(self.config.proposals * batch, width, CUT, CUT))
        for name in self.details:
            getattr(self, name).network(maps[0], self.config.max_detections * batch)

    def losses(
        self, maps: list[Tensor], said: Objectness, targets: Sequence[Mapping[str, Tensor]], sizes: Tensor
    ) -> dict[str, Tensor]:
        """Of the proposal network, the looks and the details, by name, and `loss`, their sum."""
        losses = self.rpn.losses(said, targets)
        regions = self.rpn.propose(said, sizes, training=True)
        of_looks, samples = self.looks.learn(lambda some: self.pool(maps, some), regions, targets, sizes)
        losses |= of_looks
        positive = [looked_at.positive() for looked_at in samples]
        for name in self.details:
            losses |= getattr(self, name).losses(maps, positive, targets, sizes)
        return {**losses, "loss": sum(losses.values())}

    def describe(self, maps: list[Tensor], outputs: Mapping[str, Tensor], embeddings: bool) -> dict[str, Tensor]:
        """What else is said of each detection: details (B, Q, …) and, if asked, `embeddings` (B, Q, F)."""
        if not (embeddings or self.details):
            return {}
        found = outputs["labels"] >= 0  # (B, Q)
        regions, labels = flat(outputs["boxes"], found), outputs["labels"][found]
        told: dict[str, Tensor] = {}
        for name in self.details:
            told |= getattr(self, name)(maps, regions, labels)
        if embeddings:
            told["embeddings"] = at_least_float32(self.looks.embed(self.pool(maps, regions)))
        return {name: spread(values, found) for name, values in told.items()}

    def _checked(self, targets: Sequence[Target], images: Tensor, sizes: Tensor) -> list[dict[str, Tensor]]:
        return check_targets(
            targets,
            images,
            sizes,
            num_classes=self.num_classes,
            labels=self.label_space,
            needs=self.needs,
            num_keypoints=self.num_keypoints,
        )


def roi_pool(config: TwoStageConfig, size: int, strides: Sequence[int]) -> RoIPool:
    """What cuts out regions, with `size` cells a side, as the config says."""
    return RoIPool(
        size=size,
        strides=strides,
        operation=config.roi_operation,
        samples=config.roi_samples,
        aligned=config.roi_aligned,
    )


def box_head(kind: BoxHead, width: int) -> nn.Module:
    """Cut-outs (M, D, 7, 7) → vectors (M, 1024), D the maps' width."""
    if kind == "mlp":
        return TwoMLPHead(width * CUT**2, WIDTH)
    return FastRCNNConvFCHead((width, CUT, CUT), [256] * 4, [WIDTH], norm_layer=nn.BatchNorm2d)


def _anchors(config: TwoStageConfig, strides: Sequence[int]) -> GridAnchors:
    sizes = config.anchor_sizes or tuple((8.0 * stride,) for stride in strides)
    if len(sizes) != len(strides) or len({len(level) for level in sizes}) > 1:
        raise OptionError(
            f"anchors need sizes for each of {len(strides)} levels, as many on every one",
            asked=f"anchor_sizes={sizes!r}"[:200],
            fix=f"anchor_sizes={tuple((8 * stride,) for stride in strides)}",
        )
    return GridAnchors(sizes, config.anchor_ratios, rounded=config.round_anchors)


def _unknown(said: Objectness, look: Look) -> Tensor:
    """Bool (B,): the images of which something was said that is not a number."""
    levels = torch.stack([level.flatten(1).isnan().any(dim=1) for level in (*said.logits, *said.codes)])  # (2L, B)
    parts = (look.scores, look.codes.flatten(1), look.regions.boxes)
    regions = torch.stack([part.isnan().any(dim=1) for part in parts]).any(dim=0)  # (M,)
    return levels.any(dim=0).long().scatter_add(0, look.regions.images, regions.long()) > 0


def _raw(said: Objectness) -> dict[str, Tensor]:
    return {"objectness": torch.cat(said.logits, dim=1), "anchor_codes": torch.cat(said.codes, dim=1)}
