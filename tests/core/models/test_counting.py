"""Multiply-accumulates against counts by hand."""

from __future__ import annotations

import torch
from torch import nn

from zoo.models.blocks import AttentionBlock
from zoo.models.counting import multiply_accumulates
from zoo.specs import InputSpec

SPEC = InputSpec(size=(8, 8))


def test_a_convolution_and_a_linear_layer_are_counted():
    with torch.device("meta"):
        net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(320, 7))
    assert multiply_accumulates(net, SPEC) == 64 * 27 * 5 + 320 * 7


def test_attention_counts_its_two_products():
    with torch.device("meta"):
        block = AttentionBlock(3, heads=1, mlp_ratio=2)
    tokens = 64
    linear = tokens * (3 * 9 + 3 * 3 + 3 * 6 + 6 * 3)
    assert multiply_accumulates(block, SPEC) == linear + 2 * tokens * tokens * 3


def test_counting_leaves_the_model_as_it_was():
    with torch.device("meta"):
        net = nn.Conv2d(3, 5, 3).train()
    net.bias.requires_grad_(False)
    multiply_accumulates(net, SPEC)
    assert net.training
    assert (net.weight.requires_grad, net.bias.requires_grad) == (True, False)


class Prompted(nn.Module):
    """Hands a parameter of its own to a layer, as class attention does."""

    def __init__(self):
        super().__init__()
        self.prompt, self.layer = nn.Parameter(torch.zeros(1, 4)), nn.Linear(4, 4)

    def forward(self, images):
        return self.layer(self.prompt.expand(len(images), -1))


def test_a_layer_over_a_parameter_is_counted():
    with torch.device("meta"):
        net = Prompted()
    assert multiply_accumulates(net, SPEC) == 16
