"""Targets of detectors: sound ones pass unchanged, all others are refused with the image and the object named."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from zoo.errors import InputError, LabelError
from zoo.models.labels import label_space
from zoo.models.targets import SLACK, check_targets

HEIGHT, WIDTH, POINTS = 40, 60, 17
IMAGES = torch.zeros(2, 3, 64, 64)
SIZES = torch.tensor([[HEIGHT, WIDTH], [64, 64]])
BOX = [5.0, 6.0, 30.0, 20.0]


def target(*boxes: list[float], **changes: object) -> dict[str, object]:
    """One image's target; its boxes are of class 1."""
    return {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.ones(len(boxes)).long(), **changes}


def checked(first: object, second: object = None, **options: object) -> list[dict[str, torch.Tensor]]:
    both = [first, target() if second is None else second]
    return check_targets(both, IMAGES, SIZES, **{"num_classes": 3, **options})


def fault(first: object, **options: object) -> InputError:
    with pytest.raises(InputError) as raised:
        checked(first, **options)
    return raised.value


def test_sound_targets_pass_as_they_are():
    ours, empty = checked(target(BOX, [0.0, 0.0, 60.0, 40.0]))
    assert set(ours) == set(empty) == {"boxes", "labels"}
    assert ours["boxes"].tolist() == [BOX, [0, 0, 60, 40]]
    assert (ours["boxes"].dtype, ours["labels"].dtype) == (torch.float32, torch.int64)
    assert (empty["boxes"].shape, empty["labels"].shape) == ((0, 4), (0,))


def test_what_a_model_does_not_learn_is_left_out():
    extra = {"area": torch.ones(1), "image_id": 7, "masks": "not even a tensor"}
    assert set(checked(target(BOX, **extra))[0]) == {"boxes", "labels"}


@pytest.mark.parametrize(
    "empty",
    [
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()},
        {"boxes": torch.tensor([]), "labels": torch.tensor([])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0), "iscrowd": torch.tensor([])},
    ],
)
def test_an_image_without_objects_is_an_image(empty):
    for needs in ((), ("masks",), ("keypoints",)):
        ours, _ = checked(empty, needs=needs)
        assert (ours["boxes"].shape, ours["boxes"].dtype) == ((0, 4), torch.float32)
        assert (ours["labels"].shape, ours["labels"].dtype) == ((0,), torch.int64)


def test_crowds_are_left_out_and_everything_of_theirs():
    masks = torch.zeros(3, 64, 64, dtype=torch.bool)
    masks[1] = True
    keypoints = torch.arange(3.0).view(3, 1, 1).expand(3, POINTS, 3)
    for crowd in (torch.tensor([1, 0, 1]), torch.tensor([True, False, True])):
        given_ = target(BOX, [1.0, 2.0, 3.0, 4.0], BOX, iscrowd=crowd, masks=masks, keypoints=keypoints)
        ours, _ = checked(given_, needs=("masks", "keypoints"))
        assert ours["boxes"].tolist() == [[1, 2, 3, 4]]
        assert ours["masks"].all()
        assert (ours["keypoints"] == 1).all()
        assert "iscrowd" not in ours
    assert len(checked(target(BOX, iscrowd=torch.ones(1)))[0]["boxes"]) == 0


def test_checking_leaves_the_callers_target_alone():
    mine = target([-0.5, 0.0, 60.5, 40.0], iscrowd=torch.zeros(1))
    before = {name: value.clone() for name, value in mine.items()}
    ours, _ = checked(mine)
    ours["boxes"] += 7
    assert all(torch.equal(mine[name], value) for name, value in before.items())
    assert set(mine) == set(before)


def test_whole_number_boxes_become_floats():
    ours, _ = checked({"boxes": torch.tensor([[5, 6, 30, 20]]), "labels": torch.tensor([0])})
    assert ours["boxes"].dtype == torch.float32


def test_a_box_that_rounding_pushed_over_the_edge_is_clipped():
    ours, _ = checked(target([-SLACK, -SLACK, WIDTH + SLACK, HEIGHT + SLACK]))
    assert ours["boxes"].tolist() == [[0, 0, WIDTH, HEIGHT]]


@pytest.mark.parametrize(
    ("box", "why"),
    [
        ([5.0, 6.0, 5.0, 20.0], "has no area"),
        ([5.0, 6.0, 30.0, 6.0], "has no area"),
        ([30.0, 6.0, 5.0, 20.0], "has no area"),
        ([5.0, 6.0, float("nan"), 20.0], "is not finite"),
        ([5.0, 6.0, float("inf"), 20.0], "is not finite"),
        ([-SLACK - 0.5, 6.0, 30.0, 20.0], "lies outside of its image of 60 x 40 pixels"),
        ([5.0, 6.0, WIDTH + SLACK + 0.5, 20.0], "lies outside"),
        ([5.0, 6.0, 30.0, HEIGHT + SLACK + 0.5], "lies outside"),
        ([60.0, 6.0, 60.9, 20.0], "lies outside"),
        ([5.0, 40.0, 30.0, 40.5], "lies outside"),
        ([-0.9, 6.0, 0.0, 20.0], "lies outside"),
    ],
)
def test_a_box_that_cannot_be_is_refused_by_its_number(box, why):
    error = fault(target(BOX, BOX, box))
    assert f"targets[0]: boxes[2] {why}" in str(error)
    assert error.fix


def test_the_image_is_named_too():
    with pytest.raises(InputError, match=r"targets\[1\]: boxes\[0\] has no area"):
        checked(target(BOX), target([5.0, 6.0, 5.0, 7.0]))


