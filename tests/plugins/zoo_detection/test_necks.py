"""What all necks promise: the maps they declare, at any sizes, wherever they run; and words for what they refuse."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from zoo.errors import InputError, OptionError
from zoo.models.config import SpellingWarning
from zoo.models.model import Neck
from zoo_detection.bifpn import BiFPN
from zoo_detection.fpn import FPN
from zoo_detection.panet import PANet
from zoo_detection.rows.necks import NECKS
from zoo_detection.simple_pyramid import SimplePyramid

MERGING: dict[str, type[Neck]] = {"fpn": FPN, "panet": PANet, "bifpn": BiFPN}
ALL: dict[str, type[Neck]] = {**MERGING, "simple_pyramid": SimplePyramid}

WIDTH = 8
CHANNELS, STRIDES = (6, 10, 12), (8, 16, 32)


def bound(name: str, **options: Any) -> Neck:
    torch.manual_seed(0)
    neck: Neck = ALL[name](**{"width": WIDTH, **options})
    if name == "simple_pyramid":
        neck.bind((16,), (16,))
    else:
        neck.bind(CHANNELS, STRIDES)
    return neck


def maps_for(name: str, *sides: tuple[int, int], batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    channels = (16,) if name == "simple_pyramid" else CHANNELS
    return [torch.randn(batch, c, *s, generator=generator) for c, s in zip(channels, sides, strict=True)]


def some_maps(name: str) -> list[Tensor]:
    return maps_for(name, (6, 8)) if name == "simple_pyramid" else maps_for(name, (12, 16), (6, 8), (3, 4))


def large_maps(name: str) -> list[Tensor]:
    return maps_for(name, (6, 8)) if name == "simple_pyramid" else maps_for(name, (24, 40), (12, 20), (6, 10))


def other_maps(name: str) -> list[Tensor]:
    """Of another batch and other sides than `large_maps`, odd ones among them."""
    sides = [(9, 5)] if name == "simple_pyramid" else [(37, 43), (19, 22), (9, 11)]
    return maps_for(name, *sides, batch=3)


def halved(side: int) -> int:
    return -(-side // 2)


@pytest.mark.parametrize("row", NECKS, ids=lambda row: str(row.name))
def test_a_row_leads_to_its_class_and_says_what_it_is(row: Any) -> None:
    module, _, name = row.factory.partition(":")
    assert getattr(import_module(module), name) is ALL[row.name]
    assert row.kind == "neck"
    assert row.summary
    assert row.paper.startswith("https://arxiv.org/abs/")
    assert {row.name for row in NECKS} == set(ALL)


# The maps they give


@pytest.mark.parametrize("name", MERGING)
@pytest.mark.parametrize("levels", [None, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("sides", [((25, 31), (13, 16), (7, 8)), ((25, 31), (12, 15), (6, 7))], ids=["ceil", "floor"])
def test_incoming_maps_keep_their_sides_and_further_ones_have_half(
    name: str, levels: int | None, sides: tuple[tuple[int, int], ...]
) -> None:
    neck = bound(name, levels=levels)
    count = levels or 3
    want = list(sides)
    while len(want) < count:
        want.append((halved(want[-1][0]), halved(want[-1][1])))
    assert neck.channels == (WIDTH,) * count
    assert neck.strides == (8, 16, 32, 64, 128, 256, 512)[:count]
    assert [tuple(m.shape) for m in neck(maps_for(name, *sides))] == [(2, WIDTH, *side) for side in want]


@pytest.mark.parametrize("extra", ["pool", "conv", "conv_input"])
@pytest.mark.parametrize("name", ["fpn", "panet"])
def test_any_number_of_levels_is_added_in_each_way(name: str, extra: str) -> None:
    for levels in (3, 4, 5, 7):
        assert [m.shape[2:] for m in bound(name, levels=levels, extra=extra)(some_maps(name))[3:]] == [
            (2, 2),
            (1, 1),
            (1, 1),
            (1, 1),
        ][: levels - 3]


@pytest.mark.parametrize(
    ("stride", "finest", "levels", "strides"),
    [
        (16, 4, None, (4, 8, 16, 32)),
        (16, 4, 5, (4, 8, 16, 32, 64)),
        (16, 8, 5, (8, 16, 32, 64, 128)),
        (16, 4, 1, (4,)),
        (14, 4, None, (7, 14, 28, 56)),
        (14, 8, 4, (7, 14, 28, 56)),
        (8, 4, 4, (4, 8, 16, 32)),
        (32, 4, 5, (4, 8, 16, 32, 64)),
        (4, 8, 2, (4, 8)),
        (7, 4, 2, (7, 14)),
    ],
)
def test_the_simple_pyramid_starts_at_the_nearest_whole_stride(
    stride: int, finest: int, levels: int | None, strides: tuple[int, ...]
) -> None:
    neck = SimplePyramid(width=WIDTH, finest_stride=finest, levels=levels)
    neck.bind((32,), (stride,))
    assert neck.strides == strides
    assert neck.channels == (WIDTH,) * len(strides)
    pixels = 8 * stride  # of an image that gives 8 x 8
    assert [m.shape[2:] for m in neck([torch.zeros(1, 32, 8, 8)])] == [
        (-(-pixels // s), -(-pixels // s)) for s in strides
    ]


def test_the_simple_pyramid_uses_the_last_of_several_maps_and_rounds_odd_sides_up() -> None:
    neck = SimplePyramid(width=WIDTH, levels=5)
    neck.bind((16, 16), (16, 16))
    neck.eval()
    first, other, last = torch.randn(3, 2, 16, 5, 7).unbind()
    given = neck([first, last])
    assert [m.shape[2:] for m in given] == [(20, 28), (10, 14), (5, 7), (3, 4), (2, 2)]
    assert all(torch.equal(a, b) for a, b in zip(given, neck([other, last]), strict=True))
    border = last.clone()
    border[:, :, -1, -1] += 1  # the odd row and column are seen by every level that pools
    assert all(not torch.equal(a, b) for a, b in zip(given[:4], neck([first, border])[:4], strict=True))


# Where they run


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    neck = bound(name, levels=5)
    sum(m.square().sum() for m in neck(some_maps(name))).backward()
    assert not [key for key, p in neck.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@pytest.mark.parametrize("name", ALL)
def test_a_neck_is_built_and_runs_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        neck = bound(name, width=256, levels=5)
        assert all(p.is_meta for p in neck.parameters())
        assert [m.shape[1] for m in neck([m.to("meta") for m in some_maps(name)])] == [256] * 5


@pytest.mark.parametrize("name", ALL)
def test_half_precision_and_channels_last_give_the_same_maps(name: str) -> None:
    neck, maps = bound(name, levels=5).eval(), some_maps(name)
    plain = neck(maps)
    last = neck.to(memory_format=torch.channels_last)([m.to(memory_format=torch.channels_last) for m in maps])
    for a, b in zip(plain, last, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
        assert b.is_contiguous(memory_format=torch.channels_last)
    half = neck.to(torch.bfloat16)([m.to(torch.bfloat16) for m in maps])
    for a, b in zip(plain, half, strict=True):
        assert b.dtype == torch.bfloat16
        assert (a - b.float()).abs().max() < 0.05 * a.abs().max()


@pytest.mark.parametrize("name", ALL)
def test_export_keeps_batch_and_sides_free(name: str) -> None:
    cells = {"cells": 1} if name == "bifpn" else {}
    neck, maps = bound(name, levels=5, **cells).eval(), large_maps(name)
    dims = [{0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO} for _ in maps]
    program = torch.export.export(neck, (maps,), dynamic_shapes=(dims,)).module()
    for given in (maps, other_maps(name)):
        for a, b in zip(neck(given), program(given), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.long
@pytest.mark.parametrize("name", ALL)
def test_in_onnxruntime_the_maps_are_the_same_at_other_sizes(name: str, tmp_path: Path) -> None:
    cells = {"cells": 1} if name == "bifpn" else {}
    neck, maps = bound(name, levels=5, **cells).eval(), large_maps(name)
    dims = [{0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO} for _ in maps]
    program = torch.onnx.export(neck, (maps,), dynamo=True, dynamic_shapes=(dims,), verbose=False)
    program.save(tmp_path / "neck.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "neck.onnx")
    other = other_maps(name)
    inputs = {place.name: m.numpy() for place, m in zip(session.get_inputs(), other, strict=True)}
    for a, b in zip(neck(other), session.run(None, inputs), strict=True):
        torch.testing.assert_close(a, torch.from_numpy(b), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_it_compiles_as_one_graph(name: str) -> None:
    torch._dynamo.reset()
    cells = {"cells": 1} if name == "bifpn" else {}
    neck, maps = bound(name, levels=5, **cells).eval(), some_maps(name)
    compiled = torch.compile(neck, fullgraph=True, backend="eager")
    for a, b in zip(neck(maps), compiled(maps), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ALL)
def test_images_of_a_batch_do_not_see_each_other(name: str) -> None:
    neck, maps = bound(name, levels=5).eval(), some_maps(name)
    alone = neck([m[1:] for m in maps])
    for a, b in zip(neck(maps), alone, strict=True):
        torch.testing.assert_close(a[1:], b, rtol=1e-4, atol=1e-5)


NAMES = {
    "fpn": """
        fpn.inner_blocks.0.0 fpn.inner_blocks.1.0 fpn.inner_blocks.2.0
        fpn.layer_blocks.0.0 fpn.layer_blocks.1.0 fpn.layer_blocks.2.0
        fpn.extra_blocks.p6 fpn.extra_blocks.p7
    """,
    "panet": """
        fpn.inner_blocks.0.0 fpn.inner_blocks.1.0 fpn.inner_blocks.2.0
        fpn.layer_blocks.0.0 fpn.layer_blocks.1.0 fpn.layer_blocks.2.0
        steps.0.down.0 steps.0.output.0 steps.1.down.0 steps.1.output.0
        extra_blocks.p6 extra_blocks.p7
    """,
    "bifpn": """
        laterals.0.conv laterals.0.norm laterals.1.conv laterals.1.norm laterals.2.conv laterals.2.norm
        skips.0.conv skips.0.norm skips.1.conv skips.1.norm coarser.conv coarser.norm
        cells.0.top_down.0 cells.0.top_down.0.depthwise cells.0.top_down.0.pointwise cells.0.top_down.0.norm
        cells.0.top_down.1 cells.0.top_down.1.depthwise cells.0.top_down.1.pointwise cells.0.top_down.1.norm
        cells.0.top_down.2 cells.0.top_down.2.depthwise cells.0.top_down.2.pointwise cells.0.top_down.2.norm
        cells.0.top_down.3 cells.0.top_down.3.depthwise cells.0.top_down.3.pointwise cells.0.top_down.3.norm
        cells.0.bottom_up.0 cells.0.bottom_up.0.depthwise cells.0.bottom_up.0.pointwise cells.0.bottom_up.0.norm
        cells.0.bottom_up.1 cells.0.bottom_up.1.depthwise cells.0.bottom_up.1.pointwise cells.0.bottom_up.1.norm
        cells.0.bottom_up.2 cells.0.bottom_up.2.depthwise cells.0.bottom_up.2.pointwise cells.0.bottom_up.2.norm
        cells.0.bottom_up.3 cells.0.bottom_up.3.depthwise cells.0.bottom_up.3.pointwise cells.0.bottom_up.3.norm
    """,
    "simple_pyramid": """
        stages.0.scale.0 stages.0.scale.1 stages.0.scale.3 stages.1.scale.0
        stages.0.lateral.0 stages.0.lateral.1 stages.0.output.0 stages.0.output.1
        stages.1.lateral.0 stages.1.lateral.1 stages.1.output.0 stages.1.output.1
        stages.2.lateral.0 stages.2.lateral.1 stages.2.output.0 stages.2.output.1
        stages.3.lateral.0 stages.3.lateral.1 stages.3.output.0 stages.3.output.1
    """,
}
"""The modules that hold parameters, at five levels: the checkpoint format, which does not change."""


@pytest.mark.parametrize("name", ALL)
def test_submodule_names_stay_as_they_are(name: str) -> None:
    options = {"fpn": {"extra": "conv"}, "panet": {"extra": "conv"}, "bifpn": {"cells": 1}}.get(name, {})
    found = {key.rpartition(".")[0] for key in bound(name, levels=5, **options).state_dict()}
    assert found == set(NAMES[name].split())


# What they refuse


@pytest.mark.parametrize("name", ALL)
def test_a_neck_is_bound_once(name: str) -> None:
    neck = bound(name)
    with pytest.raises(OptionError, match=f"bound to maps already(.|\\n)*{type(neck).__name__}\\("):
        neck.bind(CHANNELS, STRIDES)


@pytest.mark.parametrize("name", ALL)
def test_a_neck_that_is_not_bound_says_how(name: str) -> None:
    with pytest.raises(InputError, match=r"not bound(.|\n)*neck\.bind\(backbone\.channels, backbone\.strides\)"):
        ALL[name]()(some_maps(name))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("channels", "strides"), [((), ()), ((8, 8), (16,)), ((0,), (16,)), ((8,), (0,))])
def test_half_described_maps_are_refused(name: str, channels: tuple[int, ...], strides: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match="one of each a map"):
        ALL[name]().bind(channels, strides)


@pytest.mark.parametrize("name", ALL)
def test_other_maps_than_those_bound_to_are_refused(name: str) -> None:
    neck, maps = bound(name), some_maps(name)
    for wrong in ([], maps[:-1], [*maps, maps[-1]], [m[0] for m in maps], [m[:, 1:] for m in maps]):
        with pytest.raises(InputError, match=r"is bound to [13] maps"):
            neck(wrong)


@pytest.mark.parametrize("name", MERGING)
@pytest.mark.parametrize("strides", [(16,), (16, 16, 16), (14, 14)])
def test_one_stride_is_sent_to_the_simple_pyramid(name: str, strides: tuple[int, ...]) -> None:
    with pytest.raises(OptionError, match=r'one stride only(.|\n)*neck="simple_pyramid"'):
        MERGING[name]().bind((8,) * len(strides), strides)


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        *((name, strides) for name in MERGING for strides in [(12, 17), (8, 16, 16), (32, 16, 8), (8, 8, 16), (8, 24)]),
        ("panet", (4, 16)),
        ("bifpn", (4, 16)),
    ],
)
def test_irregular_strides_are_named(name: str, strides: tuple[int, ...]) -> None:
    with pytest.raises(OptionError) as caught:
        MERGING[name]().bind((8,) * len(strides), strides)
    assert "fine to coarse, each stride" in caught.value.message
    assert caught.value.found == f"strides {strides}"


def test_fpn_takes_maps_four_times_as_coarse_and_equal_ones_if_told() -> None:
    neck = FPN(width=WIDTH)
    neck.bind((6, 10), (4, 16))
    assert [m.shape[2:] for m in neck([torch.zeros(1, 6, 16, 16), torch.zeros(1, 10, 4, 4)])] == [(16, 16), (4, 4)]
    neck = FPN(width=WIDTH, equal_strides=True, levels=3)
    neck.bind((6, 10), (32, 32))
    assert neck.strides == (32, 32, 64)


def test_strides_of_a_hierarchy_are_sent_from_the_simple_pyramid_to_the_others() -> None:
    with pytest.raises(OptionError, match=r'several strides(.|\n)*neck="fpn"'):
        SimplePyramid().bind(CHANNELS, STRIDES)


@pytest.mark.parametrize("name", MERGING)
def test_fewer_levels_than_maps_are_refused(name: str) -> None:
    with pytest.raises(OptionError, match=r"levels=2(.|\n)*levels=3, or out_indices"):
        bound(name, levels=2)


@pytest.mark.parametrize(("name", "options"), [("fpn", {"norm": "batch"}), ("panet", {"norm": "batch"}), ("bifpn", {})])
def test_batch_norm_on_one_pixel_is_told_before_torch_fails(name: str, options: dict[str, Any]) -> None:
    neck, one = bound(name, **options), maps_for(name, (4, 4), (2, 2), (1, 1), batch=1)
    with pytest.raises(InputError, match=r"one pixel of one image(.|\n)*two images a batch"):
        neck(one)
    assert len(neck.eval()(one)) == 3
    assert len(neck.train()(maps_for(name, (4, 4), (2, 2), (1, 1), batch=2))) == 3


def test_further_levels_count_where_norms_see_them() -> None:
    neck = bound("bifpn", levels=5)
    with pytest.raises(InputError, match="1 x 1 x 1"):
        neck(maps_for("bifpn", (16, 16), (8, 8), (4, 4), batch=1))
    assert len(neck(maps_for("bifpn", (16, 20), (8, 10), (4, 5), batch=1))) == 5


@pytest.mark.parametrize("name", ALL)
def test_options_are_checked_and_known_by_their_other_names(name: str) -> None:
    with pytest.raises(OptionError, match="did you mean `width`"):
        ALL[name](widht=8)
    for wrong in ({"width": 0}, {"levels": 0}, {"levels": 99}):
        with pytest.raises(OptionError):
            ALL[name](wrong)
    with pytest.warns(SpellingWarning):
        neck = ALL[name](out_channels=8)
    assert neck.config.to_dict()["width"] == 8
    assert ALL[name](neck.config.to_dict()).config == neck.config


def test_norms_follow_each_convolution_and_take_its_bias() -> None:
    for name in ("fpn", "panet"):
        neck = bound(name, norm="batch")
        convs = [m for m in neck.modules() if isinstance(m, nn.Conv2d)]
        assert len(convs) == sum(isinstance(m, nn.BatchNorm2d) for m in neck.modules())
        assert all(conv.bias is None for conv in convs)
        assert all(m.bias is not None for m in bound(name).modules() if isinstance(m, nn.Conv2d))
