"""Object detectors: the R-CNN family, RetinaNet, FCOS, SSD; feature pyramids; evaluation in COCO's terms.

    from zoo_detection import FasterRCNN

    FasterRCNN({"num_classes": 80, "backbone": "resnet50"})
    FasterRCNN.from_pretrained("faster_rcnn_r50_fpn").predict("street.jpg")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo_detection.bifpn import BiFPN as BiFPN
    from zoo_detection.cascade_rcnn import CascadeMaskRCNN as CascadeMaskRCNN, CascadeRCNN as CascadeRCNN
    from zoo_detection.faster_rcnn import FasterRCNN as FasterRCNN
    from zoo_detection.fcos import FCOS as FCOS, FCOSHead as FCOSHead
    from zoo_detection.fpn import FPN as FPN
    from zoo_detection.keypoint_rcnn import KeypointRCNN as KeypointRCNN
    from zoo_detection.mask_rcnn import MaskRCNN as MaskRCNN
    from zoo_detection.panet import PANet as PANet
    from zoo_detection.pyramid import Pyramid as Pyramid
    from zoo_detection.retinanet import DetectionHead as DetectionHead, RetinaNet as RetinaNet
    from zoo_detection.simple_pyramid import SimplePyramid as SimplePyramid
    from zoo_detection.ssd import SSD as SSD

_HOMES = {
    "BiFPN": "bifpn",
    "CascadeMaskRCNN": "cascade_rcnn",
    "CascadeRCNN": "cascade_rcnn",
    "DetectionHead": "retinanet",
    "FCOS": "fcos",
    "FCOSHead": "fcos",
    "FPN": "fpn",
    "FasterRCNN": "faster_rcnn",
    "KeypointRCNN": "keypoint_rcnn",
    "MaskRCNN": "mask_rcnn",
    "PANet": "panet",
    "Pyramid": "pyramid",
    "RetinaNet": "retinanet",
    "SSD": "ssd",
    "SimplePyramid": "simple_pyramid",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
