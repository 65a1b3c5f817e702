"""Detections: the right objects in the original's pixels, as words, as data and in other programs' shapes."""

from __future__ import annotations

import json
import pickle
import sys

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from zoo.errors import CheckpointError, InputError, LabelError, MissingDependencyError
from zoo.models.detections import Detected, Detections
from zoo.models.images import load_images
from zoo.models.labels import LabelSpace, label_space
from zoo.models.preprocessing import Frame, Preprocessor
from zoo.models.rle import decode_rle
from zoo.specs import InputSpec

COCO_91 = label_space("coco_91")
PERSON = label_space("coco_person")


def frame_of(height: int = 100, width: int = 160, short: int = 50, long: int = 400) -> Frame:
    """Of a photo that the model sees at half its size."""
    spec = InputSpec(size=(short, long), resize="fit", crop_pct=1.0, antialias=False)
    return Preprocessor(spec).frame(load_images(np.zeros((height, width, 3), np.uint8))[0])


def found(space: LabelSpace | None = COCO_91, **changes: torch.Tensor) -> Detections:
    """Two objects of outputs 1 and 18, one of an output that is no class, and padding."""
    outputs = {
        "boxes": torch.tensor([[5.0, 10.0, 25.0, 30.0], [0, 0, 9, 9], [10.5, 0.0, 99.0, 99.0], [0, 0, 0, 0]]),
        "scores": torch.tensor([0.9, 0.8, 0.6, 0.0]),
        "labels": torch.tensor([1, 12, 18, -1]),
        **changes,
    }
    table = None if space is None else torch.tensor(space.class_table)
    return Detections.from_outputs(outputs, frame_of(), space, table)


def people(**changes: torch.Tensor) -> Detections:
    """Two people with masks, keypoints and embeddings."""
    generator = torch.Generator().manual_seed(0)
    outputs = {
        "boxes": torch.tensor([[5.0, 10.0, 25.0, 30.0], [30, 0, 80, 50]]),
        "scores": torch.tensor([0.9, 0.6]),
        "labels": torch.tensor([0, 0]),
        "masks": torch.rand(2, 28, 28, generator=generator),
        "keypoints": torch.rand(2, 17, 3, generator=generator) * 50,
        "embeddings": torch.rand(2, 6, generator=generator),
    }
    return Detections.from_outputs({**outputs, **changes}, frame_of(), PERSON, torch.tensor(PERSON.class_table))


def nothing() -> Detections:
    """Padding only."""
    return found(labels=torch.full((4,), -1))


def test_objects_come_in_the_originals_pixels_and_padding_does_not_come():
    seen = found()
    assert seen.names == ("person", "dog")  # output 12 is none of COCO's classes
    assert seen.ids.tolist() == [0, 16]
    assert seen.boxes.tolist() == [[10, 20, 50, 60], [21, 0, 160, 100]]  # twice as large, and clipped to the photo
    assert seen.scores.tolist() == pytest.approx([0.9, 0.6])
    assert (seen.size, len(seen), seen.masks, seen.keypoints, seen.embeddings) == ((100, 160), 2, None, None, None)
    assert next(iter(seen)) == Detected(0, "person", pytest.approx(0.9), (10, 20, 50, 60))


def test_without_a_label_space_outputs_are_class_ids():
    seen = found(None)
    assert seen.ids.tolist() == [1, 12, 18]
    assert seen.names == ("class 1", "class 12", "class 18")


@pytest.mark.parametrize("name", ["coco", "coco_90"])
def test_padding_is_not_the_first_class(name):
    assert found(label_space(name), labels=torch.tensor([0, -1, -1, -1])).names == ("person",)


def test_masks_points_and_embeddings_come_with_their_objects():
    seen = people()
    assert (seen.masks.shape, seen.masks.dtype) == ((2, 100, 160), torch.bool)
    assert not seen.masks[0, :, 60:].any()
    generator = torch.Generator().manual_seed(0)
    torch.rand(2, 28, 28, generator=generator)
    points = torch.rand(2, 17, 3, generator=generator) * 50
    torch.testing.assert_close(seen.keypoints, points * torch.tensor([2.0, 2, 1]))
    assert seen.point_names[:2] == ("nose", "left_eye")
    assert seen.embeddings.shape == (2, 6)


