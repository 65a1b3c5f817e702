"""What every format of labelled images becomes: categories, and images with their objects. Torch-free.

Coordinates count from the top left corner of the upright image, pixel edges being whole numbers: a box over a whole
image of W x H is x 0, y 0, width W, height H.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

from zoo.errors import InputError

Segmentation: TypeAlias = tuple[tuple[float, ...], ...] | Mapping[str, Any]
"""Polygons, each x1, y1, x2, y2 …; or COCO's run lengths: `size` [H, W], `counts` a list of numbers or a string."""


@dataclass(frozen=True, slots=True)
class Category:
    """One class of a data set. id: in the data set's own files. keypoints: what its points are called, in order."""

    id: int
    name: str
    keypoints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Annotation:
    """One object in an image.

    category_id: one of the data set's. box_xywh: left, top, width, height in pixels, both sides > 0. area: in square
    pixels, what small, medium and large are told by. crowd: it counts neither as found nor as missed: COCO's crowds,
    VOC's difficult objects. segmentation: its outline. keypoints: x, y in pixels and visibility, 0 (not labelled), 1
    (hidden) or 2 (visible), each.
    """

    category_id: int
    box_xywh: tuple[float, float, float, float]
    area: float
    crowd: bool = False
    segmentation: Segmentation | None = None
    keypoints: tuple[tuple[float, float, float], ...] | None = None

    @property
    def labelled_keypoints(self) -> int:
        """How many of its keypoints are labelled."""
        return sum(v > 0 for _, _, v in self.keypoints or ())


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One image file and its objects. id: in the data set, each once. size: upright (H, W), None where not stated."""

    id: int
    path: str
    size: tuple[int, int] | None
    objects: tuple[Annotation, ...] = ()


@dataclass(frozen=True)
class DetectionData:
    """Labelled images, whatever format they came in.

    format: `coco`, `yolo` or `voc`. folder: where they are. annotations: the file or folder with the labels. split:
    which part of the data set, empty where it has no parts. named: whether the classes have names; where not, they
    are numbered as the model's are. notes: what a reader of the scores should know about how the files were read.
    """

    format: str
    folder: str
    annotations: str
    split: str
    categories: tuple[Category, ...]
    images: tuple[AnnotatedImage, ...]
    named: bool = True
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.images:
            raise InputError(f"{self.annotations}: there is not one image in this data set")

    def first(self, count: int | None) -> DetectionData:
        """The same with its first `count` images only; all of them for None."""
        return self if count is None else replace(self, images=self.images[:count])

    @property
    def num_objects(self) -> int:
        """Objects in all images, crowds included."""
        return sum(len(image.objects) for image in self.images)

    @property
    def has_masks(self) -> bool:
        """Whether there are objects and each has an outline."""
        return self.num_objects > 0 and all(o.segmentation is not None for i in self.images for o in i.objects)

    @property
    def has_keypoints(self) -> bool:
        """Whether any object has keypoints."""
        return any(o.keypoints is not None for image in self.images for o in image.objects)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hex, of the categories, of every image's name and length in bytes, and of every object.

        It does not depend on where the folder is, nor on the order of the images.
        """
        digest = hashlib.sha256()
        digest.update(_canonical([(category.id, category.name, category.keypoints) for category in self.categories]))
        for image in sorted(self.images, key=lambda image: image.id):
            name = os.path.relpath(image.path, self.folder).replace(os.sep, "/")
            objects = [
                (one.category_id, one.box_xywh, one.area, one.crowd, one.segmentation, one.keypoints)
                for one in image.objects
            ]
            digest.update(_canonical((image.id, name, os.path.getsize(image.path), objects)))
        return digest.hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"
