"""ViT and DeiT. Masked autoencoders are ViTs too: `vit_b_16.mae`."""

from __future__ import annotations

from dataclasses import replace

from zoo_vit.rows.plain_published import (
    finetuned_mae,
    from_google,
    from_meta,
    from_torchvision,
    meta_in_transformers,
)
from zoo_vit.rows.row import Family, Size, Timm

# Fine-tuned image towers of CLIP have a norm before their blocks, other weights of the same size have none.
CLIP, NOT_CLIP = {"pre_norm": True, "norm_eps": 1e-5}, {"pre_norm": False, "norm_eps": 1e-6}
LAION = ("laion2b_ft_in12k_in1k", "laion2b_ft_in12k", "laion2b_ft_in1k")
OPENAI = ("openai_ft_in12k_in1k", "openai_ft_in12k", "openai_ft_in1k")

TI, S = {"width": 192, "depth": 12, "heads": 3}, {"width": 384, "depth": 12, "heads": 6}
M, B = {"width": 512, "depth": 12, "heads": 8}, {"width": 768, "depth": 12, "heads": 12}
L, H = {"width": 1024, "depth": 24, "heads": 16}, {"width": 1280, "depth": 32, "heads": 16}

VISION_TRANSFORMER = (
    Size("vit_ti_16", {"patch_size": 16, **TI}, ("vit_tiny_patch16_224", "vit_tiny_patch16_384")),
    Size("vit_s_8", {"patch_size": 8, **S, "num_classes": 0}, ("vit_small_patch8_224",)),
    Size("vit_s_16", {"patch_size": 16, **S}, ("vit_small_patch16_224", "vit_small_patch16_384")),
    Size("vit_s_32", {"patch_size": 32, **S}, ("vit_small_patch32_224", "vit_small_patch32_384")),
    Size("vit_b_8", {"patch_size": 8, **B}, ("vit_base_patch8_224",)),
    Size(
        "vit_b_16",
        {"patch_size": 16, **B},
        ("vit_base_patch16_224", "vit_base_patch16_384"),
        elsewhere=(
            from_torchvision("ViT_B_16", "V1", "c867db91", 224, 256, 81.072, 95.318),
            from_torchvision("ViT_B_16", "SWAG_E2E_V1", "9ac1b537", 384, 384, 85.304, 97.65),
            from_torchvision("ViT_B_16", "SWAG_LINEAR_V1", "4e70ced5", 224, 224, 81.886, 96.18),
            from_google("vit-base-patch16-224"),
            from_google("vit-base-patch16-384"),
            from_google("vit-base-patch16-224-in21k"),
            finetuned_mae("base", 83.664, 96.530, md5="1b25e9"),
        ),
    ),
    Size(
        "vit_b_32",
        {"patch_size": 32, **B},
        ("vit_base_patch32_224", "vit_base_patch32_384"),
        elsewhere=(
            from_torchvision("ViT_B_32", "V1", "d86f8d99", 224, 256, 75.912, 92.466),
            from_google("vit-base-patch32-384"),
            from_google("vit-base-patch32-224-in21k"),
        ),
    ),
    Size(
        "vit_l_14",
        {"patch_size": 14, **L, **CLIP},
        (
            Timm("vit_large_patch14_clip_224", tags=LAION + OPENAI),
            Timm("vit_large_patch14_clip_336", tags=LAION + OPENAI),
        ),
    ),
    Size(
        "vit_l_16",
        {"patch_size": 16, **L},
        ("vit_large_patch16_224", "vit_large_patch16_384"),
        elsewhere=(
            from_torchvision("ViT_L_16", "V1", "852ce7e3", 224, 242, 79.662, 94.638),
            from_torchvision("ViT_L_16", "SWAG_E2E_V1", "4f3808c9", 512, 512, 88.064, 98.512),
            from_torchvision("ViT_L_16", "SWAG_LINEAR_V1", "4d563306", 224, 224, 85.146, 97.422),
            from_google("vit-large-patch16-224"),
            from_google("vit-large-patch16-384"),
            from_google("vit-large-patch16-224-in21k"),
            finetuned_mae("large", 85.952, 97.570, md5="51f550"),
        ),
    ),
    Size(
        "vit_l_32",
        {"patch_size": 32, **L},
        ("vit_large_patch32_224", "vit_large_patch32_384"),
        elsewhere=(
            from_torchvision("ViT_L_32", "V1", "c7638314", 224, 256, 76.972, 93.07),
            from_google("vit-large-patch32-384"),
            from_google("vit-large-patch32-224-in21k"),
        ),
        default="imagenet1k_v1",  # timm's own of this size have no classifier
    ),
    Size(
        "vit_h_14",
        {"patch_size": 14, **H, **CLIP},
        (
            Timm("vit_huge_patch14_clip_224", tags=LAION),
            Timm("vit_huge_patch14_clip_336", tags=LAION),
            Timm("vit_huge_patch14_224", NOT_CLIP),
        ),
        elsewhere=tuple(
            replace(row, config={**NOT_CLIP, **row.config})
            for row in (
                from_torchvision("ViT_H_14", "SWAG_E2E_V1", "80465313", 518, 518, 88.552, 98.694),
                from_torchvision("ViT_H_14", "SWAG_LINEAR_V1", "c1eb923e", 224, 224, 85.708, 97.73),
                from_google("vit-huge-patch14-224-in21k"),
                finetuned_mae("huge", 86.928, 98.088, md5="2541f2"),
            )
        ),
    ),
    Size("vit_h_16", {"patch_size": 16, **H}),
)

