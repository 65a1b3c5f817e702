"""The necks' numbers: against torchvision's pyramid, and against each paper's figure written out node by node."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool, LastLevelP6P7

from zoo.models.model import Neck
from zoo_detection.bifpn import BiFPN, Fusion
from zoo_detection.fpn import FPN
from zoo_detection.panet import PANet
from zoo_detection.simple_pyramid import SimplePyramid

WIDTH = 8
CHANNELS, STRIDES = (6, 10, 12), (8, 16, 32)
SIDES = ((25, 31), (13, 16), (6, 8))


def drawn(neck: Neck, channels: tuple[int, ...] = CHANNELS, strides: tuple[int, ...] = STRIDES) -> Neck:
    """Bound, in evaluation mode, with parameters and running statistics that all show in the numbers."""
    torch.manual_seed(0)
    neck.bind(channels, strides)
    for name, values in neck.state_dict().items():
        if name.endswith("running_var") or name.endswith("weights"):
            values.uniform_(0.5, 2)
        elif values.is_floating_point():
            values.normal_(0.1, 0.3)
    return neck.eval()


def some_maps(channels: tuple[int, ...] = CHANNELS, sides: tuple[tuple[int, int], ...] = SIDES) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, c, *s, generator=generator) for c, s in zip(channels, sides, strict=True)]


def named(maps: list[Tensor]) -> OrderedDict[str, Tensor]:
    return OrderedDict((str(i), m) for i, m in enumerate(maps))


def moved(neck: Neck, maps: list[Tensor], which: int) -> list[bool]:
    """Which of the maps given another incoming one changes."""
    other = [m + torch.randn_like(m) if i == which else m for i, m in enumerate(maps)]
    return [not torch.equal(a, b) for a, b in zip(neck(maps), neck(other), strict=True)]


# FPN


@pytest.mark.parametrize(
    ("options", "block"),
    [
        ({}, None),
        ({"levels": 4, "extra": "pool"}, LastLevelMaxPool()),
        ({"levels": 5, "extra": "conv"}, LastLevelP6P7(WIDTH, WIDTH)),
        ({"levels": 5, "extra": "conv_input"}, LastLevelP6P7(CHANNELS[-1], WIDTH)),
        ({"levels": 4, "extra": "pool", "norm": "batch"}, LastLevelMaxPool()),
    ],
    ids=["alone", "faster_rcnn", "retinanet_v1", "retinanet_v2", "faster_rcnn_v2"],
)
def test_fpn_is_torchvisions_number_for_number(options: dict[str, Any], block: Any) -> None:
    neck, maps = drawn(FPN(width=WIDTH, **options)), some_maps()
    norm = nn.BatchNorm2d if options.get("norm") == "batch" else None
    theirs = FeaturePyramidNetwork(list(CHANNELS), WIDTH, block, norm).eval()
    weights = neck.state_dict()
    theirs.load_state_dict({name.removeprefix("fpn."): value for name, value in weights.items()}, strict=True)
    want = list(theirs(named(maps)).values())
    assert len(want) == options.get("levels", 3)
    assert all(torch.equal(a, b) for a, b in zip(neck(maps), want, strict=True))


def test_fresh_weights_are_drawn_as_torchvision_draws_them() -> None:
    neck = FPN(width=WIDTH, levels=5, extra="conv")
    torch.manual_seed(0)
    neck.bind(CHANNELS, STRIDES)
    torch.manual_seed(0)
    blocks = LastLevelP6P7(WIDTH, WIDTH)
    theirs = FeaturePyramidNetwork(list(CHANNELS), WIDTH, blocks).state_dict()
    for name, value in neck.state_dict().items():
        assert torch.equal(value, theirs[name.removeprefix("fpn.")]), name


def test_further_levels_start_where_they_are_told_even_of_equal_channels() -> None:
    channels = (6, 10, WIDTH)  # torchvision would take the pyramid's map for this width
    maps = some_maps(channels)
    for extra in ("conv", "conv_input"):
        neck = drawn(FPN(width=WIDTH, levels=6, extra=extra), channels)
        given, further = neck(maps), neck.fpn.extra_blocks
        p6 = further.p6(maps[2] if extra == "conv_input" else given[2])
        p7 = further.p7(F.relu(p6))
        for a, b in zip(given[3:], (p6, p7, further.p8(F.relu(p7))), strict=True):
            assert torch.equal(a, b)


def test_fpn_tells_fine_maps_of_coarse_ones_and_not_the_other_way() -> None:
    neck, maps = drawn(FPN(width=WIDTH, levels=4)), some_maps()
    assert moved(neck, maps, 0) == [True, False, False, False]
    assert moved(neck, maps, 1) == [True, True, False, False]
    assert moved(neck, maps, 2) == [True, True, True, True]


# PANet


@pytest.mark.parametrize("extra", ["pool", "conv", "conv_input"])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_panet_is_the_papers_two_paths(norm: str, extra: str) -> None:
    neck, maps = drawn(PANet(width=WIDTH, levels=5, norm=norm, extra=extra)), some_maps()
    weights = neck.state_dict()

    def conv(name: str, feature: Tensor, stride: int = 1) -> Tensor:
        padding = weights[f"{name}.0.weight"].shape[-1] // 2
        kernel, bias = weights[f"{name}.0.weight"], weights.get(f"{name}.0.bias")
        after = F.conv2d(feature, kernel, bias, stride=stride, padding=padding)
        if norm == "none":
            return after
        mean, var, scale, shift = (
            weights[f"{name}.1.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(after, mean, var, scale, shift)

    def larger(feature: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(feature, size=like.shape[2:])

    c3, c4, c5 = maps
    m5 = conv("fpn.inner_blocks.2", c5)
    m4 = conv("fpn.inner_blocks.1", c4) + larger(m5, c4)
    m3 = conv("fpn.inner_blocks.0", c3) + larger(m4, c3)
    p3, p4, p5 = (conv(f"fpn.layer_blocks.{i}", m) for i, m in enumerate((m3, m4, m5)))
    n3 = p3
    n4 = conv("steps.0.output", conv("steps.0.down", n3, 2).relu() + p4).relu()
    down = conv("steps.1.down", n4, 2).relu()[:, :, :6]  # 13 rows are halved to 7; the next map has 6
    n5 = conv("steps.1.output", down + p5).relu()
    if extra == "pool":
        n6 = n5[:, :, ::2, ::2]
        n7 = n6[:, :, ::2, ::2]
    else:
        w6, w7 = ((weights[f"extra_blocks.{p}.weight"], weights[f"extra_blocks.{p}.bias"]) for p in ("p6", "p7"))
        n6 = F.conv2d(n5 if extra == "conv" else c5, *w6, stride=2, padding=1)
        n7 = F.conv2d(n6.relu(), *w7, stride=2, padding=1)
    for a, b in zip(neck(maps), (n3, n4, n5, n6, n7), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [PANet, BiFPN])
def test_both_ways_every_map_that_comes_in_moves_every_map_given(kind: type[Neck]) -> None:
    neck = drawn(kind(width=WIDTH, levels=5))
    for which in range(3):
        assert moved(neck, some_maps(), which) == [True] * 5


# BiFPN


class Figure:
    """One cell of the paper's figure, P3 to P7, from the neck's weights: every node by itself."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.weights = weights

    def norm(self, name: str, feature: Tensor) -> Tensor:
        mean, var, scale, shift = (
            self.weights[f"{name}.{part}"][None, :, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (feature - mean) / (var + 1e-3).sqrt() * scale + shift

    def lateral(self, name: str, feature: Tensor) -> Tensor:
        weight, bias = self.weights[f"{name}.conv.weight"][:, :, 0, 0], self.weights[f"{name}.conv.bias"]
        return self.norm(f"{name}.norm", torch.einsum("bchw,dc->bdhw", feature, weight) + bias[:, None, None])

    def node(self, name: str, *features: Tensor) -> Tensor:
        w = self.weights[f"{name}.weights"].clamp(min=0)
        mean = sum(w[i] * feature for i, feature in enumerate(features)) / (w.sum() + 0.0001)
        mean = mean * torch.sigmoid(mean)
        padded, h, w_ = F.pad(mean, (1, 1, 1, 1)), mean.shape[2], mean.shape[3]
        kernel = self.weights[f"{name}.depthwise.weight"]  # (D, 1, 3, 3)
        deep = sum(
            padded[:, :, i : i + h, j : j + w_] * kernel[:, 0, i, j, None, None] for i in range(3) for j in range(3)
        )
        weight, bias = self.weights[f"{name}.pointwise.weight"][:, :, 0, 0], self.weights[f"{name}.pointwise.bias"]
        return self.norm(f"{name}.norm", torch.einsum("bchw,dc->bdhw", deep, weight) + bias[:, None, None])

    @staticmethod
    def down(feature: Tensor) -> Tensor:
        padded = F.pad(feature, (1, 2, 1, 2), value=-torch.inf)
        h, w = feature.shape[2:]
        return torch.stack([padded[:, :, i : i + h : 2, j : j + w : 2] for i in range(3) for j in range(3)]).amax(0)

    @staticmethod
    def up(feature: Tensor) -> Tensor:
        return feature.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    def __call__(self, c3: Tensor, c4: Tensor, c5: Tensor) -> tuple[Tensor, ...]:
        p3, p4, p5 = (self.lateral(f"laterals.{i}", c) for i, c in enumerate((c3, c4, c5)))
        again4, again5 = self.lateral("skips.0", c4), self.lateral("skips.1", c5)
        p6 = self.down(self.lateral("coarser", c5))
        p7 = self.down(p6)
        td6 = self.node("cells.0.top_down.0", p6, self.up(p7))
        td5 = self.node("cells.0.top_down.1", p5, self.up(td6))
        td4 = self.node("cells.0.top_down.2", p4, self.up(td5))
        out3 = self.node("cells.0.top_down.3", p3, self.up(td4))
        out4 = self.node("cells.0.bottom_up.0", again4, td4, self.down(out3))
        out5 = self.node("cells.0.bottom_up.1", again5, td5, self.down(out4))
        out6 = self.node("cells.0.bottom_up.2", p6, td6, self.down(out5))
        out7 = self.node("cells.0.bottom_up.3", p7, self.down(out6))
        return out3, out4, out5, out6, out7


def test_a_bifpn_cell_is_the_papers_figure() -> None:
    neck = drawn(BiFPN(width=WIDTH, levels=5, cells=1))
    neck.cells[0].bottom_up[1].weights.data[1] = -3.0  # counts as 0
    maps = some_maps(sides=((32, 48), (16, 24), (8, 12)))
    for a, b in zip(neck(maps), Figure(neck.state_dict())(*maps), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_bifpn_cells_follow_each_other() -> None:
    neck, maps = drawn(BiFPN(width=WIDTH, levels=5, cells=3)), some_maps()
    shorter = BiFPN(width=WIDTH, levels=5, cells=1)
    shorter.bind(CHANNELS, STRIDES)
    shorter.load_state_dict({k: v for k, v in neck.state_dict().items() if not k.startswith(("cells.1", "cells.2"))})
    first = shorter.eval()(maps)
    second = neck.cells[1](first, first)
    for a, b in zip(neck(maps), neck.cells[2](second, second), strict=True):
        assert torch.equal(a, b)


def test_bifpn_without_further_levels_and_of_two_levels() -> None:
    neck = drawn(BiFPN(width=WIDTH, cells=1), (6, 10), (8, 16))
    c3, c4 = some_maps((6, 10), ((8, 12), (4, 6)))
    figure = Figure(neck.state_dict())
    p3, p4, again4 = figure.lateral("laterals.0", c3), figure.lateral("laterals.1", c4), figure.lateral("skips.0", c4)
    out3 = figure.node("cells.0.top_down.0", p3, figure.up(p4))
    out4 = figure.node("cells.0.bottom_up.0", again4, figure.down(out3))
    for a, b in zip(neck([c3, c4]), (out3, out4), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_what_a_map_counts_for_is_never_negative_and_sums_to_one() -> None:
    fusion = Fusion(3, WIDTH)
    torch.testing.assert_close(fusion.shares(), torch.full((3,), 1 / 3.0001))
    fusion.weights.data = torch.tensor([2.0, -1.0, 6.0])
    torch.testing.assert_close(fusion.shares(), torch.tensor([2.0, 0.0, 6.0]) / 8.0001)
    fusion.weights.data = torch.tensor([-2.0, -1.0, -6.0])
    assert torch.equal(fusion.shares(), torch.zeros(3))


def test_bifpn_has_the_parameters_of_the_authors_graph() -> None:
    """EfficientDet-D0's neck: width 64, 3 cells over EfficientNet-B0's maps of 40, 112 and 320 channels."""
    with torch.device("meta"):
        neck = BiFPN(width=64, levels=5, cells=3)
        neck.bind((40, 112, 320), STRIDES)
    projections = sum(c * 64 + 64 + 2 * 64 for c in (40, 112, 112, 320, 320, 320))
    merge = 9 * 64 + 64 * 64 + 64 + 2 * 64
    assert sum(p.numel() for p in neck.parameters()) == projections + 3 * (8 * merge + 5 * 2 + 3 * 3)


# The simple pyramid


def test_the_simple_pyramid_is_the_papers_table() -> None:
    neck, (last,) = drawn(SimplePyramid(width=WIDTH, levels=5), (16,), (16,)), some_maps((16,), ((6, 8),))
    weights = neck.state_dict()

    def norm(name: str, feature: Tensor) -> Tensor:
        mean = feature.mean(1, keepdim=True)
        var = (feature - mean).square().mean(1, keepdim=True)
        scale, shift = weights[f"{name}.weight"][:, None, None], weights[f"{name}.bias"][:, None, None]
        return (feature - mean) / (var + 1e-6).sqrt() * scale + shift

    def deconv(name: str, feature: Tensor) -> Tensor:
        blocks = torch.einsum("bchw,cdij->bdhiwj", feature, weights[f"{name}.weight"])
        return blocks.flatten(4, 5).flatten(2, 3) + weights[f"{name}.bias"][:, None, None]

    def outputs(i: int, feature: Tensor) -> Tensor:
        lateral = norm(f"stages.{i}.lateral.1", F.conv2d(feature, weights[f"stages.{i}.lateral.0.weight"]))
        return norm(f"stages.{i}.output.1", F.conv2d(lateral, weights[f"stages.{i}.output.0.weight"], padding=1))

    half = F.gelu(norm("stages.0.scale.1", deconv("stages.0.scale.0", last)))
    quarter = deconv("stages.0.scale.3", half)
    assert half.shape[1] == 8
    assert quarter.shape == (2, 4, 24, 32)
    pooled = last.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax((3, 5))
    p5 = outputs(3, pooled)
    want = [outputs(0, quarter), outputs(1, deconv("stages.1.scale.0", last)), outputs(2, last), p5, p5[:, :, ::2, ::2]]
    assert [tuple(m.shape[2:]) for m in want] == [(24, 32), (12, 16), (6, 8), (3, 4), (2, 2)]
    for a, b in zip(neck([last]), want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
