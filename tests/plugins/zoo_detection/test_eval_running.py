"""A model on a data set: a perfect one scores 1, real labels are read as they are, and nothing is lost in silence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from eval_folders import Picture, Thing, write_coco, write_voc, write_yolo
from PIL import Image, ImageDraw

import zoo
from zoo.errors import CheckpointError, InputError, LabelError, OptionError, UnsupportedError
from zoo.models.detections import Detections
from zoo.models.images import load_images
from zoo.models.labels import LabelSpace
from zoo_detection.evaluation import AnnotatedImage, DetectionData, evaluate, read_data

PETS = LabelSpace(name="pets", names=("cat", "bird", "dog"))
NAMES = ("dog", "cat")
PICTURES = [
    Picture("a.png", (80, 120), (Thing("dog", (10, 20, 60, 70)), Thing("cat", (70, 5, 110, 45)))),
    Picture("b.png", (60, 60), (Thing("cat", (5, 5, 50, 55)), Thing("dog", (1, 1, 59, 59), True))),
    Picture("c.png", (40, 90)),
]


class Oracle:
    """Knows the answers, as `Detections` in the order of the data; `change` may spoil them."""

    provenance = None

    def __init__(self, data: DetectionData, labels: LabelSpace | None = PETS) -> None:
        self.label_space = labels
        self.data = {image.path: image for image in data.images}
        self.names = {category.id: category.name for category in data.categories}
        self.asked: list[tuple[int, float, int]] = []
        self.crowds = False

    def predict(
        self, inputs: Sequence[str], *, batch_size: int, score_threshold: float, max_detections: int
    ) -> list[Any]:
        self.asked.append((len(inputs), score_threshold, max_detections))
        return [self.answer(self.data[image.source], image.size) for image in load_images(inputs)]

    def answer(self, image: AnnotatedImage, size: tuple[int, int]) -> Any:
        objects = [o for o in image.objects if self.crowds or not o.crowd]
        boxes = torch.tensor([o.box_xywh for o in objects]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        ids = [self.class_of(self.names[o.category_id]) for o in objects]
        masks = [filled(o.segmentation, size) for o in objects]
        points = [o.keypoints for o in objects]
        return Detections(
            source=image.path,
            size=size,
            boxes=boxes,
            scores=torch.linspace(0.9, 0.5, len(objects)),
            ids=torch.tensor(ids, dtype=torch.int64),
            names=tuple(self.names[o.category_id] for o in objects),
            masks=torch.stack(masks) if masks and all(m is not None for m in masks) else None,
            keypoints=torch.tensor(points) if points and None not in points else None,
            labels=self.label_space,
        )

    def class_of(self, name: str) -> int:
        return sorted(self.names.values()).index(name) if self.label_space is None else self.label_space.id_of(name)


def filled(polygons: Any, size: tuple[int, int]) -> torch.Tensor | None:
    """The pixels of a polygon with whole corners, its last row and column not among them."""
    if polygons is None:
        return None
    xs, ys = polygons[0][0::2], polygons[0][1::2]
    mask = torch.zeros(size, dtype=torch.bool)
    mask[int(min(ys)) : int(max(ys)), int(min(xs)) : int(max(xs))] = True
    return mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`PICTURES` in every format."""
    write_coco(tmp_path / "coco", PICTURES, NAMES)
    write_voc(tmp_path / "voc", PICTURES)
    write_yolo(tmp_path / "yolo", PICTURES, NAMES)
    return tmp_path


@pytest.mark.parametrize("form", ["coco", "voc", "yolo"])
def test_a_perfect_detector_scores_one_in_every_format(folder: Path, form: str) -> None:
    data = read_data(folder / form)
    scores = evaluate(Oracle(data), data)
    assert scores.boxes is not None
    assert (scores.boxes.ap, scores.boxes.ap50, scores.boxes.ar[100]) == (1.0, 1.0, 1.0)
    assert (scores.boxes.objects, scores.boxes.ignored) == ((4, 0) if form == "yolo" else (3, 1))
    assert {name: one.ap for name, one in scores.boxes.per_class.items()} == {"dog": 1.0, "cat": 1.0}
    assert (scores.masks, scores.keypoints) == (None, None)


def test_a_path_and_what_was_read_from_it_score_the_same(folder: Path) -> None:
    data = read_data(folder / "coco")
    one, other = evaluate(Oracle(data), folder / "coco"), evaluate(Oracle(data), data)
    assert one.to_dict() == other.to_dict()
    assert one.data["fingerprint"] == data.fingerprint
    assert json.loads(json.dumps(one.to_dict()))["scores"]["boxes"]["AP"] == 1.0


def crowns() -> Path:
    try:
        distribution = metadata.distribution("deepforest")
    except metadata.PackageNotFoundError:
        pytest.skip("deepforest is not installed")
    return Path(str(distribution.locate_file("deepforest/data")))


