"""A detector on a data set: every photo through `predict`, then COCO's measure.

photos -> `model.predict` -> what was found, by the data set's classes -> boxes, masks, keypoints measured
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np

from zoo.errors import CheckpointError, InputError, LabelError, OptionError, UnsupportedError
from zoo.models.detections import Detections
from zoo.models.labels import LabelSpace
from zoo.models.provenance import Provenance
from zoo_detection.evaluation.class_matching import ClassMatching, match_classes
from zoo_detection.evaluation.coco_measure import KINDS, FoundObjects, measure
from zoo_detection.evaluation.data_folder import read_data
from zoo_detection.evaluation.labelled_images import AnnotatedImage, DetectionData
from zoo_detection.evaluation.run_lengths import codec_of_masks, encode_masks
from zoo_detection.evaluation.scores import DetectionScores, KindScores

KEYPOINT_DETECTIONS = 20
"""The most persons in an image whose keypoints count, as in COCO."""
_NAMED = 5  # broken photos that an error names


class Predictor(Protocol):
    """What is evaluated: any `zoo.Model` whose results are `Detections`."""

    label_space: LabelSpace | None
    provenance: Provenance | None

    def predict(self, inputs: Any, *, batch_size: int, score_threshold: float, max_detections: int) -> Sequence[Any]:
        """A result an image."""


def evaluate(
    model: Predictor,
    data: str | os.PathLike[str] | DetectionData,
    *,
    split: str | None = None,
    data_format: str | None = None,
    kinds: Sequence[str] | None = None,
    limit: int | None = None,
    batch_size: int = 8,
    score_threshold: float = 0.001,
    max_detections: int = 100,
    sigmas: Sequence[float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DetectionScores:
    """How good a detector is on labelled images. The same model, data and settings give the same numbers.

    Args:
        model: whose results are `Detections`.
        data: a folder as `read_data` takes it, or what that returned.
        split, data_format: for `read_data`.
        kinds: of `boxes`, `masks` and `keypoints`; without, all that both the results and the data have.
        limit: only so many images, the first by the data set's order.
        batch_size: images a forward pass.
        score_threshold: detections score more than this. AP wants nearly all of them.
        max_detections: the most of an image, and of a class in it, that count.
        sigmas: of the keypoints; COCO's where there are 17.
        progress: told how many images are done, and how many there are.

    Raises:
        InputError: data that cannot be used; photos that cannot be opened, once all others are done, by name.
        LabelError: the model and the data have no class in common.
        UnsupportedError: a model that gives no `Detections`, or asked-for kinds that are not there.
        MissingDependencyError: faster-coco-eval is not installed.
    """
    codec_of_masks()  # what is missing is said before the work
    _check(kinds, limit, max_detections)
    if not isinstance(data, DetectionData):
        data = read_data(data, split, data_format=data_format, keypoints=kinds is not None and "keypoints" in kinds)
    data = data.first(limit)
    classes = match_classes(model.label_space, data.categories, named=data.named)
    collected = _Collected(classes, masks=_may_have("masks", kinds, data.has_masks))
    for done, (image, result) in enumerate(_results(model, data, batch_size, score_threshold, max_detections), start=1):
        collected.add(image, result)
        if progress is not None:
            progress(done, len(data.images))
    collected.refuse_broken(len(data.images))
    measured = {
        kind: _measured(kind, data, collected.found, classes, max_detections, sigmas)
        for kind in collected.kinds(kinds, data)
    }
    return DetectionScores(
        boxes=measured.get("boxes"),
        masks=measured.get("masks"),
        keypoints=measured.get("keypoints"),
        classes=classes,
        dropped=collected.dropped,
        model=_about_model(model),
        data=about_data(data),
        settings={
            "score_threshold": score_threshold,
            "max_detections": max_detections,
            "batch_size": batch_size,
            "limit": limit,
            "sigmas": None if sigmas is None else list(sigmas),
        },
        versions=_versions(),
    )


def _measured(
    kind: str,
    data: DetectionData,
    found: Mapping[int, FoundObjects],
    classes: ClassMatching,
    max_detections: int,
    sigmas: Sequence[float] | None,
) -> KindScores:
    most = min(KEYPOINT_DETECTIONS, max_detections) if kind == "keypoints" else max_detections
    return measure(kind, data.images, found, classes.evaluated, max_detections=most, sigmas=sigmas)


def about_data(data: DetectionData) -> dict[str, Any]:
    """A data set's identity as plain JSON types."""
    return {
        "folder": data.folder,
        "format": data.format,
        "annotations": data.annotations,
        "split": data.split,
        "images": len(data.images),
        "objects": data.num_objects,
        "fingerprint": data.fingerprint,
        "notes": list(data.notes),
    }


