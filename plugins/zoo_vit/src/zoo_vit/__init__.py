"""Vision transformers under short names, with their published weights.

    from zoo_vit import DINOv2, VisionTransformer

    DINOv2.from_pretrained("dinov2_vitb14")
    VisionTransformer(patch_size=16, width=768, depth=12, heads=12)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo_vit.deit import DeiT as DeiT, DeiT3 as DeiT3
    from zoo_vit.vision_transformer import VisionTransformer as VisionTransformer

_HOMES = {
    "DeiT": "deit",
    "DeiT3": "deit",
    "VisionTransformer": "vision_transformer",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
