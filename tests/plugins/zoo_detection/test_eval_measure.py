"""The measure gives pycocotools' numbers, on scenes made to be difficult: crowds, ties, odd areas, few detections."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from eval_scenes import CATEGORIES, HEIGHT, POINTS, WIDTH, assert_equal, by_hand, random_scene, runs_of

from zoo.errors import InputError, MissingDependencyError
from zoo_detection.evaluation import AnnotatedImage, Annotation, measure
from zoo_detection.evaluation.coco_measure import FoundObjects
from zoo_detection.evaluation.run_lengths import check_counts, counts_of, encode_masks


def pycocotools_says(
    kind: str, images: list[AnnotatedImage], found: dict[int, FoundObjects], masks: list[Any], limits: list[int] | None
) -> Any:
    """The evaluation of the reference, accumulated."""
    from pycocotools import mask as codec
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    entries = [(image.id, one) for image in images for one in image.objects]
    truths = []
    for number, (image_id, one) in enumerate(entries, start=1):
        polygons = isinstance(one.segmentation, tuple)
        truths.append(
            {
                "id": number,
                "image_id": image_id,
                "category_id": one.category_id,
                "bbox": list(one.box_xywh),
                "area": one.area,
                "iscrowd": int(one.crowd),
                "segmentation": [list(p) for p in one.segmentation] if polygons else one.segmentation,
                "keypoints": [v for point in one.keypoints or () for v in point],
                "num_keypoints": sum(v > 0 for _, _, v in one.keypoints or ()),
            }
        )
    answers = []
    shapes = dict(masks)
    for image_id, one in found.items():
        for i in range(len(one.scores)):
            x1, y1, x2, y2 = one.boxes_xyxy[i].tolist()
            answer: dict[str, Any] = {
                "image_id": image_id,
                "category_id": int(one.category_ids[i]),
                "score": float(one.scores[i]),
            }
            if kind == "boxes":
                answer["bbox"] = [x1, y1, x2 - x1, y2 - y1]
            elif kind == "masks":
                answer["segmentation"] = codec.encode(np.asfortranarray(shapes[image_id][i].astype(np.uint8)))
            else:
                answer["keypoints"] = one.keypoints[i].reshape(-1).tolist()  # type: ignore[index]  # there are some
            answers.append(answer)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": image.id, "height": HEIGHT, "width": WIDTH} for image in images],
            "categories": [{"id": category.id, "name": category.name} for category in CATEGORIES],
            "annotations": truths,
        }
        truth.createIndex()
        evaluation = COCOeval(
            truth, truth.loadRes(answers), {"boxes": "bbox", "masks": "segm", "keypoints": "keypoints"}[kind]
        )
        if limits is not None:
            evaluation.params.maxDets = limits
        evaluation.evaluate()
        evaluation.accumulate()
        if limits is None:
            evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", ["boxes", "masks", "keypoints"])
def test_random_scenes_score_as_pycocotools_scores_them(kind: str, seed: int) -> None:
    images, found, masks = random_scene(seed)
    ours = measure(kind, images, found, CATEGORIES, max_detections=20 if kind == "keypoints" else 100)
    evaluation = pycocotools_says(kind, images, found, masks, None)
    assert_equal(ours, evaluation)
    said = list(ours.numbers().values())
    if kind == "keypoints":  # AP, 50, 75, medium, large; AR, 50, 75, medium, large
        names = ("AP", "AP50", "AP75", "AP_medium", "AP_large", "AR_20", "AR50", "AR75", "AR_medium", "AR_large")
        said = [ours.numbers()[name] for name in names]
    else:  # the twelve numbers that COCO publishes
        del said[9:11]
    assert [-1 if v is None else v for v in said] == pytest.approx(evaluation.stats.tolist(), abs=1e-6)
    assert ours.ap is not None
    assert 0.0 < ours.ap < 1.0


@pytest.mark.parametrize("most", [1, 3, 10, 12, 300])
@pytest.mark.parametrize("kind", ["boxes", "masks", "keypoints"])
def test_other_numbers_of_detections_count_as_in_pycocotools(kind: str, most: int) -> None:
    limits = [most] if kind == "keypoints" else {1: [1], 3: [1, 3], 10: [1, 10]}.get(most, [1, 10, most])
    images, found, masks = random_scene(100 + most)
    ours = measure(kind, images, found, CATEGORIES, max_detections=most)
    assert list(ours.ar) == limits
    assert_equal(ours, pycocotools_says(kind, images, found, masks, limits))


def test_classes_are_chosen_as_pycocotools_chooses_them() -> None:
    images, found, masks = random_scene(5)
    one = measure("boxes", images, found, [CATEGORIES[1]])
    evaluation = pycocotools_says("boxes", images, found, masks, None)
    assert one.ap == pytest.approx(by_hand(evaluation.eval["precision"][:, :, 1, 0, -1]), abs=1e-9)
    assert one.objects == sum(o.category_id == 7 and not o.crowd for image in images for o in image.objects)
    assert one.detections == sum(int((f.category_ids == 7).sum()) for f in found.values())


def test_nothing_found_is_no_precision_and_nothing_to_find_is_no_number() -> None:
    images, found, _ = random_scene(1)
    none = measure("boxes", images, {}, CATEGORIES)
    assert (none.ap, none.ar[100], none.detections) == (0.0, 0.0, 0)
    assert none.per_class["never seen"].ap is None
    empty = [AnnotatedImage(image.id, image.path, image.size) for image in images]
    assert measure("boxes", empty, found, CATEGORIES).ap is None


def test_a_crowd_is_neither_found_nor_missed() -> None:
    dog = Annotation(3, (0, 0, 10, 10), 100)
    crowd = Annotation(3, (50, 50, 100, 90), 9000, crowd=True)
    image = AnnotatedImage(1, "1.jpg", (HEIGHT, WIDTH), (dog, crowd))
    boxes = np.array([[60, 60, 70, 70], [80, 80, 90, 90], [0, 0, 10, 10]], dtype=np.float64)
    found = {1: FoundObjects(np.array([3, 3, 3]), boxes, np.array([0.9, 0.8, 0.7]))}
    scores = measure("boxes", [image], found, CATEGORIES[:1])
    assert (scores.ap, scores.objects, scores.ignored, scores.detections) == (1.0, 1, 1, 3)


@pytest.mark.parametrize("seed", range(20))
def test_masks_are_encoded_as_pycocotools_encodes_them(seed: int) -> None:
    from pycocotools import mask as codec

    random = np.random.default_rng(seed)
    shape = (int(random.integers(0, 4)), int(random.integers(1, 40)), int(random.integers(1, 40)))
    masks = random.random(shape) < random.random()
    ours = encode_masks(masks)
    for mask, runs in zip(masks, ours, strict=True):
        theirs = codec.encode(np.asfortranarray(mask.astype(np.uint8)))
        counts = runs["counts"]
        text = counts.decode() if isinstance(counts, bytes) else counts
        assert (list(runs["size"]), text) == (list(theirs["size"]), theirs["counts"].decode())
        assert counts_of(text) == runs_of(mask)
        check_counts(counts_of(text), shape[1:])


@pytest.mark.parametrize("text", ["", "0" * 3, "~", "o" * 20, "P", "é", "51n0"])
def test_damaged_run_lengths_are_refused_before_the_library_reads_them(text: str) -> None:
    with pytest.raises(InputError, match="run lengths"):
        check_counts(counts_of(text), (4, 5))


def test_keypoints_that_are_not_cocos_need_their_sigmas() -> None:
    images, found, _ = random_scene(2, points=5)
    with pytest.raises(InputError, match="5 keypoints") as caught:
        measure("keypoints", images, found, CATEGORIES, max_detections=20)
    assert "--sigmas" in str(caught.value.fix)
    wide = measure("keypoints", images, found, CATEGORIES, max_detections=20, sigmas=[0.2])
    narrow = measure("keypoints", images, found, CATEGORIES, max_detections=20, sigmas=[0.02] * 5)
    assert (narrow.ap or 0) < (wide.ap or 0)
    with pytest.raises(InputError, match="5 keypoints"):
        measure("keypoints", images, found, CATEGORIES, sigmas=[0.1, 0.2])


def test_keypoints_of_another_number_than_the_datas_are_refused() -> None:
    images, _, _ = random_scene(2, points=5)
    _, found, _ = random_scene(2)
    with pytest.raises(InputError, match="the data has 5 keypoints an object, and the model finds 17"):
        measure("keypoints", images, found, CATEGORIES, sigmas=[0.1])


def test_an_object_without_keypoints_is_one_with_none_labelled() -> None:
    images, found, _ = random_scene(3)
    unlabelled = tuple((0.0, 0.0, 0.0) for _ in range(POINTS))
    without = [every_other(image, None) for image in images]
    zeros = [every_other(image, unlabelled) for image in images]
    one, other = (measure("keypoints", which, found, CATEGORIES) for which in (without, zeros))
    assert one.to_dict() == other.to_dict()
    assert one.ignored > 0


def every_other(image: AnnotatedImage, keypoints: Any) -> AnnotatedImage:
    objects = tuple(replace(o, keypoints=keypoints) if i % 2 else o for i, o in enumerate(image.objects))
    return replace(image, objects=objects)


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_without_the_library_it_is_said_what_to_install(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images, found, _ = random_scene(3)
    for name in ("faster_coco_eval", "faster_coco_eval.core"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError) as caught:
        measure(kind, images, found, CATEGORIES)
    assert caught.value.fix == 'pip install "zoo-detection[eval]"'


def test_a_mask_is_not_measured_against_an_object_without_an_outline() -> None:
    image = AnnotatedImage(1, "one.jpg", (HEIGHT, WIDTH), (Annotation(3, (0, 0, 10, 10), 100),))
    with pytest.raises(InputError, match=r"one\.jpg: an object has no outline"):
        measure("masks", [image], {}, CATEGORIES)
