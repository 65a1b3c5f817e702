"""Swin, Swin V2, Hiera, SAM's encoders and TinyViT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.specs import CheckpointSpec, InputSpec, Interpolation, Metric
from zoo_vit.rows.row import Family, Size, Timm

_TORCHVISION_RESULTS = "https://docs.pytorch.org/vision/stable/models.html"
_SWIN_LICENSE = "The Hub's card says Apache-2.0, the authors' repository MIT."
_BICUBIC: Interpolation = "bicubic"


def _torchvision(name: str, file: str, size: int, resize: int, top1: float, top5: float) -> CheckpointSpec:
    """`<name>_Weights.IMAGENET1K_V1` of torchvision, at download.pytorch.org."""
    crop_pct = size / resize
    conditions: Mapping[str, Any] = {
        "image_size": size,
        "crop_pct": round(crop_pct, 4),
        "interpolation": _BICUBIC,
    }
    return CheckpointSpec(
        name="imagenet1k_v1",
        sources=(f"https://download.pytorch.org/models/{file}",),
        format="torchvision",
        license="BSD-3-Clause",
        labels="imagenet_1k",
        num_classes=1000,
        input=InputSpec(size=(size, size), crop_pct=crop_pct, interpolation=_BICUBIC, fixed_size=True),
        config={"pad_before_shift": True},
        trained_on=("imagenet-1k",),
        metrics=tuple(
            Metric(
                name=metric, value=value, dataset="imagenet-1k/val", conditions=conditions, source=_TORCHVISION_RESULTS
            )
            for metric, value in (("top1", top1), ("top5", top5))
        ),
        aliases=(f"{name}_Weights.IMAGENET1K_V1",),
    )


def _microsoft(repository: str, trained_on: tuple[str, ...] = (), size: int = 224) -> CheckpointSpec:
    """The authors' weights as transformers publishes them, with ImageNet's classes."""
    return CheckpointSpec(
        name="microsoft",
        sources=tuple(
            f"hf://microsoft/{repository}@main/{file}" for file in ("model.safetensors", "pytorch_model.bin")
        ),
        format="transformers",
        license="Apache-2.0",
        labels="imagenet_1k",
        num_classes=1000,
        input=InputSpec(size=(size, size), resize="stretch", crop_pct=1.0, interpolation=_BICUBIC, fixed_size=True),
        config={"pad_before_shift": True},
        trained_on=trained_on,
        aliases=(f"microsoft/{repository}",),
        notes=_SWIN_LICENSE,
    )


# The long side becomes 1024 pixels; the rest is padded to the right and below with zeros after normalisation, which is
# the mean before it.
_SAM_INPUT = InputSpec(size=(1024, 1024), resize="letterbox", crop_pct=1.0, pad_side="end", divisor=16)

_LETTERBOX = {"resize": "letterbox", "interpolation": "bilinear", "pad_side": "end"}

_SAM2_INPUT = InputSpec(size=(1024, 1024), resize="stretch", crop_pct=1.0, divisor=32)


def _sam(file: str, repository: str, sha256: str, size: int | None = None) -> tuple[CheckpointSpec, ...]:
    """The encoder in the files of the whole model: Meta's own, and the one of transformers."""
    facts: dict[str, Any] = {
        "license": "Apache-2.0",
        "num_classes": 0,
        "input": _SAM_INPUT,
        "config": {"norm_eps": 1e-6},
        "trained_on": ("sa-1b",),
        "paper": "https://arxiv.org/abs/2304.02643",
        "notes": "The file holds the whole of SAM; its prompt encoder and mask decoder are left out.",
    }
    return (
        CheckpointSpec(
            name="sa1b_original",
            sources=(f"https://dl.fbaipublicfiles.com/segment_anything/{file}",),
            sha256=sha256,
            size=size,
            format="original",
            **facts,
        ),
        CheckpointSpec(
            name="sa1b_transformers",
            sources=tuple(f"hf://facebook/{repository}@main/{f}" for f in ("model.safetensors", "pytorch_model.bin")),
            format="transformers",
            **facts,
        ),
    )


