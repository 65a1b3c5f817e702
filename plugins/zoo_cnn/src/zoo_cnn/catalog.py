"""What zoo-cnn offers: a size is a row. Torch-free; `zoo plugin compile` writes it as `zoo.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from zoo.specs import CheckpointSpec, InputSpec, ModelSpec, PluginSpec
from zoo_cnn.checkpoints import (
    EFFICIENTNET_LITE0,
    EFFICIENTNET_LITE1,
    EFFICIENTNET_LITE2,
    PAGE_ORIENTATION,
    checkpoints,
)


class Size(NamedTuple):
    """One model: its name and config here, its architectures in timm, its name in torchvision's enumerations, other
    names it is known by, and the default among its checkpoints, where that is not timm's."""

    name: str
    config: Mapping[str, Any]
    timm: tuple[str, ...]
    torchvision: str = ""
    aliases: tuple[str, ...] = ()
    default: str = ""


# fmt: off
RESNET = (
    Size("resnet18",  {"depth": 18},  ("resnet18",),  "ResNet18"),
    Size("resnet34",  {"depth": 34},  ("resnet34",),  "ResNet34"),
    Size("resnet50",  {"depth": 50},  ("resnet50",),  "ResNet50"),
    Size("resnet101", {"depth": 101}, ("resnet101",), "ResNet101"),
    Size("resnet152", {"depth": 152}, ("resnet152",), "ResNet152"),
)

VGG = (
    Size("vgg11",    {"depth": 11},                     ("vgg11",),    "VGG11"),
    Size("vgg11_bn", {"depth": 11, "batch_norm": True}, ("vgg11_bn",), "VGG11_BN"),
    Size("vgg13",    {"depth": 13},                     ("vgg13",),    "VGG13"),
    Size("vgg13_bn", {"depth": 13, "batch_norm": True}, ("vgg13_bn",), "VGG13_BN"),
    Size("vgg16",    {"depth": 16},                     ("vgg16",),    "VGG16"),
    Size("vgg16_bn", {"depth": 16, "batch_norm": True}, ("vgg16_bn",), "VGG16_BN"),
    Size("vgg19",    {"depth": 19},                     ("vgg19",),    "VGG19"),
    Size("vgg19_bn", {"depth": 19, "batch_norm": True}, ("vgg19_bn",), "VGG19_BN"),
)

EFFICIENTNET = (
    Size("efficientnet_b0", {"size": "b0"}, ("efficientnet_b0", "tf_efficientnet_b0"), "EfficientNet_B0"),
    Size("efficientnet_b1", {"size": "b1"}, ("efficientnet_b1", "tf_efficientnet_b1"), "EfficientNet_B1"),
    Size("efficientnet_b2", {"size": "b2"}, ("efficientnet_b2", "tf_efficientnet_b2"), "EfficientNet_B2"),
    Size("efficientnet_b3", {"size": "b3"}, ("efficientnet_b3", "tf_efficientnet_b3"), "EfficientNet_B3"),
    Size("efficientnet_b4", {"size": "b4"}, ("efficientnet_b4", "tf_efficientnet_b4"), "EfficientNet_B4"),
    Size("efficientnet_b5", {"size": "b5"}, ("efficientnet_b5", "tf_efficientnet_b5"), "EfficientNet_B5"),
    Size("efficientnet_b6", {"size": "b6"}, ("efficientnet_b6", "tf_efficientnet_b6"), "EfficientNet_B6"),
    Size("efficientnet_b7", {"size": "b7"}, ("efficientnet_b7", "tf_efficientnet_b7"), "EfficientNet_B7"),
)

EFFICIENTNET_LITE = (
    Size("efficientnet_lite0", {"size": "lite0"}, ("tf_efficientnet_lite0", "efficientnet_lite0"),
         default="lite_pytorch_in1k"),
    Size("efficientnet_lite1", {"size": "lite1"}, ("tf_efficientnet_lite1",), default="lite_pytorch_in1k"),
    Size("efficientnet_lite2", {"size": "lite2"}, ("tf_efficientnet_lite2",), default="lite_pytorch_in1k"),
    Size("efficientnet_lite3", {"size": "lite3"}, ("tf_efficientnet_lite3",)),
    Size("efficientnet_lite4", {"size": "lite4"}, ("tf_efficientnet_lite4",)),
)

