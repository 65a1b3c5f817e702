"""What an evaluation gives: COCO's numbers, and all that is needed to have them again. Torch-free."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import InputError
from zoo_detection.evaluation.class_matching import ClassMatching

Score = float | None
"""In [0, 1]; None where nothing could be found: no objects of that class or size (pycocotools writes -1)."""


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """One class. ap: mean over IoU 0.50 to 0.95. ar: recall at `max_detections`. objects: crowds aside."""

    ap: Score
    ap50: Score
    ap75: Score
    ar: Score
    objects: int
    detections: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        numbers = {"AP": self.ap, "AP50": self.ap50, "AP75": self.ap75, "AR": self.ar}
        return numbers | {"objects": self.objects, "detections": self.detections}


@dataclass(frozen=True, kw_only=True)
class KindScores:
    """How good boxes, masks or keypoints are, by COCO's measure.

    AP is the precision, averaged over 101 levels of recall, over IoU (for keypoints: object keypoint similarity) 0.50,
    0.55 … 0.95 and over the classes; AR the recall. `_small` objects have an area below 32², `_medium` below 96².

    ar: the most detections a class and image that count → recall; COCO's are 1, 10 and 100, for keypoints 20.
    objects: that are to be found. ignored: crowds. detections: that were measured.
    """

    kind: str
    ap: Score
    ap50: Score
    ap75: Score
    ap_small: Score
    ap_medium: Score
    ap_large: Score
    ar: Mapping[int, Score]
    ar50: Score
    ar75: Score
    ar_small: Score
    ar_medium: Score
    ar_large: Score
    per_class: Mapping[str, ClassScores] = field(repr=False)
    objects: int
    ignored: int
    detections: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, under COCO's names."""
        return {
            **self.numbers(),
            "objects": self.objects,
            "ignored": self.ignored,
            "detections": self.detections,
            "classes": [{"name": name} | one.to_dict() for name, one in self.per_class.items()],
        }

    def numbers(self) -> dict[str, Score]:
        """Every average, under COCO's names, in COCO's order."""
        return {
            "AP": self.ap,
            "AP50": self.ap50,
            "AP75": self.ap75,
            "AP_small": self.ap_small,
            "AP_medium": self.ap_medium,
            "AP_large": self.ap_large,
            **{f"AR_{count}": value for count, value in self.ar.items()},
            "AR50": self.ar50,
            "AR75": self.ar75,
            "AR_small": self.ar_small,
            "AR_medium": self.ar_medium,
            "AR_large": self.ar_large,
        }


@dataclass(frozen=True, kw_only=True)
class DetectionScores:
    """A detector on a data set.

    boxes, masks, keypoints: None where the model or the data has none. classes: which were evaluated. dropped:
    detections of classes that the data does not have. model: its reference and the provenance of its weights. data:
    folder, format, split, fingerprint, how many images. settings, versions: what the numbers depend on beside.
    """

    boxes: KindScores | None
    masks: KindScores | None = None
    keypoints: KindScores | None = None
    classes: ClassMatching
    dropped: int
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]

    @property
    def kinds(self) -> dict[str, KindScores]:
        """What was measured: `boxes`, `masks`, `keypoints`."""
        kinds = {"boxes": self.boxes, "masks": self.masks, "keypoints": self.keypoints}
        return {name: scores for name, scores in kinds.items() if scores is not None}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; the same for the same model, data and settings."""
        return {
            "model": dict(self.model),
            "data": dict(self.data),
            "classes": self.classes.to_dict() | {"detections_of_other_classes": self.dropped},
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "scores": {name: scores.to_dict() for name, scores in self.kinds.items()},
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `to_dict` as JSON, complete or not at all. Raises `InputError` where that cannot be."""
        import json

        target = os.fspath(path)
        partial = f"{target}.{os.getpid()}.partial"
        try:
            with open(partial, "w", encoding="utf-8") as stream:
                stream.write(json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n")
            os.replace(partial, target)
        except OSError as error:
            raise InputError(f"the results cannot be written: {error}", asked=target, fix="another path") from None
        finally:  # also when interrupted
            if os.path.exists(partial):
                os.unlink(partial)
