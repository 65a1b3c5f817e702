"""The data.yaml of a YOLO data set: where its images are, and what its classes are called. Torch-free."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.errors import InputError, MissingDependencyError

_PARTS = ("train", "val", "valid", "test")
_LARGEST_FILE = 1024 * 1024


@dataclass(frozen=True)
class DataYaml:
    """One file. splits: name → folders of images and lists of them. keypoints: how many, and numbers each."""

    path: str
    names: tuple[str, ...] | None
    splits: Mapping[str, tuple[str, ...]]
    keypoints: tuple[int, int] | None


def data_yamls(folder: str) -> list[str]:
    """The YAML files in a folder that describe a data set: they have `names`, or `nc`, and a split."""
    found = [path for end in ("yaml", "yml") for path in glob.glob(os.path.join(glob.escape(folder), f"*.{end}"))]
    return [path for path in sorted(found) if _describes_data(path)]


def read_data_yaml(path: str) -> DataYaml:
    """What a data.yaml says. Raises `InputError` for one that is damaged or names images that are not there."""
    content = _loaded(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: it says nothing about a data set", found=f"a {type(content).__name__}")
    splits = {
        name: tuple(_entry(path, content, name, value) for value in _many(content[name], path, name))
        for name in _PARTS
        if content.get(name)
    }
    if not splits:
        raise InputError(f"{path}: it names no images", found=", ".join(map(str, content)), fix="val: images/val")
    return DataYaml(path, _names(content, path), splits, _keypoints(content, path))


def _describes_data(path: str) -> bool:
    with open(path, "rb") as stream:
        text = stream.read(_LARGEST_FILE)
    starts = {line.split(b":")[0].strip() for line in text.splitlines() if b":" in line and line[:1].strip()}
    return bool(starts & {b"names", b"nc"}) and bool(starts & {name.encode() for name in _PARTS})


def _loaded(path: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise MissingDependencyError(
            "reading a data.yaml needs PyYAML", asked="import yaml", fix='pip install "zoo-detection[eval]"'
        ) from None
    if os.path.getsize(path) > _LARGEST_FILE:
        raise InputError(f"{path}: larger than {_LARGEST_FILE} bytes, which no data.yaml is")
    try:
        with open(path, encoding="utf-8") as stream:
            return yaml.safe_load(stream)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not YAML that can be read", found=str(error).replace("\n", " ")) from None


def _many(value: Any, path: str, name: str) -> Sequence[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise InputError(f"{path}: `{name}` is a path or a list of paths", found=f"a {type(value).__name__}")
    return values


def _entry(path: str, content: Mapping[str, Any], name: str, value: str) -> str:
    """A folder of images, or a list of them, where it is here.

    Beside what the file says, its own folder is tried without the `path` of the machine it was written on, and without
    the `../` with which Roboflow starts.
    """
    own, said = os.path.dirname(path) or os.curdir, content.get("path") or ""
    if not isinstance(said, str):
        raise InputError(f"{path}: `path` is a folder", found=f"a {type(said).__name__}")
    plain = value
    while plain.startswith("../"):
        plain = plain.removeprefix("../")
    tried = [os.path.normpath(os.path.join(own, *parts)) for parts in ((said, value), (value,), (plain,))]
    found = next((place for place in dict.fromkeys(tried) if os.path.exists(place)), None)
    if found is None:
        raise InputError(
            f"{path}: the images of `{name}` are not there: {value}",
            found=f"looked at {', '.join(dict.fromkeys(tried))}",
            fix="path: the folder of the data set, or no path where that is the folder of this file",
        )
    return found


def _names(content: Mapping[str, Any], path: str) -> tuple[str, ...] | None:
    """A list, or a mapping of every number from 0."""
    names = content.get("names")
    if names is None:
        return None
    if isinstance(names, Mapping):
        if set(names) != set(range(len(names))):
            raise InputError(f"{path}: `names` are numbered from 0 without a gap", found=", ".join(map(repr, names)))
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise InputError(f"{path}: `names` is no list of names", found=f"a {type(names).__name__}")
    strange = next((name for name in names if not isinstance(name, str | int | float)), None)
    if strange is not None:  # not shown: aliases of YAML can make it endlessly long
        raise InputError(f"{path}: a name is a word", found=f"a {type(strange).__name__}")
    count = content.get("nc")
    if count is not None and count != len(names):
        raise InputError(f"{path}: `nc` is {count} and there are {len(names)} `names`")
    return tuple(str(name) for name in names)


def _keypoints(content: Mapping[str, Any], path: str) -> tuple[int, int] | None:
    shape = content.get("kpt_shape")
    if shape is None:
        return None
    if not isinstance(shape, list) or len(shape) != 2 or not all(type(v) is int for v in shape):
        raise InputError(f"{path}: `kpt_shape` is the number of points, and of numbers each")
    if shape[0] < 1 or shape[1] not in (2, 3):
        raise InputError(f"{path}: a point has two or three numbers", found=repr(shape))
    return shape[0], shape[1]
