"""Labelled images as folders: a folder a class, split into images to learn from and images to ask about."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import file_digest

import numpy as np

from zoo.cli.inputs import SUFFIXES
from zoo.errors import InputError

LEARN, ASK = ("train", "training"), ("test", "testing", "val", "valid", "validation", "eval", "evaluation", "dev")
"""How the folders of a split are named, in any case."""


@dataclass(frozen=True)
class Labelled:
    """One image file. label: its class by number. digest: SHA-256 of its bytes, in hex."""

    path: str
    label: int
    digest: str


@dataclass(frozen=True)
class LabelledImages:
    """What a probe learns from and is asked about.

    classes: their names, which are the folders', in order. skipped: (path, why) of files that are not used.
    """

    classes: tuple[str, ...]
    train: tuple[Labelled, ...]
    test: tuple[Labelled, ...]
    skipped: tuple[tuple[str, str], ...] = ()


def labelled_images(folder: str, *, split: float, seed: int, limit: int | None = None) -> LabelledImages:
    """Find the images below a folder of class folders.

    Where the folder has `train` and one of `test`, `val`, `eval`, `dev` in it, these are the split, in any case;
    otherwise each class is split by chance. A file that is a copy of an earlier one is skipped: a copy in the other
    part would be known by heart.

    Args:
        split: the share of each class to learn from. seed: of the chance. limit: the most images of a class, chosen
            by chance, of each part.

    Raises:
        InputError: no such folder, half a split, fewer than two classes, or a class with too few images.
    """
    if not os.path.isdir(folder):
        raise InputError("there is no such folder of images", asked=folder, fix="a folder with a folder for each class")
    learn, ask = _part(folder, LEARN), _part(folder, ASK)
    _check_split(folder, learn, ask)
    random = np.random.default_rng(seed)
    skipped: list[tuple[str, str]] = []
    seen: dict[str, str] = {}
    files = _by_class(learn if learn and ask else folder)
    classes = tuple(files)
    _check_classes(folder, files)
    if learn and ask:
        asked = _by_class(ask)
        unknown = sorted(asked.keys() - files.keys())
        if unknown:
            raise InputError(f"{ask} has classes that {learn} has not", found=", ".join(unknown[:5]))
        train = _unique(_chosen(files, limit, random), classes, seen, skipped)
        test = _unique(_chosen(asked, limit, random), classes, seen, skipped)
    else:
        train, test = _split(_unique(_chosen(files, limit, random), classes, seen, skipped), split, random)
    return checked(LabelledImages(classes, tuple(train), tuple(test), tuple(skipped)))


def checked(images: LabelledImages) -> LabelledImages:
    """The images, if there is something to learn of every class, and something to ask. Raises `InputError`."""
    learnt = {image.label for image in images.train}
    missing = [name for label, name in enumerate(images.classes) if label not in learnt]
    if missing or not images.test:
        which = f"of class {missing[0]!r} to learn from" if missing else "to ask about"
        raise InputError(
            f"there are no images {which}",
            found=f"{len(images.train)} to learn from, {len(images.test)} to ask about, {len(images.skipped)} skipped"
            + (f", the first for: {images.skipped[0][1]}" if images.skipped else ""),
            fix="two different images of each class or more",
        )
    return images


def _part(folder: str, names: Iterable[str]) -> str | None:
    """The subfolder of one of these names, in any case, that holds class folders."""
    found = {name.casefold(): os.path.join(folder, name) for name in reversed(_folders(folder))}
    return next((found[name] for name in names if name in found and _folders(found[name])), None)


def _check_split(folder: str, learn: str | None, ask: str | None) -> None:
    """Half a split is not two classes. Raises `InputError`."""
    if (learn is None) == (ask is None):
        return
    has = learn or ask or folder
    missing = "test" if ask is None else "train"
    raise InputError(
        f"{has} looks like one part of a split, and the other part is not there or has no class folders",
        asked=folder,
        found=", ".join(_folders(folder)[:6]),
        fix=f"{os.path.join(folder, missing)} with the same class folders; or {has} itself, to be split by chance",
    )


def _folders(folder: str) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _by_class(folder: str) -> dict[str, list[str]]:
    """Class → its image files, however deep, in order."""
    return {name: _images(os.path.join(folder, name)) for name in _folders(folder)}


def _images(folder: str) -> list[str]:
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(place, n) for n in names if n.lower().endswith(SUFFIXES) and not n.startswith(".")]
    return sorted(found)


def _check_classes(folder: str, files: Mapping[str, list[str]]) -> None:
    empty = [name for name, paths in files.items() if not paths]
    if empty:
        raise InputError(f"the class folder {empty[0]!r} has no images", asked=folder, found=", ".join(SUFFIXES[:6]))
    if len(files) < 2:
        found = f"one class, {next(iter(files))!r}" if files else "no folders in it"
        raise InputError(
            "a probe tells classes apart, and needs two", asked=folder, found=found, fix="a folder for each class"
        )


def _chosen(
    files: Mapping[str, list[str]], limit: int | None, random: np.random.Generator
) -> Iterable[tuple[str, list[str]]]:
    for name, paths in files.items():
        if limit is None or len(paths) <= limit:
            yield name, paths
        else:
            yield name, [paths[i] for i in sorted(random.choice(len(paths), limit, replace=False))]


def _unique(
    files: Iterable[tuple[str, list[str]]],
    classes: tuple[str, ...],
    seen: dict[str, str],
    skipped: list[tuple[str, str]],
) -> list[Labelled]:
    """The images with their digests, without copies and without what cannot be opened."""
    images = []
    for name, paths in files:
        for path in paths:
            try:
                with open(path, "rb") as file:
                    digest = file_digest(file, "sha256").hexdigest()
            except OSError as error:
                skipped.append((path, error.strerror or str(error)))
                continue
            first = seen.setdefault(digest, path)
            if first == path:
                images.append(Labelled(path, classes.index(name), digest))
            else:
                skipped.append((path, f"a copy of {first}"))
    return images


def _split(images: list[Labelled], share: float, random: np.random.Generator) -> tuple[list[Labelled], list[Labelled]]:
    """Each class by itself, at least one image in each part where there are two."""
    train, test = [], []
    for label in sorted({image.label for image in images}):
        own = [image for image in images if image.label == label]
        order = random.permutation(len(own))
        count = min(max(round(share * len(own)), 1), max(len(own) - 1, 1))
        train += [own[i] for i in sorted(order[:count])]
        test += [own[i] for i in sorted(order[count:])]
    return train, test
