"""Attention weights of a forward pass, whoever wrote the layers.

    with recorded_attention() as attentions:
        model(images)                                     # attentions: one tensor (…, heads, queries, keys) a layer

Nothing of the model is changed. `scaled_dot_product_attention` never makes the weights; here it is computed step by
step, and layers that take a softmax themselves are overheard.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from zoo.errors import UnsupportedError

_Output = TypeVar("_Output")

_SOFTMAX = frozenset({F.softmax, torch.softmax, Tensor.softmax})


@contextmanager
def recorded_attention() -> Iterator[list[Tensor]]:
    """A list that fills with the attention weights (…, heads, queries, keys) of every layer that runs meanwhile.

    Weights are those of the softmax, before dropout: rows add up to one, and in evaluation mode weights times values
    is exactly what the layer goes on with. They stay part of the graph. Costs the memory that fused attention saves.
    """
    attentions: list[Tensor] = []
    with _Recorder(attentions):
        yield attentions


def with_attentions(layers: Callable[..., _Output], *args: Any) -> tuple[_Output, list[Tensor]]:
    """What the layers give, and the attention weights of each of them. Raises `UnsupportedError` if none attends."""
    with recorded_attention() as attentions:
        output = layers(*args)
    if not attentions:
        raise UnsupportedError("this model has no attention layers", fix="output_attentions=False")
    return output, attentions


class _Recorder(TorchFunctionMode):
    def __init__(self, attentions: list[Tensor]) -> None:
        super().__init__()
        self.attentions = attentions

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            attended, weights = _attend(*args, **kwargs)
            self.attentions.append(weights)
            return attended
        result = func(*args, **kwargs)
        # Other softmaxes are over channels or branches, or over fewer dimensions than heads, queries and keys.
        if func in _SOFTMAX and result.ndim >= 4 and _dim(args, kwargs) in (-1, result.ndim - 1):
            self.attentions.append(result)
        return result


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Tensor, Tensor]:
    """`scaled_dot_product_attention`, and its weights."""
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(repeats, -3), value.repeat_interleave(repeats, -3)
    scores = (query * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)) @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    weights = scores.softmax(dim=-1)
    return F.dropout(weights, dropout_p) @ value, weights


def _dim(args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    return kwargs["dim"] if "dim" in kwargs else args[1] if len(args) > 1 else None
