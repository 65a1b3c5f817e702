"""Necks: from a backbone's maps to the pyramid that a detector looks at. Torch-free."""

from __future__ import annotations

from zoo.specs import ModelSpec


def _neck(name: str, factory: str, paper: str, summary: str, *tags: str) -> ModelSpec:
    return ModelSpec(
        name=name,
        factory=f"zoo_detection.{factory}",
        kind="neck",
        task="features",
        summary=summary,
        family=factory.rpartition(":")[2],
        tags=("neck", *tags),
        paper=paper,
    )


NECKS = (
    _neck(
        "fpn",
        "fpn:FPN",
        "https://arxiv.org/abs/1612.03144",
        "Feature pyramid network: coarse maps, enlarged, are added to finer ones (Lin et al. 2017)",
        "top-down",
    ),
    _neck(
        "panet",
        "panet:PANet",
        "https://arxiv.org/abs/1803.01534",
        "Path aggregation network: an FPN with a bottom-up path behind it (Liu et al. 2018)",
        "top-down",
        "bottom-up",
    ),
    _neck(
        "bifpn",
        "bifpn:BiFPN",
        "https://arxiv.org/abs/1911.09070",
        "Bidirectional feature pyramid: repeated merges with learned weights, EfficientDet's neck (Tan et al. 2020)",
        "top-down",
        "bottom-up",
    ),
    _neck(
        "simple_pyramid",
        "simple_pyramid:SimplePyramid",
        "https://arxiv.org/abs/2203.16527",
        "ViTDet's simple feature pyramid: all levels from the last map of a plain ViT (Li et al. 2022)",
        "plain-vit",
    ),
)