def test_the_image_is_its_own_part_of_the_batch_and_not_the_padding():
    assert "60 x 40" in str(fault(target([5.0, 6.0, 30.0, 50.0])))
    assert checked(target(), target([5.0, 6.0, 30.0, 50.0]))[1]["boxes"].tolist() == [[5, 6, 30, 50]]


@pytest.mark.parametrize(("label", "asked"), [(-1, "is -1"), (3, "is 3")])
def test_a_label_that_does_not_exist_is_refused_by_its_number(label, asked):
    error = fault(target(BOX, BOX, labels=torch.tensor([2, label])))
    assert f"labels[1] {asked}; labels go from 0 to 2" in str(error)
    assert ("num_classes=4" in error.fix) == (label == 3)  # a label below 0 is no class too many
    assert "num_classes=0" not in error.fix


def test_an_output_that_is_no_class_is_no_label():
    space = label_space("coco_91")
    with pytest.raises(LabelError, match=r"targets\[0\]: labels\[1\] is output 0, which is no class"):
        checked(target(BOX, BOX, labels=torch.tensor([1, 0])), num_classes=91, labels=space)
    ours, _ = checked(target(BOX, labels=torch.tensor([90])), num_classes=91, labels=space)
    assert ours["labels"].tolist() == [90]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"boxes": torch.rand(2, 4)}, "`boxes` has the shape (1, 4)"),
        ({"boxes": torch.rand(4)}, "`boxes` has the shape (1, 4)"),
        ({"boxes": torch.rand(1, 5)}, "`boxes` has the shape (1, 4)"),
        ({"boxes": torch.ones(1, 4, dtype=torch.bool)}, "boxes are floats"),
        ({"boxes": [BOX]}, "`boxes` is a tensor"),
        ({"labels": torch.tensor(1)}, "`labels` has the shape (N,)"),
        ({"labels": torch.tensor([[1]])}, "`labels` has the shape (1,)"),
        ({"labels": torch.tensor([1.0])}, "labels are int64"),
        ({"labels": torch.tensor([1], dtype=torch.int32)}, "labels are int64"),
        ({"labels": [1]}, "`labels` is a tensor"),
        ({"iscrowd": torch.zeros(2)}, "`iscrowd` has the shape (1,)"),
        ({"masks": torch.zeros(1, 40, 60)}, "`masks` has the shape (1, 64, 64)"),
        ({"masks": torch.zeros(1, 64, 64)}, "masks are bool or uint8"),
        ({"masks": torch.full((1, 64, 64), 255, dtype=torch.uint8)}, "masks are 0 and 1"),
        ({"keypoints": torch.zeros(1, POINTS, 2)}, "`keypoints` has the shape (1, P, 3)"),
        ({"keypoints": torch.full((1, POINTS, 3), float("nan"))}, "keypoints[0] is not finite"),
        ({"keypoints": torch.zeros(1, POINTS, 3).long()}, "keypoints are floats"),
    ],
)
def test_tensors_of_another_kind_are_refused_by_name(changes, says):
    sound = {
        "masks": torch.zeros(1, 64, 64, dtype=torch.uint8),
        "keypoints": torch.zeros(1, POINTS, 3),
    }
    error = fault(target(BOX, **{**sound, **changes}), needs=("masks", "keypoints"))
    assert f"targets[0]: {says}" in str(error)


def test_points_are_as_many_as_the_model_has():
    for points in (POINTS - 1, POINTS + 1):
        wrong = target(BOX, keypoints=torch.zeros(1, points, 3))
        error = fault(wrong, needs=("keypoints",), num_keypoints=POINTS)
        assert f"targets[0]: `keypoints` has the shape (1, {POINTS}, 3)" in str(error)
    ours, _ = checked(target(BOX, keypoints=torch.zeros(1, 9, 3)), needs=("keypoints",))  # a model that takes any
    assert ours["keypoints"].shape == (1, 9, 3)


@pytest.mark.parametrize("part", ["masks", "keypoints"])
def test_what_a_model_learns_must_be_there(part):
    assert f"targets[0] has no `{part}`" in str(fault(target(BOX), needs=(part,)))


@pytest.mark.parametrize("wrong", [None, 3, "boxes", {"boxes": torch.zeros(0, 4)}, {"labels": torch.zeros(0)}, []])
def test_what_is_no_target_is_refused(wrong):
    assert "targets[0] is a mapping with `boxes` and `labels`" in str(fault(wrong))


@pytest.mark.parametrize("wrong", [None, [], [target()], [target()] * 3, target(), iter([])])
def test_every_image_needs_a_target(wrong):
    with pytest.raises(InputError, match="2 images need a list of 2 targets"):
        check_targets(wrong, IMAGES, SIZES, num_classes=3)


numbers = st.floats(-3, 70, width=32) | st.sampled_from((0.0, WIDTH, HEIGHT, float("nan"), float("inf")))


@settings(max_examples=300, deadline=None)
@given(boxes=st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=1, max_size=3))
def test_a_target_that_passes_has_only_boxes_with_area_inside_the_image(boxes):
    try:
        ours, _ = checked(target(*boxes))
    except InputError as error:
        index = int(str(error).split("boxes[")[1].split("]")[0])
        assert index < len(boxes)
        return
    x1, y1, x2, y2 = ours["boxes"].unbind(1)
    assert len(ours["boxes"]) == len(boxes)
    assert ((x1 >= 0) & (x1 < x2) & (x2 <= WIDTH) & (y1 >= 0) & (y1 < y2) & (y2 <= HEIGHT)).all()
    assert (ours["boxes"] - torch.tensor(boxes)).abs().max() <= SLACK