def _sam2(size: str, first: tuple[str, int | None], second: tuple[str, int | None]) -> tuple[CheckpointSpec, ...]:
    """The trunk in the files of the whole model, SAM 2.0 and 2.1; their digests and sizes in bytes."""
    facts: dict[str, Any] = {
        "license": "Apache-2.0",
        "num_classes": 0,
        "input": _SAM2_INPUT,
        "trained_on": ("sa-1b", "sa-v"),
        "paper": "https://arxiv.org/abs/2408.00714",
        "notes": "The file holds the whole of SAM 2; what is not the image trunk is left out.",
    }
    folder = "https://dl.fbaipublicfiles.com/segment_anything_2"
    return (
        CheckpointSpec(
            name="sam2pt1_original",
            sources=(f"{folder}/092824/sam2.1_hiera_{size}.pt",),
            sha256=second[0],
            size=second[1],
            format="original",
            **facts,
        ),
        CheckpointSpec(
            name="sam2pt1_transformers",
            sources=(f"hf://facebook/sam2.1-hiera-{size.replace('_', '-')}@main/model.safetensors",),
            format="transformers",
            **facts,
        ),
        CheckpointSpec(
            name="sam2_original",
            sources=(f"{folder}/072824/sam2_hiera_{size}.pt",),
            sha256=first[0],
            size=first[1],
            format="original",
            **facts,
        ),
    )


_S, _B, _L = (2, 2, 18, 2), (4, 8, 16, 32), (6, 12, 24, 48)
_WINDOW_12 = {"window_size": 12}

# fmt: off
SWIN = (
    Size(
        "swin_t", {"width": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24)},
        ("swin_tiny_patch4_window7_224",),
        elsewhere=(
            _torchvision("Swin_T", "swin_t-704ceda3.pth", 224, 232, 81.474, 95.776),
            _microsoft("swin-tiny-patch4-window7-224", ("imagenet-1k",)),
        ),
    ),
    Size(
        "swin_s", {"width": 96, "depths": _S, "heads": (3, 6, 12, 24)},
        ("swin_small_patch4_window7_224",),
        elsewhere=(
            _torchvision("Swin_S", "swin_s-5e29d889.pth", 224, 246, 83.196, 96.36),
            _microsoft("swin-small-patch4-window7-224", ("imagenet-1k",)),
        ),
    ),
    Size(
        "swin_b", {"width": 128, "depths": _S, "heads": _B},
        ("swin_base_patch4_window7_224", Timm("swin_base_patch4_window12_384", _WINDOW_12)),
        elsewhere=(
            _torchvision("Swin_B", "swin_b-68c6b09e.pth", 224, 238, 83.582, 96.64),
            _microsoft("swin-base-patch4-window7-224"),
        ),
    ),
    Size(
        "swin_l", {"width": 192, "depths": _S, "heads": _L},
        ("swin_large_patch4_window7_224", Timm("swin_large_patch4_window12_384", _WINDOW_12)),
        elsewhere=(_microsoft("swin-large-patch4-window7-224"),),
    ),
)

_12_TO_16 = {"window_size": 16, "pretrained_window_sizes": (12, 12, 12, 6)}
_12_TO_24 = {"window_size": 24, "pretrained_window_sizes": (12, 12, 12, 6)}