MOBILENETV2 = (
    Size("mobilenetv2",     {"width": 1.0}, ("mobilenetv2_100",), "MobileNet_V2", default="imagenet1k_v1"),
    Size("mobilenetv2_050", {"width": 0.5}, ("mobilenetv2_050",)),
    Size("mobilenetv2_140", {"width": 1.4}, ("mobilenetv2_140",)),
)

MOBILENETV3 = (
    Size("mobilenetv3_large",     {"size": "large"}, ("mobilenetv3_large_100", "tf_mobilenetv3_large_100"),
         "MobileNet_V3_Large"),
    Size("mobilenetv3_small",     {"size": "small"}, ("mobilenetv3_small_100", "tf_mobilenetv3_small_100"),
         "MobileNet_V3_Small"),
    Size("mobilenetv3_small_075", {"size": "small", "width": 0.75}, ("mobilenetv3_small_075",)),
    Size("mobilenetv3_small_050", {"size": "small", "width": 0.5},  ("mobilenetv3_small_050",)),
)

CONVNEXT = (
    Size("convnext_t",  {"size": "t"},  ("convnext_tiny",),   "ConvNeXt_Tiny"),
    Size("convnext_s",  {"size": "s"},  ("convnext_small",),  "ConvNeXt_Small"),
    Size("convnext_b",  {"size": "b"},  ("convnext_base",),   "ConvNeXt_Base"),
    Size("convnext_l",  {"size": "l"},  ("convnext_large",),  "ConvNeXt_Large"),
    Size("convnext_xl", {"size": "xl"}, ("convnext_xlarge",)),
)

CSPNET = (
    Size("cspresnet50",        {"body": "cspresnet50"},        ("cspresnet50",)),
    Size("cspresnext50",       {"body": "cspresnext50"},       ("cspresnext50",)),
    Size("cspdarknet53",       {"body": "cspdarknet53"},       ("cspdarknet53",)),
    Size("darknet53",          {"body": "darknet53"},          ("darknet53",)),
    Size("cs3darknet_focus_m", {"body": "cs3darknet_focus_m"}, ("cs3darknet_focus_m",)),
    Size("cs3darknet_focus_l", {"body": "cs3darknet_focus_l"}, ("cs3darknet_focus_l",)),
    Size("cs3darknet_m",       {"body": "cs3darknet_m"},       ("cs3darknet_m",)),
    Size("cs3darknet_l",       {"body": "cs3darknet_l"},       ("cs3darknet_l",)),
    Size("cs3darknet_x",       {"body": "cs3darknet_x"},       ("cs3darknet_x",)),
    Size("cs3sedarknet_l",     {"body": "cs3sedarknet_l"},     ("cs3sedarknet_l",)),
    Size("cs3sedarknet_x",     {"body": "cs3sedarknet_x"},     ("cs3sedarknet_x",)),
)

LCNET = (
    Size("lcnet_035", {"width": 0.35}, ("lcnet_035",), aliases=("PPLCNet_x0_35",)),
    Size("lcnet_050", {"width": 0.5},  ("lcnet_050",), aliases=("PPLCNet_x0_5",)),
    Size("lcnet_075", {"width": 0.75}, ("lcnet_075",), aliases=("PPLCNet_x0_75",)),
    Size("lcnet_100", {"width": 1.0},  ("lcnet_100",), aliases=("PPLCNet_x1_0",)),
    Size("lcnet_150", {"width": 1.5},  ("lcnet_150",), aliases=("PPLCNet_x1_5",)),
)

# fmt: on

TIMM_FORMATS = ("native", "timm")


class Family(NamedTuple):
    """What the sizes of one family share."""

    factory: str
    summary: str
    paper: str
    sizes: tuple[Size, ...]
    formats: tuple[str, ...] = TIMM_FORMATS
    tags: tuple[str, ...] = ()


