"""HiViT. The authors' weights (base, masked pre-training and fine-tuned) are on Google Drive only, which cannot be
fetched by address: `zoo.create("hivit_b", checkpoint="file://…", format="original", norm_eps=1e-6)` opens them."""

from __future__ import annotations

from zoo_vit.rows.row import Family, Size

# fmt: off
HIVIT = (
    Size("hivit_t", {"width": 384, "depths": [1, 1, 10], "heads": 6}, aliases=("hivit_tiny",)),
    Size("hivit_s", {"width": 384, "depths": [2, 2, 20], "heads": 6}, aliases=("hivit_small",)),
    Size("hivit_b", {"width": 512, "depths": [2, 2, 20], "heads": 8}, aliases=("hivit_base",)),
)
# fmt: on

FAMILIES = (
    Family(
        "zoo_vit.hivit:HiViT",
        "A hierarchy inside every 16-pixel unit, plain attention between units; weights on the authors' Drive only",
        "https://arxiv.org/abs/2205.14949",
        HIVIT,
        formats=("original",),
    ),
)
