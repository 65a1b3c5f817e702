"""Attention as maps: where the class token looks, in one layer and through all of them.

attentions, one (B, heads, N, N) a layer -> (B, r, c): the share of each patch, N = prefix tokens + r * c
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt
from typing import Literal, get_args

import torch
from torch import Tensor

from zoo.errors import InputError, OptionError, UnsupportedError

HeadFusion = Literal["mean", "max", "min"]
Read = Literal["class", "mean"]

_PREFIX = 8  # tokens: a class token, a distilled one and registers are fewer


def attention_rollout(
    attentions: Sequence[Tensor],
    *,
    grid: tuple[int, int] | None = None,
    head_fusion: HeadFusion = "mean",
    discard_ratio: float = 0.0,
    read: Read | None = None,
) -> Tensor:
    """How much of each patch reaches the answer through all layers. Abnar & Zuidema 2020, arXiv:2005.00928.

    A layer passes on half of what it attends to and half of what was there: A = (fused + 1) / 2, its rows adding up
    to one; the rollout is the product of all layers' A. Which of its rows counts is the model's: a model that averages
    its patches does so whether it has a class token or not, and the weights do not say it (`zoo explain` asks the
    model).

    Args:
        attentions: `model(images, output_attentions=True)["attentions"]`: (B, heads, N, N) each.
        grid: (rows, columns) of the patches; None: the largest square that N has room for, if at most 8 tokens are
            over. These are prefix tokens, the first of which is the class token.
        head_fusion: how the heads of a layer become one.
        discard_ratio: the share of a layer's weakest weights that is set to zero, in [0, 1).
        read: `class`, off the first token; `mean`, averaged over the patches; None: off the first token where there
            are prefix tokens.

    Returns:
        (B, rows, columns), float32.

    Raises:
        UnsupportedError: layers that do not all attend over one and the same grid, such as windows.
        OptionError: an option out of its range.
    """
    if not isinstance(discard_ratio, int | float) or not 0 <= discard_ratio < 1:
        raise OptionError("discard_ratio is a share in [0, 1)", asked=f"{discard_ratio}", fix="discard_ratio=0.9")
    check_one_grid(attentions)
    tokens = attentions[0].shape[-1]
    rows, columns = token_grid(tokens, grid)
    own = torch.eye(tokens, device=attentions[0].device)
    reached = own
    for attention in attentions:
        fused = _without_weakest(fuse_heads(attention, head_fusion), discard_ratio)  # (B, N, N)
        mixed = fused + own
        reached = mixed / mixed.sum(-1, keepdim=True) @ reached
    return read_off(reached, (rows, columns), read)


def class_attention(
    attention: Tensor,
    *,
    grid: tuple[int, int] | None = None,
    head_fusion: HeadFusion = "mean",
    read: Read | None = None,
) -> Tensor:
    """What the class token of one layer (B, heads, N, N) attends to; the mean over all patches where there is none.

    Returns:
        (B, rows, columns), float32. Other arguments and errors as of `attention_rollout`.
    """
    check_one_grid([attention])
    return read_off(fuse_heads(attention, head_fusion), token_grid(attention.shape[-1], grid), read)


def check_one_grid(attentions: Sequence[Tensor]) -> None:
    """Raise `UnsupportedError` unless every layer attends over the same tokens, all of them at once."""
    if not isinstance(attentions, Sequence) or not attentions:
        raise InputError("there are no attentions", fix='model(images, output_attentions=True)["attentions"]')
    shapes = [tuple(attention.shape) for attention in attentions]
    for number, shape in enumerate(shapes):
        if len(shape) != 4 or shape[-1] != shape[-2]:
            raise _windowed(f"layer {number} has weights {shape}, not (B, heads, N, N)")
        if (shape[0], shape[-1]) != (shapes[0][0], shapes[0][-1]):
            raise _windowed(f"layer {number} has weights {shape}, layer 0 {shapes[0]}")


def token_grid(tokens: int, grid: tuple[int, int] | None) -> tuple[int, int]:
    """(rows, columns) of the patches among that many tokens. Raises `OptionError` for a grid that cannot be."""
    if grid is None:
        side = isqrt(tokens)
        if tokens - side * side > _PREFIX:
            raise OptionError(
                f"the patches among {tokens} tokens are no square",
                asked="grid=None",
                found=f"{side} x {side} patches would leave {tokens - side * side} tokens over",
                fix="grid=(rows, columns)",
            )
        return side, side
    if not isinstance(grid, Sequence) or len(grid) != 2 or not all(type(side) is int for side in grid):
        raise OptionError("a grid is two whole numbers", asked=f"grid={grid!r}", fix="grid=(rows, columns)")
    if min(grid) < 1 or grid[0] * grid[1] > tokens:
        raise OptionError(f"a grid of {grid[0]} x {grid[1]} has not {tokens} tokens", asked=f"grid={grid}")
    return grid


def fuse_heads(attention: Tensor, head_fusion: HeadFusion) -> Tensor:
    """(B, heads, N, N) → (B, N, N) float32."""
    weights = attention.detach().float()
    if head_fusion == "mean":
        return weights.mean(1)
    if head_fusion not in get_args(HeadFusion):
        raise OptionError("heads are fused by mean, max or min", asked=str(head_fusion), fix='head_fusion="mean"')
    return weights.amax(1) if head_fusion == "max" else weights.amin(1)


def read_off(weights: Tensor, grid: tuple[int, int], read: Read | None = None) -> Tensor:
    """(B, N, N) → (B, rows, columns): the first token's row (`class`), or the mean over the patches' rows (`mean`).

    None: the first token's where there are more tokens than patches. Raises `OptionError` for another `read`, or the
    class token where every token is a patch.
    """
    prefix = weights.shape[-1] - grid[0] * grid[1]
    if read not in (None, *get_args(Read)) or (read == "class" and not prefix):
        raise OptionError(
            "weights are read off the class token, where there is one, or averaged over the patches",
            asked=f"read={read!r}",
            fix='read="mean"',
        )
    row = weights[:, 0] if (read or ("class" if prefix else "mean")) == "class" else weights[:, prefix:].mean(1)
    return row[:, prefix:].reshape(-1, *grid)


def _without_weakest(weights: Tensor, ratio: float) -> Tensor:
    """(B, N, N) with that share of each image's weights, the smallest, at zero."""
    flat = weights.flatten(1)
    weakest = flat.topk(int(flat.shape[1] * ratio), dim=1, largest=False).indices
    return flat.scatter(1, weakest, 0.0).view_as(weights)


def _windowed(found: str) -> UnsupportedError:
    return UnsupportedError(
        "these layers do not all attend over the whole image at once, as within windows, or on several scales",
        found=found,
        fix="GradCAM works for every layer that holds the image; or the last layers alone, if they are alike",
    )