FAMILIES = (
    Family(
        "zoo_cnn.resnet:ResNet",
        "Residual network with 3x3 stride-2 bottlenecks (v1.5)",
        "https://arxiv.org/abs/1512.03385",
        RESNET,
        (*TIMM_FORMATS, "torchvision", "transformers"),
    ),
    Family(
        "zoo_cnn.vgg:VGG",
        "Plain stacks of 3x3 convolutions",
        "https://arxiv.org/abs/1409.1556",
        VGG,
        (*TIMM_FORMATS, "torchvision"),
    ),
    Family(
        "zoo_cnn.efficientnet:EfficientNet",
        "Inverted residuals with squeeze-and-excitation, scaled in depth, width and resolution",
        "https://arxiv.org/abs/1905.11946",
        EFFICIENTNET,
        (*TIMM_FORMATS, "torchvision", "efficientnet_pytorch"),
    ),
    Family(
        "zoo_cnn.efficientnet:EfficientNet",
        "EfficientNet for small devices: ReLU6, no squeeze-and-excitation",
        "https://arxiv.org/abs/1905.11946",
        EFFICIENTNET_LITE,
        (*TIMM_FORMATS, "efficientnet_pytorch"),
        ("mobile",),
    ),
    Family(
        "zoo_cnn.mobilenetv2:MobileNetV2",
        "Inverted residuals with linear bottlenecks",
        "https://arxiv.org/abs/1801.04381",
        MOBILENETV2,
        (*TIMM_FORMATS, "torchvision"),
        ("mobile",),
    ),
    Family(
        "zoo_cnn.mobilenetv3:MobileNetV3",
        "Searched inverted residuals with hard swish",
        "https://arxiv.org/abs/1905.02244",
        MOBILENETV3,
        (*TIMM_FORMATS, "torchvision"),
        ("mobile",),
    ),
    Family(
        "zoo_cnn.convnext:ConvNeXt",
        "A ResNet brought up to a vision transformer's habits: 7x7 depthwise convolutions, LayerNorm, GELU",
        "https://arxiv.org/abs/2201.03545",
        CONVNEXT,
        (*TIMM_FORMATS, "torchvision", "transformers"),
    ),
    Family(
        "zoo_cnn.cspnet:CSPNet",
        "Cross-stage partial network: half of each stage's channels pass its blocks by",
        "https://arxiv.org/abs/1911.11929",
        CSPNET,
    ),
    Family(
        "zoo_cnn.lcnet:LCNet",
        "PP-LCNet: depthwise separable convolutions for CPUs",
        "https://arxiv.org/abs/2109.15099",
        LCNET,
        (*TIMM_FORMATS, "paddle_onnx"),
        ("mobile",),
    ),
)

# Published outside of timm and torchvision.
ELSEWHERE = {
    "efficientnet_lite0": EFFICIENTNET_LITE0,
    "efficientnet_lite1": EFFICIENTNET_LITE1,
    "efficientnet_lite2": EFFICIENTNET_LITE2,
    "lcnet_100": PAGE_ORIENTATION,
}


def _model(family: Family, size: Size) -> ModelSpec:
    published = _checkpoints(size)
    taken = {size.name, ""} | {alias for checkpoint in published for alias in checkpoint.aliases}
    spellings = (size.torchvision.lower(), *size.aliases)
    return ModelSpec(
        name=size.name,
        factory=family.factory,
        config=size.config,
        summary=family.summary,
        family=family.factory.rpartition(":")[2],
        aliases=tuple(dict.fromkeys(name for name in spellings if name not in taken)),
        tags=family.tags,
        paper=family.paper,
        input=published[0].input if published else InputSpec(),
        formats=family.formats,
        checkpoints=published,
    )


def _checkpoints(size: Size) -> tuple[CheckpointSpec, ...]:
    """The default first."""
    found = checkpoints(size.name, size.timm, size.torchvision)
    if size.name in ELSEWHERE:
        found += (ELSEWHERE[size.name],)
    return tuple(sorted(found, key=lambda checkpoint: checkpoint.name != size.default)) if size.default else found


PLUGIN = PluginSpec(
    namespace="cnn",
    distribution="zoo-cnn",
    summary="Curated convolutional networks with their published weights",
    requires=("torch", "timm", "zoo_timm"),
    models=tuple(_model(family, size) for family in FAMILIES for size in family.sizes),
)
