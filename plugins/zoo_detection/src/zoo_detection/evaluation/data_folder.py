"""A folder of labelled images, whatever format it is in. Torch-free."""

from __future__ import annotations

import os
from typing import Literal, TypeAlias, get_args

from zoo.errors import InputError, OptionError
from zoo_detection.evaluation import coco_format, voc_format, yolo_format
from zoo_detection.evaluation.labelled_images import DetectionData

DataFormat: TypeAlias = Literal["coco", "yolo", "voc"]
FORMATS: tuple[DataFormat, ...] = get_args(DataFormat)
_BY_SUFFIX: dict[str, DataFormat] = {".json": "coco", ".yaml": "yolo", ".yml": "yolo"}
_LOOKED_FOR = {"coco": coco_format.LOOKED_FOR, "yolo": yolo_format.LOOKED_FOR, "voc": voc_format.LOOKED_FOR}


def read_data(
    data: str | os.PathLike[str],
    split: str | None = None,
    *,
    data_format: str | None = None,
    keypoints: bool = False,
    first_pixel: int | None = None,
) -> DetectionData:
    """Labelled images of a folder as it is.

    Args:
        data: a folder in COCO's, YOLO's or Pascal VOC's way; or the JSON file or data.yaml itself.
        split: which part of it. Without, the only one there is, the validation images, or the test images.
        data_format: `coco`, `yolo` or `voc`; told by what is in the folder without.
        keypoints: prefer COCO's `person_keypoints_…` to its `instances_…`.
        first_pixel: of VOC's coordinates, 1 or 0; told by the files without.

    Raises:
        InputError: none or several formats in the folder, no such split, missing images, damaged labels.
        OptionError: a format there is not.
    """
    path = os.path.expanduser(os.fspath(data))
    if data_format is not None and data_format not in FORMATS:
        raise OptionError("no such format of labelled images", asked=data_format, found=", ".join(FORMATS))
    kind = data_format or format_of(path)
    if kind == "coco":
        return coco_format.read_coco(path, split, keypoints=keypoints)
    if kind == "yolo":
        return yolo_format.read_yolo(path, split)
    return voc_format.read_voc(path, split, first_pixel=first_pixel)


def format_of(path: str) -> DataFormat:
    """Which format a folder or file is in. Raises `InputError` where there is none, or more than one."""
    if os.path.isfile(path):
        suffix = os.path.splitext(path)[1].lower()
        if suffix not in _BY_SUFFIX:
            raise InputError(f"{path}: a file of labels is COCO's *.json or YOLO's *.yaml", fix="its folder")
        return _BY_SUFFIX[suffix]
    if not os.path.isdir(path):
        raise InputError(f"{path}: there is no such folder of labelled images")
    found = _formats_in(path)
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(
            f"{path} has labels in more than one format",
            found=", ".join(found),
            fix=f"--data-format {found[0]}, in Python data_format={found[0]!r}",
        )
    with os.scandir(path) as entries:
        inside = sorted(entry.name for entry in entries)
        deeper = [name for name in inside if os.path.isdir(os.path.join(path, name))]
    better = [os.path.join(path, name) for name in deeper if _formats_in(os.path.join(path, name))]
    raise InputError(
        "\n".join([f"{path}: no labels of a known format", *(f"  {n}: no {_LOOKED_FOR[n]}" for n in FORMATS)]),
        found=", ".join(inside[:8]) or "an empty folder",
        fix=better[0] if better else "the data set's own folder; --data-format says what it is",
    )


def _formats_in(folder: str) -> list[DataFormat]:
    found: list[DataFormat] = []
    found += ["coco"] if coco_format.coco_files(folder) else []
    found += ["yolo"] if yolo_format.is_yolo(folder) else []
    found += ["voc"] if voc_format.voc_folders(folder) else []
    return found
