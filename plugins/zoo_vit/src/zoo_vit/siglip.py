"""SigLIP's image tower, of SigLIP 2 in its fixed sizes too: a vision transformer pooled by attention. Zhai et al. 2023,
arXiv:2303.15343; Tschannen et al. 2025, arXiv:2502.14786.

images (B, C, H, W) -> patches (B, N, D), positions added -> `depth` blocks -> norm
    -> one learned query attends to all tokens, MLP: embeddings (B, D)

There is no class token and no projection: `embeddings` are themselves the coordinates of the space that images share
with text, and published towers give no `logits`. Normalised to length one, their dot products with a text's
coordinates say how well the two agree; the text tower, its scale and its shift are not here.

The MLPs' GELU is the approximation with tanh, as the towers were trained and as transformers computes it. timm, with
the same weights, has the exact one in the older of its architectures: `activation="gelu"` computes what these do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from zoo.checkpoints.keymap import Drop, KeyMap, Prefix, Rename, Reshape, Split, StateMap
from zoo.specs import InputSpec
from zoo_timm.adapter import TimmBackbone, TimmClassifier, TimmClassifierConfig
from zoo_vit.clip import INDEX, TEMPERATURE, TEXT_TOWER, block_rules
from zoo_vit.patches import check_whole_patches


class SigLIPImageEncoderConfig(TimmClassifierConfig):
    """Config of `SigLIPImageEncoder`."""

    patch_size: int = Field(16, ge=1, le=1024, description="pixels of a patch's side")
    width: int = Field(768, ge=1, le=65536, description="values a token")
    depth: int = Field(12, ge=1, le=1000, description="blocks")
    heads: int = Field(12, ge=1, le=1024, description="attention heads a block, and of the pooling")
    mlp_ratio: float = Field(4.0, gt=0, le=64, description="hidden values of a block's MLP, in widths")
    activation: Literal["gelu_tanh", "gelu"] = Field("gelu_tanh", description="between the layers of the MLPs")
    num_classes: int = Field(0, ge=0, le=10_000_000, description="outputs of a classifier over the embeddings; 0: none")

    @model_validator(mode="after")
    def _whole_patches(self) -> Self:
        # So400m/14 was published for 384 pixels, of which it never sees the last six.
        if (self.image_size, self.patch_size) != (384, 14):
            check_whole_patches(self.image_size or 224, self.patch_size)
        return self


class SigLIPImageEncoder(TimmClassifier):
    """SigLIP's image tower: B/16 to So400m/14, and SigLIP 2's up to giant-opt/16."""

    Config = SigLIPImageEncoderConfig

    def __init__(self, config: SigLIPImageEncoderConfig) -> None:
        super().__init__(config)
        self.input_spec = _stretched(self.input_spec)

    @classmethod
    def architecture(cls, config: SigLIPImageEncoderConfig) -> str:
        return "vit_base_patch16_siglip_224"

    @classmethod
    def arguments(cls, config: SigLIPImageEncoderConfig) -> Mapping[str, bool | int | float | str]:
        return {
            "patch_size": config.patch_size,
            "embed_dim": config.width,
            "depth": config.depth,
            "num_heads": config.heads,
            "mlp_ratio": config.mlp_ratio,
            "act_layer": config.activation,
        }

    @classmethod
    def published(cls, config: SigLIPImageEncoderConfig) -> Mapping[str, StateMap]:
        return {"open_clip": OPEN_CLIP_KEYS, "transformers": transformers_keys(config.width)}

    @classmethod
    def as_backbone(cls, config: Any, out_indices: Sequence[int] | None = None) -> TimmBackbone:
        backbone = super().as_backbone(config, out_indices)
        backbone.input_spec = _stretched(backbone.input_spec)
        return backbone


def _stretched(spec: InputSpec) -> InputSpec:
    """As the towers were trained: the whole image, not its middle."""
    return replace(spec, resize="stretch", crop_pct=1.0)


# open_clip holds timm's own tower.
OPEN_CLIP_KEYS = KeyMap(
    Drop(r"text\..+", TEXT_TOWER),
    Drop("logit_scale|logit_bias", TEMPERATURE),
    Prefix("visual.trunk.", ""),
)


def transformers_keys(width: int) -> KeyMap:
    """`SiglipModel` and `SiglipVisionModel` of transformers."""
    return KeyMap(
        Drop(r"text_model\..+", TEXT_TOWER),
        Drop("logit_scale|logit_bias", TEMPERATURE),
        Drop(r"(vision_model\.)?embeddings\.position_ids", INDEX),
        Prefix("vision_model.", ""),
        Prefix("embeddings.patch_embedding.", "patch_embed.proj."),
        Rename("embeddings.position_embedding.weight", "pos_embed"),
        Reshape("pos_embed", (-1, width), (1, -1, width)),
        Prefix("post_layernorm.", "norm."),
        *block_rules(),
        Rename("head.probe", "attn_pool.latent"),
        Split(
            "head.attention.in_proj_(weight|bias)",
            (r"attn_pool.q.\1", r"attn_pool.kv.\1"),
            sizes=(width, 2 * width),
        ),
        Prefix("head.attention.out_proj.", "attn_pool.proj."),
        Prefix("head.layernorm.", "attn_pool.norm."),
        Prefix("head.mlp.", "attn_pool.mlp."),
    )
