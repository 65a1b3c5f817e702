"""Curated convolutional networks under short names, with their published weights.

    from zoo_cnn import ResNet

    ResNet.from_pretrained("resnet50")
    ResNet(depth=50)
    ResNet({"depth": 50, "num_classes": 10})
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo_cnn.convnext import ConvNeXt as ConvNeXt
    from zoo_cnn.cspnet import CSPNet as CSPNet
    from zoo_cnn.efficientnet import EfficientNet as EfficientNet
    from zoo_cnn.lcnet import LCNet as LCNet
    from zoo_cnn.mobilenetv2 import MobileNetV2 as MobileNetV2
    from zoo_cnn.mobilenetv3 import MobileNetV3 as MobileNetV3
    from zoo_cnn.resnet import ResNet as ResNet
    from zoo_cnn.vgg import VGG as VGG

__all__ = ["VGG", "CSPNet", "ConvNeXt", "EfficientNet", "LCNet", "MobileNetV2", "MobileNetV3", "ResNet"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{name.lower()}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
