"""CLIP's image tower: a vision transformer trained to agree with the text beside an image. Radford et al. 2021,
arXiv:2103.00020.

images (B, C, H, W) -> patches (B, N, D) -> class token in front, positions added -> norm -> `depth` blocks -> norm
    -> class token: embeddings (B, D) -> projection: logits (B, E)

`embeddings` are the tower's own pooled vectors. `logits` of published towers are no class scores: they are the E
coordinates of the space that images share with text. Normalised to length one, their dot products with a text's
coordinates say how well the two agree; the text tower and its temperature are not here. Towers fine-tuned as
classifiers have classes there, as everywhere else.

OpenAI trained with QuickGELU, x * sigmoid(1.702 x), and most others with GELU: `activation` says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from zoo.checkpoints.keymap import Drop, KeyMap, Merge, Piece, Pieces, Prefix, Rename, Reshape, StateMap, Transpose
from zoo.errors import FormatError
from zoo_timm.adapter import TimmClassifier, TimmClassifierConfig
from zoo_vit.patches import check_whole_patches


class CLIPImageEncoderConfig(TimmClassifierConfig):
    """Config of `CLIPImageEncoder`."""

    patch_size: int = Field(32, ge=1, le=1024, description="pixels of a patch's side")
    width: int = Field(768, ge=1, le=65536, description="values a token")
    depth: int = Field(12, ge=1, le=1000, description="blocks")
    heads: int = Field(12, ge=1, le=1024, description="attention heads a block")
    mlp_ratio: float = Field(4.0, gt=0, le=64, description="hidden values of a block's MLP, in widths")
    activation: Literal["quick_gelu", "gelu"] = Field("quick_gelu", description="between the layers of the MLPs")
    num_classes: int = Field(
        512,
        ge=0,
        le=10_000_000,
        description="outputs of the projection: coordinates of the space shared with text, or classes; 0: none",
    )

    @model_validator(mode="after")
    def _whole_patches(self) -> Self:
        check_whole_patches(self.image_size or 224, self.patch_size)
        return self


class CLIPImageEncoder(TimmClassifier):
    """CLIP's image tower: ViT-B/32 to ViT-bigG/14."""

    Config = CLIPImageEncoderConfig

    @classmethod
    def architecture(cls, config: CLIPImageEncoderConfig) -> str:
        return "vit_base_patch16_clip_quickgelu_224"

    @classmethod
    def arguments(cls, config: CLIPImageEncoderConfig) -> Mapping[str, bool | int | float | str]:
        return {
            "patch_size": config.patch_size,
            "embed_dim": config.width,
            "depth": config.depth,
            "num_heads": config.heads,
            "mlp_ratio": config.mlp_ratio,
            "act_layer": config.activation,
        }

    @classmethod
    def published(cls, config: CLIPImageEncoderConfig) -> Mapping[str, StateMap]:
        return {"original": original_keys(config.width), "transformers": transformers_keys(config.width)}


class Unbiased:
    """A layer published without a bias, kept with one: zeros on loading, left out on saving."""

    def __init__(self, layer: str) -> None:
        self.layer = layer

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native."""
        weight = pieces.get(f"{self.layer}.weight")
        if weight is None or f"{self.layer}.bias" in pieces:
            return pieces
        zeros = weight.tensor.new_zeros(weight.tensor.shape[0])
        return {**pieces, f"{self.layer}.bias": Piece(zeros, weight.origin, "zeros: published without a bias")}

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published. Raises `FormatError` for a bias that is not zero: the file has no place for it."""
        bias = pieces.get(f"{self.layer}.bias")
        if bias is not None and bool(bias.tensor.any()):
            raise FormatError(
                f"this format has no bias in {self.layer!r}, and the model's is not zero",
                found="a head that was trained further",
                fix='format="native" or "timm"',
            )
        return {name: piece for name, piece in pieces.items() if piece is not bias}


TEXT_TOWER = "the text tower: this is the image tower alone"
TEMPERATURE = "scales and shifts agreement with text: this is the image tower alone"
INDEX = "the numbers of the positions, which are their order"


def transformers_keys(width: int) -> KeyMap:
    """`CLIPModel`, `CLIPVisionModelWithProjection` and `CLIPVisionModel` (num_classes=0) of transformers."""
    return KeyMap(
        Drop(r"text_model\..+|text_projection\..+", TEXT_TOWER),
        Drop("logit_scale", TEMPERATURE),
        Drop(r"(vision_model\.)?embeddings\.position_ids", INDEX),
        Prefix("vision_model.", "", unless=("visual_projection.",)),
        Rename("visual_projection.weight", "head.weight"),
        Unbiased("head"),
        Rename("embeddings.class_embedding", "cls_token"),
        Reshape("cls_token", (width,), (1, 1, width)),
        Rename("embeddings.position_embedding.weight", "pos_embed"),
        Reshape("pos_embed", (-1, width), (1, -1, width)),
        Rename("embeddings.patch_embedding.weight", "patch_embed.proj.weight"),
        Prefix("pre_layrnorm.", "norm_pre."),  # published so
        Prefix("post_layernorm.", "norm."),
        *block_rules(),
    )


def block_rules() -> tuple[Rename | Merge, ...]:
    """The blocks of transformers' CLIP and SigLIP towers."""
    return (
        Rename(r"encoder.layers.(\d+).layer_norm(1|2).(weight|bias)", r"blocks.\1.norm\2.\3"),
        Rename(r"encoder.layers.(\d+).mlp.(.+)", r"blocks.\1.mlp.\2"),
        Rename(r"encoder.layers.(\d+).self_attn.out_proj.(weight|bias)", r"blocks.\1.attn.proj.\2"),
        Merge(
            [rf"encoder.layers.(\d+).self_attn.{part}_proj.(weight|bias)" for part in "qkv"],
            r"blocks.\1.attn.qkv.\2",
        ),
    )


def original_keys(width: int) -> KeyMap:
    """OpenAI's and open_clip's CLIP."""
    return KeyMap(
        Drop(
            r"(transformer|token_embedding|ln_final|text)\..+|positional_embedding|text_projection(\..+)?", TEXT_TOWER
        ),
        Drop("logit_scale|logit_bias", TEMPERATURE),
        Drop("input_resolution|context_length|vocab_size", "a setting of the whole model, kept as a tensor"),
        Prefix("visual.", ""),
        Rename("proj", "head.weight"),
        Transpose(r"head\.weight"),  # published as the matrix that rows are multiplied with
        Unbiased("head"),
        Rename("class_embedding", "cls_token"),
        Reshape("cls_token", (width,), (1, 1, width)),
        Rename("positional_embedding", "pos_embed"),
        Reshape("pos_embed", (-1, width), (1, -1, width)),
        Prefix("conv1.", "patch_embed.proj."),
        Prefix("ln_pre.", "norm_pre."),
        Prefix("ln_post.", "norm."),
        Rename(r"transformer.resblocks.(\d+).ln_(1|2).(weight|bias)", r"blocks.\1.norm\2.\3"),
        Rename(r"transformer.resblocks.(\d+).attn.in_proj_(weight|bias)", r"blocks.\1.attn.qkv.\2"),
        Rename(r"transformer.resblocks.(\d+).attn.out_proj.(weight|bias)", r"blocks.\1.attn.proj.\2"),
        Rename(r"transformer.resblocks.(\d+).mlp.c_fc.(weight|bias)", r"blocks.\1.mlp.fc1.\2"),
        Rename(r"transformer.resblocks.(\d+).mlp.c_proj.(weight|bias)", r"blocks.\1.mlp.fc2.\2"),
    )
