"""Pascal VOC's folders: an XML file an image. Torch-free.

    Annotations/*.xml  JPEGImages/*.jpg  ImageSets/Main/val.txt        as VOC comes
    valid/*.xml  valid/*.jpg                                           as Roboflow exports it
    *.xml  *.png                                                       as annotation tools write it

Everingham et al. 2010, doi:10.1007/s11263-009-0275-4. VOC numbers pixels from 1 and its boxes include the last one, so
that xmin 1, xmax W is all of a row: here x 0, width W. Many tools number from 0 and mean edges. A 0 among the lower
corners of a data set tells which it is; `first_pixel` says it where none does.
"""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from zoo.errors import InputError
from zoo_detection.evaluation.image_headers import is_image, upright_size
from zoo_detection.evaluation.labelled_images import AnnotatedImage, Annotation, Category, DetectionData
from zoo_detection.evaluation.splits import chosen_split

LOOKED_FOR = "Annotations/*.xml, *.xml beside the images, or SPLIT/*.xml"
_LARGEST_FILE = 16 * 1024 * 1024
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocObject:
    """An object as its file has it: corners as written there. difficult: VOC counts it in nothing."""

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool
    where: str


@dataclass(frozen=True)
class VocFile:
    """One XML file. size: (H, W) as written there, None where it says nothing."""

    path: str
    image: str
    size: tuple[int, int] | None
    objects: tuple[VocObject, ...]


def voc_folders(folder: str) -> dict[str, str]:
    """Split → folder with its XML files; the whole data set is the split ``."""
    here = {"": os.path.join(folder, "Annotations")}
    if _has_annotations(here[""]):
        return here
    if _has_annotations(folder):
        return {"": folder}
    with os.scandir(folder) as entries:
        inside = sorted(entry.name for entry in entries if entry.is_dir())
    return {name: os.path.join(folder, name) for name in inside if _has_annotations(os.path.join(folder, name))}


def read_voc(folder: str, split: str | None = None, *, first_pixel: int | None = None) -> DetectionData:
    """The images and objects of one split; difficult objects are crowds, which count neither way.

    Args:
        split: a list in `ImageSets/Main`, or a folder; `chosen_split` says which without.
        first_pixel: 1 where coordinates are VOC's, 0 where they are edges; told by the files without.

    Raises:
        InputError: no such split, missing images, or a damaged file, which is named with the object.
    """
    folders = voc_folders(folder)
    if not folders:
        raise InputError(f"{folder}: no Pascal VOC annotations in this folder", found=f"looked for {LOOKED_FOR}")
    part = "" if "" in folders else chosen_split(list(folders), split, folder)
    name, paths = _files(folder, folders[part], split) if part == "" else (part, _xml_files(folders[part]))
    files = [_read(path, folder) for path in paths]
    if first_pixel is None:
        first_pixel = 1 if all(min(o.corners[:2]) >= 1 for file in files for o in file.objects) else 0
    if first_pixel not in (0, 1):
        raise InputError("pixels are numbered from 1, as VOC does, or from 0", asked=str(first_pixel), fix="0 or 1")
    names = sorted({o.name for file in files for o in file.objects})
    ids = {class_name: number for number, class_name in enumerate(names, start=1)}
    images = [
        AnnotatedImage(number, file.image, file.size, tuple(_annotation(o, ids, first_pixel) for o in file.objects))
        for number, file in enumerate(files, start=1)
    ]
    said = "pixels are numbered from 1, as VOC does" if first_pixel else "coordinates count from 0"
    return DetectionData(
        format="voc",
        folder=folder,
        annotations=folders[part],
        split=name,
        categories=tuple(Category(number, class_name) for class_name, number in ids.items()),
        images=tuple(images),
        notes=(said,),
    )


def _has_annotations(folder: str) -> bool:
    return any("<annotation" in _beginning(path) for path in _xml_files(folder)[:5])


def _xml_files(folder: str) -> list[str]:
    return sorted(glob.glob(os.path.join(glob.escape(folder), "*.xml")))


def _beginning(path: str) -> str:
    with open(path, "rb") as stream:
        return stream.read(1000).decode(errors="replace")


def _files(folder: str, annotations: str, split: str | None) -> tuple[str, list[str]]:
    """The split's name, and its XML files. Lists of one class only (`dog_val.txt`) have a second column."""
    lists = sorted(glob.glob(os.path.join(glob.escape(folder), "ImageSets", "Main", "*.txt")))
    of_split = {os.path.splitext(os.path.basename(path))[0]: stems for path in lists if (stems := _stems(path))}
    if not of_split:
        if split is not None:
            raise InputError(
                f"{folder} is not divided into splits", asked=split, found="no ImageSets/Main/*.txt", fix="no --split"
            )
        return "", _xml_files(annotations)
    name = chosen_split(list(of_split), split, folder)
    paths = [os.path.join(annotations, f"{stem}.xml") for stem in of_split[name]]
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise InputError(
            f"ImageSets/Main/{name}.txt: {len(missing)} of {len(paths)} files are not there, the first is {missing[0]}"
        )
    return name, paths


