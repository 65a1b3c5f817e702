"""Whole masked autoencoders, encoder and decoder. Their encoders by themselves are ViTs: `vit_b_16.mae`."""

from __future__ import annotations

from zoo.specs import CheckpointSpec, InputSpec
from zoo_vit.rows.row import Family, Size

_LICENSE = "CC-BY-NC-4.0"
_IMAGENET = ("imagenet-1k",)


def _visualize(name: str) -> CheckpointSpec:
    """Meta's file with the decoder, behind the repository's demonstration. Its pixels are not normalised."""
    return CheckpointSpec(
        name="visualize",
        sources=(f"https://dl.fbaipublicfiles.com/mae/visualize/mae_visualize_vit_{name}.pth",),
        format="original",
        license=_LICENSE,
        input=InputSpec(size=(224, 224), resize="stretch", crop_pct=1.0, interpolation="bicubic"),
        trained_on=_IMAGENET,
        notes="Trained to paint pixels as they are, not normalised; the preprocessing is that of the demonstration.",
    )


FACEBOOK_VIT_MAE_BASE = CheckpointSpec(
    name="transformers",
    sources=("hf://facebook/vit-mae-base/model.safetensors",),
    format="transformers",
    license=_LICENSE,
    input=InputSpec(size=(224, 224), resize="stretch", crop_pct=1.0, interpolation="bilinear"),
    config={"norm_eps": 1e-12},
    trained_on=_IMAGENET,
    aliases=("facebook/vit-mae-base",),
    notes="The Hub's card says Apache-2.0, the authors' repository CC-BY-NC-4.0, which is taken to hold.",
)

B = {"patch_size": 16, "width": 768, "depth": 12, "heads": 12}
L = {"patch_size": 16, "width": 1024, "depth": 24, "heads": 16}
H = {"patch_size": 14, "width": 1280, "depth": 32, "heads": 16}

# fmt: off
MASKED_AUTOENCODER = (
    Size("mae_b", B, aliases=("mae_vit_base_patch16",), elsewhere=(_visualize("base"), FACEBOOK_VIT_MAE_BASE)),
    Size("mae_l", L, aliases=("mae_vit_large_patch16",), elsewhere=(_visualize("large"),)),
    Size("mae_h", H, aliases=("mae_vit_huge_patch14",), elsewhere=(_visualize("huge"),)),
)
# fmt: on

FAMILIES = (
    Family(
        "zoo_vit.mae:MaskedAutoencoder",
        "Most patches of an image are hidden and painted from the rest",
        "https://arxiv.org/abs/2111.06377",
        MASKED_AUTOENCODER,
        formats=("original", "transformers"),
        task="masked_autoencoding",
    ),
)