DEIT = (
    Size(
        "deit_ti",
        TI,
        ("deit_tiny_patch16_224",),
        elsewhere=(
            from_meta("deit_tiny_patch16_224-a1311bcf.pth", 72.2, 91.1),
            meta_in_transformers("deit-tiny-patch16-224"),
        ),
    ),
    Size(
        "deit_ti_distilled",
        {**TI, "distilled": True},
        ("deit_tiny_distilled_patch16_224",),
        elsewhere=(
            from_meta("deit_tiny_distilled_patch16_224-b40b3cf7.pth", 74.5, 91.9),
            meta_in_transformers("deit-tiny-distilled-patch16-224"),
        ),
    ),
    Size(
        "deit_s",
        S,
        ("deit_small_patch16_224",),
        elsewhere=(
            from_meta("deit_small_patch16_224-cd65a155.pth", 79.9, 95.0),
            meta_in_transformers("deit-small-patch16-224"),
        ),
    ),
    Size(
        "deit_s_distilled",
        {**S, "distilled": True},
        ("deit_small_distilled_patch16_224",),
        elsewhere=(
            from_meta("deit_small_distilled_patch16_224-649709d9.pth", 81.2, 95.4),
            meta_in_transformers("deit-small-distilled-patch16-224"),
        ),
    ),
    Size(
        "deit_b",
        B,
        ("deit_base_patch16_224", "deit_base_patch16_384"),
        elsewhere=(
            from_meta("deit_base_patch16_224-b5f2ef4d.pth", 81.8, 95.6),
            from_meta("deit_base_patch16_384-8de9b5d1.pth", 82.9, 96.2),
            meta_in_transformers("deit-base-patch16-224"),
            meta_in_transformers("deit-base-patch16-384"),
        ),
    ),
    Size(
        "deit_b_distilled",
        {**B, "distilled": True},
        ("deit_base_distilled_patch16_224", "deit_base_distilled_patch16_384"),
        elsewhere=(
            from_meta("deit_base_distilled_patch16_224-df68dfff.pth", 83.4, 96.5),
            from_meta("deit_base_distilled_patch16_384-d0272ac0.pth", 85.2, 97.2),
            meta_in_transformers("deit-base-distilled-patch16-224"),
            meta_in_transformers("deit-base-distilled-patch16-384"),
        ),
    ),
)

DEIT3 = (
    Size("deit3_s", S, ("deit3_small_patch16_224", "deit3_small_patch16_384")),
    Size("deit3_m", M, ("deit3_medium_patch16_224",)),
    Size("deit3_b", B, ("deit3_base_patch16_224", "deit3_base_patch16_384")),
    Size("deit3_l", L, ("deit3_large_patch16_224", "deit3_large_patch16_384")),
    Size("deit3_h", {"patch_size": 14, **H}, ("deit3_huge_patch14_224",)),
)

FAMILIES = (
    Family(
        "zoo_vit.vision_transformer:VisionTransformer",
        "An image as a sequence of patches, in a plain transformer encoder",
        "https://arxiv.org/abs/2010.11929",
        VISION_TRANSFORMER,
        ("timm", "torchvision", "transformers"),
    ),
    Family(
        "zoo_vit.deit:DeiT",
        "A ViT trained on ImageNet-1k alone; distilled, a second token learns from a teacher",
        "https://arxiv.org/abs/2012.12877",
        DEIT,
        ("original", "transformers"),
    ),
    Family(
        "zoo_vit.deit:DeiT3",
        "DeiT III: a ViT with layer scale and a simpler recipe",
        "https://arxiv.org/abs/2204.07118",
        DEIT3,
        ("original",),
    ),
)
