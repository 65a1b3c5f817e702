"""How good a detector is, in COCO's terms, on a folder of labelled images as people have it.

from zoo_detection.evaluation import evaluate

scores = evaluate(model, "coco", split="val2017")
scores.boxes.ap, scores.boxes.per_class["dog"].ap50

The room depends on the core's contracts only (what `predict` returns, label spaces), on no detector of this plugin.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo_detection.evaluation.class_matching import ClassMatching as ClassMatching, match_classes as match_classes
    from zoo_detection.evaluation.coco_measure import measure as measure
    from zoo_detection.evaluation.data_folder import read_data as read_data
    from zoo_detection.evaluation.labelled_images import (
        AnnotatedImage as AnnotatedImage,
        Annotation as Annotation,
        Category as Category,
        DetectionData as DetectionData,
    )
    from zoo_detection.evaluation.running import evaluate as evaluate
    from zoo_detection.evaluation.scores import DetectionScores as DetectionScores, KindScores as KindScores

_HOMES = {
    "AnnotatedImage": "labelled_images",
    "Annotation": "labelled_images",
    "Category": "labelled_images",
    "ClassMatching": "class_matching",
    "DetectionData": "labelled_images",
    "DetectionScores": "scores",
    "KindScores": "scores",
    "evaluate": "running",
    "match_classes": "class_matching",
    "measure": "coco_measure",
    "read_data": "data_folder",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
