"""Image towers of CLIP, SigLIP and InternVL."""

from __future__ import annotations

from zoo_vit.rows.image_text_published import (
    clip,
    clip_from_laion,
    clip_in_transformers,
    internvit_from_opengvlab,
    siglip,
    siglip_in_transformers,
)
from zoo_vit.rows.row import Family, Size, Timm

_B, _L = {"width": 768, "depth": 12, "heads": 12}, {"width": 1024, "depth": 24, "heads": 16}
_H = {"width": 1280, "depth": 32, "heads": 16}
_GELU = {"activation": "gelu"}

CLIP = (
    Size(
        "clip_b_32",
        {"patch_size": 32, **_B},
        (
            clip(
                "vit_base_patch32_clip_quickgelu_224",
                {"openai": 63.32, "laion400m_e32": 62.93, "metaclip_400m": 65.58, "metaclip_2pt5b": 67.66},
            ),
            clip("vit_base_patch32_clip_224", {"laion2b": 66.56, "datacompxl": 69.17}),
            clip("vit_base_patch32_clip_256", {"datacompxl": 72.81}),
        ),
        ("ViT-B/32",),
        (
            clip_in_transformers(
                "clip-vit-base-patch32",
                ("pytorch_model.bin",),
                512,
                63.32,
                sha256="a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
                size=605247071,
            ),
            clip_from_laion("CLIP-ViT-B-32-laion2B-s34B-b79K", 66.56),
        ),
        "openai",
    ),
    Size(
        "clip_b_16",
        {"patch_size": 16, **_B},
        (
            clip(
                "vit_base_patch16_clip_quickgelu_224",
                {"openai": 68.34, "metaclip_400m": 70.80, "metaclip_2pt5b": 72.12},
            ),
            clip(
                "vit_base_patch16_clip_224",
                {"laion2b": 70.23, "datacompxl": 73.49, "dfn2b": 76.24, "laion400m_e32": 67.05},
            ),
        ),
        ("ViT-B/16",),
        (
            clip_in_transformers("clip-vit-base-patch16", ("model.safetensors", "pytorch_model.bin"), 512, 68.34),
            clip_from_laion("CLIP-ViT-B-16-laion2B-s34B-b88K", 70.23),
        ),
        "openai",
    ),
    Size(
        "clip_b_16_plus",
        {"patch_size": 16, "width": 896, "depth": 12, "heads": 14, "image_size": 240, **_GELU, "num_classes": 640},
        (clip("vit_base_patch16_plus_clip_240", {"laion400m_e32": 69.19}),),
    ),
    Size(
        "clip_l_14",
        {"patch_size": 14, **_L, "num_classes": 768},
        (
            clip(
                "vit_large_patch14_clip_quickgelu_224",
                {"openai": 75.54, "metaclip_400m": 76.20, "metaclip_2pt5b": 79.17, "dfn2b": 81.41},
            ),
            clip("vit_large_patch14_clip_quickgelu_336", {"openai": 76.56}),
            clip(
                "vit_large_patch14_clip_224",
                {
                    "laion2b": 75.25,
                    "datacompxl": 79.21,
                    "dfn2b_s39b": None,
                    "laion400m_e32": 72.77,
                    "apple_mclip2_dfndr2b": None,
                },
            ),
        ),
        ("ViT-L/14",),
        (
            clip_in_transformers(
                "clip-vit-large-patch14",
                ("model.safetensors",),
                768,
                75.54,
                sha256="a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
                size=1710540580,
            ),
        ),
        "openai",
    ),
    Size(
        "clip_h_14",
        {"patch_size": 14, **_H, **_GELU, "num_classes": 1024},
        (
            clip("vit_huge_patch14_clip_224", {"laion2b": 77.96, "metaclip_altogether": None}),
            clip(
                "vit_huge_patch14_clip_quickgelu_224",
                {"dfn5b": 83.44, "metaclip2_worldwide": None, "metaclip_2pt5b": 80.51},
            ),
            clip("vit_huge_patch14_clip_378", {"metaclip2_worldwide": None}),
            clip("vit_huge_patch14_clip_quickgelu_378", {"dfn5b": 84.37}),
        ),
        default="laion2b",
    ),
    Size(
        "clip_g_14",
        {"patch_size": 14, "width": 1408, "depth": 40, "heads": 16, "mlp_ratio": 48 / 11, **_GELU, "num_classes": 1024},
        (clip("vit_giant_patch14_clip_224", {"laion2b": None}),),
    ),
    Size(
        "clip_bigg_14",
        {"patch_size": 14, "width": 1664, "depth": 48, "heads": 16, "mlp_ratio": 64 / 13, **_GELU, "num_classes": 1280},
        (
            clip("vit_gigantic_patch14_clip_224", {"laion2b": 80.09, "metaclip2_worldwide": None}),
            clip("vit_gigantic_patch14_clip_378", {"metaclip2_worldwide": None}),
            clip("vit_gigantic_patch14_clip_quickgelu_224", {"metaclip_2pt5b": None}),
        ),
    ),
)

