"""YOLO's folders: a text file an image, one object a line. Torch-free.

    data.yaml (path, val, names)  images/val/*.jpg  labels/val/*.txt
    valid/images/*.jpg  valid/labels/*.txt  data.yaml              as Roboflow exports it
    images/*.jpg  labels/*.txt  classes.txt                        without a data.yaml

A line is `class cx cy w h`, `class x1 y1 x2 y2 x3 y3 …` (an outline), or, where data.yaml has a `kpt_shape`,
`class cx cy w h` and the points; all but the class in shares of the image's width and height. Classes count from 0. An
image without a file of labels has no objects.
"""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from zoo.errors import InputError
from zoo_detection.evaluation.image_headers import check_there, images_in, is_image, upright_size
from zoo_detection.evaluation.labelled_images import AnnotatedImage, Annotation, Category, DetectionData
from zoo_detection.evaluation.splits import chosen_split
from zoo_detection.evaluation.yolo_yaml import DataYaml, data_yamls, read_data_yaml

LOOKED_FOR = "a *.yaml with names, images/ beside labels/, or images beside their *.txt and a classes.txt"
_NAMES = ("classes.txt", "obj.names")


@dataclass(frozen=True)
class Line:
    """One line of a file of labels: its numbers, and what to call it."""

    where: str
    label: int
    numbers: tuple[float, ...]

    def wrong(self, what: str) -> InputError:
        """The error that names this line."""
        return InputError(f"{self.where}: {what}", found=" ".join(f"{v:g}" for v in (self.label, *self.numbers))[:200])


def is_yolo(folder: str) -> bool:
    """Whether a folder is YOLO's by what is in it."""
    if data_yamls(folder):
        return True
    if os.path.isdir(os.path.join(folder, "images")) and os.path.isdir(os.path.join(folder, "labels")):
        return True
    return _class_names(folder) is not None and any(os.path.isfile(_beside(path)) for path in _here(folder))


def read_yolo(folder: str, split: str | None = None) -> DetectionData:
    """The images and objects of one split of a folder, or of a data.yaml.

    Raises:
        InputError: no such split, missing images, or a damaged line, which is named.
    """
    yamls = [folder] if os.path.isfile(folder) else data_yamls(folder)
    folder = os.path.dirname(os.path.abspath(folder)) if os.path.isfile(folder) else folder
    if len(yamls) > 1:
        raise InputError(
            f"{folder}: more than one *.yaml describes a data set", found=", ".join(yamls), fix=f"name one: {yamls[0]}"
        )
    yaml = read_data_yaml(yamls[0]) if yamls else None
    name, paths = _images_of_yaml(yaml, split) if yaml else _images_of_folder(folder, split)
    check_there(paths, yamls[0] if yamls else folder)
    labels = {path: found for path in paths if os.path.isfile(found := label_file(path))}
    if not labels:
        raise InputError(
            f"{folder}: not one of {len(paths)} images has a file of labels",
            found=f"looked for {label_file(paths[0])}",
            fix="labels/NAME.txt for images/NAME.jpg",
        )
    lines = {path: _lines(file) for path, file in labels.items()}
    names = yaml.names if yaml else _class_names(folder)
    categories = _categories(names, [line for found in lines.values() for line in found])
    points = yaml.keypoints if yaml else None
    images = []
    for number, path in enumerate(sorted(paths), start=1):
        size = upright_size(path)
        objects = tuple(_annotation(line, len(categories), size, points) for line in lines.get(path, ()))
        images.append(AnnotatedImage(number, path, size, objects))
    return DetectionData(
        format="yolo",
        folder=folder,
        annotations=yamls[0] if yamls else folder,
        split=name,
        categories=categories,
        images=tuple(images),
        named=names is not None,
        notes=() if len(labels) == len(paths) else (f"{len(paths) - len(labels)} images have no file of labels",),
    )


def label_file(image: str) -> str:
    """The file with an image's labels: the last `images` of its path becomes `labels`; beside it without one."""
    parts = os.path.splitext(image)[0].split(os.sep)
    last = next((i for i in range(len(parts) - 2, -1, -1) if parts[i] == "images"), None)
    if last is None:
        return _beside(image)
    return os.sep.join([*parts[:last], "labels", *parts[last + 1 :]]) + ".txt"


def _beside(image: str) -> str:
    return os.path.splitext(image)[0] + ".txt"


def _images_of_yaml(yaml: DataYaml, split: str | None) -> tuple[str, list[str]]:
    name = chosen_split(list(yaml.splits), split, yaml.path)
    paths: list[str] = []
    for entry in yaml.splits[name]:
        paths += images_in(entry) if os.path.isdir(entry) else _listed(entry)
    if not paths:
        raise InputError(f"{yaml.path}: there are no images in {name}", found=", ".join(yaml.splits[name]))
    return name, list(dict.fromkeys(paths))


def _listed(file: str) -> list[str]:
    """The images that a text file lists, one a line, from its own folder."""
    with open(file, encoding="utf-8") as stream:
        names = [line.strip() for line in stream if line.strip()]
    return [os.path.normpath(os.path.join(os.path.dirname(file), name)) for name in names]


