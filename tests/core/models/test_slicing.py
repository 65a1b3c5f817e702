"""Slices cover the picture, and what is too small in the whole picture is found in them, once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from colour_detector import ColourDetector
from hypothesis import given, settings, strategies as st
from PIL import Image, ImageDraw

from zoo import Classifier, predict_sliced
from zoo.errors import InputError, OptionError, UnsupportedError
from zoo.models.detections import Detections
from zoo.models.slicing import Merging, merged, slice_grid

SMALL = [(100, 90, 112, 102), (500, 40, 512, 52), (333, 600, 345, 612)]
"""Squares of 12 pixels, of which two are left in the whole picture, too few for the detector."""


def picture(*boxes: tuple[int, int, int, int], colour: str = "red", size: tuple[int, int] = (640, 640)) -> Image.Image:
    """White, with squares."""
    image = Image.new("RGB", size, "white")
    for x1, y1, x2, y2 in boxes:
        ImageDraw.Draw(image).rectangle((x1, y1, x2 - 1, y2 - 1), colour)
    return image


def boxes_of(detections: object) -> list[list[float]]:
    return sorted(detections.boxes.round().int().tolist())


def near(one: object, boxes: list[tuple[int, int, int, int]], atol: float = 1.5) -> bool:
    ours = torch.tensor(boxes_of(one)).reshape(-1, 4)
    return ours.shape == (len(boxes), 4) and bool((ours - torch.tensor(sorted(boxes))).abs().max() <= atol)


@settings(max_examples=300, deadline=None)
@given(
    size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    part=st.tuples(st.integers(20, 900), st.integers(20, 900)),
    overlap=st.sampled_from((0.0, 0.1, 0.2, 0.25, 1 / 3, 0.5, 0.9)),
)
def test_slices_cover_every_pixel_and_overlap_as_asked(size, part, overlap):
    grid = slice_grid(size, part, overlap)
    assert len(set(grid)) == len(grid)
    for axis in (0, 1):
        whole, length = size[1 - axis], part[1 - axis]
        starts = sorted({box[axis] for box in grid})
        ends = sorted({box[axis + 2] for box in grid})
        assert (starts[0], ends[-1]) == (0, whole)
        assert {end - start for start, end in zip(starts, ends, strict=True)} == {min(length, whole)}
        for end, start in zip(ends, starts[1:], strict=False):
            assert end - start >= overlap * length - 1e-6
        if len(starts) > 1:  # and no more slices than it takes
            assert (len(starts) - 1) * (length - np.ceil(overlap * length)) + length >= whole
            assert (len(starts) - 2) * (length - np.ceil(overlap * length)) + length < whole
    assert len(grid) == len({box[0] for box in grid}) * len({box[1] for box in grid})


def test_a_picture_no_larger_than_a_slice_is_one():
    assert slice_grid((300, 500), (512, 512), 0.2) == [(0, 0, 500, 300)]
    model = ColourDetector(least=4)
    (seen,) = predict_sliced(model, picture((10, 10, 60, 60), size=(200, 100)))
    assert model.batches == [1]
    assert near(seen, [(10, 10, 60, 60)])


def test_what_is_too_small_in_the_whole_picture_is_found_in_slices():
    model = ColourDetector()
    assert len(model.predict(picture(*SMALL))[0]) == 0
    (seen,) = predict_sliced(model, picture(*SMALL), slice_size=256)
    assert near(seen, SMALL)
    assert seen.names == ("red",) * 3
    assert seen.size == (640, 640)


@pytest.mark.parametrize(("merge", "match"), [("nmm", "ios"), ("nmm", "iou"), ("nms", "ios"), ("nms", "iou")])
def test_an_object_within_the_overlap_of_slices_is_found_once(merge, match):
    box = [(210, 100, 230, 120)]  # slices of 256 pixels begin at 0 and at 192 there
    assert [part[0] for part in slice_grid((256, 1024), (256, 256), 0.25)] == [0, 192, 384, 576, 768]
    options = {"slice_size": 256, "overlap": 0.25, "merge": merge, "match": match}
    (seen,) = predict_sliced(ColourDetector(), picture(*box, size=(1024, 256)), **options)
    assert near(seen, box)


def test_an_object_across_a_border_is_found_once_and_whole():
    box = [(180, 100, 300, 120)]  # in part in two slices, whole in none
    options = {"slice_size": 256, "overlap": 0.25, "whole": False}
    seen = {m: predict_sliced(ColourDetector(), picture(*box), **options, merge=m)[0] for m in ("nmm", "nms")}
    assert near(seen["nmm"], box)
    assert len(seen["nms"]) == 1
    assert not near(seen["nms"], box)


def test_an_object_across_many_slices_is_found_by_the_whole_picture():
    box = [(20, 100, 620, 160)]
    assert near(predict_sliced(ColourDetector(), picture(*box), slice_size=256)[0], box, atol=9)


def found_at(*boxes: tuple[float, ...], score: float) -> Detections:
    (seen,) = ColourDetector().predict(picture(size=(300, 200)))
    count = len(boxes)
    return replace(
        seen,
        boxes=torch.tensor(boxes).reshape(-1, 4),
        scores=torch.full((count,), score),
        ids=torch.zeros(count).long(),
        names=("red",) * count,
        masks=None,
        keypoints=None,
    )


@pytest.mark.parametrize(("whole", "wanted"), [(0.9, [40, 20, 160, 120]), (0.5, [35, 14, 170, 150])])
def test_what_was_seen_whole_does_not_grow_by_its_parts(whole, wanted):
    parts = [(0, 0, 300, 200), (0, 0, 100, 200), (60, 0, 200, 200), (0, 0, 220, 200)]
    found = [
        found_at((40.0, 20, 160, 120), score=whole),  # of the whole picture
        found_at((35.0, 14, 99, 150), score=0.8),  # cut at the right
        found_at((0.0, 16, 110, 140), score=0.7),  # cut at the left
        found_at((60.0, 40, 164, 130), score=0.4),  # a smaller thing, not cut
    ]
    seen = merged(found_at(score=0.0), found, parts, Merging())
    assert seen.boxes.tolist() == [wanted]
    assert seen.scores.tolist() == [pytest.approx(max(whole, 0.8))]


def test_what_no_slice_cut_off_is_merged_to_hold_both():
    parts = [(0, 0, 200, 200), (100, 0, 300, 200)]
    found = [found_at((120.0, 50, 160, 90), score=0.9), found_at((22.0, 48, 62, 90), score=0.8)]
    assert merged(found_at(score=0.0), found, parts, Merging()).boxes.tolist() == [[120, 48, 162, 90]]


def test_classes_do_not_merge_with_each_other():
    image = picture((200, 100, 230, 120))
    ImageDraw.Draw(image).rectangle((206, 104, 224, 116), "blue")
    (seen,) = predict_sliced(ColourDetector(), image, slice_size=256)
    assert sorted(seen.names) == ["blue", "red"]


def test_masks_points_and_embeddings_move_to_the_picture():
    (seen,) = predict_sliced(ColourDetector(), picture(*SMALL), slice_size=256, embeddings=True)
    assert (seen.masks.shape, seen.masks.dtype) == ((3, 640, 640), torch.bool)
    for mask, point, (x1, y1, x2, y2) in zip(seen.masks, seen.keypoints, seen.boxes.tolist(), strict=True):
        rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
        assert [int(columns.min()), int(rows.min())] == pytest.approx([x1, y1], abs=1.5)
        assert [int(columns.max()), int(rows.max())] == pytest.approx([x2 - 1, y2 - 1], abs=1.5)
        assert point.tolist() == [pytest.approx([(x1 + x2) / 2, (y1 + y2) / 2, 1.0], abs=0.01)]
    assert torch.equal(seen.embeddings[:, 0], seen.scores)


def test_a_merged_objects_mask_is_the_union_of_its_parts():
    options = {"slice_size": 256, "overlap": 0.25, "whole": False}
    (seen,) = predict_sliced(ColourDetector(), picture((180, 100, 300, 120)), **options)
    columns = seen.masks[0].any(0).nonzero()
    assert (int(columns.min()), int(columns.max())) == (pytest.approx(180, abs=2), pytest.approx(299, abs=2))


def test_slices_are_looked_at_in_batches_and_pictures_apart():
    model = ColourDetector()
    seen = predict_sliced(model, [picture(*SMALL), picture()], slice_size=256, overlap=0.2, batch_size=4)
    assert model.batches == [4, 4, 2] * 2  # nine slices and the whole
    assert [len(one) for one in seen] == [3, 0]
    assert seen[1].plot().size == (640, 640)


@pytest.mark.parametrize("kind", [np.array, lambda i: torch.from_numpy(np.array(i)).permute(2, 0, 1) / 255])
def test_arrays_and_tensors_are_sliced_too(kind):
    assert near(predict_sliced(ColourDetector(), kind(picture(*SMALL)), slice_size=256)[0], SMALL)


def test_thresholds_hold_for_slices_and_for_the_picture():
    model = ColourDetector()
    (one,) = predict_sliced(model, picture(*SMALL), slice_size=256, max_detections=1)
    assert (len(one), model.asked.max_detections) == (1, 1)
    assert len(predict_sliced(model, picture(*SMALL), slice_size=256, classes=["blue"])[0]) == 0
    assert len(predict_sliced(model, picture(*SMALL), slice_size=256, score_threshold=0.9)[0]) == 0
    with pytest.raises(OptionError, match="score_threshold"):
        predict_sliced(model, picture(*SMALL), score_threshold=2)


def test_neighbours_of_one_slice_stay_apart_however_close():
    boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [1, 0, 11, 10]])
    same, ids = torch.tensor([3, 3, 4]), torch.zeros(3).long()
    assert Merging("nmm").groups(boxes, ids, same) == [[0, 2], [1]]
    assert Merging("nms").groups(boxes, ids, same) == [[0, 2], [1]]
    assert Merging("nmm").groups(boxes, torch.tensor([0, 0, 1]), same) == [[0], [1], [2]]


def test_a_part_lies_on_its_whole_by_intersection_over_smaller_only():
    boxes = torch.tensor([[0.0, 0, 100, 100], [0, 0, 20, 20]])
    ids, slices = torch.zeros(2).long(), torch.tensor([0, 1])
    assert Merging("nmm", "ios").groups(boxes, ids, slices) == [[0, 1]]
    assert Merging("nmm", "iou").groups(boxes, ids, slices) == [[0], [1]]
    assert Merging("nmm", "iou", 0.03).groups(boxes, ids, slices) == [[0, 1]]


corners = st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(1, 30)] * 2)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(corners, st.integers(0, 1), st.integers(0, 3)), max_size=12),
    merge=st.sampled_from(("nms", "nmm")),
    match=st.sampled_from(("iou", "ios")),
)
def test_every_object_ends_in_one_group_of_its_class(rows, merge, match):
    boxes = torch.tensor([[x, y, x + w, y + h] for (x, y, w, h), _, _ in rows]).float().reshape(-1, 4)
    ids, slices = (torch.tensor([row[i] for row in rows]).long() for i in (1, 2))
    groups = Merging(merge, match).groups(boxes, ids, slices)
    assert sorted(row for group in groups for row in group) == list(range(len(rows)))
    assert [group[0] for group in groups] == sorted(group[0] for group in groups)
    for group in groups:
        assert len({int(ids[row]) for row in group}) == 1
        others = [int(slices[row]) for row in group[1:]]
        assert int(slices[group[0]]) not in others
        assert merge == "nms" or len(set(others)) == len(others)


@pytest.mark.parametrize(
    "wrong",
    [
        {"slice_size": 0},
        {"slice_size": 5.5},
        {"slice_size": "512"},
        {"slice_size": True},
        {"slice_size": (512, 512, 3)},
        {"slice_size": 1, "overlap": 0.5},
        {"overlap": 1},
        {"overlap": -0.1},
        {"overlap": "much"},
        {"merge": "mean"},
        {"match": "giou"},
        {"merge_threshold": 1.5},
        {"merge_threshold": None},
    ],
    ids=str,
)
def test_slices_that_cannot_be_are_refused_before_a_picture_is_opened(wrong):
    with pytest.raises(OptionError) as error:
        predict_sliced(ColourDetector(), "no-such-file.png", **{"slice_size": 64, **wrong})
    assert error.value.fix


def test_only_detectors_look_in_slices():
    with pytest.raises(UnsupportedError, match="finds no objects"):
        predict_sliced(Classifier, picture())
    with pytest.raises(InputError, match="no such file"):
        predict_sliced(ColourDetector(), "no-such-file.png")