_FT_224 = (
    "laion2b_ft_in12k_in1k",
    "laion2b_ft_in1k",
    "laion2b_ft_in12k",
    "openai_ft_in12k_in1k",
    "openai_ft_in1k",
    "openai_ft_in12k",
)
CLIP_CLASSIFIERS = (  # fine-tuned with GELU, OpenAI's too; the larger ones are vit_l_14 and vit_h_14
    Size(
        "clip_b_32_classifier",
        {"patch_size": 32, **_B, **_GELU, "num_classes": 1000},
        (
            Timm("vit_base_patch32_clip_224", tags=_FT_224),
            "vit_base_patch32_clip_384",
            "vit_base_patch32_clip_448",
        ),
    ),
    Size(
        "clip_b_16_classifier",
        {"patch_size": 16, **_B, **_GELU, "num_classes": 1000},
        (
            Timm("vit_base_patch16_clip_224", tags=_FT_224),
            "vit_base_patch16_clip_384",
        ),
    ),
)

_B_16 = {"patch_size": 16, **_B}
_B_32 = {"patch_size": 32, **_B, "image_size": 256}
_L_16 = {"patch_size": 16, **_L, "image_size": 256}
_SO = {"width": 1152, "depth": 27, "heads": 16, "mlp_ratio": 3.7362}
_GIANT = {"patch_size": 16, "width": 1536, "depth": 40, "heads": 16, "image_size": 256}

SIGLIP = (
    Size(
        "siglip_b_16",
        {**_B_16, "image_size": 224},
        (
            siglip("vit_base_patch16_siglip_224", "webli", 76.04),
            siglip("vit_base_patch16_siglip_256", "webli", 76.53),
            siglip("vit_base_patch16_siglip_384", "webli", 78.49),
            siglip("vit_base_patch16_siglip_512", "webli", 79.14),
            siglip("vit_base_patch16_siglip_256", "webli_i18n", 75.13),
        ),
        ("ViT-B-16-SigLIP",),
        (
            siglip_in_transformers("siglip-base-patch16-224", 224, 224, 76.04),
            siglip_in_transformers("siglip-base-patch16-512", 512, 224, 79.14),
        ),
    ),
    Size(
        "siglip_l_16",
        _L_16,
        (
            siglip("vit_large_patch16_siglip_256", "webli", 80.45),
            siglip("vit_large_patch16_siglip_384", "webli", 82.07),
        ),
        ("ViT-L-16-SigLIP-256",),
        (
            siglip_in_transformers("siglip-large-patch16-256", 256, 256, 80.45),
            siglip_in_transformers("siglip-large-patch16-384", 384, 256, 82.07),
        ),
    ),
    Size(
        "siglip_so400m_14",
        {"patch_size": 14, **_SO, "image_size": 384},
        (
            siglip("vit_so400m_patch14_siglip_384", "webli", 83.08),
            siglip("vit_so400m_patch14_siglip_378", "webli"),
            siglip("vit_so400m_patch14_siglip_224", "webli", 82.03),
        ),
        ("ViT-SO400M-14-SigLIP-384",),
        (siglip_in_transformers("siglip-so400m-patch14-384", 384, 384, 83.08),),
    ),
    Size(
        "siglip_so400m_16",
        {"patch_size": 16, **_SO, "image_size": 256},
        (siglip("vit_so400m_patch16_siglip_256", "webli_i18n"),),
    ),
)