@pytest.mark.parametrize("part", ["boxes", "scores"])
def test_outputs_that_are_not_numbers_are_refused(part):
    bad = {"boxes": torch.full((4, 4), float("nan")), "scores": torch.tensor([0.9, 0.8, float("inf"), 0])}[part]
    with pytest.raises(CheckpointError, match="not a number"):
        found(**{part: bad})


@pytest.mark.parametrize("place", [0, 1, 3], ids=["an object", "no class", "padding"])
def test_scores_that_are_not_numbers_are_refused_wherever_they_stand(place):
    scores = torch.tensor([0.9, 0.8, 0.6, 0.0]).index_fill(0, torch.tensor(place), torch.nan)
    with pytest.raises(CheckpointError, match="not a number"):
        found(scores=scores)


def test_half_precision_outputs_become_float32():
    seen = people(boxes=torch.ones(2, 4).bfloat16(), scores=torch.ones(2).bfloat16(), masks=torch.ones(2, 4, 4).half())
    assert {seen.boxes.dtype, seen.scores.dtype} == {torch.float32}


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (0, ["person"]),
        (-1, ["dog"]),
        (slice(1, None), ["dog"]),
        ([1, 0], ["dog", "person"]),
        ([], []),
        (torch.tensor([False, True]), ["dog"]),
        (torch.tensor([1]), ["dog"]),
        ([True, False], ["person"]),
        (torch.tensor(1), ["dog"]),
        (np.int64(1), ["dog"]),
        (np.array([0, 1], np.uint8), ["person", "dog"]),
        (np.array([0, 1])[::-1], ["dog", "person"]),
        (slice(None, None, -1), ["dog", "person"]),
    ],
    ids=repr,
)
def test_some_of_the_objects_are_detections_too(rows, names):
    some = found()[rows]
    assert list(some.names) == names
    assert [COCO_91.name_of(i) for i in some.ids.tolist()] == names
    assert some.boxes.shape == (len(names), 4)
    assert some.size == (100, 160)


def test_every_part_is_chosen_alike():
    both, second = people(), people()[1]
    for part in ("boxes", "scores", "ids", "masks", "keypoints", "embeddings"):
        assert torch.equal(getattr(second, part), getattr(both, part)[1:]), part


def test_an_object_that_there_is_not_is_an_index_error():
    with pytest.raises(IndexError):
        found()[2]


@pytest.mark.parametrize("rows", ["dog", 0.5, None, True, [0.5], [[0]], torch.tensor([0.9, 0.6])], ids=repr)
def test_what_is_no_place_is_refused(rows):
    with pytest.raises(InputError, match="chosen by place, slice, mask"):
        found()[rows]


@pytest.mark.parametrize("one", [[0], 16.5, None, True], ids=repr)
def test_what_is_no_class_is_refused(one):
    with pytest.raises(InputError, match="names or class ids"):
        found().of(one)


def test_what_is_no_score_is_refused():
    with pytest.raises(InputError, match="a score is a number"):
        found().above("0.5")


def test_objects_are_chosen_by_class_and_score():
    seen = found()
    assert seen.of("dog").names == seen.of(16).names == ("dog",)
    assert seen.of("Dog", "person").names == ("person", "dog")
    assert len(seen.of("cat")) == len(seen.of()) == 0
    assert seen.above(0.7).names == ("person",)
    assert len(seen.above(0.95)) == 0
    assert found(None).of("class 12", 18).ids.tolist() == [12, 18]


def test_a_misspelt_class_gets_near_names():
    with pytest.raises(LabelError, match="no class 'dogg'") as error:
        found().of("dogg")
    assert "dog" in error.value.fix
    with pytest.raises(LabelError, match="no names"):
        found(None).of("dog")


def test_detections_read_as_a_table():
    assert repr(found()).splitlines() == [
        "array (160 x 100): 2 objects",
        "   90.00%  person   10  20  50  60",
        "   60.00%  dog      21   0 160 100",
    ]
    assert repr(nothing()) == "array (160 x 100): no objects"
    assert repr(found()[0]).splitlines()[0].endswith(": 1 object")
    many = repr(found()[[0] * 50]).splitlines()
    assert (len(many), many[-1]) == (22, "  … and 30 more")


def test_rows_say_name_score_and_box():
    row = found().rows[1]
    assert (row.name, row.share, row.detail.split()) == ("dog", pytest.approx(0.6), ["21", "0", "160", "100"])
    assert nothing().rows == []


