"""ViT, DeiT and masked autoencoders."""

from __future__ import annotations

from zoo_vit.rows.row import Family, Size, Timm

# fmt: off
VISION_TRANSFORMER = (
    Size("vit_b_16", {"patch_size": 16, "width": 768, "depth": 12, "heads": 12}, ("vit_base_patch16_224", Timm("vit_base_patch16_384"))),
)
# fmt: on

FAMILIES = (
    Family(
        "zoo_vit.vision_transformer:VisionTransformer",
        "An image as a sequence of patches, in a plain transformer encoder",
        "https://arxiv.org/abs/2010.11929",
        VISION_TRANSFORMER,
    ),
)
