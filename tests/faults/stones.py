"""A model in ten lines, whose weights say which one it is."""

from __future__ import annotations

import torch
from torch import nn

import zoo


class StoneConfig(zoo.ModelConfig):
    """A width."""

    width: int = 4


class Stone(zoo.Backbone):
    """A backbone of two parameters and a buffer."""

    Config = StoneConfig

    def __init__(self, config: StoneConfig) -> None:
        super().__init__(config)
        self.stem = nn.Conv2d(3, config.width, 1)
        self.register_buffer("seen", torch.zeros(()))


def stone(value: float, width: int = 4) -> Stone:
    """A Stone whose weights are all that value."""
    model = Stone({"width": width})
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value)
    return model


def value_of(model: nn.Module) -> float:
    """The value its weights are all filled with; an assertion fails where they are not."""
    flat = torch.cat([tensor.flatten() for tensor in model.state_dict().values()])
    assert torch.equal(flat, flat[:1].expand_as(flat)), "weights of two models in one"
    return flat[0].item()