def test_detections_are_json():
    data = json.loads(json.dumps(found().to_dict()))
    assert data == {
        "source": "array",
        "height": 100,
        "width": 160,
        "objects": [
            {"id": 0, "name": "person", "score": pytest.approx(0.9), "box": [10, 20, 50, 60]},
            {"id": 16, "name": "dog", "score": pytest.approx(0.6), "box": [21, 0, 160, 100]},
        ],
    }
    assert nothing().to_dict()["objects"] == []


def test_masks_points_and_embeddings_are_json_too():
    seen = people()
    for row, entry in enumerate(json.loads(json.dumps(seen.to_dict()))["objects"]):
        assert torch.equal(decode_rle(entry["mask"]), seen.masks[row])
        assert entry["keypoints"]["left_eye"] == pytest.approx(seen.keypoints[row, 1].tolist())
        assert entry["embedding"] == pytest.approx(seen.embeddings[row].tolist())


def test_detections_survive_pickling():
    seen = people()
    again = pickle.loads(pickle.dumps(seen))
    assert repr(again) == repr(seen)
    assert torch.equal(again.masks, seen.masks)
    assert again.plot().size == seen.plot().size


def test_cocos_records_have_its_own_ids_and_sizes():
    records = json.loads(json.dumps(found().to_coco(image_id=7)))
    assert records == [
        {"image_id": 7, "category_id": 1, "bbox": [10, 20, 40, 40], "score": pytest.approx(0.9)},
        {"image_id": 7, "category_id": 18, "bbox": [21, 0, 139, 100], "score": pytest.approx(0.6)},
    ]
    assert [record["category_id"] for record in found(None).to_coco(image_id="a")] == [1, 12, 18]
    assert nothing().to_coco(image_id=7) == []


def test_cocos_masks_are_read_by_pycocotools():
    seen = people()
    for row, record in enumerate(seen.to_coco(image_id=1)):
        assert np.array_equal(coco_masks.decode(record["segmentation"]), seen.masks[row].numpy())
        assert record["keypoints"] == pytest.approx(seen.keypoints[row].flatten().tolist())


@pytest.mark.parametrize("measure", ["bbox", "segm", "keypoints"])
def test_cocos_own_evaluation_finds_its_own_records_perfect(measure, capsys):
    generator = torch.Generator().manual_seed(1)
    seen = people(masks=torch.ones(2, 28, 28), keypoints=torch.rand(2, 17, 3, generator=generator) * 40 + 2)
    records = json.loads(json.dumps(seen.to_coco(image_id=1)))
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": 1, "height": 100, "width": 160}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {**record, "id": i, "iscrowd": 0, "area": record["bbox"][2] * record["bbox"][3], "num_keypoints": 17}
            for i, record in enumerate(records, start=1)
        ],
    }
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(records), measure)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


@pytest.mark.filterwarnings("ignore:OpenCV")
def test_supervision_takes_them():
    import supervision as sv

    seen = people()
    theirs = seen.to_supervision()
    assert isinstance(theirs, sv.Detections)
    assert np.array_equal(theirs.xyxy, seen.boxes.numpy())
    assert np.array_equal(theirs.mask, seen.masks.numpy())
    assert theirs.confidence.tolist() == seen.scores.tolist()
    assert theirs.class_id.tolist() == [0, 0]
    assert theirs["class_name"].tolist() == ["person", "person"]
    assert theirs[theirs.confidence > 0.7].data["keypoints"].shape == (1, 17, 3)
    assert len(nothing().to_supervision()) == 0


def test_pandas_takes_them():
    table = people().to_dataframe()
    assert list(table.columns[:9]) == ["source", "name", "id", "score", "x1", "y1", "x2", "y2", "nose_x"]
    assert table[table.score > 0.7].x2.tolist() == [50]
    assert table.left_ankle_score.tolist() == pytest.approx(people().keypoints[:, 15, 2].tolist())
    assert (len(nothing().to_dataframe()), found().to_dataframe().name.tolist()) == (0, ["person", "dog"])


@pytest.mark.parametrize(("method", "package"), [("to_supervision", "supervision"), ("to_dataframe", "pandas")])
def test_a_library_that_is_missing_is_named_with_its_command(monkeypatch, method, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=package) as error:
        getattr(found(), method)()
    assert error.value.fix == f"pip install {package}"


def test_detections_without_their_photo_are_not_plotted():
    parts = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "ids": torch.zeros(0).long(), "names": ()}
    with pytest.raises(InputError, match="does not know its picture"):
        Detections(source="", size=(1, 1), **parts).plot()
