"""Building without initialisation: parameters unwritten, everything else exactly as always."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from zoo.build.fast_init import without_initialisation

# One of each kind of buffer: window masks and index tables, rotary tables, relative positions, fixed sine tables,
# counters, tied heads.
ARCHITECTURES = (
    "swin_tiny_patch4_window7_224",
    "swinv2_cr_tiny_ns_224",
    "eva02_tiny_patch14_224",
    "beit_base_patch16_224",
    "levit_128s",
    "maxvit_rmlp_pico_rw_256",
    "convnext_atto",
    "resnet18",
    "deit_tiny_distilled_patch16_224",
    "xcit_nano_12_p16_224",
)


def all_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.named_buffers())  # the non-persistent ones too


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_buffer_is_right_and_assigned_weights_give_the_same_numbers(name: str) -> None:
    torch.manual_seed(0)
    usual = timm.create_model(name, num_classes=7).eval()
    with without_initialisation():
        quick = timm.create_model(name, num_classes=7).eval()
    buffers = all_buffers(quick)
    assert buffers.keys() == all_buffers(usual).keys()
    for key, value in all_buffers(usual).items():
        assert torch.equal(buffers[key], value), key
    quick.load_state_dict(usual.state_dict(), strict=True, assign=True)
    images = torch.randn(1, *usual.default_cfg["input_size"])
    with torch.inference_mode():
        assert torch.equal(quick(images), usual(images))


def test_initialisers_do_not_touch_parameters() -> None:
    weight = nn.Parameter(torch.full((64, 64), 3.0))
    with without_initialisation():
        nn.init.normal_(weight)
        nn.init.kaiming_uniform_(weight)
        nn.init.trunc_normal_(weight)
        nn.init.constant_(weight, 0.0)
        with torch.no_grad():
            weight.fill_(1.0)
            weight.copy_(torch.zeros(64, 64))
            weight.mul_(2.0)
    assert torch.equal(weight, torch.full((64, 64), 3.0))


def test_buffers_and_plain_tensors_are_written() -> None:
    with without_initialisation():
        norm = nn.BatchNorm1d(4)
        table = torch.empty(3).fill_(5.0)
    assert torch.equal(norm.running_var, torch.ones(4))
    assert torch.equal(table, torch.full((3,), 5.0))


def test_outside_the_context_writes_happen_again() -> None:
    with without_initialisation():
        layer = nn.Linear(4, 4)
    nn.init.constant_(layer.weight, 2.0)
    assert torch.equal(layer.weight, torch.full((4, 4), 2.0))


def test_a_failing_build_leaves_the_mode() -> None:
    with pytest.raises(RuntimeError, match="negative dimension"), without_initialisation():
        nn.Linear(4, -1)
    layer = nn.Linear(4, 4)
    nn.init.constant_(layer.bias, 2.0)
    assert torch.equal(layer.bias, torch.full((4,), 2.0))