SIGLIP2 = (
    Size(
        "siglip2_b_32",
        _B_32,
        (siglip("vit_base_patch32_siglip_256", "v2_webli", 74.0),),
        elsewhere=(siglip_in_transformers("siglip2-base-patch32-256", 256, 256, 74.0),),
    ),
    Size(
        "siglip2_b_16",
        {**_B_16, "image_size": 224},
        (
            siglip("vit_base_patch16_siglip_224", "v2_webli", 78.2),
            siglip("vit_base_patch16_siglip_256", "v2_webli", 79.1),
            siglip("vit_base_patch16_siglip_384", "v2_webli", 80.6),
            siglip("vit_base_patch16_siglip_512", "v2_webli", 81.2),
        ),
        elsewhere=(
            siglip_in_transformers("siglip2-base-patch16-224", 224, 224, 78.2),
            siglip_in_transformers("siglip2-base-patch16-256", 256, 224, 79.1),
            siglip_in_transformers("siglip2-base-patch16-384", 384, 224, 80.6),
            siglip_in_transformers("siglip2-base-patch16-512", 512, 224, 81.2),
        ),
    ),
    Size(
        "siglip2_l_16",
        _L_16,
        (
            siglip("vit_large_patch16_siglip_256", "v2_webli", 82.5),
            siglip("vit_large_patch16_siglip_384", "v2_webli", 83.1),
            siglip("vit_large_patch16_siglip_512", "v2_webli", 83.5),
        ),
        elsewhere=(
            siglip_in_transformers("siglip2-large-patch16-256", 256, 256, 82.5),
            siglip_in_transformers("siglip2-large-patch16-384", 384, 256, 83.1),
            siglip_in_transformers("siglip2-large-patch16-512", 512, 256, 83.5),
        ),
    ),
    Size(
        "siglip2_so400m_14",
        {"patch_size": 14, **_SO, "image_size": 378},
        (
            siglip("vit_so400m_patch14_siglip_378", "v2_webli", 84.1, side=384),  # 27 x 27 patches both ways
            siglip("vit_so400m_patch14_siglip_224", "v2_webli", 83.2),
        ),
        elsewhere=(
            siglip_in_transformers("siglip2-so400m-patch14-384", 384, 384, 84.1),
            siglip_in_transformers("siglip2-so400m-patch14-224", 224, 384, 83.2),
        ),
    ),
    Size(
        "siglip2_so400m_16",
        {"patch_size": 16, **_SO, "image_size": 256},
        (
            siglip("vit_so400m_patch16_siglip_256", "v2_webli", 83.4),
            siglip("vit_so400m_patch16_siglip_384", "v2_webli", 84.1),
            siglip("vit_so400m_patch16_siglip_512", "v2_webli", 84.3),
        ),
        elsewhere=(
            siglip_in_transformers("siglip2-so400m-patch16-256", 256, 256, 83.4),
            siglip_in_transformers("siglip2-so400m-patch16-384", 384, 256, 84.1),
            siglip_in_transformers("siglip2-so400m-patch16-512", 512, 256, 84.3),
        ),
    ),
    Size(
        "siglip2_giantopt_16",
        _GIANT,
        (
            siglip("vit_giantopt_patch16_siglip_256", "v2_webli", 84.5),
            siglip("vit_giantopt_patch16_siglip_384", "v2_webli", 85.0),
        ),
    ),
)

SIGLIP_CLASSIFIERS = (  # fine-tuned with exact GELU
    Size(
        "siglip_so400m_14_classifier",
        {"patch_size": 14, **_SO, "image_size": 378, **_GELU, "num_classes": 1000},
        (Timm("vit_so400m_patch14_siglip_378", tags=("webli_ft_in1k",)),),
    ),
)

INTERNVIT = (
    Size(
        "internvit_300m",
        {"patch_size": 14, **_L},
        ("vit_intern300m_patch14_448",),
        elsewhere=(
            internvit_from_opengvlab(
                "ogvl_dist_original",
                "InternViT-300M-448px",
                "MIT",
                "The licence is that of the code and of timm's copy.",
            ),
            internvit_from_opengvlab(
                "ogvl_2pt5_original",
                "InternViT-300M-448px-V2_5",
                "unknown",
                "OpenGVLab's code is MIT; timm's copy is tagged Apache-2.0.",
            ),
        ),
    ),
)

FAMILIES: tuple[Family, ...] = (
    Family(
        "zoo_vit.clip:CLIPImageEncoder",
        "CLIP's image tower: images as points in a space shared with text",
        "https://arxiv.org/abs/2103.00020",
        CLIP,
        formats=("original", "transformers"),
        task="features",
    ),
    Family(
        "zoo_vit.clip:CLIPImageEncoder",
        "CLIP's image tower, fine-tuned on labelled images",
        "https://arxiv.org/abs/2212.07143",
        CLIP_CLASSIFIERS,
        formats=("original", "transformers"),
    ),
    Family(
        "zoo_vit.siglip:SigLIPImageEncoder",
        "SigLIP's image tower, pooled by attention: images as points in a space shared with text",
        "https://arxiv.org/abs/2303.15343",
        SIGLIP,
        formats=("open_clip", "transformers"),
        task="features",
    ),
    Family(
        "zoo_vit.siglip:SigLIPImageEncoder",
        "SigLIP 2's image tower in its fixed image sizes",
        "https://arxiv.org/abs/2502.14786",
        SIGLIP2,
        formats=("open_clip", "transformers"),
        task="features",
    ),
    Family(
        "zoo_vit.siglip:SigLIPImageEncoder",
        "SigLIP's image tower, fine-tuned on labelled images",
        "https://arxiv.org/abs/2303.15343",
        SIGLIP_CLASSIFIERS,
        formats=("open_clip", "transformers"),
    ),
    Family(
        "zoo_vit.intern_vit:InternViT",
        "The image encoder of InternVL",
        "https://arxiv.org/abs/2312.14238",
        INTERNVIT,
        formats=("original", "transformers"),
        task="features",
    ),
)