def _images_of_folder(folder: str, split: str | None) -> tuple[str, list[str]]:
    """Without a data.yaml: `images/SPLIT`, or all of `images`, or those in the folder itself."""
    images = os.path.join(folder, "images")
    if not os.path.isdir(images):
        images, inside = folder, []
    else:
        inside = sorted(entry.name for entry in os.scandir(images) if entry.is_dir())
    if not inside:
        if split is not None:
            raise InputError(f"{images} is not divided into splits", asked=split, found="no folders", fix="no --split")
        return "", _here(images)
    name = chosen_split(inside, split, images)
    return name, images_in(os.path.join(images, name))


def _here(folder: str) -> list[str]:
    return [path for path in sorted(glob.glob(os.path.join(glob.escape(folder), "*"))) if is_image(path)]


def _class_names(folder: str) -> tuple[str, ...] | None:
    for place in (folder, os.path.join(folder, "labels")):
        for name in _NAMES:
            path = os.path.join(place, name)
            if os.path.isfile(path):
                with open(path, encoding="utf-8") as stream:
                    return tuple(line.strip() for line in stream if line.strip())
    return None


def _categories(names: Sequence[str] | None, lines: Sequence[Line]) -> tuple[Category, ...]:
    """The classes by name, or, where none is named, as many as the labels number."""
    if names is None:
        names = [str(number) for number in range(1 + max((line.label for line in lines), default=0))]
    if len(set(names)) != len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise InputError(f"two classes are called {twice!r}", found=", ".join(names[:20]))
    return tuple(Category(number, name) for number, name in enumerate(names))


def _lines(file: str) -> list[Line]:
    """The lines of a file; a copy of an earlier one is the same object."""
    try:
        with open(file, encoding="utf-8") as stream:
            texts = stream.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not a text file that can be read", found=str(error)) from None
    found: dict[tuple[str, ...], Line] = {}
    for number, text in enumerate(texts, start=1):
        words = tuple(text.split())
        if words:
            found.setdefault(words, _line(words, f"{file}:{number}"))
    return list(found.values())


def _line(words: Sequence[str], where: str) -> Line:
    try:
        label, *numbers = (float(word) for word in words)
    except ValueError:
        raise InputError(f"{where}: not numbers only", found=" ".join(words)[:200]) from None
    if not all(map(math.isfinite, (label, *numbers))):
        raise InputError(f"{where}: not finite numbers only", found=" ".join(words)[:200])
    if label != int(label) or label < 0:
        raise InputError(f"{where}: the class is a whole number from 0", found=words[0])
    return Line(where, int(label), tuple(numbers))


def _annotation(line: Line, num_classes: int, size: tuple[int, int], keypoints: tuple[int, int] | None) -> Annotation:
    if line.label >= num_classes:
        raise line.wrong(f"there is no class {line.label}, they go from 0 to {num_classes - 1}")
    count, points = len(line.numbers), 0 if keypoints is None else keypoints[0] * keypoints[1]
    if keypoints is not None and count == 4 + points:
        return _boxed(line, size, _points(line, size, keypoints))
    if count == 4:
        return _boxed(line, size, None)
    if keypoints is None and count >= 6 and count % 2 == 0:
        return _outlined(line, size)
    expected = f"a box and {points} numbers of its points" if keypoints else "four numbers of a box, or an outline's"
    raise line.wrong(f"behind the class there are {count} numbers and not {expected}")


def _boxed(line: Line, size: tuple[int, int], keypoints: tuple[tuple[float, float, float], ...] | None) -> Annotation:
    (height, width), (cx, cy, w, h) = size, line.numbers[:4]
    if w <= 0 or h <= 0:
        raise line.wrong("its box has no size")
    _check_shares(line, line.numbers[:4])
    box = ((cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height)
    return Annotation(line.label, box, box[2] * box[3], keypoints=keypoints)


def _outlined(line: Line, size: tuple[int, int]) -> Annotation:
    _check_shares(line, line.numbers)
    height, width = size
    xs, ys = [x * width for x in line.numbers[0::2]], [y * height for y in line.numbers[1::2]]
    left, top = min(xs), min(ys)
    box = (left, top, max(xs) - left, max(ys) - top)
    if box[2] <= 0 or box[3] <= 0:
        raise line.wrong("its outline has no size")
    polygon = tuple(value for point in zip(xs, ys, strict=True) for value in point)
    return Annotation(line.label, box, _area(xs, ys), segmentation=(polygon,))


def _area(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Of a polygon, by the shoelace formula."""
    ahead = zip(xs, ys, [*xs[1:], xs[0]], [*ys[1:], ys[0]], strict=True)
    return abs(sum(x * next_y - next_x * y for x, y, next_x, next_y in ahead)) / 2


def _points(line: Line, size: tuple[int, int], shape: tuple[int, int]) -> tuple[tuple[float, float, float], ...]:
    """Points of three numbers have a visibility; of points of two, those at 0, 0 are not labelled."""
    (height, width), (count, dims) = size, shape
    numbers = line.numbers[4:]
    points = []
    for number in range(count):
        x, y, *visible = numbers[number * dims : (number + 1) * dims]
        _check_shares(line, (x, y))
        seen = visible[0] if visible else 2.0 * (x != 0 or y != 0)
        if seen not in (0, 1, 2):
            raise line.wrong("the visibility of a keypoint is 0, 1 or 2")
        points.append((x * width, y * height, seen))
    return tuple(points)


def _check_shares(line: Line, numbers: Sequence[float]) -> None:
    if not all(-1e-3 <= number <= 1 + 1e-3 for number in numbers):  # tools round the edge of the image
        raise line.wrong("its coordinates are no shares of the image, from 0 to 1")
