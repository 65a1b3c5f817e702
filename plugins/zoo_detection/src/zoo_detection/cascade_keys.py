"""How mmdetection's files name the parts of a Cascade R-CNN.

backbone.layer1.0.conv1.weight            <->  backbone.encoder.layer1.0.conv1.weight, as the backbone says
neck.lateral_convs.0.conv.weight          <->  neck.fpn.inner_blocks.0.0.weight
rpn_head.rpn_cls.weight                   <->  rpn.head.cls_logits.weight
roi_head.bbox_head.2.shared_fcs.0.weight  <->  looks.stages.2.head.fc6.weight
roi_head.bbox_head.2.fc_cls.weight        <->  looks.stages.2.predictor.cls_score.weight, background last there
roi_head.mask_head.2.conv_logits.weight   <->  masks.stages.2.predictor.mask_fcn_logits.weight, no background there
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from zoo.checkpoints.keymap import Chosen, KeyMap, Pieces, Prefix, Rename, StateMap
from zoo.models.model import Backbone
from zoo_detection.torchvision_keys import Counters, OnlyPublished, PartOf

BODY = "backbone."
PUBLISHED = OnlyPublished(("backbone.", "neck.lateral_convs.", "neck.fpn_convs.", "rpn_head.", "roi_head."))


def mmdet_keys(backbone: Backbone) -> Mapping[str, StateMap]:
    """The format `mmdet` of a Cascade R-CNN on that backbone; none where the backbone has not torchvision's names."""
    keys = backbone.key_maps().get("torchvision")
    if keys is None:
        return {}
    # The published beginning and ours are one and the same, and so the part goes first in and last out.
    return {"mmdet": KeyMap(PUBLISHED, Counters(BODY, kept=True), PartOf(BODY, "backbone.", keys), *HEADS)}


class BackgroundFirst:
    """Class rows with the background last, published, and first, ours."""

    def __init__(self, names: str) -> None:
        self.names = Chosen(names)

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native."""
        return self._rolled(pieces, 1)

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published."""
        return self._rolled(pieces, -1)

    def _rolled(self, pieces: Pieces, by: int) -> Pieces:
        return {
            name: piece.changed(piece.tensor.roll(by, dims=0), "background first") if name in self.names else piece
            for name, piece in pieces.items()
        }


class WithBackground:
    """Class rows without a background, published, and with one before them, ours: zeros, which nothing reads."""

    def __init__(self, names: str) -> None:
        self.names = Chosen(names)

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native."""
        return {
            name: piece.changed(torch.cat((torch.zeros_like(piece.tensor[:1]), piece.tensor)), "with a background")
            if name in self.names
            else piece
            for name, piece in pieces.items()
        }

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published."""
        return {
            name: piece.changed(piece.tensor[1:], "without a background") if name in self.names else piece
            for name, piece in pieces.items()
        }


_BOX, _MASK = r"roi_head.bbox_head.(\d+)", r"roi_head.mask_head.(\d+)"
HEADS = (
    Rename(r"neck.lateral_convs.(\d+).conv.(.+)", r"neck.fpn.inner_blocks.\1.0.\2"),
    Rename(r"neck.fpn_convs.(\d+).conv.(.+)", r"neck.fpn.layer_blocks.\1.0.\2"),
    Prefix("rpn_head.rpn_conv.", "rpn.head.conv.0.0."),
    Prefix("rpn_head.rpn_cls.", "rpn.head.cls_logits."),
    Prefix("rpn_head.rpn_reg.", "rpn.head.bbox_pred."),
    Rename(rf"{_BOX}.shared_fcs.0.(.+)", r"looks.stages.\1.head.fc6.\2"),
    Rename(rf"{_BOX}.shared_fcs.1.(.+)", r"looks.stages.\1.head.fc7.\2"),
    Rename(rf"{_BOX}.fc_cls.(.+)", r"looks.stages.\1.predictor.cls_score.\2"),
    Rename(rf"{_BOX}.fc_reg.(.+)", r"looks.stages.\1.predictor.bbox_pred.\2"),
    BackgroundFirst(r"looks\.stages\.\d+\.predictor\.cls_score\..+"),
    Rename(rf"{_MASK}.convs.(\d+).conv.(.+)", r"masks.stages.\1.head.\2.0.\3"),
    Rename(rf"{_MASK}.upsample.(.+)", r"masks.stages.\1.predictor.conv5_mask.\2"),
    Rename(rf"{_MASK}.conv_logits.(.+)", r"masks.stages.\1.predictor.mask_fcn_logits.\2"),
    WithBackground(r"masks\.stages\.\d+\.predictor\.mask_fcn_logits\..+"),
)
