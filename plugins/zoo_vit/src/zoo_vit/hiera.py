"""Hiera: a hierarchical transformer of plain parts. Ryali et al. 2023, arXiv:2306.00989; as SAM 2's image trunk, with
positions that windows share, Bolya et al. 2023, arXiv:2311.05613 and Ravi et al. 2024, arXiv:2408.00714.

images (B, C, H, W) -> 4x4 patches of 7x7 pixels -> 4 stages, strides 4, 8, 16, 32, the width doubled between them
    -> mean over the tokens, norm: embeddings (B, 8 D) -> logits (B, K)

`Hiera` keeps its tokens in the order of nested windows (B, N, D); `SAM2Hiera` keeps maps (B, h, w, D).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field, model_validator

from zoo.checkpoints.keymap import Drop, KeyMap, Piece, Pieces, Prefix, Rename, Rule, StateMap
from zoo_timm.adapter import Argument, TimmClassifier, TimmClassifierConfig
from zoo_vit.stages import Count, Counts, Width, check_global_blocks

_BlockIndex = Annotated[int, Field(ge=0, le=4095)]


class HieraConfig(TimmClassifierConfig):
    """Config of `Hiera`. `image_size` is fixed when it is built: sides are multiples of 32. Its positions
    are not interpolated, here as in timm: weights serve the image size they were trained at."""

    spellings: ClassVar[Mapping[str, str]] = {"stages": "depths"}
    width: Width = Field(96, description="values a token in the first stage; doubled in every further one")
    depths: Counts = Field((2, 3, 16, 3), description="blocks, stage by stage")
    heads: Count = Field(1, description="attention heads of a block in the first stage; doubled in every further one")


class Hiera(TimmClassifier):
    """Hiera, whose first two stages attend within windows of the mask units it was pre-trained with."""

    Config = HieraConfig

    @classmethod
    def architecture(cls, config: HieraConfig) -> str:
        return "hiera_base_224"

    @classmethod
    def arguments(cls, config: HieraConfig) -> Mapping[str, Argument]:
        return {"embed_dim": config.width, "stages": config.depths, "num_heads": config.heads}

    @classmethod
    def published(cls, config: HieraConfig) -> Mapping[str, StateMap]:
        return {"original": ORIGINAL_KEYS}


class SAM2HieraConfig(TimmClassifierConfig):
    """Config of `SAM2Hiera`."""

    spellings: ClassVar[Mapping[str, str]] = {
        "stages": "depths",
        "window_spec": "window_sizes",
        "global_att_blocks": "global_blocks",
    }
    num_classes: int = Field(0, ge=0, le=10_000_000, description="outputs of a classifier; 0: no classifier")
    width: Width = Field(96, description="values a token in the first stage; doubled in every further one")
    depths: Counts = Field((1, 2, 7, 2), description="blocks, stage by stage")
    heads: Count = Field(1, description="attention heads of a block in the first stage; doubled in every further one")
    window_sizes: Counts = Field((8, 4, 14, 7), description="tokens along a window's side, stage by stage")
    global_blocks: tuple[_BlockIndex, ...] = Field(
        (5, 7, 9), max_length=4096, description="blocks that attend to the whole map, counted over all stages from 0"
    )
    positions: Count = Field(7, description="cells a side of the coarse positions, interpolated to every image's size")

    @model_validator(mode="after")
    def _blocks_that_are_there(self) -> Self:
        check_global_blocks(self.global_blocks, sum(self.depths))
        return self


class SAM2Hiera(TimmClassifier):
    """The image trunk of SAM 2, without its neck. Takes images of any size whose sides are multiples of 32."""

    task = "features"
    Config = SAM2HieraConfig

    @classmethod
    def architecture(cls, config: SAM2HieraConfig) -> str:
        return "sam2_hiera_tiny"

    @classmethod
    def arguments(cls, config: SAM2HieraConfig) -> Mapping[str, Argument]:
        return {
            "embed_dim": config.width,
            "stages": config.depths,
            "num_heads": config.heads,
            "window_spec": config.window_sizes,
            "global_att_blocks": config.global_blocks,
            "global_pos_size": (config.positions, config.positions),
        }

    @classmethod
    def published(cls, config: SAM2HieraConfig) -> Mapping[str, StateMap]:
        added = AddedNorm(8 * config.width)
        return {
            "original": KeyMap(*SAM2_ORIGINAL_RULES, added),
            "transformers": KeyMap(*SAM2_TRANSFORMERS_RULES, added),
        }


class AddedNorm(Rule):
    """timm's trunk norms its pooled embedding, and SAM 2 was published without a norm there: its scales are ones and
    its biases zeros. Saving leaves them out. width: values they have."""

    def __init__(self, width: int) -> None:
        self.width = width

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native."""
        near = pieces["pos_embed"].tensor if "pos_embed" in pieces else torch.empty(0)
        how = "not in the file: SAM 2 has no norm here"
        added = {
            "head.norm.weight": Piece(near.new_ones(self.width), "", how),
            "head.norm.bias": Piece(near.new_zeros(self.width), "", how),
        }
        return {**added, **pieces}

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published."""
        return {name: piece for name, piece in pieces.items() if not name.startswith("head.")}


ORIGINAL_KEYS = KeyMap(
    Rename(r"norm.(weight|bias)", r"head.norm.\1"),
    Rename(r"head.projection.(weight|bias)", r"head.fc.\1"),
)

_NO_TRUNK = "not of the image trunk"

SAM2_ORIGINAL_RULES = (
    Drop(r"(?!image_encoder\.trunk\.).*", _NO_TRUNK),
    Prefix("image_encoder.trunk.", ""),
    Rename(r"blocks.(\d+).mlp.layers.0.(.+)", r"blocks.\1.mlp.fc1.\2"),
    Rename(r"blocks.(\d+).mlp.layers.1.(.+)", r"blocks.\1.mlp.fc2.\2"),
)

SAM2_TRANSFORMERS_RULES = (
    Drop(r"(?!vision_encoder\.backbone\.).*", _NO_TRUNK),
    Prefix("vision_encoder.backbone.", ""),
    Prefix("patch_embed.projection.", "patch_embed.proj."),
    Rename(r"blocks.(\d+).layer_norm(1|2).(.+)", r"blocks.\1.norm\2.\3"),
    Rename(r"blocks.(\d+).mlp.proj_in.(.+)", r"blocks.\1.mlp.fc1.\2"),
    Rename(r"blocks.(\d+).mlp.proj_out.(.+)", r"blocks.\1.mlp.fc2.\2"),
)
