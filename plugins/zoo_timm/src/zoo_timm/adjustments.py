"""What published networks have and timm's constructors have no word for, set on a built encoder.

`TimmClassifier.arguments` may name these beside timm's own:

    norm_eps             of every LayerNorm: transformers' ViT was published with 1e-12, timm builds 1e-6
    position_antialias   how positions follow the image's size in a plain ViT built with `dynamic_img_size`:
    position_offset      DINOv2's own code interpolates without antialiasing and by (side + 0.1) / side
    pad_before_shift     a map that Swin's windows do not fill is padded before it is shifted, as transformers and
                         torchvision do; timm shifts first

`compute_biases` is for every encoder: none keeps attention biases from one pass to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import efficientformer, efficientformer_v2, efficientvit_msra, levit, tiny_vit
from timm.models.swin_transformer import SwinTransformerBlock
from timm.models.swin_transformer_v2 import SwinTransformerV2Block
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from zoo.errors import OptionError

ADJUSTMENTS = ("norm_eps", "position_antialias", "position_offset", "pad_before_shift")


def adjust(encoder: nn.Module, values: Mapping[str, Any]) -> None:
    """Set what `values` name. Raises `OptionError` where the encoder has nothing of the kind."""
    if "norm_eps" in values:
        norms = [module for module in encoder.modules() if isinstance(module, nn.LayerNorm)]
        if not norms:
            raise OptionError(f"{type(encoder).__name__} has no LayerNorm", asked=f"norm_eps={values['norm_eps']}")
        for norm in norms:
            norm.eps = values["norm_eps"]
    if values.keys() & {"position_antialias", "position_offset"}:
        if type(encoder) is not VisionTransformer or not encoder.dynamic_img_size:
            raise OptionError(
                f"the positions of this {type(encoder).__name__} do not follow the image's size",
                fix="dynamic_img_size=True, with a plain ViT",
            )
        encoder.__class__ = InterpolatedPositions  # the same parameters, another way to read one of them
        encoder.position_antialias = values.get("position_antialias", False)
        encoder.position_offset = values.get("position_offset", 0.0)
    if values.get("pad_before_shift"):
        _pad_before_shift(encoder)


def compute_biases(encoder: nn.Module) -> None:
    """Have LeViT and its kin compute their attention biases in every pass.

    In evaluation timm keeps those of the first pass: they outlive weights loaded later, carry a graph that is freed by
    the first backward pass, and cannot be copied.
    """
    for module in encoder.modules():
        if type(module) in _COMPUTED:
            module.__class__ = _COMPUTED[type(module)]  # the same parameters


class ComputedBiases:
    """Attention whose biases (heads, queries, keys) are looked up anew in every pass."""

    attention_biases: Tensor
    attention_bias_idxs: Tensor

    def get_attention_biases(self, device: torch.device) -> Tensor:
        return self.attention_biases[:, self.attention_bias_idxs]


class LevitAttention(ComputedBiases, levit.Attention):
    """Of LeViT."""


class LevitAttentionDownsample(ComputedBiases, levit.AttentionDownsample):
    """Of LeViT, between its stages."""


class TinyVitAttention(ComputedBiases, tiny_vit.Attention):
    """Of TinyViT."""


class EfficientVitAttention(ComputedBiases, efficientvit_msra.CascadedGroupAttention):
    """Of Microsoft's EfficientViT."""


class EfficientFormerAttention(ComputedBiases, efficientformer.Attention):
    """Of EfficientFormer."""


class EfficientFormerV2Attention(ComputedBiases, efficientformer_v2.Attention2d):
    """Of EfficientFormerV2."""


class EfficientFormerV2AttentionDownsample(ComputedBiases, efficientformer_v2.Attention2dDownsample):
    """Of EfficientFormerV2, between its stages."""


_COMPUTED: Mapping[type[nn.Module], type[nn.Module]] = {
    kind.__bases__[1]: kind
    for kind in (
        LevitAttention,
        LevitAttentionDownsample,
        TinyVitAttention,
        EfficientVitAttention,
        EfficientFormerAttention,
        EfficientFormerV2Attention,
        EfficientFormerV2AttentionDownsample,
    )
}


class InterpolatedPositions(VisionTransformer):
    """A plain ViT whose positions are interpolated for every image as DINOv2's own code does it."""

    position_antialias: bool
    position_offset: float

    def _pos_embed(self, x: Tensor) -> Tensor:
        batch, height, width, _ = x.shape
        patches = x.flatten(1, 2)  # (B, N, D)
        own = 0 if self.no_embed_class else self.num_prefix_tokens  # prefix tokens that have positions
        prefix = [token.expand(batch, -1, -1) for token in (self.cls_token, self.reg_token) if token is not None]
        positions = torch.cat([self.pos_embed[:, :own], self._positions(height, width, own)], dim=1)
        if self.no_embed_class:
            tokens = torch.cat([*prefix, patches + positions], dim=1)
        else:
            tokens = torch.cat([*prefix, patches], dim=1) + positions
        return self.pos_drop(tokens)

    def _positions(self, height: int, width: int, own: int) -> Tensor:
        """Positions of the patches (1, height * width, D)."""
        rows, columns = self.patch_embed.grid_size
        positions = self.pos_embed[:, own:]
        if (rows, columns) == (height, width):
            return positions
        grid = positions.float().unflatten(1, (rows, columns)).permute(0, 3, 1, 2)
        if self.position_offset:
            scale = ((height + self.position_offset) / rows, (width + self.position_offset) / columns)
            grid = F.interpolate(grid, scale_factor=scale, mode="bicubic", antialias=self.position_antialias)
        else:
            grid = F.interpolate(grid, size=(height, width), mode="bicubic", antialias=self.position_antialias)
        return grid.flatten(2).transpose(1, 2).to(positions.dtype)


def _pad_before_shift(encoder: nn.Module) -> None:
    padded = {SwinTransformerBlock: PaddedBlock, SwinTransformerV2Block: PaddedV2Block}
    blocks = [module for module in encoder.modules() if type(module) in padded]
    if not blocks:
        raise OptionError(f"{type(encoder).__name__} has no shifted windows", asked="pad_before_shift=True")
    for block in blocks:
        block.__class__ = padded[type(block)]  # the same parameters, in windows that are whole before they are shifted


class PaddedBlock(SwinTransformerBlock):
    """A block of Swin whose map (B, H, W, D) is padded to whole windows before it is shifted."""

    def _attn(self, x: Tensor) -> Tensor:
        return super()._attn(_whole_windows(x, self.window_size))[:, : x.shape[1], : x.shape[2]]


class PaddedV2Block(SwinTransformerV2Block):
    """A block of Swin V2 whose map (B, H, W, D) is padded to whole windows before it is shifted."""

    def _attn(self, x: Tensor) -> Tensor:
        return super()._attn(_whole_windows(x, self.window_size))[:, : x.shape[1], : x.shape[2]]


def _whole_windows(tokens: Tensor, window: tuple[int, int]) -> Tensor:
    return F.pad(tokens, (0, 0, 0, -tokens.shape[2] % window[1], 0, -tokens.shape[1] % window[0]))
