"""What the tests of published names share: random weights that tell names apart, and the ways in and out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.build.weights import load_weights
from zoo.models.load_report import LoadReport
from zoo.models.model import Component

TOLERANCE = 1e-5


def randomised(model: nn.Module) -> nn.Module:
    """Random scales, biases and tables too: at ones and zeros a swapped name would not show."""
    torch.manual_seed(0)
    for name, tensor in model.named_parameters():
        with torch.no_grad():
            if tensor.ndim > 1:
                tensor.normal_(0, tensor[0].numel() ** -0.5)
            elif name.endswith("weight"):
                tensor.uniform_(0.5, 1.5)
            else:
                tensor.uniform_(-0.2, 0.2)
    return model.eval()


def published_by_transformers(model: Any) -> dict[str, Tensor]:
    from transformers.core_model_loading import revert_weight_conversion

    return {name: tensor.clone() for name, tensor in revert_weight_conversion(model, model.state_dict()).items()}


def opened(ours: Component, published: Mapping[str, Tensor], format: str) -> LoadReport:
    report = load_weights(ours, published, format=format, source="the reference")
    ours.eval()
    return report


def assert_back(ours: Component, format: str, published: Mapping[str, Tensor]) -> None:
    found = ours.key_maps()[format].save(ours.state_dict())
    assert found.keys() == published.keys()
    assert [name for name in published if not torch.equal(found[name], published[name])] == []


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert expected.std() > 0.01
    assert (found - expected).abs().max() <= TOLERANCE * max(1.0, float(expected.abs().max()))