SWIN_V2 = (
    Size(
        "swinv2_t", {"width": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24)},
        ("swinv2_tiny_window8_256", Timm("swinv2_tiny_window16_256", {"window_size": 16}, suffix="window16")),
        elsewhere=(
            _torchvision("Swin_V2_T", "swin_v2_t-b137f0e2.pth", 256, 260, 82.072, 96.132),
            _microsoft("swinv2-tiny-patch4-window8-256", ("imagenet-1k",), size=256),
        ),
    ),
    Size(
        "swinv2_s", {"width": 96, "depths": _S, "heads": (3, 6, 12, 24)},
        ("swinv2_small_window8_256", Timm("swinv2_small_window16_256", {"window_size": 16}, suffix="window16")),
        elsewhere=(_torchvision("Swin_V2_S", "swin_v2_s-637d8ceb.pth", 256, 260, 83.712, 96.816),),
    ),
    Size(
        "swinv2_b", {"width": 128, "depths": _S, "heads": _B},
        (
            "swinv2_base_window8_256",
            Timm("swinv2_base_window16_256", {"window_size": 16}, suffix="window16"),
            Timm("swinv2_base_window12to16_192to256", _12_TO_16),
            Timm("swinv2_base_window12to24_192to384", _12_TO_24),
            Timm("swinv2_base_window12_192", _WINDOW_12),
        ),
        elsewhere=(_torchvision("Swin_V2_B", "swin_v2_b-781e5279.pth", 256, 272, 84.112, 96.864),),
    ),
    Size(
        "swinv2_l", {"width": 192, "depths": _S, "heads": _L, **_12_TO_16},
        (
            "swinv2_large_window12to16_192to256",
            Timm("swinv2_large_window12to24_192to384", _12_TO_24),
            Timm("swinv2_large_window12_192", {"window_size": 12, "pretrained_window_sizes": (0, 0, 0, 0)}),
        ),
    ),
)

HIERA = (
    Size("hiera_t",  {"width": 96,  "depths": (1, 2, 7, 2),  "heads": 1}, ("hiera_tiny_224",)),
    Size("hiera_s",  {"width": 96,  "depths": (1, 2, 11, 2), "heads": 1}, ("hiera_small_224",)),
    Size("hiera_b",  {"width": 96,  "depths": (2, 3, 16, 3), "heads": 1}, ("hiera_base_224",)),
    Size("hiera_bp", {"width": 112, "depths": (2, 3, 16, 3), "heads": 2}, ("hiera_base_plus_224",)),
    Size("hiera_l",  {"width": 144, "depths": (2, 6, 36, 4), "heads": 2}, ("hiera_large_224",)),
    Size("hiera_h",  {"width": 256, "depths": (2, 6, 36, 4), "heads": 4}, ("hiera_huge_224",)),
)

SAM2_HIERA = (
    Size(
        "sam2_hiera_t", {"width": 96, "depths": (1, 2, 7, 2), "heads": 1, "global_blocks": (5, 7, 9)},
        ("sam2_hiera_tiny",), default="sam2pt1_original",
        elsewhere=_sam2(
            "tiny",
            ("65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125", 155906050),
            ("7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69", None),
        ),
    ),
    Size(
        "sam2_hiera_s", {"width": 96, "depths": (1, 2, 11, 2), "heads": 1, "global_blocks": (7, 10, 13)},
        ("sam2_hiera_small",), default="sam2pt1_original",
        elsewhere=_sam2(
            "small",
            ("95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3", None),
            ("6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38", None),
        ),
    ),
    Size(
        "sam2_hiera_bp",
        {"width": 112, "depths": (2, 3, 16, 3), "heads": 2, "global_blocks": (12, 16, 20), "positions": 14},
        ("sam2_hiera_base_plus",), default="sam2pt1_original",
        elsewhere=_sam2(
            "base_plus",
            ("d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071", None),
            ("a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5", 323606802),
        ),
    ),
    Size(
        "sam2_hiera_l",
        {
            "width": 144, "depths": (2, 6, 36, 4), "heads": 2, "global_blocks": (23, 33, 43),
            "window_sizes": (8, 4, 16, 8),
        },
        ("sam2_hiera_large",), default="sam2pt1_original",
        elsewhere=_sam2(
            "large",
            ("7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b", None),
            ("2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318", 898083611),
        ),
    ),
)

