"""Names of whole masked autoencoders, encoder and decoder, in Meta's files and in transformers'."""

from __future__ import annotations

import math
from collections.abc import Mapping

from timm.layers import resample_abs_pos_embed
from torch import Tensor

from zoo.checkpoints.keymap import KeyMap, MappedState, Merge, Prefix, Rename, Rule
from zoo.errors import FormatError


def _layers(published: str, native: str) -> tuple[Rule, ...]:
    """transformers' layers, with query, key and value apart, as timm's blocks."""
    parts = [rf"{published}.(\d+).attention.attention.{name}.(weight|bias)" for name in ("query", "key", "value")]
    return (
        Merge(parts, rf"{native}.\1.attn.qkv.\2"),
        Rename(rf"{published}.(\d+).attention.output.dense.(.+)", rf"{native}.\1.attn.proj.\2"),
        Rename(rf"{published}.(\d+).intermediate.dense.(.+)", rf"{native}.\1.mlp.fc1.\2"),
        Rename(rf"{published}.(\d+).output.dense.(.+)", rf"{native}.\1.mlp.fc2.\2"),
        Rename(rf"{published}.(\d+).layernorm_before.(.+)", rf"{native}.\1.norm1.\2"),
        Rename(rf"{published}.(\d+).layernorm_after.(.+)", rf"{native}.\1.norm2.\2"),
    )


NATIVE_KEYS = KeyMap()

ORIGINAL_KEYS = KeyMap(
    Rename("mask_token", "decoder.mask_token"),
    Rename("decoder_pos_embed", "decoder.pos_embed"),
    *(Prefix(f"decoder_{part}.", f"decoder.{part}.") for part in ("embed", "blocks", "norm", "pred")),
    Prefix("", "encoder.", unless=("decoder.",)),
)

TRANSFORMERS_KEYS = KeyMap(
    Rename("vit.embeddings.cls_token", "encoder.cls_token"),
    Rename("vit.embeddings.position_embeddings", "encoder.pos_embed"),
    Prefix("vit.embeddings.patch_embeddings.projection.", "encoder.patch_embed.proj."),
    Prefix("vit.layernorm.", "encoder.norm."),
    *_layers("vit.encoder.layer", "encoder.blocks"),
    Rename("decoder.decoder_pos_embed", "decoder.pos_embed"),
    *(Prefix(f"decoder.decoder_{part}.", f"decoder.{part}.") for part in ("embed", "norm", "pred")),
    *_layers("decoder.decoder_layers", "decoder.blocks"),
)

_POSITIONS = ("encoder.pos_embed", "decoder.pos_embed")


class MaskedAutoencoderFormat:
    """Files of one layout ↔ a model for images of `grid` rows and columns of patches.

    Args:
        square: every file of this layout is for square images, so that 4 x 16 patches are not mistaken for 8 x 8.
    """

    def __init__(self, keys: KeyMap, grid: tuple[int, int], *, square: bool) -> None:
        self.keys, self.grid, self.square = keys, grid, square

    def load(self, tensors: Mapping[str, Tensor]) -> MappedState:
        """Published → native, positions interpolated where the file is for images of another size."""
        state = self.keys.load(tensors)
        rows, columns = self.grid
        for name in _POSITIONS:
            positions = state.tensors.get(name)
            if positions is None or positions.ndim != 3:
                continue
            count = positions.shape[1] - 1
            if count == rows * columns and (rows == columns or not self.square):
                continue
            if math.isqrt(count) ** 2 != count:
                raise FormatError(
                    f"{name!r} is of images that are not square, and can only be used at their size",
                    found=f"{count} positions",
                    fix="image_size=(height, width) of the file",
                )
            state.tensors[name] = resample_abs_pos_embed(positions, [rows, columns]).contiguous()
            state.adapted[name] = f"interpolated to {rows} x {columns} patches"
        return state

    def save(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Native → published."""
        return self.keys.save(tensors)