def _stems(path: str) -> list[str]:
    """The names in a list; none in a list of one class, in which each is followed by 1, 0 or -1."""
    with open(path, encoding="utf-8", errors="replace") as stream:
        lines = [line.strip() for line in stream if line.strip()]
    of_one_class = all(len(line.split()) == 2 and line.split()[1] in ("1", "0", "-1") for line in lines)
    return [] if of_one_class else lines


def _read(path: str, folder: str) -> VocFile:
    root = _parsed(path)
    objects = tuple(_object(node, f"{path}: object {i}") for i, node in enumerate(root.findall("object"), start=1))
    image = _image_of(path, (root.findtext("filename") or "").strip(), folder)
    return VocFile(path, image, _size(root, path) or upright_size(image), objects)


def _parsed(path: str) -> Element:
    if os.path.getsize(path) > _LARGEST_FILE:
        raise InputError(f"{path}: larger than {_LARGEST_FILE} bytes, which no image's labels are")
    with open(path, "rb") as stream:
        text = stream.read()
    if b"<!ENTITY" in text or b"<!DOCTYPE" in text:
        raise InputError(f"{path}: it defines entities, which VOC's files do not", fix="leave <!DOCTYPE …> out")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: of its encoding
        raise InputError(f"{path}: not XML that can be read", found=str(error)) from None
    if root.tag != "annotation":
        raise InputError(f"{path}: a VOC file is an <annotation>", found=f"<{root.tag}>")
    return root


def _image_of(path: str, filename: str, folder: str) -> str:
    """The image by the name in the file; by the name of the file where that one is not there."""
    beside = os.path.dirname(path)
    places = (os.path.join(folder, "JPEGImages"), os.path.join(folder, "images"), beside)
    name = filename.replace("\\", "/").rsplit("/", 1)[-1]
    for place in places:
        if name and os.path.isfile(os.path.join(place, name)):
            return os.path.join(place, name)
    stem = os.path.splitext(os.path.basename(path))[0]
    found = [
        p for place in places for p in sorted(glob.glob(os.path.join(glob.escape(place), glob.escape(stem) + ".*")))
    ]
    images = [p for p in found if is_image(p)]
    if not images:
        raise InputError(
            f"{path}: its image is not there: {name or f'{stem}.*'}", found=f"looked in {', '.join(places)}"
        )
    return images[0]


def _size(root: Element, path: str) -> tuple[int, int] | None:
    """(H, W); some tools write 0 for what they did not know."""
    texts = [(root.findtext(f"size/{side}") or "0").strip() for side in ("height", "width")]
    try:
        height, width = (int(float(text)) for text in texts)
    except (ValueError, OverflowError):
        raise InputError(f"{path}: its size is not two numbers", found=", ".join(texts)) from None
    return (height, width) if height > 0 and width > 0 else None


def _object(node: Element, where: str) -> VocObject:
    name = (node.findtext("name") or "").strip()
    if not name:
        raise InputError(f"{where}: it has no name")
    where = f"{where} ({name})"
    texts = [(node.findtext(f"bndbox/{corner}") or "").strip() for corner in _CORNERS]
    try:
        left, top, right, bottom = (float(text) for text in texts)
    except ValueError:
        raise InputError(f"{where}: its box is not four numbers", found=", ".join(texts)) from None
    if not all(map(math.isfinite, (left, top, right, bottom))):
        raise InputError(f"{where}: its box has what is no finite number", found=", ".join(texts))
    difficult = (node.findtext("difficult") or "0").strip().casefold()
    if difficult not in ("0", "1", "true", "false"):
        raise InputError(f"{where}: <difficult> is 0 or 1", found=difficult)
    return VocObject(name, (left, top, right, bottom), difficult in ("1", "true"), where)


def _annotation(found: VocObject, ids: dict[str, int], first_pixel: int) -> Annotation:
    left, top, right, bottom = found.corners
    left, top = left - first_pixel, top - first_pixel
    width, height = right - left, bottom - top
    if width <= 0 or height <= 0:
        raise InputError(f"{found.where}: its box has no size", found=_said(found.corners))
    return Annotation(ids[found.name], (left, top, width, height), width * height, crowd=found.difficult)


def _said(corners: Sequence[float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in zip(_CORNERS, corners, strict=True))
