"""How well a model's frozen embeddings separate the classes of somebody's own images.

image files -> embeddings (N, D), kept -> linear probe, k nearest neighbours -> accuracy on images held back

A figure alone means little, so each comes with two others: the same method on small grey thumbnails of the images, and
what always naming the most frequent class would give.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

import numpy as np

import zoo
from zoo import Backbone, Classifier, OptionError, UnsupportedError
from zoo_explain.embeddings import Vectors, embeddings, thumbnails
from zoo_explain.probe_images import Labelled, LabelledImages, checked, labelled_images
from zoo_explain.probe_methods import METHOD, METHODS, Accuracy, Answers, accuracy, sign_test

Progress = Callable[[str, int, int], None]
"""Told what is going on, how many are done, and of how many."""


@dataclass(frozen=True)
class MethodResult:
    """One way of reading the classes off the embeddings.

    accuracy: on the images held back. per_class: of each class's. raw_pixels: the same method on thumbnails.
    settings: what it worked with, `C` or `k`. chance: how likely it would differ so much from raw pixels by chance.
    """

    method: str
    accuracy: Accuracy
    per_class: dict[str, Accuracy]
    raw_pixels: Accuracy
    settings: dict[str, float]
    chance: float

    @property
    def verdict(self) -> str:
        """How it compares with raw pixels on the same images: better or worse only where chance is below 5 %."""
        if self.chance >= 0.05:
            return "not to be told from raw pixels"
        better = self.accuracy.correct > self.raw_pixels.correct
        return "better than raw pixels" if better else "worse than raw pixels"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "method": self.method,
            **self.accuracy.to_dict(),
            "per_class": {name: one.to_dict() for name, one in self.per_class.items()},
            "raw_pixels": self.raw_pixels.to_dict(),
            "chance": self.chance,
            "verdict": self.verdict,
            "settings": self.settings,
        }


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """What a probe found.

    model: whose embeddings, and data: of which images. train, test: images learnt from and asked about. width: of an
    embedding. majority: always naming the most frequent class. computed: embeddings made now, the others were kept.
    skipped: (path, why) of files not used. seed: of split, limit and folds.
    """

    model: str
    data: str
    classes: tuple[str, ...]
    train: int
    test: int
    width: int
    methods: tuple[MethodResult, ...]
    majority: Accuracy
    computed: int
    skipped: tuple[tuple[str, str], ...]
    seed: int

    def __getitem__(self, method: str) -> MethodResult:
        return next(one for one in self.methods if one.method == method)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "model": self.model,
            "data": self.data,
            "classes": list(self.classes),
            "train": self.train,
            "test": self.test,
            "width": self.width,
            "methods": [one.to_dict() for one in self.methods],
            "majority": self.majority.to_dict(),
            "computed": self.computed,
            "skipped": [list(pair) for pair in self.skipped],
            "seed": self.seed,
        }

    def __str__(self) -> str:
        lines = [
            f"{self.model}: {len(self.classes)} classes, {self.train} images to learn from, {self.test} asked about"
        ]
        for one in self.methods:
            settings = ", ".join(f"{name}={value:g}" for name, value in one.settings.items())
            lines.append(f"  {one.method:<10} {one.accuracy}  {one.verdict}: {str(one.raw_pixels).strip()}; {settings}")
        lines.append(f"  {'majority':<10} {self.majority}")
        return "\n".join(lines)


def probe(
    model: Classifier | Backbone | str,
    data: str | PathLike[str],
    *,
    method: str = "both",
    k: int | None = None,
    split: float = 0.8,
    seed: int = 0,
    limit: int | None = None,
    batch_size: int = 16,
    progress: Progress = lambda what, done, total: None,
) -> ProbeResult:
    """Measure how well frozen embeddings separate the classes of labelled images.

    Args:
        model: one that embeds, or a reference, whose published weights are taken.
        data: a folder with a folder for each class; or with `train` and `test` (or `val`) folders of such.
        method: `linear`, `knn` or `both`. k: neighbours that vote; None: 20, or as many images as the smallest
            class has to learn from.
        split: the share of each class to learn from, where the folders do not say. seed: of every choice by chance.
        limit: the most images of a class. batch_size: images a forward pass.

    Raises:
        InputError: images that make no probe: one class, an empty class folder, none to ask about.
        OptionError: a method that does not exist, more neighbours than images, a share outside (0, 1).
        UnsupportedError: the model has no embeddings.
    """
    methods = _checked_options(method, k, split, limit, batch_size)
    images = labelled_images(os.fspath(data), split=split, seed=seed, limit=limit)
    _check_neighbours(methods, k, len(images.train))
    made = zoo.create(model, pretrained=True) if isinstance(model, str) else model
    if not isinstance(made, Classifier | Backbone):
        raise UnsupportedError(f"a {type(made).__name__} has no embeddings", fix="zoo list --task classification")
    files = [(image.path, image.digest) for image in (*images.train, *images.test)]
    total = len(files)
    raw, unusable = thumbnails(files, lambda done: progress("reading", done, total))
    files = [pair for pair in files if pair[0] not in unusable]
    vectors, later, computed = embeddings(
        made, files, batch_size=batch_size, advance=lambda done: progress("embedding", done, len(files))
    )
    images = _without(images, unusable | later)
    _check_neighbours(methods, k, len(images.train))
    # More neighbours than a class has images would let the other classes outvote it.
    neighbours = k or min(20, int(np.bincount(_labels(images.train)).min()))
    results = []
    for number, name in enumerate(methods):
        progress(f"probing ({name})", number, len(methods))
        results.append(_result(name, images, vectors, raw, neighbours, seed))
    train, test = _labels(images.train), _labels(images.test)
    return ProbeResult(
        model=made.provenance.ref if made.provenance else type(made).__name__,
        data=os.fspath(data),
        classes=images.classes,
        train=len(train),
        test=len(test),
        width=len(next(iter(vectors.values()))),
        methods=tuple(results),
        majority=accuracy(np.full(len(test), np.bincount(train).argmax()), test),
        computed=computed,
        skipped=images.skipped,
        seed=seed,
    )


def _result(name: str, images: LabelledImages, vectors: Vectors, raw: Vectors, k: int, seed: int) -> MethodResult:
    train, test = _labels(images.train), _labels(images.test)

    def answers(of: Vectors) -> Answers:
        return METHOD[name](_stacked(images.train, of), train, _stacked(images.test, of), k=k, seed=seed)

    found, plain = answers(vectors), answers(raw)
    per_class = {
        label: accuracy(found.labels[test == number], test[test == number])
        for number, label in enumerate(images.classes)
    }
    return MethodResult(
        method=name,
        accuracy=accuracy(found.labels, test),
        per_class=per_class,
        raw_pixels=accuracy(plain.labels, test),
        settings=dict(found.settings),
        chance=sign_test(found.labels == test, plain.labels == test),
    )


def _labels(images: tuple[Labelled, ...]) -> np.ndarray:
    return np.array([image.label for image in images])


def _stacked(images: tuple[Labelled, ...], vectors: Vectors) -> np.ndarray:
    """(N, D), float64: the sums of a fit are long."""
    return np.stack([vectors[image.digest] for image in images]).astype(np.float64)


def _without(images: LabelledImages, unusable: dict[str, str]) -> LabelledImages:
    """The images that could be read; the others are added to the skipped."""
    if not unusable:
        return images
    train, test = (tuple(i for i in part if i.path not in unusable) for part in (images.train, images.test))
    return checked(replace(images, train=train, test=test, skipped=(*images.skipped, *unusable.items())))


def _checked_options(method: str, k: int | None, split: float, limit: int | None, batch_size: int) -> tuple[str, ...]:
    """The methods to use. Raises `OptionError`."""
    if method not in (*METHODS, "both"):
        raise OptionError(f"there is no probe {method!r}", found=", ".join((*METHODS, "both")), fix='method="both"')
    if not 0 < split < 1:
        raise OptionError("split is the share to learn from, between 0 and 1", asked=repr(split), fix="split=0.8")
    for name, value in (("k", k), ("limit", limit), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise OptionError(f"{name} is a whole number from 1", asked=repr(value))
    return METHODS if method == "both" else (method,)


def _check_neighbours(methods: tuple[str, ...], k: int | None, learnt: int) -> None:
    if "knn" in methods and k is not None and k > learnt:
        raise OptionError(
            f"{k} neighbours cannot be found among {learnt} images to learn from", asked=f"k={k}", fix=f"k={learnt}"
        )
