"""COCO's folders: a JSON file of images, categories and annotations, and the images near it. Torch-free.

    annotations/instances_val2017.json  val2017/*.jpg            as COCO comes
    valid/_annotations.coco.json        valid/*.jpg              as Roboflow exports it
    labels.json                         data/*.jpg               as others do

Lin et al. 2014, arXiv:1405.0312; the fields are those of https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import glob
import json
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.errors import InputError
from zoo_detection.evaluation.coco_records import Record, annotation, category, records
from zoo_detection.evaluation.image_headers import check_there, upright_size
from zoo_detection.evaluation.labelled_images import AnnotatedImage, Annotation, Category, DetectionData
from zoo_detection.evaluation.splits import chosen_split

LOOKED_FOR = "annotations/*.json, *.json, or SPLIT/_annotations.coco.json with images, annotations and categories"
_INSTANCES, _KEYPOINTS = "instances_", "person_keypoints_"
_PLACES = ("{split}", "images/{split}", "images", "data", "")  # where the images are, from the data set's folder


@dataclass(frozen=True)
class CocoFile:
    """A file of COCO annotations. split: which part it is of, by its name or folder."""

    path: str
    split: str

    @property
    def stem(self) -> str:
        """The file's name without its ending."""
        return os.path.splitext(os.path.basename(self.path))[0]


def coco_files(folder: str) -> list[CocoFile]:
    """The files in a folder that are COCO's by what is in them."""
    patterns = ("*.json", "annotations/*.json", "*/_annotations.coco.json")
    paths = [path for pattern in patterns for path in sorted(glob.glob(os.path.join(glob.escape(folder), pattern)))]
    return [CocoFile(path, _split_of(path, folder)) for path in paths if _has_annotations(path)]


def read_coco(folder: str, split: str | None = None, *, keypoints: bool = False) -> DetectionData:
    """The images and objects of one split.

    Args:
        folder: of the data set; or its JSON file.
        split: which part; `chosen_split` says which without. A file's name without its ending is understood, too.
        keypoints: prefer `person_keypoints_…` where there is an `instances_…` of the same split.

    Raises:
        InputError: no such split, missing images, or a damaged record, which is named.
    """
    if os.path.isfile(folder):
        file = CocoFile(folder, _split_of(folder, os.path.dirname(folder)))
        folder = os.path.dirname(os.path.abspath(folder))
        folder = os.path.dirname(folder) if os.path.basename(folder) == "annotations" else folder
    else:
        file = _chosen(coco_files(folder), split, folder, keypoints)
    content = _opened(file.path)
    entries = records(content, "annotations", file.path)
    categories = _categories(content, entries, file.path)
    images = _images(content, file, folder)
    objects = _objects(entries, {image.id: image.size for image in images}, {c.id: c for c in categories})
    return DetectionData(
        format="coco",
        folder=folder,
        annotations=file.path,
        split=file.split,
        categories=tuple(categories),
        images=tuple(
            AnnotatedImage(image.id, image.path, image.size, tuple(objects.get(image.id, ())))
            for image in sorted(images, key=lambda image: image.id)
        ),
    )


def _split_of(path: str, folder: str) -> str:
    stem = os.path.splitext(os.path.basename(path))[0]
    for prefix in (_INSTANCES, _KEYPOINTS):
        if stem.startswith(prefix):
            return stem.removeprefix(prefix)
    if stem == "_annotations.coco":
        inside = os.path.relpath(os.path.dirname(path) or ".", folder or ".")
        return "" if inside == "." else inside
    return stem


def _has_annotations(path: str) -> bool:
    """Whether the three lists of the format are in a file; those of captions and of panoptic masks are not meant."""
    if not os.path.isfile(path) or os.path.getsize(path) == 0:
        return False
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
        lists = all(text.find(word) >= 0 for word in (b'"images"', b'"annotations"', b'"categories"'))
        return lists and text.find(b'"segments_info"') < 0


def _chosen(files: Sequence[CocoFile], split: str | None, folder: str, keypoints: bool) -> CocoFile:
    if not files:
        raise InputError(f"{folder}: no file of COCO annotations in this folder", found=f"looked for {LOOKED_FOR}")
    named = [file for file in files if file.stem == split]
    if not named:
        chosen = chosen_split([file.split for file in files], split, folder)
        named = [file for file in files if file.split == chosen]
    if len(named) > 1:  # `instances_val2017` and `person_keypoints_val2017`
        prefix = _KEYPOINTS if keypoints else _INSTANCES
        named = [file for file in named if file.stem.startswith(prefix)] or named
    if len(named) > 1:
        raise InputError(
            f"{folder}: more than one file of annotations is of the split {named[0].split!r}",
            found=", ".join(file.path for file in named),
            fix=f"name the file: {named[0].path}",
        )
    return named[0]


def _opened(path: str) -> Mapping[str, Any]:
    try:
        with open(path, encoding="utf-8-sig") as stream:
            content = json.load(stream)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a JSON file that can be read", found=str(error)) from None
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: COCO annotations are a JSON object", found=f"a {type(content).__name__}")
    return content


def _categories(content: Mapping[str, Any], entries: Sequence[Record], path: str) -> list[Category]:
    """Roboflow writes a heading with no objects, which may have the name of a class: of two, the used one stays."""
    found = [category(record) for record in records(content, "categories", path)]
    used = {record.whole("category_id") for record in entries}
    by_name: dict[str, Category] = {}
    for one in found:
        other = by_name.get(one.name)
        if other is not None and other.id in used and one.id in used:
            raise InputError(f"{path}: two categories are called {one.name!r}", found=f"ids {other.id} and {one.id}")
        if other is None or one.id in used:
            by_name[one.name] = one
    return sorted(by_name.values(), key=lambda one: one.id)


def _images(content: Mapping[str, Any], file: CocoFile, folder: str) -> list[AnnotatedImage]:
    found = records(content, "images", file.path)
    if not found:
        raise InputError(f"{file.path}: there are no images in it", found="an empty list `images`")
    names = [record.text("file_name") for record in found]
    place = _place_of(names, file, folder)
    paths = [os.path.normpath(os.path.join(place, name)) for name in names]
    check_there(paths, file.path)
    return [
        AnnotatedImage(record.id, path, record.size() or upright_size(path))
        for record, path in zip(found, paths, strict=True)
    ]


def _place_of(names: Sequence[str], file: CocoFile, folder: str) -> str:
    """The folder that the file names are in: the one in which the most of the first of them are."""
    beside = os.path.dirname(file.path) or os.curdir
    inside = [os.path.join(folder, place.format(split=file.split)) for place in _PLACES]
    places = [place for place in dict.fromkeys([*inside, beside]) if os.path.isdir(place)]
    return max(places, key=lambda place: sum(os.path.isfile(os.path.join(place, name)) for name in names[:50]))


def _objects(
    entries: Sequence[Record], sizes: Mapping[int, tuple[int, int] | None], categories: Mapping[int, Category]
) -> dict[int, list[Annotation]]:
    """Image id → its objects, in the order of the file."""
    objects: dict[int, list[Annotation]] = {}
    for record in entries:
        image_id = record.whole("image_id")
        if image_id not in sizes:
            raise record.wrong("it is of an image that is not in the list", f"image_id {image_id}")
        one = annotation(record, categories)
        if isinstance(one.segmentation, Mapping) and tuple(one.segmentation["size"]) != sizes[image_id]:
            raise record.wrong("its outline is of another size than its image", f"{one.segmentation['size']}")
        objects.setdefault(image_id, []).append(one)
    return objects
