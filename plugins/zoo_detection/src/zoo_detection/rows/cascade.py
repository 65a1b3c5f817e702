"""Cascade R-CNN and Cascade Mask R-CNN as mmdetection publishes them. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping

from zoo.specs import CheckpointSpec, ModelSpec
from zoo_detection.rows.published import FITTED, on_coco

PAPER = "https://arxiv.org/abs/1712.00726"
FOLDER = "https://download.openmmlab.com/mmdetection/v2.0/cascade_rcnn"
SOURCE = "https://github.com/open-mmlab/mmdetection/tree/main/configs/cascade_rcnn"


def _checkpoint(name: str, file: str, metrics: Mapping[str, float]) -> CheckpointSpec:
    folder = file.partition("_coco")[0] + "_coco"
    return CheckpointSpec(
        name=name,
        sources=(f"{FOLDER}/{folder}/{file}",),
        format="mmdet",
        license="Apache-2.0",
        labels="coco",
        num_classes=80,
        input=FITTED,
        config={"freeze_norm": True},
        trained_on=("imagenet-1k", "coco/train2017"),
        metrics=tuple(on_coco(metric, value, FITTED, SOURCE) for metric, value in metrics.items()),
        aliases=(file.partition("_coco")[0],),
        notes="The licence is that of mmdetection's code; the weights are published without one of their own. Written "
        "from its configuration; its code could not be run beside ours.",
    )


CASCADE = (
    ModelSpec(
        name="cascade_rcnn_r50_fpn",
        factory="zoo_detection.cascade_rcnn:CascadeRCNN",
        task="detection",
        config={"num_classes": 80},
        summary="Three looks at each region, each pickier than the last",
        family="CascadeRCNN",
        aliases=("cascade_rcnn",),
        tags=("two-stage", "anchors"),
        paper=PAPER,
        input=FITTED,
        formats=("native", "mmdet"),
        checkpoints=(
            _checkpoint("coco_1x", "cascade_rcnn_r50_fpn_1x_coco_20200316-3dc56deb.pth", {"box_ap": 40.3}),
            _checkpoint(
                "coco_20e",
                "cascade_rcnn_r50_fpn_20e_coco_bbox_mAP-0.41_20200504_175131-e9872a90.pth",
                {"box_ap": 41.0},
            ),
        ),
    ),
    ModelSpec(
        name="cascade_mask_rcnn_r50_fpn",
        factory="zoo_detection.cascade_rcnn:CascadeMaskRCNN",
        task="instance_segmentation",
        config={"num_classes": 80},
        summary="Three looks at each region, and a mask from each of them",
        family="CascadeRCNN",
        aliases=("cascade_mask_rcnn",),
        tags=("two-stage", "anchors"),
        paper=PAPER,
        input=FITTED,
        formats=("native", "mmdet"),
        checkpoints=(
            _checkpoint(
                "coco_1x",
                "cascade_mask_rcnn_r50_fpn_1x_coco_20200203-9d4dcb24.pth",
                {"box_ap": 41.2, "mask_ap": 35.9},
            ),
        ),
    ),
)
