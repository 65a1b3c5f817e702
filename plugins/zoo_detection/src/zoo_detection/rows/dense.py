"""One-stage detectors on a feature pyramid, and their heads. Torch-free."""

from __future__ import annotations

from zoo.specs import ModelSpec
from zoo_detection.rows.published import FITTED, FROZEN, torchvision_checkpoint

RETINANET_PAPER = "https://arxiv.org/abs/1708.02002"
FCOS_PAPER = "https://arxiv.org/abs/1904.01355"


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
        input=FITTED,
        formats=("native", "torchvision"),
        checkpoints=(
            torchvision_checkpoint(
                "retinanet_resnet50_fpn_coco-eeacb38b.pth",
                "RetinaNet_ResNet50_FPN_Weights.COCO_V1",
                {"box_ap": 36.4},
                FROZEN,
                labels="coco_91",
                num_classes=91,
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
        input=FITTED,
        formats=("native", "torchvision"),
        checkpoints=(
            torchvision_checkpoint(
                "retinanet_resnet50_fpn_v2_coco-5905b1c5.pth",
                "RetinaNet_ResNet50_FPN_V2_Weights.COCO_V1",
                {"box_ap": 41.5},
                {},
                labels="coco_91",
                num_classes=91,
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
        input=FITTED,
        formats=("native", "torchvision"),
        checkpoints=(
            torchvision_checkpoint(
                "fcos_resnet50_fpn_coco-99b0c9b7.pth",
                "FCOS_ResNet50_FPN_Weights.COCO_V1",
                {"box_ap": 39.2},
                {"freeze_norm": True},
                labels="coco_91",
                num_classes=91,
            ),
        ),
    ),
)
