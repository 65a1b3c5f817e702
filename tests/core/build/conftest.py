"""A hub on loopback with real published layouts, and timm models as the reference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save
from torch import nn

from loopback_hub import LoopbackHub, running_hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """An empty hub that the genuine client talks to, with a cache of its own."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


@pytest.fixture(scope="session")
def resnet18() -> nn.Module:
    """timm's resnet18 with random weights and batch statistics that matter."""
    torch.manual_seed(1)
    model = timm.create_model("resnet18").eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return model


@pytest.fixture
def published(hub: LoopbackHub, resnet18: nn.Module) -> LoopbackHub:
    """The hub, with that model where the catalogue says resnet18's weights are."""
    state = {name: tensor.contiguous() for name, tensor in resnet18.state_dict().items()}
    hub.add("timm/resnet18.a1_in1k", "model.safetensors", save(state))
    return hub
