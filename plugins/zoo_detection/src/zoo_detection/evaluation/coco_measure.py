"""COCO's measure of boxes, masks and keypoints; faster-coco-eval accumulates, and the numbers are pycocotools'.

objects and detections by image and class -> IoU -> matched at 10 thresholds -> precision over recall -> averages

T thresholds   R levels of recall   K classes   A ranges of area   M limits of detections
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zoo.errors import InputError, OptionError
from zoo_detection.evaluation.labelled_images import AnnotatedImage, Annotation, Category
from zoo_detection.evaluation.run_lengths import codec_of_masks, no_faster_coco_eval
from zoo_detection.evaluation.scores import ClassScores, KindScores, Score

KINDS = {"boxes": "bbox", "masks": "segm", "keypoints": "keypoints"}
COCO_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072,
    0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
)  # fmt: skip
"""How far apart people place COCO's 17 keypoints of a person, nose to ankles, as a share of the object's scale."""
_AT_50, _AT_75 = 0, 5  # places of the IoU 0.50 and 0.75 among 0.50, 0.55 … 0.95


@dataclass(frozen=True, eq=False)
class FoundObjects:
    """What a model found in one image, in its original pixels, in any order.

    category_ids: (N,) int64, of the data set. boxes_xyxy: (N, 4) float64. scores: (N,) float64. masks: N run lengths.
    keypoints: (N, P, 3) float64, x, y and a score.
    """

    category_ids: np.ndarray[Any, Any]
    boxes_xyxy: np.ndarray[Any, Any]
    scores: np.ndarray[Any, Any]
    masks: Sequence[Mapping[str, Any]] | None = None
    keypoints: np.ndarray[Any, Any] | None = field(default=None)


def measure(
    kind: str,
    images: Sequence[AnnotatedImage],
    found: Mapping[int, FoundObjects],
    categories: Sequence[Category],
    *,
    max_detections: int = 100,
    sigmas: Sequence[float] | None = None,
) -> KindScores:
    """COCO's numbers for one kind of answers.

    Args:
        kind: `boxes`, `masks` or `keypoints`.
        images: with their objects; objects of other categories are left out.
        found: image id → what was found there; an image that is not in it has no detections.
        categories: that are evaluated.
        max_detections: the most of one class in one image that count; for keypoints 20 is COCO's.
        sigmas: of every keypoint; COCO's for 17 keypoints without.

    Raises:
        InputError: an object without what is measured; keypoints without sigmas.
        MissingDependencyError: faster-coco-eval is not installed.
    """
    if kind not in KINDS:
        raise OptionError("what is measured is boxes, masks or keypoints", asked=kind, found=", ".join(KINDS))
    chosen = {category.id for category in categories}
    points = _number_of_points(images, found) if kind == "keypoints" else 0
    truths = [
        _truth(kind, image, one, number, points)
        for number, (image, one) in enumerate(((i, o) for i in images for o in i.objects if o.category_id in chosen), 1)
    ]
    answers = _numbered(
        answer
        for image in images
        for answer in _answers(kind, image.id, found.get(image.id))
        if answer["category_id"] in chosen
    )
    limits = (
        [max_detections] if kind == "keypoints" else sorted({1, 10, max_detections} - {*range(max_detections + 1, 11)})
    )
    frames = [{"id": i.id, "height": (i.size or (1, 1))[0], "width": (i.size or (1, 1))[1]} for i in images]
    precision, recall = _accumulated(
        KINDS[kind], frames, truths, answers, sorted(chosen), limits, _sigmas(kind, points, sigmas)
    )
    return _summary(kind, precision, recall, truths, answers, categories, limits)


def _truth(kind: str, image: AnnotatedImage, one: Annotation, number: int, points: int) -> dict[str, Any]:
    """One object as faster-coco-eval reads it; its ids count from 1, for 0 says `not matched` there."""
    truth: dict[str, Any] = {
        "id": number,
        "image_id": image.id,
        "category_id": one.category_id,
        "bbox": list(one.box_xywh),
        "area": one.area,
        "iscrowd": int(one.crowd),
    }
    if kind == "masks":
        if one.segmentation is None:
            raise InputError(f"{image.path}: an object has no outline, and masks are measured", fix="--kind boxes")
        outline = one.segmentation
        truth["segmentation"] = [list(p) for p in outline] if isinstance(outline, tuple) else dict(outline)
    if kind == "keypoints":
        truth["keypoints"] = [value for point in one.keypoints or ((0.0, 0.0, 0.0),) * points for value in point]
        truth["num_keypoints"] = one.labelled_keypoints
    return truth


def _answers(kind: str, image_id: int, found: FoundObjects | None) -> list[dict[str, Any]]:
    """What was found in one image; the area of an answer is that of what is measured, as in pycocotools."""
    if found is None or not len(found.scores):
        return []
    answers: list[dict[str, Any]] = [
        {"image_id": image_id, "category_id": category_id, "score": score, "iscrowd": 0}
        for category_id, score in zip(found.category_ids.tolist(), found.scores.tolist(), strict=True)
    ]
    if kind == "boxes":
        boxes_xywh = np.concatenate(
            [found.boxes_xyxy[:, :2], found.boxes_xyxy[:, 2:] - found.boxes_xyxy[:, :2]], axis=1
        )
        for answer, box in zip(answers, boxes_xywh.tolist(), strict=True):
            answer.update(bbox=box, area=box[2] * box[3])
    elif kind == "masks":
        masks = [dict(mask) for mask in found.masks or ()]
        for answer, mask, area in zip(answers, masks, codec_of_masks().area(masks), strict=True):
            answer.update(segmentation=mask, area=float(area))
    else:
        assert found.keypoints is not None  # the caller measures what every result has
        low, high = found.keypoints[..., :2].min(axis=1), found.keypoints[..., :2].max(axis=1)
        for answer, points, (width, height) in zip(answers, found.keypoints, high - low, strict=True):
            answer.update(keypoints=points.reshape(-1).tolist(), area=float(width * height))
    return answers


def _numbered(answers: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [answer | {"id": number} for number, answer in enumerate(answers, start=1)]


def _number_of_points(images: Sequence[AnnotatedImage], found: Mapping[int, FoundObjects]) -> int:
    """How many keypoints an object has, in the data and in what was found. Raises `InputError` unless they agree."""
    of_data = {len(one.keypoints) for image in images for one in image.objects if one.keypoints}
    of_model = {one.keypoints.shape[1] for one in found.values() if one.keypoints is not None and len(one.scores)}
    if len(of_data) > 1:
        raise InputError("objects have different numbers of keypoints", found=", ".join(map(str, sorted(of_data))))
    if of_data and of_model - of_data:
        raise InputError(
            f"the data has {of_data.pop()} keypoints an object, and the model finds {of_model.pop()}",
            fix="--kind boxes",
        )
    return next(iter(of_data | of_model), len(COCO_SIGMAS))


def _sigmas(kind: str, count: int, sigmas: Sequence[float] | None) -> list[float] | None:
    """One for each of so many keypoints. A single one stands for all of them."""
    if kind != "keypoints":
        return None
    if sigmas is None and count == len(COCO_SIGMAS):
        return list(COCO_SIGMAS)
    if sigmas is None or len(sigmas) not in (1, count) or not all(0 < sigma < 10 for sigma in sigmas):
        raise InputError(
            f"the data has {count} keypoints, and each needs its sigma, how far apart people place it",
            asked=None if sigmas is None else ", ".join(map(str, sigmas)),
            fix="--sigmas 0.05 for all of them, or one for each, in the order of the data",
        )
    return list(sigmas) * (count if len(sigmas) == 1 else 1)


def _accumulated(
    iou_type: str,
    images: list[dict[str, Any]],
    truths: list[dict[str, Any]],
    answers: list[dict[str, Any]],
    category_ids: list[int],
    limits: list[int],
    sigmas: list[float] | None,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """precision (T, R, K, A, M) and recall (T, K, A, M); -1 where there is nothing to be found."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError:
        raise no_faster_coco_eval() from None
    categories = [{"id": category_id, "name": str(category_id)} for category_id in category_ids]
    sides = []
    for entries in (truths, answers):
        side = COCO()
        side.dataset = {"images": images, "categories": categories, "annotations": entries}
        side.createIndex()
        sides.append(side)
    evaluation = COCOeval_faster(*sides, iouType=iou_type, print_function=_silent, kpt_oks_sigmas=sigmas)
    evaluation.params.imgIds = [image["id"] for image in images]
    evaluation.params.catIds = category_ids
    evaluation.params.maxDets = limits
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"])