def test_real_tree_crowns_are_read_as_they_come() -> None:
    """The package's own folder: XML beside the images, one name that leads to a .tif, pictures without labels."""
    data = read_data(crowns())
    assert (data.format, data.num_objects) == ("voc", 574 + 279 + 61 + 37)
    assert {Path(i.path).name: len(i.objects) for i in data.images if "YELL" not in i.path} == {
        "OSBS_029.tif": 61,
        "SOAP_061.png": 37,
    }
    alive = {category.name: category.id for category in data.categories}["Alive"]
    assert sum(o.category_id == alive for image in data.images for o in image.objects) == 9
    labels = LabelSpace(name="trees", names=("tree", "alive", "dead"))
    scores = evaluate(Oracle(data, labels), data, max_detections=1000).boxes
    assert scores is not None
    assert {name: one.objects for name, one in scores.per_class.items()} == {"Alive": 9, "Dead": 28, "Tree": 914}
    assert scores.ap == 1.0
    few = evaluate(Oracle(data, labels), data, max_detections=100).boxes  # as COCO does: 100 of 574 count
    assert few is not None
    assert few.ap is not None
    assert 0.3 < few.ap < 0.9


def test_what_is_asked_of_the_model_is_what_was_set(folder: Path) -> None:
    data = read_data(folder / "coco")
    oracle = Oracle(data)
    evaluate(oracle, data, batch_size=2, score_threshold=0.3, max_detections=7)
    assert oracle.asked == [(2, 0.3, 7), (1, 0.3, 7)]
    told: list[tuple[int, int]] = []
    evaluate(oracle, data, limit=2, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_detections_of_other_classes_are_dropped_and_counted(folder: Path) -> None:
    data = read_data(folder / "coco")

    class Birdwatcher(Oracle):
        def class_of(self, name: str) -> int:
            return 1 if name == "dog" else 0

    scores = evaluate(Birdwatcher(data), data)
    assert scores.boxes is not None
    assert scores.dropped == 1
    assert scores.boxes.detections == 2
    assert scores.boxes.per_class["dog"].ap == 0.0
    assert scores.boxes.per_class["cat"].ap == 1.0


def test_classes_that_the_model_does_not_know_are_left_out_and_named(folder: Path) -> None:
    data = read_data(folder / "coco")
    scores = evaluate(Oracle(data, LabelSpace(name="zoo", names=("dog", "cat"))), data)
    assert [c.name for c in scores.classes.evaluated] == ["dog", "cat"]

    class Cats(Oracle):
        def class_of(self, name: str) -> int:
            return 0

    only = evaluate(Cats(data, LabelSpace(name="cats", names=("cat",))), data)
    assert only.boxes is not None
    assert [c.name for c in only.classes.not_known] == ["dog"]
    assert list(only.boxes.per_class) == ["cat"]
    assert (only.boxes.objects, only.boxes.ignored) == (2, 0)
    with pytest.raises(LabelError, match="no class in common"):
        evaluate(Cats(data, LabelSpace(name="cars", names=("car",))), data)


def test_a_model_without_names_is_held_to_the_number_of_classes(folder: Path) -> None:
    data = read_data(folder / "voc")
    scores = evaluate(Oracle(data, labels=None), data)
    assert scores.boxes is not None
    assert (scores.classes.how, scores.boxes.ap) == ("order", 1.0)

    class Wide(Oracle):
        def class_of(self, name: str) -> int:
            return 17

    with pytest.raises(LabelError, match="finds a class 17; the data has 2 classes"):
        evaluate(Wide(data, labels=None), data)


def test_broken_photos_are_named_after_all_the_others_were_looked_at(folder: Path) -> None:
    data = read_data(folder / "coco")
    Path(data.images[1].path).write_bytes(Path(data.images[1].path).read_bytes()[:60])
    oracle = Oracle(data)
    told: list[int] = []
    with pytest.raises(InputError, match="1 of 3 photos cannot be used") as caught:
        evaluate(oracle, data, progress=lambda done, total: told.append(done))
    assert data.images[1].path in caught.value.message
    assert data.images[0].path not in caught.value.message
    assert told == [1, 2, 3]


def test_a_photo_of_another_size_than_its_labels_say_is_named(folder: Path) -> None:
    data = read_data(folder / "coco")
    Image.new("RGB", (80, 120)).save(data.images[0].path)
    with pytest.raises(InputError, match=r"a\.png: it is 80 x 120 and its labels say 120 x 80; it is stored turned"):
        evaluate(Oracle(data), data)
    Image.new("RGB", (60, 61)).save(data.images[0].path)
    with pytest.raises(InputError, match=r"a\.png: it is 60 x 61 and its labels say 120 x 80\n"):
        evaluate(Oracle(data), data)


SQUARES = ((10.0, 20.0, 60.0, 20.0, 60.0, 70.0, 10.0, 70.0), (70.0, 5.0, 110.0, 5.0, 110.0, 45.0, 70.0, 45.0))
POINTS = tuple((float(10 + i), float(20 + 2 * i), 2) for i in range(17))


def outlined(folder: Path) -> DetectionData:
    things = [
        thing._replace(outline=SQUARES[i], points=POINTS) for i, thing in enumerate(PICTURES[0].things)
    ]  # fmt: skip
    write_coco(folder, [PICTURES[0]._replace(things=tuple(things))], NAMES)
    return read_data(folder)


def test_masks_and_keypoints_are_measured_where_both_sides_have_them(tmp_path: Path) -> None:
    data = outlined(tmp_path)
    scores = evaluate(Oracle(data), data)
    assert list(scores.kinds) == ["boxes", "masks", "keypoints"]
    assert [one.ap for one in scores.kinds.values()] == [1.0, 1.0, 1.0]
    assert scores.keypoints is not None
    assert list(scores.keypoints.ar) == [20]
    assert list(evaluate(Oracle(data), data, kinds=["masks"]).kinds) == ["masks"]

    class Shifted(Oracle):
        def answer(self, image: AnnotatedImage, size: tuple[int, int]) -> Any:
            found = super().answer(image, size)
            return zoo_replace(found, masks=found.masks.roll(12, dims=2))

    moved = evaluate(Shifted(data), data)
    assert moved.boxes is not None
    assert moved.masks is not None
    assert moved.boxes.ap == 1.0
    assert (moved.masks.ap50, moved.masks.ap75) == (1.0, 0.0)  # IoU 38/62 and 28/52


def zoo_replace(found: Detections, *, masks: torch.Tensor) -> Detections:
    return Detections(**{**vars(found), "masks": masks})


def test_kinds_that_are_not_there_are_refused(folder: Path) -> None:
    data = read_data(folder / "coco")
    with pytest.raises(UnsupportedError, match="the model gives no masks"):
        evaluate(Oracle(data), data, kinds=["boxes", "masks"])
    with pytest.raises(OptionError, match="boxes, masks or keypoints"):
        evaluate(Oracle(data), data, kinds=["boundaries"])
    with pytest.raises(OptionError, match="`limit` is a whole number from 1"):
        evaluate(Oracle(data), data, limit=0)


def test_numbers_that_are_none_and_other_models_are_refused(folder: Path) -> None:
    data = read_data(folder / "coco")

    class Broken(Oracle):
        def answer(self, image: AnnotatedImage, size: tuple[int, int]) -> Any:
            found = super().answer(image, size)
            found.scores[:1] = float("nan")
            return found

    class Classifier(Oracle):
        def answer(self, image: AnnotatedImage, size: tuple[int, int]) -> Any:
            return {"label": "dog"}

    with pytest.raises(CheckpointError, match="not a number"):
        evaluate(Broken(data), data)
    with pytest.raises(UnsupportedError, match="gives dict"):
        evaluate(Classifier(data), data)


def test_scores_are_written_whole_with_all_that_they_depend_on(folder: Path, tmp_path: Path) -> None:
    data = read_data(folder / "coco")
    oracle = Oracle(data)
    oracle.provenance = zoo.Provenance(ref="detection/oracle.pets@1", sha256="0" * 64)  # type: ignore[assignment]  # None in the class
    scores = evaluate(oracle, data, limit=2)
    scores.save(tmp_path / "scores.json")
    read = json.loads((tmp_path / "scores.json").read_text())
    assert read == scores.to_dict()
    assert read["model"]["provenance"]["ref"] == "detection/oracle.pets@1"
    assert read["data"]["fingerprint"] == data.first(2).fingerprint != data.fingerprint
    assert (read["data"]["images"], read["settings"]["limit"]) == (2, 2)
    assert read["versions"]["faster-coco-eval"] == metadata.version("faster-coco-eval")
    assert read["classes"]["evaluated"] == ["dog", "cat"]
    with pytest.raises(InputError, match="cannot be written"):
        scores.save(tmp_path / "no such folder" / "scores.json")
    assert sorted(p.name for p in tmp_path.glob("*partial*")) == []


def test_a_real_mask_in_a_picture_is_measured_pixel_by_pixel(tmp_path: Path) -> None:
    """A round mask against its polygon: close to one and not one, for a polygon's edge runs between pixels."""
    corners = [(40 + 25 * np.cos(a), 30 + 20 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 24, endpoint=False)]
    outline = tuple(float(v) for corner in corners for v in corner)
    write_coco(tmp_path, [Picture("a.png", (60, 80), (Thing("dog", (15, 10, 65, 50), outline=outline),))], NAMES)
    data = read_data(tmp_path)
    canvas = Image.new("1", (80, 60))
    ImageDraw.Draw(canvas).polygon(corners, fill=1)

    class Painter(Oracle):
        def answer(self, image: AnnotatedImage, size: tuple[int, int]) -> Any:
            return zoo_replace(super().answer(image, size), masks=torch.from_numpy(np.array(canvas)[None]))

    scores = evaluate(Painter(data), data).masks
    assert scores is not None
    assert (scores.ap75, scores.objects) == (1.0, 1)
    assert scores.ap is not None
    assert 0.8 < scores.ap <= 1.0
