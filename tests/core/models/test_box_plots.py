"""Objects are drawn where they are: a box's edge on its outermost pixels, a mask on its pixels and no others."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageDraw

from zoo.models.box_plots import MASK_OPACITY, class_colour
from zoo.models.detections import Detections
from zoo.models.images import load_images
from zoo.models.labels import LabelSpace, label_space
from zoo.models.preprocessing import Preprocessor
from zoo.specs import InputSpec

GREY = (90, 90, 90)


def seen(
    *boxes: tuple[float, float, float, float],
    size: tuple[int, int] = (640, 480),
    ids: list[int] | None = None,
    name: str = "cup",
    labels: LabelSpace | None = None,
    **parts: torch.Tensor,
) -> Detections:
    """Objects with these boxes in a grey photo of size (W, H)."""
    (loaded,) = load_images(Image.new("RGB", size, GREY))
    return Detections(
        source="",
        size=size[::-1],
        frame=Preprocessor(InputSpec()).frame(loaded),
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.linspace(0.9, 0.5, len(boxes)),
        ids=torch.tensor(ids or [0] * len(boxes), dtype=torch.int64),
        names=(name,) * len(boxes),
        labels=labels,
        **parts,
    )


def drawn(detections: Detections) -> np.ndarray:
    return np.asarray(detections.plot())


def changed(picture: np.ndarray) -> np.ndarray:
    """(H, W): pixels that are not the photo's any more."""
    return (picture != np.array(GREY)).any(-1)


def test_without_objects_the_picture_is_the_photo():
    assert not changed(drawn(seen())).any()


def test_a_box_runs_along_the_outermost_pixels_that_it_holds():
    picture, colour = drawn(seen((100, 200, 300, 400))), class_colour(0)
    assert picture.shape == (480, 640, 3)
    for inside, outside in (((300, 100), (300, 99)), ((300, 299), (300, 300)), ((399, 250), (400, 250))):
        assert tuple(picture[inside]) == colour
        assert not changed(picture)[outside]
    assert tuple(picture[200, 299]) == colour  # the top, right of the label, which stands above it
    assert not changed(picture)[199, 299]
    assert not changed(picture)[300, 110:290].any()  # a frame, not a plate
    below = changed(picture)[401:]
    assert not below.any()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 600), st.integers(40, 440), st.integers(1, 300), st.integers(1, 300))
def test_nothing_but_the_label_is_drawn_beside_a_box(x, y, width, height):
    box = (x, y, min(x + width, 640), min(y + height, 480))
    mark = changed(drawn(seen(box)))
    assert mark[box[1], box[0]]
    assert mark[box[3] - 1, box[2] - 1]
    assert not mark[box[3] :].any()
    beside = mark[box[1] : box[3]].copy()
    beside[:, box[0] : box[2]] = False
    assert not beside.any()


def test_a_box_of_a_small_photo_is_where_the_enlarged_photo_has_it():
    picture = drawn(seen((20, 30, 60, 50), size=(80, 60)))
    assert picture.shape == (360, 480, 3)  # six times as large
    assert tuple(picture[240, 120]) == tuple(picture[299, 359]) == class_colour(0)
    assert not changed(picture)[240, 119]
    assert not changed(picture)[300, 300]


@pytest.mark.parametrize(
    "box", [(0, 0, 0, 0), (640, 480, 640, 480), (0, 0, 640, 480), (5.2, 5.2, 5.3, 5.3), (639.9, 0, 640, 480)], ids=str
)
def test_boxes_at_the_edge_and_without_area_are_drawn(box):
    assert changed(drawn(seen(box))).any()


def test_a_mask_tints_exactly_its_pixels():
    mask = torch.zeros(1, 480, 640, dtype=torch.bool)
    mask[0, 250:350, 150:250] = True
    mask[0, 300, 200] = False
    picture = drawn(seen((100, 200, 300, 400), masks=mask))
    inner = (slice(210, 390), slice(110, 290))
    assert np.array_equal(changed(picture)[inner], mask[0].numpy()[inner])
    tint = np.array(GREY) * (1 - MASK_OPACITY) + np.array(class_colour(0)) * MASK_OPACITY
    assert picture[251, 151].tolist() == tint.round().astype(int).tolist()


def test_the_best_objects_mask_lies_on_top():
    masks = torch.ones(2, 480, 640, dtype=torch.bool)
    picture = drawn(seen((0, 0, 640, 480), (0, 0, 640, 480), ids=[1, 2], masks=masks))
    top, below = np.array(class_colour(1)), np.array(class_colour(2))
    assert abs(picture[240, 320] - top).sum() < abs(picture[240, 320] - below).sum()


def test_a_mask_is_enlarged_with_its_photo():
    mask = torch.zeros(1, 60, 80, dtype=torch.bool)
    mask[0, 40:45, 30:35] = True
    mark = changed(drawn(seen((0, 0, 80, 60), size=(80, 60), masks=mask)))
    assert mark[240:270, 180:210].all()
    mark[240:270, 180:210] = False
    assert not mark[200:350, 20:450].any()


