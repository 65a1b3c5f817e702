"""Swin: attention within windows that are shifted from block to block. Liu et al. 2021, arXiv:2103.14030.

images (B, C, H, W) -> 4x4 patches (B, h, w, D) -> 4 stages, strides 4, 8, 16, 32, the width doubled between them
    -> norm -> mean over the map: embeddings (B, 8 D) -> logits (B, K)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

from pydantic import Field, model_validator

from zoo.checkpoints.keymap import Drop, KeyMap, Merge, Prefix, Rename, Renumber, StateMap
from zoo.errors import OptionError
from zoo_timm.adapter import Argument, TimmClassifier, TimmClassifierConfig
from zoo_vit.patches import check_whole_patches
from zoo_vit.stages import Count, Counts, Width


class SwinConfig(TimmClassifierConfig):
    """Config of `Swin`. `image_size` is fixed when it is built: sides are whole patches, and a map that its windows do
    not fill is padded."""

    own_size: ClassVar[int] = 224
    patch_size: Count = Field(4, description="pixels of a patch's side")
    width: Width = Field(96, description="values a token in the first stage; doubled in every further one")
    depths: Counts = Field((2, 2, 6, 2), description="blocks, stage by stage")
    heads: Counts = Field((3, 6, 12, 24), description="attention heads of a block, stage by stage")
    window_size: Count = Field(7, description="tokens along a window's side; a smaller map is one window")
    pad_before_shift: bool = Field(
        False,
        description="pad a map that windows do not fill before it is shifted, as transformers and torchvision do; "
        "timm pads it afterwards",
    )

    @model_validator(mode="after")
    def _whole_patches(self) -> Self:
        check_whole_patches(self.image_size or self.own_size, self.patch_size)
        return self

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        for stage, heads in enumerate(self.heads):
            values = self.width * 2**stage
            if values % heads:
                raise OptionError(
                    f"the {values} values of stage {stage} are not divided among {heads} heads",
                    asked=f"width={self.width}, heads={self.heads}",
                    fix="heads=(1, 2, 4, 8)",
                )
        return self


class Swin(TimmClassifier):
    """Swin Transformer, its first version."""

    Config = SwinConfig

    @classmethod
    def architecture(cls, config: SwinConfig) -> str:
        return "swin_tiny_patch4_window7_224"

    @classmethod
    def arguments(cls, config: SwinConfig) -> Mapping[str, Argument]:
        return {
            "patch_size": config.patch_size,
            "embed_dim": config.width,
            "depths": config.depths,
            "num_heads": config.heads,
            "window_size": config.window_size,
            **({"pad_before_shift": True} if config.pad_before_shift else {}),
        }

    @classmethod
    def published(cls, config: SwinConfig) -> Mapping[str, StateMap]:
        return {"transformers": TRANSFORMERS_KEYS, "original": ORIGINAL_KEYS, "torchvision": TORCHVISION_KEYS}


COMPUTED = Drop(r".*\.(relative_position_index|relative_coords_table|attn_mask)", "computed, not learned")

# The authors, and transformers, merge patches at the end of a stage; timm at the beginning of the next.
MERGED_AT_THE_END = Renumber(r"layers.(\d+).downsample.(.+)", 1)

ORIGINAL_KEYS = KeyMap(COMPUTED, MERGED_AT_THE_END, Rename(r"head.(weight|bias)", r"head.fc.\1"))

_BLOCK = r"layers.(\d+).blocks.(\d+)"

TRANSFORMERS_KEYS = KeyMap(
    COMPUTED,
    Prefix("swin.embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    Prefix("swin.embeddings.norm.", "patch_embed.norm."),
    Prefix("swin.layernorm.", "norm."),
    Prefix("swin.encoder.layers.", "layers."),
    Prefix("classifier.", "head.fc."),
    MERGED_AT_THE_END,
    Merge(
        [rf"{_BLOCK}.attention.self.{part}.(weight|bias)" for part in ("query", "key", "value")],
        r"layers.\1.blocks.\2.attn.qkv.\3",
    ),
    Rename(
        rf"{_BLOCK}.attention.self.relative_position_bias_table",
        r"layers.\1.blocks.\2.attn.relative_position_bias_table",
    ),
    Rename(rf"{_BLOCK}.attention.output.dense.(.+)", r"layers.\1.blocks.\2.attn.proj.\3"),
    Rename(rf"{_BLOCK}.layernorm_before.(.+)", r"layers.\1.blocks.\2.norm1.\3"),
    Rename(rf"{_BLOCK}.layernorm_after.(.+)", r"layers.\1.blocks.\2.norm2.\3"),
    Rename(rf"{_BLOCK}.intermediate.dense.(.+)", r"layers.\1.blocks.\2.mlp.fc1.\3"),
    Rename(rf"{_BLOCK}.output.dense.(.+)", r"layers.\1.blocks.\2.mlp.fc2.\3"),
)

# torchvision counts the stem, the stages and what is between them as one sequence.
TORCHVISION_KEYS = KeyMap(
    COMPUTED,
    Prefix("features.0.0.", "patch_embed.proj."),
    Prefix("features.0.2.", "patch_embed.norm."),
    *(Rename(rf"features.{2 * i + 1}.(\d+).(.+)", rf"layers.{i}.blocks.\1.\2") for i in range(4)),
    *(Prefix(f"features.{2 * i}.", f"layers.{i}.downsample.") for i in range(1, 4)),
    Rename(rf"{_BLOCK}.mlp.0.(.+)", r"layers.\1.blocks.\2.mlp.fc1.\3"),
    Rename(rf"{_BLOCK}.mlp.3.(.+)", r"layers.\1.blocks.\2.mlp.fc2.\3"),
    Rename(r"head.(weight|bias)", r"head.fc.\1"),
)
