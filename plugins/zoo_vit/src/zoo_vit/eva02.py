"""EVA-02: masked images reconstructed as CLIP's features. Fang et al. 2023, arXiv:2303.11331.

images (B, C, H, W) -> patches (B, N, D) -> class token in front, positions added
    -> blocks: attention with rotary positions, SwiGLU -> mean of the patches -> norm
    -> embeddings (B, D) -> logits (B, K)

B and L also normalise inside the feed-forward layer, and keep query, key and value apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from zoo.checkpoints.keymap import Drop, KeyMap, Rename, StateMap
from zoo_timm.adapter import TimmClassifier, TimmClassifierConfig
from zoo_vit.patches import check_whole_patches

_ARCHITECTURES = {
    "ti": "eva02_tiny_patch14_336",
    "s": "eva02_small_patch14_336",
    "b": "eva02_base_patch14_448",
    "l": "eva02_large_patch14_448",
}
_OWN_SIZES = {"ti": 336, "s": 336, "b": 448, "l": 448}


class EVA02Config(TimmClassifierConfig):
    """Config of `EVA02`."""

    size: Literal["ti", "s", "b", "l"] = Field("s", description="depth and width together, as published")
    patch_size: int = Field(14, ge=1, le=1024, description="pixels of a patch's side")

    @model_validator(mode="after")
    def _whole_patches(self) -> Self:
        check_whole_patches(self.image_size or _OWN_SIZES[self.size], self.patch_size)
        return self


class EVA02(TimmClassifier):
    """EVA-02 tiny to large; for 336 pixels (tiny, small) or 448 unless `image_size` says otherwise."""

    Config = EVA02Config

    @classmethod
    def architecture(cls, config: EVA02Config) -> str:
        return _ARCHITECTURES[config.size]

    @classmethod
    def arguments(cls, config: EVA02Config) -> Mapping[str, int]:
        return {"patch_size": config.patch_size}

    @classmethod
    def published(cls, config: EVA02Config) -> Mapping[str, StateMap]:
        return {"original": FUSED_KEYS if config.size in ("ti", "s") else SEPARATE_KEYS}


_ROTARY = Drop(r"(blocks\.\d+\.attn\.)?rope\.freqs_(cos|sin)", "rotary positions are computed")

FUSED_KEYS = KeyMap(
    _ROTARY,
    Rename(r"blocks.(\d+).mlp.w12.(weight|bias)", r"blocks.\1.mlp.fc1.\2"),
    Rename(r"blocks.(\d+).mlp.w3.(weight|bias)", r"blocks.\1.mlp.fc2.\2"),
)
"""The authors' files of the tiny and the small one, fine-tuned."""

SEPARATE_KEYS = KeyMap(
    _ROTARY,
    Rename(r"blocks.(\d+).attn.(q|v)_bias", r"blocks.\1.attn.\2_proj.bias"),
    Rename(r"blocks.(\d+).mlp.w1.(weight|bias)", r"blocks.\1.mlp.fc1_g.\2"),
    Rename(r"blocks.(\d+).mlp.w2.(weight|bias)", r"blocks.\1.mlp.fc1_x.\2"),
    Rename(r"blocks.(\d+).mlp.ffn_ln.(weight|bias)", r"blocks.\1.mlp.norm.\2"),
    Rename(r"blocks.(\d+).mlp.w3.(weight|bias)", r"blocks.\1.mlp.fc2.\2"),
)
"""The authors' files of the base and the large one, fine-tuned."""
