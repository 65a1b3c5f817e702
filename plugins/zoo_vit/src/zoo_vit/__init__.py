"""Vision transformers under short names, with their published weights.

    from zoo_vit import DINOv2, VisionTransformer

    DINOv2.from_pretrained("dinov2_vitb14")
    VisionTransformer(patch_size=16, width=768, depth=12, heads=12)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo_vit.clip import CLIPImageEncoder as CLIPImageEncoder
    from zoo_vit.deit import DeiT as DeiT, DeiT3 as DeiT3
    from zoo_vit.dinov2 import DINOv2 as DINOv2
    from zoo_vit.distillation import distillation_loss as distillation_loss
    from zoo_vit.eva02 import EVA02 as EVA02
    from zoo_vit.hiera import Hiera as Hiera, SAM2Hiera as SAM2Hiera
    from zoo_vit.hivit import HiViT as HiViT
    from zoo_vit.intern_vit import InternViT as InternViT
    from zoo_vit.mae import MaskedAutoencoder as MaskedAutoencoder
    from zoo_vit.sam_encoder import SAMEncoder as SAMEncoder
    from zoo_vit.siglip import SigLIPImageEncoder as SigLIPImageEncoder
    from zoo_vit.swin import Swin as Swin
    from zoo_vit.swin_v2 import SwinV2 as SwinV2
    from zoo_vit.tiny_vit import TinyViT as TinyViT
    from zoo_vit.vision_transformer import VisionTransformer as VisionTransformer

_HOMES = {
    "CLIPImageEncoder": "clip",
    "DINOv2": "dinov2",
    "DeiT": "deit",
    "DeiT3": "deit",
    "EVA02": "eva02",
    "HiViT": "hivit",
    "Hiera": "hiera",
    "InternViT": "intern_vit",
    "MaskedAutoencoder": "mae",
    "SAM2Hiera": "hiera",
    "SAMEncoder": "sam_encoder",
    "SigLIPImageEncoder": "siglip",
    "Swin": "swin",
    "SwinV2": "swin_v2",
    "TinyViT": "tiny_vit",
    "VisionTransformer": "vision_transformer",
    "distillation_loss": "distillation",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
