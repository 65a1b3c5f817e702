"""One-stage detectors on a feature pyramid, and their heads. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.specs import CheckpointSpec, InputSpec, Metric, ModelSpec

RETINANET_PAPER = "https://arxiv.org/abs/1708.02002"
FCOS_PAPER = "https://arxiv.org/abs/1904.01355"

INPUT = InputSpec(size=(800, 1333), resize="fit", crop_pct=1.0, antialias=False, divisor=32)

_LICENSE = "The licence is that of torchvision's code; the weights are published without one of their own."


def _head(name: str, factory: str, paper: str, summary: str, *tags: str) -> ModelSpec:
    return ModelSpec(
        name=name,
        factory=f"zoo_detection.{factory}",
        kind="head",
        task="detection",
        summary=summary,
        family=factory.rpartition(":")[2],
        tags=("head", *tags),
        paper=paper,
    )


def _checkpoint(file: str, enumeration: str, box_ap: float, config: Mapping[str, Any]) -> CheckpointSpec:
    return CheckpointSpec(
        name="coco_v1",
        sources=(f"https://download.pytorch.org/models/{file}",),
        format="torchvision",
        license="BSD-3-Clause",
        labels="coco_91",
        num_classes=91,
        input=INPUT,
        config=config,
        trained_on=("imagenet-1k", "coco/train2017"),
        metrics=(
            Metric(
                name="box_ap",
                value=box_ap,
                dataset="coco/val2017",
                conditions={"image_size": list(INPUT.size)},
                source="https://docs.pytorch.org/vision/stable/models.html",
            ),
        ),
        aliases=(f"{enumeration}.COCO_V1",),
        notes=_LICENSE,
    )


DENSE = (
    _head(
        "detection_head",
        "retinanet:DetectionHead",
        RETINANET_PAPER,
        "RetinaNet's head: class scores and corrections for the anchors of every cell (Lin et al. 2017)",
        "anchors",
    ),
    _head(
        "fcos_head",
        "fcos:FCOSHead",
        FCOS_PAPER,
        "FCOS's head: class scores, distances to the box's sides and centre-ness for every cell (Tian et al. 2019)",
        "anchor-free",
    ),
    ModelSpec(
        name="retinanet_r50_fpn",
        factory="zoo_detection.retinanet:RetinaNet",
        task="detection",
        config={"num_classes": 91},
        summary="Anchors on five maps of ResNet-50, and the focal loss",
        family="RetinaNet",
        aliases=("retinanet", "retinanet_resnet50_fpn"),
        tags=("one-stage", "anchors"),
        paper=RETINANET_PAPER,
        input=INPUT,
        formats=("native", "torchvision"),
        checkpoints=(
            _checkpoint(
                "retinanet_resnet50_fpn_coco-eeacb38b.pth",
                "RetinaNet_ResNet50_FPN_Weights",
                box_ap=36.4,
                # Trained with frozen norms; torchvision adds nothing to their variance for this file alone.
                config={"freeze_norm": True, "norm_eps": 0.0},
            ),
        ),
    ),
    ModelSpec(
        name="retinanet_r50_fpn_v2",
        factory="zoo_detection.retinanet:RetinaNet",
        task="detection",
        config={
            "num_classes": 91,
            "neck": {"name": "fpn", "extra": "conv_input"},
            "head": {"name": "detection_head", "norm": "group", "box_loss": "giou"},
        },
        summary="RetinaNet as torchvision trains it today: group norm in the head, GIoU loss, P6 from C5",
        family="RetinaNet",
        aliases=("retinanet_resnet50_fpn_v2",),
        tags=("one-stage", "anchors"),
        paper=RETINANET_PAPER,
        input=INPUT,
        formats=("native", "torchvision"),
        checkpoints=(
            _checkpoint(
                "retinanet_resnet50_fpn_v2_coco-5905b1c5.pth",
                "RetinaNet_ResNet50_FPN_V2_Weights",
                box_ap=41.5,
                config={},
            ),
        ),
    ),
    ModelSpec(
        name="fcos_r50_fpn",
        factory="zoo_detection.fcos:FCOS",
        task="detection",
        config={"num_classes": 91},
        summary="No anchors: every cell of five maps of ResNet-50 says how far its object's sides are",
        family="FCOS",
        aliases=("fcos", "fcos_resnet50_fpn"),
        tags=("one-stage", "anchor-free"),
        paper=FCOS_PAPER,
        input=INPUT,
        formats=("native", "torchvision"),
        checkpoints=(
            _checkpoint(
                "fcos_resnet50_fpn_coco-99b0c9b7.pth",
                "FCOS_ResNet50_FPN_Weights",
                box_ap=39.2,
                config={"freeze_norm": True},
            ),
        ),
    ),
)
