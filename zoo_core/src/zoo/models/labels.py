"""Label spaces: what a model's classes are called, numbered 0..C-1, with their ids at the source. Torch-free."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib.util import find_spec
from typing import Any, Literal, get_args

from zoo.errors import LabelError, NotFoundError

Background = Literal["none", "first", "last"]
_BUNDLED = os.path.join(os.path.dirname(__file__), "label_spaces")
_LARGEST_FILE = 16 * 1024 * 1024
_MOST_SLOTS = 1_000_000
_SHOWN = 8
"""Names that an error lists."""


@dataclass(frozen=True, kw_only=True)
class LabelSpace:
    """The classes of a data set. Class ids are the places in `names`: contiguous, from 0, without background.

    name: of the space. names: of the classes, each once. source_ids: the ids of the data set's own files, in the same
    order (COCO's 1..90, ImageNet's WordNet ids); empty where they are the class ids. background: where a model's
    outputs have a further one that is no class: `none`, `first` (TensorFlow's 1001) or `last`. outputs: which of a
    model's outputs, a background aside, each class is, where `slots` of them are not all classes (detectors published
    for COCO's 90 numbers, of which 80 are used); empty where they are the class ids. keypoints, skeleton: the names of
    the points of an object, and the pairs of them that are joined.

    Raises:
        LabelError: no names, a name, a source id or an output twice, or counts that do not agree.
    """

    name: str
    names: tuple[str, ...] = field(repr=False)
    source_ids: tuple[str | int, ...] = field(default=(), repr=False)
    background: Background = "none"
    outputs: tuple[int, ...] = field(default=(), repr=False)
    slots: int = 0
    keypoints: tuple[str, ...] = field(default=(), repr=False)
    skeleton: tuple[tuple[int, int], ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        if not self.names or not all(isinstance(name, str) and name for name in self.names):
            raise LabelError(f"label space {self.name!r}: every class needs a name")
        if self.source_ids and len(self.source_ids) != len(self.names):
            raise LabelError(f"label space {self.name!r}: {len(self.source_ids)} source ids, {len(self.names)} names")
        if self.slots and not (
            self.outputs and 0 <= min(self.outputs) <= max(self.outputs) < self.slots <= _MOST_SLOTS
        ):
            raise LabelError(f"label space {self.name!r}: outputs are numbers from 0 to {self.slots - 1}, one a class")
        if self.outputs and not (self.slots and len(self.outputs) == len(self.names)):
            raise LabelError(f"label space {self.name!r}: outputs are a number below {self.slots} for each name")
        if any(not 0 <= point < len(self.keypoints) for pair in self.skeleton for point in pair):
            raise LabelError(f"label space {self.name!r}: its skeleton joins points that it does not name")
        for values in (self.names, self.source_ids, self.outputs, self.keypoints):
            if len(set(values)) != len(values):
                twice = next(v for i, v in enumerate(values) if v in values[:i])
                raise LabelError(f"label space {self.name!r}: {twice!r} stands for two classes")
        if self.background not in get_args(Background):
            raise LabelError(f"label space {self.name!r}: background {self.background!r} is not none, first or last")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def num_outputs(self) -> int:
        """How many outputs a model over these classes has: one a class or slot, and one for a background."""
        return (self.slots or len(self.names)) + (self.background != "none")

    @property
    def classes_of_outputs(self) -> slice | list[int]:
        """The part of a model's outputs that are classes, in order of class id."""
        if self.outputs:
            return [output + (self.background == "first") for output in self.outputs]
        return {"none": slice(None), "first": slice(1, None), "last": slice(None, -1)}[self.background]

    @cached_property
    def class_table(self) -> tuple[int, ...]:
        """The class id of each output, a background aside; -1 where an output is no class."""
        if not self.outputs:
            return tuple(range(len(self.names)))
        ids = {output: i for i, output in enumerate(self.outputs)}
        return tuple(ids.get(output, -1) for output in range(self.slots))

    def output_of(self, class_id: int) -> int:
        """Which of a model's outputs, a background aside, a class is. Raises `LabelError` outside 0..C-1."""
        self.name_of(class_id)
        return self.outputs[class_id] if self.outputs else class_id

    def check(self, num_outputs: int, where: str = "the model") -> None:
        """Raise `LabelError` unless a model with that many outputs speaks of these classes."""
        if num_outputs != self.num_outputs:
            background = "" if self.background == "none" else f" and a background ({self.background})"
            raise LabelError(
                f"{where} has {num_outputs} outputs, but label space {self.name!r} has {len(self)} classes{background}",
                fix=f"num_classes={self.num_outputs}, or a label space with {num_outputs} classes",
            )

    def name_of(self, class_id: int) -> str:
        """The name of a class id. Raises `LabelError` outside 0..C-1."""
        if not 0 <= class_id < len(self.names):
            raise LabelError(f"label space {self.name!r} has no class {class_id}", found=f"0 to {len(self) - 1}")
        return self.names[class_id]

    def id_of(self, name: str) -> int:
        """The class id of a name; case counts only between names that differ in nothing else.

        Raises:
            LabelError: no such class, with the nearest names, or the first.
        """
        folded = self._ids.get(name.casefold(), [])
        found = next((i for i in folded if self.names[i] == name), folded[0] if folded else None)
        if found is None:
            near = difflib.get_close_matches(name.casefold(), self._ids, n=3)
            hint = ", ".join(self.names[self._ids[n][0]] for n in near)
            first = ", ".join(self.names[:_SHOWN]) + (" …" if len(self) > _SHOWN else "")
            raise LabelError(
                f"label space {self.name!r} has no class {name!r}",
                asked=name,
                found=f"{len(self)} names: {first}",
                fix=hint or self.names[0],
            )
        return found

    def id_of_source(self, source_id: str | int) -> int:
        """The class id of a data set's own id (COCO's 90 → 79). Raises `LabelError` for an id it does not have."""
        found = self._source_ids.get(source_id)
        if found is None:
            raise LabelError(f"label space {self.name!r} has no source id {source_id!r}", asked=str(source_id))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        data: dict[str, Any] = {
            "name": self.name,
            "names": list(self.names),
            "source_ids": list(self.source_ids),
            "background": self.background,
        }
        if self.outputs:
            data |= {"outputs": list(self.outputs), "slots": self.slots}
        if self.keypoints:
            data |= {"keypoints": list(self.keypoints), "skeleton": [list(pair) for pair in self.skeleton]}
        return data

    @classmethod
    def from_dict(cls, data: Any, name: str = "") -> LabelSpace:
        """Inverse of `to_dict`. Raises `LabelError` for what is not a label space; `name` replaces the one inside."""
        if not isinstance(data, Mapping) or not isinstance(data.get("names"), list):
            raise LabelError(f"label space {name!r}: expected an object with a list `names`")
        source_ids = data.get("source_ids", [])
        if not isinstance(source_ids, list) or not all(isinstance(i, str | int) for i in source_ids):
            raise LabelError(f"label space {name!r}: `source_ids` is not a list of words or numbers")
        slots, skeleton = data.get("slots", 0), [tuple(pair) for pair in _listed(data, "skeleton", name, list)]
        numbers = [slots, *_listed(data, "outputs", name), *(point for pair in skeleton for point in pair)]
        if not all(type(number) is int for number in numbers) or not all(len(pair) == 2 for pair in skeleton):
            raise LabelError(f"label space {name!r}: `outputs`, `slots` and `skeleton` are whole numbers")
        return cls(
            name=name or str(data.get("name", "")),
            names=tuple(data["names"]),
            source_ids=tuple(source_ids),
            background=data.get("background", "none"),
            outputs=tuple(_listed(data, "outputs", name)),
            slots=slots,
            keypoints=tuple(_listed(data, "keypoints", name, str)),
            skeleton=tuple(skeleton),
        )

    @cached_property
    def _ids(self) -> Mapping[str, list[int]]:
        ids: dict[str, list[int]] = {}
        for i, name in enumerate(self.names):
            ids.setdefault(name.casefold(), []).append(i)
        return ids

    @cached_property
    def _source_ids(self) -> Mapping[str | int, int]:
        return {source: i for i, source in enumerate(self.source_ids or range(len(self.names)))}


@lru_cache(maxsize=64)
def label_space(name: str) -> LabelSpace:
    """A label space by name: `imagenet_1k`, bundled, or `package:path.json`, a file inside an installed package.

    The package is located, not imported.

    Raises:
        NotFoundError: no such space, package or file; with the nearest bundled name.
        LabelError: a file that is not a label space.
    """
    package, colon, path = name.rpartition(":")
    file = _file_in_package(name, package, path) if colon else os.path.join(_BUNDLED, f"{name}.json")
    if not colon and name not in bundled_label_spaces():
        near = difflib.get_close_matches(name, bundled_label_spaces(), n=1, cutoff=0.4)
        raise NotFoundError(
            f"no label space {name!r}",
            asked=name,
            found=", ".join(bundled_label_spaces()),
            fix=f"label_space({near[0]!r})" if near else 'label_space("package:path.json")',
        )
    return _read(file, name)


def bundled_label_spaces() -> list[str]:
    """The names of the label spaces that come with the core."""
    return sorted(entry[:-5] for entry in os.listdir(_BUNDLED) if entry.endswith(".json"))


def _listed(data: Mapping[str, Any], field: str, name: str, of: type = object) -> list[Any]:
    values = data.get(field, [])
    if not isinstance(values, list) or not all(isinstance(value, of) for value in values):
        raise LabelError(f"label space {name!r}: `{field}` is not such a list")
    return values


def _file_in_package(name: str, package: str, path: str) -> str:
    if not package.isidentifier() or not path.endswith(".json") or os.path.isabs(path) or ".." in path.split("/"):
        raise NotFoundError(f"{name!r} is not `package:path.json`", asked=name, fix='label_space("package:path.json")')
    spec = find_spec(package)  # of a top-level name: finds it without running any of it
    if spec is None or not spec.submodule_search_locations:
        raise NotFoundError(f"label space {name!r}: no package {package!r} is installed", asked=name)
    files = [os.path.join(folder, *path.split("/")) for folder in spec.submodule_search_locations]
    found = next((file for file in files if os.path.isfile(file)), None)
    if found is None:
        raise NotFoundError(f"label space {name!r}: package {package!r} has no file {path!r}", asked=name)
    return found


def _read(file: str, name: str) -> LabelSpace:
    if os.path.getsize(file) > _LARGEST_FILE:
        raise LabelError(f"label space {name!r}: its file is larger than {_LARGEST_FILE} bytes")
    try:
        with open(file, encoding="utf-8") as stream:
            data = json.load(stream)
    except (ValueError, RecursionError) as error:
        raise LabelError(f"label space {name!r}: not a JSON file: {error}") from None
    return LabelSpace.from_dict(data, name)
