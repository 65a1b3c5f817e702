"""Weights of ViT and DeiT that are published outside timm: torchvision's, transformers', and Meta's own files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.specs import CheckpointSpec, InputSpec, Interpolation, Metric

_HALF = (0.5, 0.5, 0.5)
_TRANSFORMERS_CONFIG = {"norm_eps": 1e-12}
_TORCHVISION = "https://docs.pytorch.org/vision/stable/models.html"
_MAE = "https://github.com/facebookresearch/mae/blob/main/FINETUNE.md"
_DEIT = "https://github.com/facebookresearch/deit/blob/main/README_deit.md"


def from_torchvision(
    name: str, version: str, digest: str, size: int, resize: int, top1: float, top5: float
) -> CheckpointSpec:
    """What torchvision calls `{name}_Weights.IMAGENET1K_{version}`.

    Args:
        digest: the beginning of the SHA-256, which is in the file's name. size, resize: of crop and resize, in pixels.
    """
    suffix = {"V1": "", "SWAG_E2E_V1": "_swag", "SWAG_LINEAR_V1": "_lc_swag"}[version]
    swag = "SWAG" in version
    interpolation: Interpolation = "bicubic" if swag else "bilinear"
    return CheckpointSpec(
        name=f"imagenet1k_{version.lower()}",
        sources=(f"https://download.pytorch.org/models/{name.lower()}{suffix}-{digest}.pth",),
        format="torchvision",
        license="CC-BY-NC-4.0" if swag else "BSD-3-Clause",
        labels="imagenet_1k",
        num_classes=1000,
        input=InputSpec(size=(size, size), crop_pct=size / resize, interpolation=interpolation),
        config=_sized(size),
        trained_on=("instagram-3.6b", "imagenet-1k") if swag else ("imagenet-1k",),
        metrics=_metrics(top1, top5, size, size / resize, interpolation, _TORCHVISION),
        aliases=(f"{name}_Weights.IMAGENET1K_{version}",),
        paper="https://arxiv.org/abs/2201.08371" if swag else "",
        notes={
            "V1": "",
            "SWAG_E2E_V1": "Fine-tuned end to end.",
            "SWAG_LINEAR_V1": "A linear classifier on the frozen encoder.",
        }[version],
    )


def from_google(repository: str) -> CheckpointSpec:
    """A ViT of `google/` on the Hub, in transformers' layout: `vit-base-patch16-224`, or only the encoder with
    `-in21k` behind it."""
    encoder = repository.endswith("-in21k")
    size = int(repository.removesuffix("-in21k").rpartition("-")[2])
    name = "transformers_in21k" if encoder else "transformers_in21k_ft_in1k"
    note = "Preprocessing as transformers' ViTImageProcessor has it by default; the repository's own was not read."
    return CheckpointSpec(
        name=name if size == 224 else f"{name}_{size}",
        sources=_hub(f"google/{repository}"),
        format="transformers",
        license="Apache-2.0",
        labels=None if encoder else "imagenet_1k",
        num_classes=0 if encoder else 1000,
        # Both sides are scaled, and nothing is cropped.
        input=InputSpec(size=(size, size), resize="stretch", crop_pct=1.0, mean=_HALF, std=_HALF),
        config={**_TRANSFORMERS_CONFIG, **_sized(size)},
        trained_on=("imagenet-21k",) if encoder else ("imagenet-21k", "imagenet-1k"),
        aliases=(f"google/{repository}",),
        notes=f"{note} Its pooler is left out." if encoder else note,
    )


def finetuned_mae(name: str, top1: float, top5: float, *, md5: str) -> CheckpointSpec:
    """A masked autoencoder's encoder fine-tuned on ImageNet-1k, as Meta published it, in timm's names.

    Args:
        name: base, large or huge. md5: its beginning, as the repository gives it.
    """
    return CheckpointSpec(
        name="mae_ft_in1k",
        sources=(f"https://dl.fbaipublicfiles.com/mae/finetune/mae_finetuned_vit_{name}.pth",),
        format="timm",
        license="CC-BY-NC-4.0",
        labels="imagenet_1k",
        num_classes=1000,
        input=InputSpec(size=(224, 224), crop_pct=0.875, interpolation="bicubic"),
        config={"pool": "avg"},
        trained_on=("imagenet-1k",),
        metrics=_metrics(top1, top5, 224, 0.875, "bicubic", _MAE),
        paper="https://arxiv.org/abs/2111.06377",
        notes=f"The file's MD5 begins with {md5}.",
    )


def from_meta(file: str, top1: float, top5: float) -> CheckpointSpec:
    """A file of DeiT's repository; its name ends with the beginning of its SHA-256."""
    size = int(file.partition("-")[0].rpartition("_")[2])
    return CheckpointSpec(
        name="original_in1k" if size == 224 else f"original_in1k_{size}",
        sources=(f"https://dl.fbaipublicfiles.com/deit/{file}",),
        format="original",
        license="Apache-2.0",
        labels="imagenet_1k",
        num_classes=1000,
        input=InputSpec(size=(size, size), crop_pct=0.875, interpolation="bicubic"),
        config=_sized(size),
        trained_on=("imagenet-1k",),
        metrics=_metrics(top1, top5, size, 0.875, "bicubic", _DEIT),
    )


def meta_in_transformers(repository: str) -> CheckpointSpec:
    """A DeiT of `facebook/` on the Hub, in transformers' layout: `deit-base-distilled-patch16-384`."""
    size = int(repository.rpartition("-")[2])
    return CheckpointSpec(
        name="transformers_in1k" if size == 224 else f"transformers_in1k_{size}",
        sources=_hub(f"facebook/{repository}"),
        format="transformers",
        license="Apache-2.0",
        labels="imagenet_1k",
        num_classes=1000,
        input=InputSpec(size=(size, size), crop_pct=0.875, interpolation="bicubic"),
        config={**_TRANSFORMERS_CONFIG, **_sized(size)},
        trained_on=("imagenet-1k",),
        aliases=(f"facebook/{repository}",),
        notes="Preprocessing as in DeiT's own repository; the Hub repository's was not read.",
    )


def _hub(repository: str) -> tuple[str, str]:
    """Not every repository has both files."""
    return f"hf://{repository}/model.safetensors", f"hf://{repository}/pytorch_model.bin"


def _sized(size: int) -> Mapping[str, Any]:
    return {} if size == 224 else {"image_size": size}


def _metrics(
    top1: float, top5: float, size: int, crop_pct: float, interpolation: Interpolation, source: str
) -> tuple[Metric, Metric]:
    conditions = {"image_size": size, "crop_pct": round(crop_pct, 4), "interpolation": interpolation}
    return (
        Metric(name="top1", value=top1, dataset="imagenet-1k/val", conditions=conditions, source=source),
        Metric(name="top5", value=top5, dataset="imagenet-1k/val", conditions=conditions, source=source),
    )
