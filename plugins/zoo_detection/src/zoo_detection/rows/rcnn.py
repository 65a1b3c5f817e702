"""Faster, Mask and Keypoint R-CNN as torchvision publishes them, and a backbone of theirs. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from zoo.specs import CheckpointSpec, InputSpec, ModelSpec
from zoo_detection.rows.published import FITTED, FROZEN, torchvision_checkpoint

FASTER_PAPER = "https://arxiv.org/abs/1506.01497"
MASK_PAPER = "https://arxiv.org/abs/1703.06870"
SECOND_PAPER = "https://arxiv.org/abs/2111.11429"

FITTED_320 = replace(FITTED, size=(320, 640))

_FROZEN_MOBILE = {"freeze_norm": True, "norm_eps": 1e-5}
_SECOND = {"neck": {"name": "fpn", "norm": "batch"}, "rpn_depth": 2, "box_head": "conv"}
_MOBILE = {
    "backbone": "rcnn_mobilenetv3_large",
    "neck": {"name": "fpn", "levels": 3, "equal_strides": True},
    "anchor_sizes": [[32, 64, 128, 256, 512]] * 3,
    "rpn_score_threshold": 0.05,
}
_COCO = {"num_classes": 90}
_PERSON = {"num_classes": 1}


def _checkpoint(
    file: str,
    enumeration: str,
    metrics: Mapping[str, float],
    config: Mapping[str, Any],
    *,
    input: InputSpec = FITTED,
    person: bool = False,
    sha256: str | None = None,
    notes: str = "",
) -> CheckpointSpec:
    return torchvision_checkpoint(
        file,
        enumeration,
        metrics,
        config,
        labels="coco_person" if person else "coco_90",
        num_classes=1 if person else 90,
        input=input,
        sha256=sha256,
        notes=notes,
    )


def _model(
    name: str,
    factory: str,
    summary: str,
    config: Mapping[str, Any],
    checkpoints: tuple[CheckpointSpec, ...],
    *aliases: str,
    task: str = "detection",
    paper: str = FASTER_PAPER,
) -> ModelSpec:
    return ModelSpec(
        name=name,
        factory=f"zoo_detection.{factory}",
        task=task,
        config=config,
        summary=summary,
        family=factory.rpartition(":")[2],
        aliases=aliases,
        tags=("two-stage", "anchors"),
        paper=paper,
        input=checkpoints[0].input,
        formats=("native", "torchvision"),
        checkpoints=checkpoints,
    )


MOBILENET = ModelSpec(
    name="rcnn_mobilenetv3_large",
    factory="zoo_detection.rcnn_backbones:RCNNMobileNet",
    kind="backbone",
    task="features",
    summary="MobileNetV3-Large as torchvision's Faster R-CNN looks at it: two maps of stride 32",
    family="RCNNMobileNet",
    formats=("native", "torchvision"),
    paper="https://arxiv.org/abs/1905.02244",
)

FASTER = (
    _model(
        "faster_rcnn_r50_fpn",
        "faster_rcnn:FasterRCNN",
        "Proposals from a ResNet-50 pyramid, and one look at each",
        _COCO,
        (
            _checkpoint(
                "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
                "FasterRCNN_ResNet50_FPN_Weights.COCO_V1",
                {"box_ap": 37.0},
                FROZEN,
                sha256="258fb6c638b15964ddcdd1ae0748c5eef1be9e732750120cc857feed3faac384",
            ),
        ),
        "faster_rcnn",
        "fasterrcnn_resnet50_fpn",
    ),
    _model(
        "faster_rcnn_r50_fpn_v2",
        "faster_rcnn:FasterRCNN",
        "Faster R-CNN with batch norm in the pyramid and convolutions in the box head, trained longer",
        {**_COCO, **_SECOND},
        (
            _checkpoint(
                "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
                "FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1",
                {"box_ap": 46.7},
                {},
            ),
        ),
        "fasterrcnn_resnet50_fpn_v2",
        paper=SECOND_PAPER,
    ),
    _model(
        "faster_rcnn_mobilenetv3_large_fpn",
        "faster_rcnn:FasterRCNN",
        "Faster R-CNN on MobileNetV3-Large, for small machines",
        {**_COCO, **_MOBILE},
        (
            _checkpoint(
                "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth",
                "FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1",
                {"box_ap": 32.8},
                _FROZEN_MOBILE,
            ),
        ),
        "fasterrcnn_mobilenet_v3_large_fpn",
    ),
    _model(
        "faster_rcnn_mobilenetv3_large_320_fpn",
        "faster_rcnn:FasterRCNN",
        "Faster R-CNN on MobileNetV3-Large at 320 pixels with 150 proposals, for telephones",
        {**_COCO, **_MOBILE, "proposals_per_level": 150, "proposals": 150},
        (
            _checkpoint(
                "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
                "FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1",
                {"box_ap": 22.8},
                _FROZEN_MOBILE,
                input=FITTED_320,
            ),
        ),
        "fasterrcnn_mobilenet_v3_large_320_fpn",
    ),
)

MASK = (
    _model(
        "mask_rcnn_r50_fpn",
        "mask_rcnn:MaskRCNN",
        "Faster R-CNN with a mask for each detection",
        _COCO,
        (
            _checkpoint(
                "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
                "MaskRCNN_ResNet50_FPN_Weights.COCO_V1",
                {"box_ap": 37.9, "mask_ap": 34.6},
                FROZEN,
            ),
        ),
        "mask_rcnn",
        "maskrcnn_resnet50_fpn",
        task="instance_segmentation",
        paper=MASK_PAPER,
    ),
    _model(
        "mask_rcnn_r50_fpn_v2",
        "mask_rcnn:MaskRCNN",
        "Mask R-CNN with batch norm in the pyramid and the heads, trained longer",
        {**_COCO, **_SECOND, "mask_norm": "batch"},
        (
            _checkpoint(
                "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
                "MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1",
                {"box_ap": 47.4, "mask_ap": 41.8},
                {},
            ),
        ),
        "maskrcnn_resnet50_fpn_v2",
        task="instance_segmentation",
        paper=SECOND_PAPER,
    ),
)

KEYPOINT = (
    _model(
        "keypoint_rcnn_r50_fpn",
        "keypoint_rcnn:KeypointRCNN",
        "Faster R-CNN with named points on each detection: COCO's persons and their 17 points",
        _PERSON,
        (
            _checkpoint(
                "keypointrcnn_resnet50_fpn_coco-fc266e95.pth",
                "KeypointRCNN_ResNet50_FPN_Weights.COCO_V1",
                {"box_ap": 54.6, "keypoint_ap": 65.0},
                FROZEN,
                person=True,
            ),
            _checkpoint(
                "keypointrcnn_resnet50_fpn_coco-9f466800.pth",
                "KeypointRCNN_ResNet50_FPN_Weights.COCO_LEGACY",
                {"box_ap": 50.6, "keypoint_ap": 61.1},
                # torchvision sets the epsilon to 0 for the newer file only.
                {"freeze_norm": True, "norm_eps": 1e-5},
                person=True,
                notes="From an early epoch of the training.",
            ),
        ),
        "keypoint_rcnn",
        "keypointrcnn_resnet50_fpn",
        task="keypoints",
        paper=MASK_PAPER,
    ),
)

RCNN = (MOBILENET, *FASTER, *MASK, *KEYPOINT)
