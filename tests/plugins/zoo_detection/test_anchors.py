"""Anchors and default boxes: torchvision's numbers, torchvision's order; k-means anchors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import anchor_utils as reference
from torchvision.models.detection.image_list import ImageList

from zoo.errors import InputError, OptionError
from zoo_detection import boxes as geometry
from zoo_detection.anchors import DefaultBoxes, GridAnchors, kmeans_anchors, spaced_scales, ssd_shapes

IMAGES = torch.zeros(2, 3, 300, 417)  # strides that do not divide: 300 // 38 = 7
MAPS = [torch.zeros(2, 1, h, w) for h, w in ((38, 53), (19, 27), (10, 14), (5, 7), (1, 1))]
ODD_SIZES = tuple((size, int(size * 2 ** (1 / 3)), int(size * 2 ** (2 / 3))) for size in (32, 64, 128, 256, 511))


def torchvisions(generator: reference.AnchorGenerator | reference.DefaultBoxGenerator) -> Tensor:
    """What torchvision's generator lays over the maps of one image."""
    answer: Tensor = generator(ImageList(IMAGES, [(300, 417)] * 2), MAPS)[0]
    return answer


@pytest.mark.parametrize("sizes", [((32,), (64,), (128,), (256,), (512,)), ODD_SIZES], ids=["rpn", "retinanet"])
@pytest.mark.parametrize("ratios", [(0.5, 1.0, 2.0), (1.0,), (0.3, 3.1)], ids=str)
def test_grid_anchors_are_torchvisions(sizes: tuple[tuple[int, ...], ...], ratios: tuple[float, ...]) -> None:
    ours = GridAnchors(sizes, ratios)
    levels = ours(IMAGES, MAPS)
    assert torch.equal(torch.cat(levels), torchvisions(reference.AnchorGenerator(sizes, (ratios,) * 5)))
    assert ours.per_cell == (len(sizes[0]) * len(ratios),) * 5
    assert [len(level) for level in levels] == [m.shape[2] * m.shape[3] * ours.per_cell[0] for m in MAPS]


def test_each_level_may_have_ratios_of_its_own() -> None:
    sizes, ratios = ((32,), (64, 80)), ((1.0,), (0.5, 2.0))
    ours = GridAnchors(sizes, ratios)
    assert ours.per_cell == (1, 4)
    expected = reference.AnchorGenerator(sizes, ratios).grid_anchors([(3, 4), (2, 2)], [(8, 8), (16, 20)])
    for level, theirs in zip(ours.at([(3, 4), (2, 2)], [(8, 8), (16, 20)]), expected, strict=True):
        assert torch.equal(level, theirs)


def test_anchors_may_keep_their_fractions() -> None:
    (level,) = GridAnchors([[10.0]], [2.0], rounded=False).at([(1, 1)], [(8, 8)])
    sides = level[0, 2:] - level[0, :2]
    assert sides.tolist() == pytest.approx([10 / 2**0.5, 10 * 2**0.5])
    assert float(sides.prod()) == pytest.approx(100)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_anchors_of_half_precision_maps_keep_whole_pixels(dtype: torch.dtype) -> None:
    far = torch.zeros(1, 1, 1, 400, dtype=dtype)  # x up to 3192: float16 has steps of 2 there
    (level,) = GridAnchors([[33.0]], [1.0])(torch.zeros(1, 3, 8, 3200), [far])
    assert level.dtype == torch.promote_types(dtype, torch.float32)
    assert level[399].tolist() == [3192 - 16, -16, 3192 + 16, 16]


@pytest.mark.parametrize("steps", [None, [8, 16, 30, 60, 300]], ids=["fitted", "steps"])
@pytest.mark.parametrize("clip", [True, False])
def test_default_boxes_are_torchvisions(steps: list[int] | None, clip: bool) -> None:
    ratios, scales = [[2], [2, 3], [2, 3], [2, 3], [2]], [0.07, 0.15, 0.33, 0.6, 0.9, 1.05]
    ours = DefaultBoxes(ssd_shapes(ratios, scales), steps=steps, clip=clip)
    theirs = reference.DefaultBoxGenerator(ratios, scales=scales, steps=steps, clip=clip)
    torch.testing.assert_close(torch.cat(ours(IMAGES, MAPS)), torchvisions(theirs), rtol=0, atol=1e-4)
    assert ours.per_cell == tuple(theirs.num_anchors_per_location())
    levels = ours.at((300, 300), [(38, 38)] + [(1, 1)] * 4)
    assert [len(level) for level in levels] == [38 * 38 * 4, 6, 6, 6, 4]


