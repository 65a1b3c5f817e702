"""Recorded attention against torch's own kernels, with every argument they take."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.errors import UnsupportedError
from zoo.models.attention import recorded_attention, with_attentions

Q, K, V = torch.randn(2, 4, 5, 8), torch.randn(2, 4, 7, 8), torch.randn(2, 4, 7, 3)
BIAS = torch.randn(2, 1, 5, 7)
VISIBLE = torch.rand(5, 7) > 0.3
VISIBLE[:, 0] = True


@pytest.mark.parametrize(
    ("arguments", "key", "value"),
    [
        ({}, K, V),
        ({"scale": 0.1}, K, V),
        ({"attn_mask": BIAS}, K, V),
        ({"attn_mask": VISIBLE}, K, V),
        ({"is_causal": True}, K, V),
        ({"enable_gqa": True}, K[:, :2], V[:, :2]),
    ],
    ids=["plain", "scale", "bias", "mask", "causal", "grouped"],
)
def test_the_weights_are_those_of_the_kernel(arguments, key, value):
    expected = F.scaled_dot_product_attention(Q, key, value, **arguments)
    with recorded_attention() as attentions:
        attended = F.scaled_dot_product_attention(Q, key, value, **arguments)
    values = value.repeat_interleave(Q.shape[1] // value.shape[1], 1)
    assert torch.allclose(attended, expected, atol=1e-6)
    assert torch.allclose(attentions[0] @ values, expected, atol=1e-6)
    assert attentions[0].shape == (2, 4, 5, 7)


def test_a_softmax_over_keys_is_overheard_and_one_over_channels_is_not():
    scores = torch.randn(2, 3, 4, 4)
    with recorded_attention() as attentions:
        spelled = [scores.softmax(-1), scores.softmax(dim=3), torch.softmax(scores, -1), F.softmax(scores, dim=-1)]
        nn.Softmax(dim=-1)(scores)
        scores.softmax(1)
        scores[0].softmax(-1)
    assert len(attentions) == 5
    assert all(torch.equal(heard, spelled[0]) for heard in attentions)


def test_nothing_is_recorded_outside_and_nothing_stays_changed():
    with recorded_attention() as attentions:
        pass
    Q.softmax(-1)
    F.scaled_dot_product_attention(Q, K, V)
    assert attentions == []


def test_recorded_weights_are_part_of_the_graph():
    query = Q.clone().requires_grad_()
    with recorded_attention() as attentions:
        F.scaled_dot_product_attention(query, K, V)
    attentions[0][..., 0].sum().backward()
    assert query.grad.abs().sum() > 0


def test_dropout_leaves_the_recorded_weights_whole():
    torch.manual_seed(0)
    with recorded_attention() as attentions:
        dropped = F.scaled_dot_product_attention(Q, K, V, dropout_p=0.5)
    assert torch.allclose(attentions[0].sum(-1), torch.ones(2, 4, 5))
    assert not torch.allclose(dropped, attentions[0] @ V)
    weights = (Q @ K.transpose(-2, -1) / math.sqrt(8)).softmax(-1)
    assert torch.allclose(attentions[0], weights, atol=1e-6)


def test_layers_without_attention_are_said_to_have_none():
    with pytest.raises(UnsupportedError, match="no attention layers"):
        with_attentions(nn.Linear(3, 3), torch.randn(1, 3))
