"""Box formats and overlaps, against torchvision and by their laws."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings, strategies as st
from random_boxes import box_sets, seeded_boxes
from torch import Tensor
from torchvision import ops

from zoo.errors import InputError
from zoo_detection import boxes as geometry

Overlap = Callable[[Tensor, Tensor], Tensor]
OVERLAPS: list[Overlap] = [geometry.iou, geometry.giou, geometry.diou, geometry.ciou]
POINT, LINE, BOX = [5.0, 5, 5, 5], [0.0, 5, 10, 5], [0.0, 0, 10, 10]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (geometry.iou, ops.box_iou),
        (geometry.giou, ops.generalized_box_iou),
        (geometry.diou, ops.distance_box_iou),
        (geometry.ciou, ops.complete_box_iou),
    ],
    ids=["iou", "giou", "diou", "ciou"],
)
@given(boxes=box_sets(smallest_side=1), others=box_sets(smallest_side=1))
@settings(deadline=None, max_examples=50)
def test_overlaps_are_torchvisions(ours: Overlap, theirs: Overlap, boxes: Tensor, others: Tensor) -> None:
    torch.testing.assert_close(ours(boxes, others), theirs(boxes, others), rtol=0, atol=1e-6)


def test_the_gradient_of_complete_iou_is_torchvisions() -> None:
    gradients = []
    for overlap in (geometry.ciou, ops.complete_box_iou):
        boxes = seeded_boxes(10).requires_grad_()
        overlap(boxes, seeded_boxes(10, 1, extent=50)).sum().backward()
        gradients.append(boxes.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


@given(boxes=box_sets(), others=box_sets())
@settings(deadline=None, max_examples=50)
def test_overlaps_are_symmetric_and_in_range(boxes: Tensor, others: Tensor) -> None:
    iou, giou, diou, ciou = (overlap(boxes, others) for overlap in OVERLAPS)
    for overlap, values in zip(OVERLAPS, (iou, giou, diou, ciou), strict=True):
        assert values.shape == (len(boxes), len(others))
        torch.testing.assert_close(values, overlap(others, boxes).T, rtol=0, atol=1e-6)
    assert bool(((iou >= 0) & (iou <= 1)).all())
    assert bool(((giou >= -1) & (giou <= iou)).all())
    assert bool(((diou >= -1) & (diou <= iou)).all())
    assert bool((ciou <= diou).all() & ciou.isfinite().all())


@pytest.mark.parametrize("overlap", OVERLAPS)
def test_a_box_agrees_fully_with_itself(overlap: Overlap) -> None:
    boxes = seeded_boxes(20)
    torch.testing.assert_close(overlap(boxes, boxes).diagonal(), torch.ones(20))


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("row", [POINT, LINE, [10.0, 10, 0, 0]], ids=["point", "line", "inside-out"])
def test_degenerate_boxes_have_finite_overlaps_and_gradients(overlap: Overlap, row: list[float]) -> None:
    boxes = torch.tensor([row], requires_grad=True)
    values = overlap(boxes, torch.tensor([row, POINT, LINE, BOX]))
    assert bool(values.isfinite().all() & (values <= 1).all())
    values.sum().backward()
    assert boxes.grad is not None
    assert bool(boxes.grad.isfinite().all())


def test_nothing_overlaps_with_an_empty_box() -> None:
    assert not geometry.iou(torch.tensor([POINT, LINE]), torch.tensor([POINT, LINE, BOX])).any()


@pytest.mark.parametrize("overlap", [geometry.iou, geometry.giou, geometry.diou])
def test_the_gradient_of_an_overlap_is_its_slope(overlap: Overlap) -> None:
    boxes = seeded_boxes(4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: overlap(rows, seeded_boxes(3, 1).double()), (boxes,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("overlap", OVERLAPS)
def test_half_precision_boxes_overlap_as_their_values_do(overlap: Overlap, dtype: torch.dtype) -> None:
    boxes = (seeded_boxes(20, extent=1200, largest=900)).to(dtype)  # areas past what float16 holds
    assert overlap(boxes, boxes).dtype == torch.float32
    assert torch.equal(overlap(boxes, boxes), overlap(boxes.float(), boxes.float()))


def test_a_stack_of_sets_is_compared_set_by_set() -> None:
    boxes, others = seeded_boxes(12).view(3, 4, 4), seeded_boxes(15, 1).view(3, 5, 4)
    for overlap in OVERLAPS:
        stacked = overlap(boxes, others)
        assert stacked.shape == (3, 4, 5)
        torch.testing.assert_close(stacked[1], overlap(boxes[1], others[1]))


@given(boxes=box_sets(), steps=st.lists(st.sampled_from(geometry.FORMATS), max_size=4))
@settings(deadline=None)
def test_a_box_comes_back_from_any_way_through_the_formats(boxes: Tensor, steps: list[geometry.BoxFormat]) -> None:
    moved, here = boxes, "xyxy"
    for step in [*steps, "xyxy"]:
        moved, here = geometry.convert(moved, here, step), step
    assert torch.equal(moved, boxes)  # halves are exact


def test_a_format_says_what_its_numbers_are() -> None:
    box = torch.tensor([10, 20, 14, 30])
    assert geometry.convert(box, "xyxy", "xywh").tolist() == [10, 20, 4, 10]
    assert geometry.convert(box, "xyxy", "cxcywh").tolist() == [12, 25, 4, 10]
    assert geometry.convert(box, "xyxy", "cxcywh").dtype == torch.float32
    assert geometry.convert(box.half(), "xyxy", "xywh").dtype == torch.float16


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="xyxy, xywh, cxcywh"):
        geometry.convert(torch.zeros(1, 4), "xyxy", "yxyx")  # type: ignore[arg-type]  # the mistake is the test


@pytest.mark.parametrize("shape", [(4, 5), (3,), ()], ids=str)
def test_other_than_four_numbers_are_no_box(shape: tuple[int, ...]) -> None:
    for check in (geometry.area, lambda rows: geometry.clip_boxes(rows, (5, 5)), lambda rows: geometry.iou(rows, rows)):
        with pytest.raises(InputError, match="four numbers"):
            check(torch.zeros(shape))


@given(boxes=box_sets())
@settings(deadline=None)
def test_clipping_is_torchvisions(boxes: Tensor) -> None:
    assert torch.equal(geometry.clip_boxes(boxes, (7, 11)), ops.clip_boxes_to_image(boxes, (7, 11)))


def test_each_image_clips_its_own_boxes() -> None:
    boxes, sizes = seeded_boxes(10).view(2, 5, 4), torch.tensor([[30, 200], [200, 40]])
    clipped = geometry.clip_boxes(boxes, sizes)
    for image in range(2):
        assert torch.equal(clipped[image], geometry.clip_boxes(boxes[image], sizes[image].tolist()))
    images = torch.tensor([0, 1, 1, 0, 1])
    rows = geometry.clip_boxes(boxes[0], sizes[images])
    for row, image in enumerate(images.tolist()):
        assert torch.equal(rows[row], geometry.clip_boxes(boxes[0, row], sizes[image]))


def test_sizes_for_other_boxes_are_refused() -> None:
    with pytest.raises(InputError, match="sizes do not fit"):
        geometry.clip_boxes(torch.zeros(3, 4), torch.zeros(3, 4, 2))
    with pytest.raises(InputError, match="sizes do not fit"):
        geometry.clip_boxes(torch.zeros(3, 4), torch.ones(3, 3))


def test_small_boxes_and_points_inside_are_told() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3], [2, 2, 8, 8]])
    assert geometry.large_enough(boxes, 4).tolist() == [True, False, True]
    inside = geometry.contains(boxes, torch.tensor([[3.0, 3.0], [0.0, 1.0]]))  # the first on an edge, the second too
    assert inside.tolist() == [[True, False], [False, False], [True, False]]
