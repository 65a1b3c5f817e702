"""The image encoder of SAM: a plain ViT that mostly attends within windows. Kirillov et al. 2023, arXiv:2304.02643;
Li et al. 2022, arXiv:2203.16527.

images (B, C, H, W) -> 16x16 patches (B, h, w, D) -> `depth` blocks with relative positions -> neck: map (B, 256, h, w)
    -> mean over the map: embeddings (B, 256)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from zoo.checkpoints.keymap import Drop, KeyMap, Prefix, Rename, StateMap
from zoo_timm.adapter import Argument, TimmClassifier, TimmClassifierConfig
from zoo_vit.patches import check_whole_patches
from zoo_vit.stages import Count, Width, check_global_blocks

_BlockIndex = Annotated[int, Field(ge=0, le=999)]


class SAMEncoderConfig(TimmClassifierConfig):
    """Config of `SAMEncoder`."""

    spellings: ClassVar[Mapping[str, str]] = {"global_attn_indexes": "global_blocks"}
    num_classes: int = Field(0, ge=0, le=10_000_000, description="outputs of a classifier; 0: no classifier")
    patch_size: Count = Field(16, description="pixels of a patch's side")
    width: Width = Field(768, description="values a token")
    depth: int = Field(12, ge=1, le=1000, description="blocks")
    heads: Count = Field(12, description="attention heads a block")
    window_size: Count = Field(14, description="tokens along a window's side")
    global_blocks: tuple[_BlockIndex, ...] = Field(
        (2, 5, 8, 11), max_length=1000, description="blocks that attend to the whole map, counted from 0"
    )
    positions: Count = Field(
        64, description="cells a side of the position tables, which are interpolated for images of other sizes"
    )
    norm_eps: float | None = Field(
        None, gt=0, le=1, description="epsilon of every norm: 1e-6 in SAM; None: timm's, 1e-5 but in the neck"
    )

    @model_validator(mode="after")
    def _whole_patches(self) -> Self:
        check_whole_patches(self.image_size or self.positions * self.patch_size, self.patch_size)
        return self

    @model_validator(mode="after")
    def _blocks_that_are_there(self) -> Self:
        check_global_blocks(self.global_blocks, self.depth)
        return self


class SAMEncoder(TimmClassifier):
    """The image encoder of Segment Anything, its neck included. Takes images of any size whose sides are whole
    patches; `image_size` says only what images are resized to. SAM's own numbers need `norm_eps=1e-6`."""

    task = "features"
    Config = SAMEncoderConfig

    @classmethod
    def architecture(cls, config: SAMEncoderConfig) -> str:
        return "samvit_base_patch16"

    @classmethod
    def arguments(cls, config: SAMEncoderConfig) -> Mapping[str, Argument]:
        return {
            "patch_size": config.patch_size,
            "embed_dim": config.width,
            "depth": config.depth,
            "num_heads": config.heads,
            "window_size": config.window_size,
            "global_attn_indexes": config.global_blocks,
            "img_size": config.positions * config.patch_size,
            **({} if config.norm_eps is None else {"norm_eps": config.norm_eps}),
        }

    @classmethod
    def published(cls, config: SAMEncoderConfig) -> Mapping[str, StateMap]:
        return {"original": ORIGINAL_KEYS, "transformers": TRANSFORMERS_KEYS}


_NO_ENCODER = "not of the image encoder"

ORIGINAL_KEYS = KeyMap(
    Drop(r"(?!image_encoder\.).*", _NO_ENCODER),
    Prefix("image_encoder.", "", unless=("head.",)),
    Rename(r"blocks.(\d+).mlp.lin(1|2).(.+)", r"blocks.\1.mlp.fc\2.\3"),
)

TRANSFORMERS_KEYS = KeyMap(
    Drop(r"(?!vision_encoder\.).*", _NO_ENCODER),
    Prefix("vision_encoder.", "", unless=("head.",)),
    Prefix("patch_embed.projection.", "patch_embed.proj."),
    Prefix("layers.", "blocks."),
    Rename(r"blocks.(\d+).layer_norm(1|2).(.+)", r"blocks.\1.norm\2.\3"),
    Rename(r"blocks.(\d+).mlp.lin(1|2).(.+)", r"blocks.\1.mlp.fc\2.\3"),
    *(Prefix(f"neck.{name}.", f"neck.{i}.") for i, name in enumerate(("conv1", "layer_norm1", "conv2", "layer_norm2"))),
)
