"""A model's classes against a data set's: by COCO's ids, by name, by number; nothing in common is refused."""

from __future__ import annotations

import pytest

from zoo.errors import LabelError
from zoo.models.labels import LabelSpace, label_space
from zoo_detection.evaluation import Category, match_classes
from zoo_detection.evaluation.class_matching import COCO_IDS

SPACE = LabelSpace(name="pets", names=("cat", "Dog", "traffic light"))


def named(*names: str, first: int = 5) -> list[Category]:
    return [Category(first + number, name) for number, name in enumerate(names)]


def test_names_match_whatever_their_case_spaces_and_hyphens() -> None:
    found = match_classes(SPACE, named("Traffic_Light", "horse", "dog"))
    assert found.how == "names"
    assert dict(found.category_of) == {2: 5, 1: 7}
    assert [category.name for category in found.evaluated] == ["Traffic_Light", "dog"]
    assert [category.name for category in found.not_known] == ["horse"]
    assert found.to_dict()["not_known_to_the_model"] == ["horse"]


def test_a_name_that_is_the_same_comes_before_one_in_another_case() -> None:
    space = LabelSpace(name="birds", names=("Crane", "crane"))
    assert dict(match_classes(space, named("crane")).category_of) == {1: 5}
    assert dict(match_classes(space, named("Crane", "crane")).category_of) == {0: 5, 1: 6}


def test_cocos_ids_match_whatever_the_names() -> None:
    coco = label_space("coco")
    translated = [Category(number, f"Klasse {number}") for number in sorted(COCO_IDS)]
    found = match_classes(coco, translated)
    assert found.how == "coco ids"
    assert [found.category_of[i] for i in range(80)] == list(coco.source_ids)
    assert len(found.evaluated) == 80
    assert set(coco.source_ids) == COCO_IDS


@pytest.mark.parametrize("name", ["coco", "coco_90", "coco_91"])
def test_every_label_space_of_coco_finds_cocos_own_categories(name: str) -> None:
    space = label_space(name)
    categories = [Category(int(number), label) for number, label in zip(space.source_ids, space.names, strict=True)]
    found = match_classes(space, categories)
    assert len(found.category_of) == 80
    by_id = {category.id: category.name for category in categories}
    assert all(space.names[class_id] == by_id[number] for class_id, number in found.category_of.items())
    some = match_classes(space, categories[::3])  # a part of COCO: its ids alone prove nothing
    assert (some.how, len(some.evaluated)) == ("names", 27)
    assert all(space.names[class_id] == by_id[number] for class_id, number in some.category_of.items())


def test_vocs_names_are_cocos_classes() -> None:
    voc = (
        *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
        *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
    )
    coco = label_space("coco")
    found = match_classes(coco, named(*voc, first=1))
    assert not found.not_known
    assert coco.names[next(i for i, number in found.category_of.items() if number == 1)] == "airplane"
    assert coco.names[next(i for i, number in found.category_of.items() if number == 20)] == "tv"


def test_classes_without_names_are_the_models_numbers() -> None:
    found = match_classes(SPACE, named("0", "1", first=0), named=False)
    assert (found.how, dict(found.category_of)) == ("numbers", {0: 0, 1: 1})
    with pytest.raises(LabelError, match="4 classes without names"):
        match_classes(SPACE, named("0", "1", "2", "3", first=0), named=False)


def test_a_model_without_names_has_the_datas_classes_in_order() -> None:
    found = match_classes(None, [Category(9, "b"), Category(2, "a")])
    assert (found.how, dict(found.category_of)) == ("order", {0: 2, 1: 9})


def test_no_class_in_common_is_refused_with_both_sides() -> None:
    with pytest.raises(LabelError, match="no class in common") as caught:
        match_classes(SPACE, named("tree", "house"))
    assert caught.value.found == "in the data 'tree', 'house'; in the model 'cat', 'Dog', 'traffic light'"
    with pytest.raises(LabelError) as caught:
        match_classes(label_space("coco"), named("tree"))
    assert str(caught.value.found).endswith("'bus' and 74 more")


def test_two_classes_of_the_data_are_not_one_of_the_model() -> None:
    with pytest.raises(LabelError, match="two classes of the data are 'couch'") as caught:
        match_classes(label_space("coco"), named("sofa", "couch"))
    assert caught.value.found == "'sofa', 'couch'"
