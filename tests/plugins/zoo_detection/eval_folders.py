"""Data sets written as people have them: COCO's, YOLO's and Pascal VOC's folders, from the same objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from PIL import Image


class Thing(NamedTuple):
    """One object. box: x1, y1, x2, y2 in pixels. crowd: VOC's difficult. outline: x, y, x, y … points: (x, y, v)."""

    name: str
    box: tuple[float, float, float, float]
    crowd: bool = False
    outline: tuple[float, ...] | None = None
    points: tuple[tuple[float, float, int], ...] | None = None


class Picture(NamedTuple):
    """One image. name: of the file. size: (H, W)."""

    name: str
    size: tuple[int, int]
    things: tuple[Thing, ...] = ()


def write_images(folder: Path, pictures: Sequence[Picture]) -> None:
    """Grey images of the right sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        Image.new("L", (picture.size[1], picture.size[0]), 128).convert("RGB").save(folder / picture.name)


def coco_content(pictures: Sequence[Picture], names: Sequence[str], ids: Sequence[int] | None = None) -> dict[str, Any]:
    """A COCO file as a dict. ids: of the categories; from 1 without."""
    numbers = dict(zip(names, ids or range(1, 1 + len(names)), strict=True))
    annotations = []
    for image_id, picture in enumerate(pictures, start=10):
        for thing in picture.things:
            x1, y1, x2, y2 = thing.box
            annotation: dict[str, Any] = {
                "id": len(annotations),
                "image_id": image_id,
                "category_id": numbers[thing.name],
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1) * 0.7,
                "iscrowd": int(thing.crowd),
            }
            if thing.outline is not None:
                annotation["segmentation"] = [list(thing.outline)]
            if thing.points is not None:
                annotation["keypoints"] = [value for point in thing.points for value in point]
                annotation["num_keypoints"] = sum(v > 0 for _, _, v in thing.points)
            annotations.append(annotation)
    return {
        "images": [
            {"id": i, "file_name": p.name, "height": p.size[0], "width": p.size[1]}
            for i, p in enumerate(pictures, start=10)
        ],
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
        "annotations": annotations,
    }


def write_coco(
    folder: Path,
    pictures: Sequence[Picture],
    names: Sequence[str],
    *,
    split: str = "val2017",
    ids: Sequence[int] | None = None,
    prefix: str = "instances_",
) -> Path:
    """`annotations/instances_SPLIT.json` and `SPLIT/`; the JSON file."""
    write_images(folder / split, pictures)
    file = folder / "annotations" / f"{prefix}{split}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(coco_content(pictures, names, ids)))
    return file


def yolo_line(picture: Picture, thing: Thing, label: int) -> str:
    """A box, a box with its points, or an outline."""
    height, width = picture.size
    if thing.outline is not None:
        sides = [width, height] * (len(thing.outline) // 2)
        return " ".join([str(label), *(repr(v / side) for v, side in zip(thing.outline, sides, strict=True))])
    x1, y1, x2, y2 = thing.box
    numbers = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
    for x, y, v in thing.points or ():
        numbers += [x / width, y / height, v]
    return " ".join([str(label), *map(repr, numbers)])


def write_yolo(
    folder: Path, pictures: Sequence[Picture], names: Sequence[str], *, split: str = "val", yaml: bool = True
) -> None:
    """`data.yaml`, `images/SPLIT` and `labels/SPLIT`; a picture without things has no file of labels."""
    write_images(folder / "images" / split, pictures)
    labels = folder / "labels" / split
    labels.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        lines = [yolo_line(picture, thing, list(names).index(thing.name)) for thing in picture.things]
        if lines:
            (labels / picture.name).with_suffix(".txt").write_text("\n".join(lines) + "\n")
    if yaml:
        listed = "".join(f"  {number}: {json.dumps(name)}\n" for number, name in enumerate(names))
        said = f"path: {folder}\n{split}: images/{split}\nnc: {len(names)}\nnames:\n{listed}"
        (folder / "data.yaml").write_text(said)


def voc_text(picture: Picture, *, first_pixel: int = 1, filename: str | None = None) -> str:
    """An XML file; corners are numbered pixels, the last one included, or edges where the first pixel is 0."""
    objects = ""
    for thing in picture.things:
        x1, y1, x2, y2 = thing.box
        corners = {"xmin": x1 + first_pixel, "ymin": y1 + first_pixel, "xmax": x2, "ymax": y2}
        box = "".join(f"<{name}>{value}</{name}>" for name, value in corners.items())
        objects += (
            f"<object><name>{escape(thing.name)}</name><difficult>{int(thing.crowd)}</difficult>"
            f"<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part><bndbox>{box}</bndbox></object>\n"
        )
    height, width = picture.size
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    name = picture.name if filename is None else filename
    return f"<annotation><filename>{escape(name)}</filename>{size}\n{objects}</annotation>\n"


def write_voc(folder: Path, pictures: Sequence[Picture], *, split: str = "val", first_pixel: int = 1) -> None:
    """`Annotations`, `JPEGImages` and `ImageSets/Main/SPLIT.txt`."""
    write_images(folder / "JPEGImages", pictures)
    for place in ("Annotations", "ImageSets/Main"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        file = (folder / "Annotations" / picture.name).with_suffix(".xml")
        file.write_text(voc_text(picture, first_pixel=first_pixel))
    stems = "".join(f"{Path(picture.name).stem}\n" for picture in pictures)
    (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(stems)
