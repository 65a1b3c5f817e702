"""Label spaces of detectors: 80, 90 and 91 outputs over COCO's classes are kept apart, and each is mapped exactly."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st
from torchvision.models._meta import _COCO_CATEGORIES, _COCO_PERSON_CATEGORIES, _COCO_PERSON_KEYPOINT_NAMES

from zoo.errors import LabelError
from zoo.models.labels import LabelSpace, bundled_label_spaces, label_space

NUMBERED = [(i, name) for i, name in enumerate(_COCO_CATEGORIES) if name not in ("__background__", "N/A")]
"""(COCO's category id, name), as torchvision has them."""
ABSENT = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
"""COCO's numbers that are no class."""


@pytest.mark.parametrize("name", ["coco", "coco_90", "coco_91"])
def test_every_coco_space_has_torchvisions_classes_under_cocos_ids(name):
    space = label_space(name)
    assert list(zip(space.source_ids, space.names, strict=True)) == NUMBERED
    assert (space.id_of("person"), space.id_of_source(90), space.name_of(79)) == (0, 79, "toothbrush")


@pytest.mark.parametrize(("name", "outputs", "shift"), [("coco_90", 90, -1), ("coco_91", 91, 0)])
def test_outputs_are_cocos_numbers(name, outputs, shift):
    space = label_space(name)
    space.check(outputs)
    table = space.class_table
    assert len(table) == space.num_outputs == outputs
    for output, class_id in enumerate(table):
        coco_id = output - shift
        if class_id < 0:
            assert coco_id in (0, *ABSENT)
        else:
            assert (coco_id, space.name_of(class_id)) in NUMBERED
            assert (space.output_of(class_id), space.source_ids[class_id]) == (output, coco_id)
    assert sum(class_id < 0 for class_id in table) == outputs - 80
    assert space.classes_of_outputs == list(space.outputs)


def test_without_holes_an_output_is_its_class():
    space = label_space("coco")
    assert space.class_table == tuple(range(80))
    assert [space.output_of(i) for i in range(80)] == list(range(80))


@pytest.mark.parametrize("name", ["coco", "coco_90", "coco_91"])
def test_eighty_ninety_and_ninety_one_outputs_do_not_pass_for_each_other(name):
    space = label_space(name)
    for outputs in {80, 90, 91} - {space.num_outputs}:
        with pytest.raises(LabelError, match=f"{outputs} outputs, but label space '{name}'"):
            space.check(outputs)


@pytest.mark.parametrize("class_id", [-1, 80])
def test_a_class_that_there_is_not_has_no_output(class_id):
    with pytest.raises(LabelError, match="no class"):
        label_space("coco_91").output_of(class_id)


def test_a_background_stands_before_the_slots():
    space = LabelSpace(name="gap", names=("a", "b"), outputs=(0, 2), slots=3, background="first")
    assert (space.num_outputs, space.classes_of_outputs, space.class_table) == (4, [1, 3], (0, -1, 1))


def test_people_have_torchvisions_keypoints_and_cocos_bones():
    space = label_space("coco_person")
    assert list(space.names) == _COCO_PERSON_CATEGORIES[1:]
    assert list(space.keypoints) == _COCO_PERSON_KEYPOINT_NAMES
    bones = {frozenset(space.keypoints[point] for point in pair) for pair in space.skeleton}
    assert len(bones) == len(space.skeleton) == 19  # as in COCO's own annotation files
    for side in ("left", "right"):
        for a, b in (
            ("ankle", "knee"),
            ("knee", "hip"),
            ("hip", "shoulder"),
            ("shoulder", "elbow"),
            ("elbow", "wrist"),
        ):
            assert frozenset((f"{side}_{a}", f"{side}_{b}")) in bones
    assert {p for pair in space.skeleton for p in pair} == set(range(17))


@pytest.mark.parametrize("name", sorted(bundled_label_spaces()))
def test_a_space_is_the_same_after_json(name):
    space = label_space(name)
    again = LabelSpace.from_dict(json.loads(json.dumps(space.to_dict())))
    assert again == space
    assert again.class_table == space.class_table


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.permutations(range(15)).map(lambda p: p[:n]), st.just(n))))
def test_any_outputs_survive_json_and_invert(drawn):
    outputs, count = drawn
    space = LabelSpace(name="any", names=tuple(map(str, range(count))), outputs=tuple(outputs), slots=15)
    assert LabelSpace.from_dict(json.loads(json.dumps(space.to_dict()))) == space
    assert [space.class_table[space.output_of(i)] for i in range(count)] == list(range(count))
    assert sum(i >= 0 for i in space.class_table) == count


SOUND = {"names": ["a", "b"], "outputs": [0, 2], "slots": 3, "keypoints": ["x", "y"], "skeleton": [[0, 1]]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"outputs": [0]},
        {"outputs": [0, 0]},
        {"outputs": [0, 3]},
        {"outputs": [-1, 0]},
        {"outputs": [0, 1.5]},
        {"outputs": [True, False]},
        {"outputs": ["0", "1"]},
        {"outputs": [[0], [1]]},
        {"outputs": 3},
        {"outputs": {"0": 1}},
        {"outputs": []},
        {"slots": 0},
        {"slots": -3},
        {"slots": 2},
        {"slots": "3"},
        {"slots": None},
        {"slots": 10**12},
        {"keypoints": "nose"},
        {"keypoints": ["x", "x"]},
        {"keypoints": [["x"], ["y"]]},
        {"keypoints": [1, 2]},
        {"keypoints": []},
        {"skeleton": [[0, 2]]},
        {"skeleton": [[-1, 0]]},
        {"skeleton": [[0, 1, 1]]},
        {"skeleton": [0, 1]},
        {"skeleton": [["x", "y"]]},
        {"skeleton": "x-y"},
    ],
    ids=str,
)
def test_a_hostile_space_is_a_label_error_of_its_own(wrong):
    assert LabelSpace.from_dict(SOUND).skeleton == ((0, 1),)
    with pytest.raises(LabelError):
        LabelSpace.from_dict({**SOUND, **wrong})
