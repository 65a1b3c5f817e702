"""Random scenes that are difficult to score, and how a score is held against pycocotools' arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zoo_detection.evaluation import AnnotatedImage, Annotation, Category, KindScores
from zoo_detection.evaluation.coco_measure import FoundObjects
from zoo_detection.evaluation.run_lengths import encode_masks

CATEGORIES = (Category(3, "dog"), Category(7, "cat"), Category(8, "never seen"), Category(90, "brush"))
HEIGHT, WIDTH = 150, 200
POINTS = 17


def random_scene(seed: int, *, points: int = POINTS) -> tuple[list[AnnotatedImage], dict[int, FoundObjects], list[Any]]:
    """Images with objects, what was found in them, and the masks of what was found, by image."""
    random = np.random.default_rng(seed)
    images, found, masks = [], {}, []
    for image_id in (4, 9, 11, 30, 31):
        objects = [random_object(random, points) for _ in range(random.integers(0, 7))]
        images.append(AnnotatedImage(image_id, f"{image_id}.jpg", (HEIGHT, WIDTH), tuple(objects)))
        near = [jittered(o, random) for o in objects for _ in range(random.integers(0, 4))]
        answers = near + [jittered(random_object(random, points), random) for _ in range(random.integers(0, 5))]
        order = random.permutation(len(answers))
        answers = [answers[i] for i in order]
        if not answers:
            continue
        shapes = np.stack([ellipse(answer.box_xywh) for answer in answers])
        found[image_id] = FoundObjects(
            category_ids=np.array([answer.category_id for answer in answers]),
            boxes_xyxy=np.array([xyxy(answer.box_xywh) for answer in answers], dtype=np.float32).astype(np.float64),
            scores=random.integers(1, 9, len(answers)) / 10.0,  # few different ones: ties within and across images
            masks=encode_masks(shapes),
            keypoints=np.array([answer.keypoints for answer in answers], dtype=np.float64),
        )
        masks.append((image_id, shapes))
    return images, found, masks


def random_object(random: np.random.Generator, points: int) -> Annotation:
    width, height = random.choice([6.0, 20.0, 60.0, 120.0]) + random.random(2) * 20
    left, top = random.random(2) * (WIDTH - width, HEIGHT - height)
    box = (float(left), float(top), float(width), float(height))
    crowd = bool(random.random() < 0.2)
    inside = random.random((points, 2)) * (width, height) + (left, top)
    seen = random.integers(0, 3, (points, 1)) * (random.random() < 0.8)  # now and then not one is labelled
    return Annotation(
        category_id=int(random.choice([3, 7, 90])),
        box_xywh=box,
        area=float(width * height * random.uniform(0.3, 1.0)),  # of the outline: less than the box's
        crowd=crowd,
        segmentation=outline(box, crowd),
        keypoints=tuple((float(x), float(y), float(v)) for x, y, v in np.concatenate([inside, seen], axis=1)),
    )


def jittered(one: Annotation, random: np.random.Generator) -> Annotation:
    box = np.array(one.box_xywh)
    box = box + random.normal(0, 0.06, 4) * np.array([box[2], box[3], box[2], box[3]])
    box[2:] = np.maximum(box[2:], 1)
    moved = np.array(one.keypoints) + random.normal(0, 0.03, (len(one.keypoints or ()), 3)) * [box[2], box[3], 0]
    category_id = one.category_id if random.random() < 0.9 else 3
    x, y, w, h = (float(v) for v in box)
    return Annotation(category_id, (x, y, w, h), 0.0, keypoints=tuple(tuple(map(float, row)) for row in moved))


def xyxy(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    return box[0], box[1], box[0] + box[2], box[1] + box[3]


def ellipse(box: tuple[float, float, float, float]) -> np.ndarray[Any, Any]:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    x, y, w, h = box
    return ((columns + 0.5 - x - w / 2) / (w / 2)) ** 2 + ((rows + 0.5 - y - h / 2) / (h / 2)) ** 2 <= 1


def outline(box: tuple[float, float, float, float], crowd: bool) -> Any:
    """Two polygons; a crowd has run lengths, as numbers."""
    x, y, w, h = box
    if crowd:
        return {"size": [HEIGHT, WIDTH], "counts": runs_of(ellipse(box))}
    return ((x, y, x + w, y, x + w, y + h / 2, x, y + h / 2), (x, y + h / 2, x + w, y + h / 2, x + w / 2, y + h))


def runs_of(mask: np.ndarray[Any, Any]) -> list[int]:
    """Run lengths by their definition."""
    flat = mask.flatten(order="F").astype(np.int8)
    ends = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), len(flat)]
    lengths = np.diff(ends).tolist()
    return [0, *lengths] if flat[0] else lengths


def by_hand(values: np.ndarray[Any, Any]) -> float:
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0


def assert_equal(ours: KindScores, evaluation: Any) -> None:
    """Every average and every class, by the reference's arrays."""
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    sizes = ("all", "medium", "large") if ours.kind == "keypoints" else ("all", "small", "medium", "large")
    expected = {
        "AP": by_hand(precision[:, :, :, 0, -1]),
        "AP50": by_hand(precision[0, :, :, 0, -1]),
        "AP75": by_hand(precision[5, :, :, 0, -1]),
        "AR50": by_hand(recall[0, :, 0, -1]),
        "AR75": by_hand(recall[5, :, 0, -1]),
    }
    for area, size in list(enumerate(sizes))[1:]:
        expected[f"AP_{size}"] = by_hand(precision[:, :, :, area, -1])
        expected[f"AR_{size}"] = by_hand(recall[:, :, area, -1])
    for place, limit in enumerate(evaluation.params.maxDets):
        expected[f"AR_{limit}"] = by_hand(recall[:, :, 0, place])
    numbers = {name: -1.0 if value is None else value for name, value in ours.numbers().items()}
    if ours.kind == "keypoints":
        assert (numbers.pop("AP_small"), numbers.pop("AR_small")) == (-1, -1)
    assert numbers == pytest.approx(expected, abs=1e-6)
    for place, category in enumerate(sorted(CATEGORIES, key=lambda category: category.id)):
        one = ours.per_class[category.name]
        wanted = [by_hand(precision[iou, :, place, 0, -1]) for iou in (slice(None), 0, 5)]
        wanted.append(by_hand(recall[:, place, 0, -1]))
        assert [-1 if v is None else v for v in (one.ap, one.ap50, one.ap75, one.ar)] == pytest.approx(wanted, abs=1e-6)
