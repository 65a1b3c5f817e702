"""ViT: an image as a sequence of patches. Dosovitskiy et al. 2020, arXiv:2010.11929.

images (B, C, H, W) -> patches (B, N, D) -> class token in front, positions added -> `depth` blocks -> norm
    -> class token: embeddings (B, D) -> logits (B, K)

A block is attention and an MLP, each behind a LayerNorm and added to what came in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from zoo.checkpoints.keymap import Chosen, Drop, Formerly, KeyMap, Merge, Pieces, Prefix, Rename, StateMap
from zoo.errors import FormatError
from zoo_timm.adapter import TimmClassifier, TimmClassifierConfig
from zoo_vit.patches import check_whole_patches


class PlainTransformerConfig(TimmClassifierConfig):
    """What every plain vision transformer may be told."""

    patch_size: int = Field(16, ge=1, le=1024, description="pixels of a patch's side")
    width: int = Field(768, ge=1, le=65536, description="values a token; a multiple of `heads`")
    depth: int = Field(12, ge=1, le=1000, description="blocks")
    heads: int = Field(12, ge=1, le=1024, description="attention heads a block")
    norm_eps: float = Field(1e-6, gt=0, lt=1, description="of every LayerNorm; transformers' weights need 1e-12")

    @model_validator(mode="after")
    def _whole_patches(self) -> Self:
        check_whole_patches(self.image_size or 224, self.patch_size)
        return self

    def trunk(self) -> dict[str, bool | int | float | str]:
        """These fields in timm's words."""
        return {
            "patch_size": self.patch_size,
            "embed_dim": self.width,
            "depth": self.depth,
            "num_heads": self.heads,
            "norm_eps": self.norm_eps,
        }


class VisionTransformerConfig(PlainTransformerConfig):
    """Config of `VisionTransformer`."""

    mlp_ratio: float = Field(4.0, gt=0, le=64, description="hidden values of a block's MLP a value of the token")
    pool: Literal["token", "avg"] = Field(
        "token", description="the embedding: the class token, or the mean of the patches with the norm behind it"
    )
    pre_norm: bool = Field(False, description="a LayerNorm before the blocks, and patches without bias, as in CLIP")


class VisionTransformer(TimmClassifier):
    """A plain vision transformer."""

    Config = VisionTransformerConfig

    @classmethod
    def architecture(cls, config: VisionTransformerConfig) -> str:
        return "vit_base_patch16_224"

    @classmethod
    def arguments(cls, config: VisionTransformerConfig) -> Mapping[str, bool | int | float | str]:
        return {
            **config.trunk(),
            "mlp_ratio": config.mlp_ratio,
            "global_pool": config.pool,
            "pre_norm": config.pre_norm,
        }

    @classmethod
    def published(cls, config: VisionTransformerConfig) -> Mapping[str, StateMap]:
        return {"torchvision": TORCHVISION_KEYS, "transformers": transformers_keys("vit", {"classifier.": "head."})}


def transformers_keys(trunk: str, heads: Mapping[str, str]) -> KeyMap:
    """The names of a plain transformer in transformers' files, with their trunk behind `trunk.` or, where only the
    trunk was published, behind nothing; saving puts it there.

    Args:
        heads: beginnings of the classifiers' names there → here.
    """
    layer = r"encoder.layer.(\d+)"
    return KeyMap(
        Prefix(f"{trunk}.", "", unless=tuple(heads)),
        Drop(r"pooler\.dense\.(weight|bias)", "the pooler, which no classifier of this family reads"),
        Rename("embeddings.position_embeddings", "pos_embed"),
        Prefix("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
        Rename("embeddings.distillation_token", "dist_token"),
        Rename("embeddings.cls_token", "cls_token"),
        Merge(
            [rf"{layer}.attention.attention.{part}.(weight|bias)" for part in ("query", "key", "value")],
            r"blocks.\1.attn.qkv.\2",
        ),
        Rename(rf"{layer}.attention.output.dense.(.+)", r"blocks.\1.attn.proj.\2"),
        Rename(rf"{layer}.intermediate.dense.(.+)", r"blocks.\1.mlp.fc1.\2"),
        Rename(rf"{layer}.output.dense.(.+)", r"blocks.\1.mlp.fc2.\2"),
        Rename(rf"{layer}.layernorm_before.(.+)", r"blocks.\1.norm1.\2"),
        Rename(rf"{layer}.layernorm_after.(.+)", r"blocks.\1.norm2.\2"),
        Prefix("layernorm.", "norm."),
        *(Prefix(published, native) for published, native in heads.items()),
        Nowhere(_NORMS, "transformers has no ViT with these"),
    )


class Nowhere:
    """Tensors of ours that the published layout has no place for: a model that has them is not written in it."""

    def __init__(self, names: str, why: str) -> None:
        self.names, self.why = Chosen(names), why

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native."""
        return pieces

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published. Raises `FormatError` where there are such tensors."""
        left = [name for name in pieces if name in self.names]
        if left:
            raise FormatError(self.why, found=", ".join(left), fix='format="native", or "timm"')
        return pieces


_NORMS = r"(norm_pre|fc_norm)\..+"  # of CLIP's towers, and of a ViT that pools its patches
_LAYER = r"encoder.layers.encoder_layer_(\d+)"
TORCHVISION_KEYS = KeyMap(
    Formerly(rf"{_LAYER}.mlp.linear_1.(.+)", r"encoder.layers.encoder_layer_\1.mlp.0.\2"),
    Formerly(rf"{_LAYER}.mlp.linear_2.(.+)", r"encoder.layers.encoder_layer_\1.mlp.3.\2"),
    Rename("class_token", "cls_token"),
    Rename("encoder.pos_embedding", "pos_embed"),
    Prefix("conv_proj.", "patch_embed.proj."),
    Rename(rf"{_LAYER}.ln_(1|2).(.+)", r"blocks.\1.norm\2.\3"),
    Rename(rf"{_LAYER}.self_attention.in_proj_(weight|bias)", r"blocks.\1.attn.qkv.\2"),
    Rename(rf"{_LAYER}.self_attention.out_proj.(.+)", r"blocks.\1.attn.proj.\2"),
    Rename(rf"{_LAYER}.mlp.0.(.+)", r"blocks.\1.mlp.fc1.\2"),
    Rename(rf"{_LAYER}.mlp.3.(.+)", r"blocks.\1.mlp.fc2.\2"),
    Prefix("encoder.ln.", "norm."),
    Prefix("heads.head.", "head."),
    Nowhere(_NORMS, "torchvision has no ViT with these"),
)