class _Collected:
    """What was found so far, small: masks as run lengths, boxes as arrays.

    found: image id → objects of the data set's classes. dropped: how many were of others. broken: (path, why).
    """

    def __init__(self, classes: ClassMatching, *, masks: bool) -> None:
        self.found: dict[int, FoundObjects] = {}
        self.dropped = 0
        self.broken: list[tuple[str, str]] = []
        self._classes, self._masks = classes, masks
        self._have_masks = self._have_keypoints = True

    def add(self, image: AnnotatedImage, result: Detections | InputError) -> None:
        """One image's result, or why there is none."""
        if isinstance(result, InputError):
            self.broken.append((image.path, result.message))
            return
        if not isinstance(result, Detections):
            raise UnsupportedError(
                f"only detectors are evaluated here, and this model gives {type(result).__name__}",
                fix="zoo list --task detection",
            )
        if image.size is not None and tuple(result.size) != image.size:
            self.broken.append((image.path, _sizes_differ(result.size, image.size)))
            return
        self._have_masks &= result.masks is not None
        self._have_keypoints &= result.keypoints is not None
        self.found[image.id] = self._of_data(result)

    def _of_data(self, result: Detections) -> FoundObjects:
        """By the data set's classes; what is of others is counted and left out."""
        ids = result.ids.tolist()
        known = len(self._classes.category_of)
        if self._classes.how == "order" and ids and max(ids) >= known:
            raise LabelError(
                f"the model's classes have no names, and it finds a class {max(ids)}; the data has {known} classes",
                fix="a model with a label space",
            )
        kept = [place for place, class_id in enumerate(ids) if class_id in self._classes.category_of]
        self.dropped += len(ids) - len(kept)
        result = result[kept]
        boxes, scores = result.boxes.numpy().astype(np.float64), result.scores.numpy().astype(np.float64)
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise CheckpointError(f"{result.source}: the model's output is not a number (NaN or infinite)")
        return FoundObjects(
            category_ids=np.array([self._classes.category_of[i] for i in result.ids.tolist()], dtype=np.int64),
            boxes_xyxy=boxes,
            scores=scores,
            masks=encode_masks(result.masks.numpy()) if self._masks and result.masks is not None else None,
            keypoints=None if result.keypoints is None else result.keypoints.numpy().astype(np.float64),
        )

    def refuse_broken(self, total: int) -> None:
        """Raise `InputError` if there is a photo whose objects would only seem to be missed."""
        if self.broken:
            named = [f"{path}: {why}" for path, why in self.broken[:_NAMED]]
            more = [f"and {len(self.broken) - _NAMED} more"] if len(self.broken) > _NAMED else []
            raise InputError(
                "\n".join([f"{len(self.broken)} of {total} photos cannot be used:", *named, *more]),
                fix="mend these files, or take them out of the data set; their objects would count as missed",
            )

    def kinds(self, asked: Sequence[str] | None, data: DetectionData) -> list[str]:
        """What is measured. Raises `UnsupportedError` for what was asked for and is not there."""
        there = {
            "boxes": (True, True),
            "masks": (self._have_masks, data.has_masks),
            "keypoints": (self._have_keypoints, data.has_keypoints),
        }
        if asked is None:
            return [kind for kind, both in there.items() if all(both)]
        for kind in asked:
            if not all(there[kind]):
                whose = "the data has" if there[kind][0] else "the model gives"
                raise UnsupportedError(f"{whose} no {kind}", fix="--kind boxes")
        return [kind for kind in there if kind in asked]


def _check(kinds: Sequence[str] | None, limit: int | None, max_detections: int) -> None:
    unknown = [kind for kind in kinds or () if kind not in KINDS]
    if unknown or (kinds is not None and not kinds):
        raise OptionError(
            "what is measured is boxes, masks or keypoints", asked=", ".join(unknown), fix=f"one of {', '.join(KINDS)}"
        )
    for name, number in (("limit", limit), ("max_detections", max_detections)):
        if number is not None and number < 1:
            raise OptionError(f"`{name}` is a whole number from 1", asked=str(number))


def _may_have(kind: str, kinds: Sequence[str] | None, data_has: bool) -> bool:
    return data_has and (kinds is None or kind in kinds)


def _results(
    model: Predictor, data: DetectionData, batch_size: int, score_threshold: float, max_detections: int
) -> Iterator[tuple[AnnotatedImage, Detections | InputError]]:
    """Every image's result, or why there is none, in order."""
    for start in range(0, len(data.images), batch_size):
        batch = data.images[start : start + batch_size]
        answers = _answers(model, batch, score_threshold=score_threshold, max_detections=max_detections)
        yield from zip(batch, answers, strict=True)


def _answers(
    model: Predictor, batch: Sequence[AnnotatedImage], *, score_threshold: float, max_detections: int
) -> list[Detections | InputError]:
    """One batch. If a photo in it cannot be used, each is tried by itself, so that it is known which."""
    try:
        return list(
            model.predict(
                [image.path for image in batch],
                batch_size=len(batch),
                score_threshold=score_threshold,
                max_detections=max_detections,
            )
        )
    except InputError as error:
        if len(batch) == 1:
            return [error]
    return [
        answer
        for image in batch
        for answer in _answers(model, [image], score_threshold=score_threshold, max_detections=max_detections)
    ]


def _sizes_differ(found: Sequence[int], said: Sequence[int]) -> str:
    turned = "; it is stored turned, and was labelled as it is stored" if tuple(found) == tuple(said)[::-1] else ""
    return f"it is {found[1]} x {found[0]} and its labels say {said[1]} x {said[0]}{turned}"


def _about_model(model: Predictor) -> dict[str, Any]:
    """What is known of the weights, and what the classes are called."""
    labels = None if model.label_space is None else model.label_space.name
    provenance = None if model.provenance is None else model.provenance.to_dict()
    return {"class": type(model).__name__, "label_space": labels, "provenance": provenance}


def _versions() -> dict[str, str]:
    """Of what the numbers come from."""
    names = ("zoo-core", "faster-coco-eval", "numpy", "pillow", "torch")
    return {"python": platform.python_version()} | {name: version(name) for name in names}