def _silent(*_: object) -> None:
    """The library's progress is not for our reader."""


def _summary(
    kind: str,
    precision: np.ndarray[Any, Any],
    recall: np.ndarray[Any, Any],
    truths: Sequence[Mapping[str, Any]],
    answers: Sequence[Mapping[str, Any]],
    categories: Sequence[Category],
    limits: Sequence[int],
) -> KindScores:
    """The averages; the last of the limits is that of all but AR."""
    names = ("all", "medium", "large") if kind == "keypoints" else ("all", "small", "medium", "large")
    ap = {size: _mean(precision[:, :, :, a, -1]) for a, size in enumerate(names)}
    ar = {size: _mean(recall[:, :, a, -1]) for a, size in enumerate(names)}
    objects = [truth for truth in truths if not truth["iscrowd"] and truth.get("num_keypoints") != 0]
    to_find, found = _counts(objects), _counts(answers)
    per_class = {
        category.name: ClassScores(
            ap=_mean(precision[:, :, k, 0, -1]),
            ap50=_mean(precision[_AT_50, :, k, 0, -1]),
            ap75=_mean(precision[_AT_75, :, k, 0, -1]),
            ar=_mean(recall[:, k, 0, -1]),
            objects=to_find.get(category.id, 0),
            detections=found.get(category.id, 0),
        )
        for k, category in enumerate(sorted(categories, key=lambda category: category.id))
    }
    return KindScores(
        kind=kind,
        ap=ap["all"],
        ap50=_mean(precision[_AT_50, :, :, 0, -1]),
        ap75=_mean(precision[_AT_75, :, :, 0, -1]),
        ap_small=ap.get("small"),
        ap_medium=ap["medium"],
        ap_large=ap["large"],
        ar={limit: _mean(recall[:, :, 0, m]) for m, limit in enumerate(limits)},
        ar50=_mean(recall[_AT_50, :, 0, -1]),
        ar75=_mean(recall[_AT_75, :, 0, -1]),
        ar_small=ar.get("small"),
        ar_medium=ar["medium"],
        ar_large=ar["large"],
        per_class=per_class,
        objects=len(objects),
        ignored=len(truths) - len(objects),
        detections=len(answers),
    )


def _mean(values: np.ndarray[Any, Any]) -> Score:
    """Of those that are defined, as pycocotools takes it; None where none is."""
    defined = values[values > -1]
    return float(np.mean(defined)) if defined.size else None


def _counts(records: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for record in records:
        counts[record["category_id"]] = counts.get(record["category_id"], 0) + 1
    return counts