SAM_ENCODER = (
    Size(
        "sam_encoder_b", {"width": 768, "depth": 12, "heads": 12, "global_blocks": (2, 5, 8, 11)},
        (Timm("samvit_base_patch16", input=_LETTERBOX),), default="sa1b_original",
        elsewhere=_sam(
            "sam_vit_b_01ec64.pth", "sam-vit-base",
            "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912", 375042383,
        ),
    ),
    Size(
        "sam_encoder_l", {"width": 1024, "depth": 24, "heads": 16, "global_blocks": (5, 11, 17, 23)},
        (Timm("samvit_large_patch16", input=_LETTERBOX),), default="sa1b_original",
        elsewhere=_sam(
            "sam_vit_l_0b3195.pth", "sam-vit-large",
            "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        ),
    ),
    Size(
        "sam_encoder_h", {"width": 1280, "depth": 32, "heads": 16, "global_blocks": (7, 15, 23, 31)},
        (Timm("samvit_huge_patch16", input=_LETTERBOX),), default="sa1b_original",
        elsewhere=_sam(
            "sam_vit_h_4b8939.pth", "sam-vit-huge",
            "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e", 2564550879,
        ),
    ),
)

TINY_VIT = (
    Size(
        "tinyvit_5m", {"widths": (64, 128, 160, 320), "heads": (2, 4, 5, 10)},
        ("tiny_vit_5m_224",), default="dist_in22k_ft_in1k",
    ),
    Size(
        "tinyvit_11m", {"widths": (64, 128, 256, 448), "heads": (2, 4, 8, 14), "drop_path_rate": 0.1},
        ("tiny_vit_11m_224",), default="dist_in22k_ft_in1k",
    ),
    Size(
        "tinyvit_21m", {"widths": (96, 192, 384, 576), "heads": (3, 6, 12, 18), "drop_path_rate": 0.2},
        (
            "tiny_vit_21m_224",
            Timm("tiny_vit_21m_384", {"window_sizes": (12, 12, 24, 12), "drop_path_rate": 0.1}),
            Timm("tiny_vit_21m_512", {"window_sizes": (16, 16, 32, 16), "drop_path_rate": 0.1}),
        ),
        default="dist_in22k_ft_in1k",
    ),
)
# fmt: on

FAMILIES = (
    Family(
        "zoo_vit.swin:Swin",
        "Attention within windows that are shifted from block to block, in four stages",
        "https://arxiv.org/abs/2103.14030",
        SWIN,
        formats=("transformers", "original", "torchvision"),
        tags=("pyramid",),
    ),
    Family(
        "zoo_vit.swin_v2:SwinV2",
        "Swin with cosine attention and positions that follow the window's size",
        "https://arxiv.org/abs/2111.09883",
        SWIN_V2,
        formats=("transformers", "original", "torchvision"),
        tags=("pyramid",),
    ),
    Family(
        "zoo_vit.hiera:Hiera",
        "A hierarchical transformer of plain parts, pre-trained as a masked autoencoder",
        "https://arxiv.org/abs/2306.00989",
        HIERA,
        formats=("original",),
        tags=("pyramid",),
    ),
    Family(
        "zoo_vit.hiera:SAM2Hiera",
        "The image trunk of SAM 2: Hiera with positions that windows share",
        "https://arxiv.org/abs/2408.00714",
        SAM2_HIERA,
        formats=("original", "transformers"),
        tags=("pyramid",),
        task="features",
    ),
    Family(
        "zoo_vit.sam_encoder:SAMEncoder",
        "The image encoder of SAM: a plain ViT that mostly attends within windows, and a neck",
        "https://arxiv.org/abs/2304.02643",
        SAM_ENCODER,
        formats=("original", "transformers"),
        tags=("single-stride",),
        task="features",
    ),
    Family(
        "zoo_vit.tiny_vit:TinyViT",
        "A small hierarchical transformer, distilled while it was pre-trained",
        "https://arxiv.org/abs/2207.10666",
        TINY_VIT,
        tags=("pyramid",),
    ),
)
