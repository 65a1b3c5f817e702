"""HiViT's published files as a state dict of ours: supervised, fine-tuned and masked pre-training ones, any size.

The authors keep the table of offsets once (fine-tuning) or in every block (supervised); their pre-training has no
relative position bias, no pooling norm, and a decoder beside the encoder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from timm.layers import resample_abs_pos_embed
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table_simple
from timm.models._manipulate import adapt_input_conv
from torch import Tensor, nn

from zoo.checkpoints.keymap import Drop, KeyMap, MappedState, Prefix
from zoo.errors import FormatError

NATIVE_KEYS = KeyMap()

ORIGINAL_KEYS = KeyMap(
    Drop(r"blocks\.\d+\.attn\.relative_position_index", "the table of offsets, of which one is enough"),
    Drop(r"(mask_token|decoder_.+)", "the decoder of masked pre-training"),
    Drop(r"norm\.(weight|bias)", "a norm over all three stages, for the decoder of masked pre-training"),
    Prefix("", "encoder.", unless=("head.",)),
)

_POSITIONS = "encoder.absolute_pos_embed"
_INDEX = "encoder.relative_position_index"
_TABLE = ".relative_position_bias_table"
_FIRST = "encoder.patch_embed.proj.weight"


class HiViTFormat:
    """Files of one layout ↔ a component that holds the encoder as `encoder`, for its image size and channels.

    Args:
        grid: rows and columns of its units. has_head: whether there is a classifier beside it.
    """

    def __init__(self, encoder: nn.Module, grid: tuple[int, int], keys: KeyMap, *, has_head: bool) -> None:
        self.encoder, self.grid, self.keys, self.has_head = encoder, grid, keys, has_head

    def load(self, tensors: Mapping[str, Tensor]) -> MappedState:
        """Published → native. Raises `FormatError` where positions of another size cannot be interpolated."""
        state = self.keys.load(tensors)
        own = {f"encoder.{name}": tensor for name, tensor in self.encoder.state_dict().items()}
        found, skipped, adapted = dict(state.tensors), dict(state.skipped), dict(state.adapted)
        moved = self._is_of_another_grid(found)
        if "mask_token" in tensors:
            _complete(found, adapted, own)
        for name, tensor in list(found.items()):
            if name.startswith("head.") and not self.has_head:
                skipped[name] = "the published classifier; this model has none"
                del found[name]
            elif name == _INDEX and moved:
                skipped[state.origins.get(name, name)] = "the table of offsets of another image size"
                del found[name]
            elif name == _FIRST and tensor.shape[2:] == own[name].shape[2:] and tensor.shape != own[name].shape:
                found[name] = adapt_input_conv(own[name].shape[1], tensor, base_chans=tensor.shape[1])
                adapted[name] = f"{tensor.shape[1]} input channels to {own[name].shape[1]}"
            elif moved and (name == _POSITIONS or name.endswith(_TABLE)) and name in state.tensors:
                found[name] = self._resized(name, tensor)
                adapted[name] = f"interpolated to {self.grid[0]} x {self.grid[1]} units"
        return MappedState(found, skipped, adapted, state.origins)

    def save(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Native → published: the names of the authors' fine-tuned files."""
        return self.keys.save(tensors)

    def _is_of_another_grid(self, found: Mapping[str, Tensor]) -> bool:
        """The number of units does not tell 8 x 8 from 4 x 16; with the number of offsets it does."""
        rows, columns = self.grid
        units = {found[_POSITIONS].shape[1]} if _POSITIONS in found else set()
        offsets = {tensor.shape[0] for name, tensor in found.items() if name.endswith(_TABLE)}
        if not offsets:  # only the authors' pre-training has none, which is of square images
            return units != {rows * columns} or rows != columns
        return units != {rows * columns} or offsets != {(2 * rows - 1) * (2 * columns - 1)}

    def _resized(self, name: str, tensor: Tensor) -> Tensor:
        """A table for square images of another size → this size."""
        count = tensor.shape[1] if name == _POSITIONS else tensor.shape[0]
        if math.isqrt(count) ** 2 != count:
            raise FormatError(
                f"{name!r} is of images that are not square, and can only be used at their size",
                found=f"{count} positions",
                fix="image_size=(height, width) of the file",
            )
        if name == _POSITIONS:
            return resample_abs_pos_embed(tensor, list(self.grid), num_prefix_tokens=0).contiguous()
        shape = ((2 * self.grid[0] - 1) * (2 * self.grid[1] - 1), tensor.shape[1])
        return resize_rel_pos_bias_table_simple(tensor.float(), self.grid, shape).to(tensor.dtype).contiguous()


def _complete(found: dict[str, Tensor], adapted: dict[str, str], own: Mapping[str, Tensor]) -> None:
    """What fine-tuning starts from beside a pre-training file: no bias, and a norm that changes nothing."""
    for name, tensor in own.items():
        table = name.endswith(_TABLE)
        if name in found or not (table or name.startswith("encoder.fc_norm.")):
            continue
        make = torch.ones_like if name.endswith("weight") else torch.zeros_like
        found[name] = make(tensor)
        adapted[name] = "not in a pre-training file: " + ("no bias" if table else "as nn.LayerNorm begins")
