"""What a forward pass costs, counted on the meta device: a large model takes no longer than a small one."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from zoo.models.model import Model, evaluating
from zoo.specs import InputSpec


def multiply_accumulates(model: nn.Module, spec: InputSpec) -> int:
    """Multiply-accumulates of convolutions, linear layers and attention for one image of the model's input size.

    Papers call this figure FLOPs. Normalisations, activations and poolings are not in it.

    Args:
        model: on the meta device.
        spec: of its input.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:  # the counter hooks itself to gradients, and fails where there are parameters and none
        parameter.requires_grad_(False)
    try:
        with torch.device("meta"), torch.no_grad(), evaluating(model), FlopCounterMode(display=False) as counter:
            images = torch.empty(1, spec.channels, *spec.size)
            model.network(images) if isinstance(model, Model) else model(images)
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
    return int(counter.get_total_flops()) // 2
