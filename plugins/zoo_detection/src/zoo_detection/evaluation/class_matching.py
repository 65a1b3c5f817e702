"""Which class of a model is which category of a data set. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.errors import LabelError
from zoo.models.labels import LabelSpace
from zoo_detection.evaluation.labelled_images import Category

COCO_IDS = frozenset(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
"""The ids of COCO's 80 classes; no other data set numbers its classes so."""

SYNONYMS = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
"""What Pascal VOC calls classes that COCO has under another name."""


@dataclass(frozen=True)
class ClassMatching:
    """What is evaluated. how: `names`, `coco ids`, `numbers` or `order`. category_of: a model's class id → category id.

    evaluated: the categories that both know. not_known: those of the data that the model has not; their objects are
    left out, so that they count for nothing.
    """

    how: str
    category_of: Mapping[int, int]
    evaluated: tuple[Category, ...]
    not_known: tuple[Category, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "matched_by": self.how,
            "evaluated": [category.name for category in self.evaluated],
            "not_known_to_the_model": [category.name for category in self.not_known],
        }


def match_classes(labels: LabelSpace | None, categories: Sequence[Category], *, named: bool = True) -> ClassMatching:
    """A model's label space against the categories of a data set.

    By COCO's ids where the data's are the 80 of COCO and the model's source ids, too; otherwise by name, case, spaces
    and hyphens aside, VOC's names for COCO's classes understood. Where the data has no names (`named` is false), its
    numbers are the model's; where the model has none, its class 0 is the category with the smallest id, and so on.

    Raises:
        LabelError: not one class in common, or two classes that are one to the other side.
    """
    by_number = dict(enumerate(sorted(category.id for category in categories)))
    if labels is None:
        return _matching("order", by_number, categories)
    if not named:
        if len(categories) > len(labels):
            raise LabelError(
                f"the data has {len(categories)} classes without names, and label space {labels.name!r} {len(labels)}",
                fix="names in data.yaml, or in a classes.txt",
            )
        return _matching("numbers", by_number, categories)
    if {category.id for category in categories} == COCO_IDS == set(labels.source_ids):
        by_id = {class_id: int(source) for class_id, source in enumerate(labels.source_ids)}
        return _matching("coco ids", by_id, categories)
    exact = {name: class_id for class_id, name in enumerate(labels.names)}
    folded = {_folded(name): class_id for class_id, name in reversed(list(enumerate(labels.names)))}
    found: dict[int, int] = {}
    for category in categories:
        class_id = exact.get(category.name, folded.get(_folded(category.name)))
        if class_id is None:
            continue
        if class_id in found:
            both = ", ".join(repr(c.name) for c in categories if c.id in (found[class_id], category.id))
            raise LabelError(f"two classes of the data are {labels.names[class_id]!r} to the model", found=both)
        found[class_id] = category.id
    if not found:
        raise LabelError(
            f"label space {labels.name!r} and the data have no class in common",
            found=f"in the data {_some(c.name for c in categories)}; in the model {_some(labels.names)}",
            fix="a model trained on these classes; or the model's names in the data",
        )
    return _matching("names", found, categories)


def _matching(how: str, category_of: Mapping[int, int], categories: Sequence[Category]) -> ClassMatching:
    known = set(category_of.values())
    ordered = sorted(categories, key=lambda category: category.id)
    return ClassMatching(
        how=how,
        category_of=category_of,
        evaluated=tuple(category for category in ordered if category.id in known),
        not_known=tuple(category for category in ordered if category.id not in known),
    )


def _some(names: Iterable[str]) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")


def _folded(name: str) -> str:
    word = " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
    return SYNONYMS.get(word, word)