def test_points_are_dots_and_the_skeleton_joins_them():
    space = LabelSpace(name="stick", names=("stick",), keypoints=("a", "b", "c"), skeleton=((0, 1), (1, 2)))
    points = torch.tensor([[[150.0, 250.0, 9.0], [250.0, 250.0, 3.0], [250.0, 380.0, -1.0]]])
    mark = changed(drawn(seen((100, 200, 300, 400), labels=space, keypoints=points)))
    assert mark[250, 150]
    assert mark[250, 150:251].all()  # a line between the two that are seen
    assert not mark[370:390, 240:260].any()  # the third is not
    assert not mark[300, 240:260].any()


def test_points_without_a_skeleton_are_dots():
    points = torch.tensor([[[150.0, 250.0, 9.0], [250.0, 250.0, 3.0]]])
    mark = changed(drawn(seen((100, 200, 300, 400), labels=label_space("coco"), keypoints=points)))
    assert mark[250, 150]
    assert mark[250, 250]
    assert not mark[250, 160:240].any()


def plates(monkeypatch: pytest.MonkeyPatch, detections: Detections) -> list[tuple[float, ...]]:
    """The rectangles that are filled: those behind labels."""
    filled = []
    original = ImageDraw.ImageDraw.rectangle

    def rectangle(self, xy, fill=None, outline=None, width=1):
        if fill is not None:
            filled.append(tuple(xy))
        original(self, xy, fill, outline, width)

    monkeypatch.setattr(ImageDraw.ImageDraw, "rectangle", rectangle)
    detections.plot()
    return filled


@pytest.mark.parametrize(
    "box", [(0, 0, 50, 50), (600, 0, 640, 30), (610, 450, 640, 480), (0, 470, 30, 480), (0, 0, 640, 480)], ids=str
)
@pytest.mark.parametrize("name", ["cup", "a class with a very long name " * 5])
def test_a_label_never_leaves_the_picture(monkeypatch, box, name):
    (plate,) = plates(monkeypatch, seen(box, name=name))
    assert 0 <= plate[0] < plate[2] <= 639
    assert 0 <= plate[1] < plate[3] <= 479


def test_a_label_stands_on_its_box_and_other_labels_do_not_cover_it(monkeypatch):
    (plate,) = plates(monkeypatch, seen((100, 200, 300, 400)))
    assert (plate[0], plate[3]) == (100, 199)
    stack = plates(monkeypatch, seen((100, 200, 300, 400), (102, 202, 300, 400), (101, 199, 300, 400)))
    assert len(stack) == 3
    for one, other in combinations(stack, 2):
        assert one[3] < other[1] or other[3] < one[1]


def test_labels_grow_with_the_photo(monkeypatch):
    small = plates(monkeypatch, seen((100, 200, 300, 400)))[0]
    large = plates(monkeypatch, seen((400, 800, 1200, 1600), size=(4000, 3000)))[0]
    assert large[3] - large[1] > 4 * (small[3] - small[1])


def test_the_text_contrasts_with_its_plate():
    for class_id in range(20):
        picture = drawn(seen((100, 200, 300, 400), ids=[class_id], name="MMMM")).astype(int)
        plate = picture[184:199, 101:160].reshape(-1, 3)
        light = plate @ np.array([0.299, 0.587, 0.114])
        assert light.max() - light.min() > 90, class_id


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.integers(0, 99))
def test_pictures_of_any_size_are_drawn(width, height, seed):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(5, 2, 2, generator=generator).sort(dim=1).values * torch.tensor([width, height])
    masks = torch.rand(5, height, width, generator=generator) > 0.5
    points = torch.rand(5, 17, 3, generator=generator) * torch.tensor([width, height, 1])
    detections = seen(
        *corners.flatten(1).tolist(),
        size=(width, height),
        labels=label_space("coco_person"),
        masks=masks,
        keypoints=points,
    )
    assert max(detections.plot().size) == max(width, height, 480)


def test_colours_of_classes_can_be_told_apart_and_stay():
    colours = [np.array(class_colour(i)) for i in range(91)]
    nearest = min(np.abs(one - other).sum() for one, other in combinations(colours[:20], 2))
    assert nearest >= 40
    assert len({tuple(colour) for colour in colours}) == 91
    assert all(np.abs(a - b).sum() > 100 for a, b in pairwise(colours))
    assert class_colour(0) == class_colour(0)
    alone, among = (
        drawn(seen((100, 200, 300, 400), ids=[7])),
        drawn(seen((100, 200, 300, 400), (1, 1, 9, 9), ids=[7, 3])),
    )
    assert tuple(alone[300, 100]) == tuple(among[300, 100]) == class_colour(7)
