"""How torchvision's files name the parts of an R-CNN, since version 0.13 and before.

rpn.head.conv.0.0.weight                <->  the same              rpn.head.conv.weight                   ->
roi_heads.box_head.fc6.weight           <->  looks.stage.head.fc6.weight
roi_heads.box_predictor.cls_score.bias  <->  looks.stage.predictor.cls_score.bias
roi_heads.mask_head.0.0.weight          <->  mask.head.0.0.weight  roi_heads.mask_head.mask_fcn1.weight   ->
roi_heads.keypoint_head.0.weight        <->  keypoints.head.0.weight
"""

from __future__ import annotations

from collections.abc import Mapping

from zoo.checkpoints.keymap import Formerly, Prefix, StateMap
from zoo.models.model import Backbone
from zoo_detection.rcnn_backbones import RCNNMobileNet
from zoo_detection.torchvision_keys import torchvision_keys

HEADS = (
    Formerly(r"rpn.head.conv.(weight|bias)", r"rpn.head.conv.0.0.\1"),
    *(Formerly(rf"roi_heads.mask_head.mask_fcn{i + 1}.(.+)", rf"roi_heads.mask_head.{i}.0.\1") for i in range(4)),
    Prefix("roi_heads.box_head.", "looks.stage.head."),
    Prefix("roi_heads.box_predictor.", "looks.stage.predictor."),
    Prefix("roi_heads.mask_head.", "mask.head."),
    Prefix("roi_heads.mask_predictor.", "mask.predictor."),
    Prefix("roi_heads.keypoint_head.", "keypoints.head."),
    Prefix("roi_heads.keypoint_predictor.", "keypoints.predictor."),
)


def rcnn_keys(backbone: Backbone, *, frozen: bool) -> Mapping[str, StateMap]:
    """The format `torchvision` of an R-CNN on that backbone.

    Args:
        frozen: write no counters of batch norm in the backbone, as torchvision's frozen ones have none.
    """
    inside = "features." if isinstance(backbone, RCNNMobileNet) else ""
    return torchvision_keys(backbone, *HEADS, frozen=frozen, inside=inside)