@pytest.mark.parametrize("levels", [1, 6])
def test_spaced_scales_are_torchvisions(levels: int) -> None:
    theirs = reference.DefaultBoxGenerator([[2]] * levels, min_ratio=0.2, max_ratio=0.95)
    assert spaced_scales(levels, 0.2, 0.95) == theirs.scales


def test_numbers_of_levels_that_differ_are_refused() -> None:
    grid, boxes = GridAnchors([[32.0], [64.0]], [1.0]), DefaultBoxes(ssd_shapes([[2]], [0.2, 0.9]))
    for make in (
        lambda: grid(IMAGES, MAPS),
        lambda: boxes(IMAGES, MAPS),
        lambda: GridAnchors([[32.0], [64.0]], [[1.0]]),
        lambda: DefaultBoxes(ssd_shapes([[2]], [0.2, 0.9]), steps=[8, 16]),
        lambda: ssd_shapes([[2]], [0.2]),
    ):
        with pytest.raises(OptionError, match="levels"):
            make()


CLUSTERS = torch.tensor([[10.0, 20.0], [40.0, 30.0], [90.0, 120.0]])


def clustered_sides(seed: int = 0) -> Tensor:
    """(300, 2) sides around three known ones."""
    generator = torch.Generator().manual_seed(seed)
    return CLUSTERS.repeat(100, 1) * (1 + 0.1 * (torch.rand(300, 2, generator=generator) - 0.5))


def fit(sides: Tensor, anchors: Tensor) -> float:
    """Mean IoU of each side pair with its best anchor, about one centre."""
    overlaps = geometry.iou(*(torch.cat((-each, each), dim=1) for each in (sides, anchors)))
    return float(overlaps.amax(dim=1).mean())


@pytest.mark.parametrize("seed", range(5))
def test_kmeans_finds_the_sizes_of_the_objects(seed: int) -> None:
    anchors = kmeans_anchors(clustered_sides(), 3, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(anchors, CLUSTERS, rtol=0.03, atol=0)


def test_kmeans_is_the_same_for_a_seed_and_fits_better_with_more_anchors() -> None:
    sides = torch.rand(400, 2, generator=torch.Generator().manual_seed(0)) * 200 + 5
    found = [kmeans_anchors(sides, k, generator=torch.Generator().manual_seed(1)) for k in (1, 3, 9, 9)]
    assert torch.equal(found[2], found[3])
    assert [len(each) for each in found] == [1, 3, 9, 9]
    assert fit(sides, found[0]) < fit(sides, found[1]) < fit(sides, found[2])
    assert bool((found[2].prod(dim=1).diff() > 0).all())


def test_kmeans_counts_overlap_and_not_distance() -> None:
    torch.manual_seed(0)
    small, large = torch.rand(200, 2) * 4 + 2, torch.rand(200, 2) * 40 + 200  # all the spread in pixels is large
    anchors = kmeans_anchors(torch.cat((small, large)), 3)
    assert sum(area < 100 for area in anchors.prod(dim=1).tolist()) == 2  # the spread in shape is small's


def test_kmeans_gives_each_different_box_an_anchor_if_it_can() -> None:
    sides = torch.tensor([[1.0, 1.0], [5.0, 9.0], [30.0, 2.0]]).repeat(4, 1)
    assert kmeans_anchors(sides, 3).tolist() == [[1.0, 1.0], [5.0, 9.0], [30.0, 2.0]]
    with pytest.raises(InputError, match="3 different sides"):
        kmeans_anchors(sides, 4)


@pytest.mark.parametrize("sides", [[[1.0, 0.0]], [[1.0, float("nan")]], [[1.0, 2.0, 3.0]], []], ids=str)
def test_kmeans_of_other_than_sides_is_refused(sides: list[list[float]]) -> None:
    with pytest.raises(InputError, match="k-means needs"):
        kmeans_anchors(torch.tensor(sides), 1)
