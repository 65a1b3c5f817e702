"""One record of a COCO file, checked: every field that is read is what the format says, or the record is named."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.errors import InputError
from zoo_detection.evaluation.labelled_images import Annotation, Category, Segmentation
from zoo_detection.evaluation.run_lengths import check_counts, counts_of


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a list. id: each once in its list. where: what to call it when something is wrong."""

    id: int
    where: str
    fields: Mapping[str, Any]

    def wrong(self, what: str, found: object = None) -> InputError:
        """The error that names this record."""
        return InputError(f"{self.where}: {what}", found=None if found is None else str(found)[:200])

    def text(self, name: str) -> str:
        """A field that is a word."""
        value = self.fields.get(name)
        if not isinstance(value, str) or not value:
            raise self.wrong(f"`{name}` is not a name", repr(value))
        return value

    def whole(self, name: str) -> int:
        """A field that is a whole number."""
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 53:
            raise self.wrong(f"`{name}` is not a whole number", repr(value))
        return value

    def numbers(self, name: str, value: Any, count: int | None = None) -> tuple[float, ...]:
        """Finite numbers, so many."""
        if not isinstance(value, Sequence) or isinstance(value, str) or count not in (None, len(value)):
            raise self.wrong(f"`{name}` is not a list of {count or ''} numbers".replace("  ", " "), repr(value))
        if not _are_finite(value):
            raise self.wrong(f"`{name}` has what is no finite number", repr(value))
        return tuple(value)

    def size(self) -> tuple[int, int] | None:
        """(H, W) of an image's record; None where it says nothing."""
        if self.fields.get("height") is None or self.fields.get("width") is None:
            return None
        height, width = self.whole("height"), self.whole("width")
        if height < 1 or width < 1:
            raise self.wrong("an image has at least one pixel", f"height {height}, width {width}")
        return height, width


def _are_finite(values: Sequence[Any]) -> bool:
    """Numbers that a float holds; JSON as Python reads it has NaN, Infinity and whole numbers of any length."""
    if not set(map(type, values)) <= {int, float}:
        return False
    try:
        return all(map(math.isfinite, values))
    except OverflowError:
        return False


def records(content: Mapping[str, Any], name: str, path: str) -> list[Record]:
    """One of the three lists of a file. Raises `InputError` for what is no list of records with an id each."""
    entries = content.get(name)
    if not isinstance(entries, list):
        raise InputError(f"{path}: no list `{name}` in it", found=", ".join(map(repr, list(content)[:6])))
    kind = {"images": "image", "annotations": "annotation", "categories": "category"}[name]
    found: list[Record] = []
    places: dict[int, int] = {}
    for number, fields in enumerate(entries):
        where = f"{path}: {kind} {number}"
        if not isinstance(fields, Mapping):
            raise InputError(f"{where}: not an object", found=repr(fields)[:200])
        record = Record(-1, where, fields)
        record_id = record.whole("id")
        if record_id in places:
            raise InputError(f"{where}: the id {record_id} is that of {kind} {places[record_id]} already")
        places[record_id] = number
        found.append(Record(record_id, f"{where} (id {record_id})", fields))
    return found


def category(record: Record) -> Category:
    """A class, with the names of its keypoints where it has any."""
    points = record.fields.get("keypoints") or ()
    if not isinstance(points, Sequence) or not all(isinstance(point, str) for point in points):
        raise record.wrong("`keypoints` are not names", repr(points))
    return Category(record.id, record.text("name"), tuple(points))


def annotation(record: Record, categories: Mapping[int, Category]) -> Annotation:
    """An object in an image. Raises `InputError` naming it."""
    category_id = record.whole("category_id")
    if category_id not in categories:
        known = ", ".join(str(i) for i in list(categories)[:20])
        raise record.wrong(f"there is no category {category_id}", f"categories {known}")
    left, top, width, height = record.numbers("bbox", record.fields.get("bbox"), 4)
    if width <= 0 or height <= 0:
        raise record.wrong("its box has no size", f"bbox {[left, top, width, height]}")
    area = record.fields.get("area")
    (area,) = (width * height,) if area is None else record.numbers("area", [area], 1)
    crowd = record.fields.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise record.wrong("`iscrowd` is 0 or 1", repr(crowd))
    return Annotation(
        category_id=category_id,
        box_xywh=(left, top, width, height),
        area=area,
        crowd=bool(crowd),
        segmentation=_segmentation(record),
        keypoints=_keypoints(record, categories[category_id]),
    )


def _segmentation(record: Record) -> Segmentation | None:
    """Polygons or run lengths; an empty list is none."""
    value = record.fields.get("segmentation")
    if value is None or value == []:
        return None
    if isinstance(value, Mapping):
        return _run_lengths(record, value)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise record.wrong("`segmentation` is neither polygons nor run lengths", repr(value))
    polygons = tuple(record.numbers("segmentation", polygon) for polygon in value)
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise record.wrong("a polygon has three points or more, an x and a y each", f"{len(polygon)} numbers")
    return polygons


def _run_lengths(record: Record, value: Mapping[str, Any]) -> Segmentation:
    """Always as numbers; what does not fill an image would be read past its end."""
    height, width = (int(v) for v in record.numbers("segmentation.size", value.get("size"), 2))
    counts = value.get("counts")
    try:
        if isinstance(counts, str):
            lengths = counts_of(counts)
        else:
            lengths = [int(v) for v in record.numbers("segmentation.counts", counts)]
        check_counts(lengths, (height, width))
    except InputError as error:
        raise error if error.message.startswith(record.where) else record.wrong(error.message, error.found) from None
    return {"size": [height, width], "counts": lengths}


def _keypoints(record: Record, of: Category) -> tuple[tuple[float, float, float], ...] | None:
    value = record.fields.get("keypoints")
    if value is None:
        return None
    count = 3 * len(of.keypoints) if of.keypoints else None
    numbers = record.numbers("keypoints", value, count)
    if len(numbers) % 3 or not numbers:
        raise record.wrong("keypoints are x, y and visibility each", f"{len(numbers)} numbers")
    points = tuple(zip(numbers[0::3], numbers[1::3], numbers[2::3], strict=True))
    if any(v not in (0, 1, 2) for _, _, v in points):
        raise record.wrong("the visibility of a keypoint is 0, 1 or 2", f"{[v for _, _, v in points]}")
    return points
