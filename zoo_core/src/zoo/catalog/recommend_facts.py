"""What the catalogue knows about every set of published weights, one flat record each: what a choice is made from.

Nothing here is measured or guessed. A fact that no row states is None, and stays so.
"""

from __future__ import annotations

import json
import re
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from zoo.catalog.licenses import classify
from zoo.catalog.names import BARE, WHOLE
from zoo.specs import InputSpec

BROAD = {
    *("imagenet-12k", "imagenet-21k", "imagenet-21k-p", "imagenet-22k"),  # classes
    *("jft-300m", "jft-3b", "instagram-1b", "instagram-3.6b", "yfcc-100m"),  # noisy labels and tags
    *("datacomp-1b", "datacomp-xl", "dfn-2b", "dfn-5b", "laion-2b", "laion-400m", "laion-aesthetic"),  # captions
    *("merged-2b", "merged-38m", "metaclip-400m", "metaclip-2.5b", "openai-wit-400m", "webli", "wit-400m"),
    *("lvd-142m", "lvd-1689m"),  # neither
}
"""Data sets of ten million and more images of everything. (SA-1B is as large, but has no classes or captions; what is
learned from it are outlines.)"""

SELF_SUPERVISED = frozenset({"lvd-142m", "lvd-1689m"})
"""Those of them that were only ever used without labels and captions."""

_REVISION = re.compile(r"^(hf://[^/]+/[^/@]+)@[^/]+/")


class Figure(NamedTuple):
    """One published figure. image_size: (H, W) it was measured at, None where nobody says."""

    name: str
    dataset: str
    value: float
    unit: str
    image_size: tuple[int, int] | None


class Weights(NamedTuple):
    """One set of published weights with its model's facts; None (or empty) is unknown.

    ref: what `zoo.create` takes. name: with the namespace, `cnn/resnet50`. status: `installed` or `available`.
    fix: the command that installs it, empty where it is installed. image_size: (H, W) of its input. macs: of one
    image of that size. named_classes: whether its outputs are named. addresses: where the file is published, without
    revisions.
    """

    ref: str
    name: str
    checkpoint: str
    family: str
    task: str
    status: str
    fix: str
    params: int | None
    macs: int | None
    image_size: tuple[int, int]
    figures: tuple[Figure, ...]
    license: str
    license_class: str
    gated: bool
    trained_on: tuple[str, ...]
    tags: tuple[str, ...]
    named_classes: bool
    addresses: tuple[str, ...]

    @property
    def is_broad(self) -> bool:
        """Whether it was trained on one of `BROAD`."""
        return any(dataset.casefold() in BROAD for dataset in self.trained_on)

    @property
    def is_self_supervised(self) -> bool:
        """Whether no label had a part in it, as far as the catalogue says."""
        last = self.trained_on[-1:]
        return "self-supervised" in self.tags or any(dataset.casefold() in SELF_SUPERVISED for dataset in last)

    @property
    def is_curated(self) -> bool:
        """Whether it is one of those that have a short name."""
        return self.name.partition("/")[0] in BARE


def all_weights(connection: sqlite3.Connection) -> list[Weights]:
    """Every set of weights that can be used here, or could be once a plugin is installed; of no plugin set aside."""
    plugins = connection.execute(
        "SELECT plugins.id, namespace, status, fix, specs FROM plugins JOIN contents ON plugin = plugins.id"
        " WHERE status IN ('installed', 'available') ORDER BY plugins.id"
    ).fetchall()
    found: list[Weights] = []
    for plugin, namespace, status, fix, packed in plugins:
        rows = connection.execute(
            "SELECT ref, start, length FROM models CROSS JOIN details ON details.id = models.id"
            f" WHERE plugin = ? AND checkpoints > 0 AND kind IN {WHOLE}",
            [plugin],
        )
        try:
            specs = zlib.decompress(packed)
            for ref, start, length in rows:
                model = json.loads(specs[start : start + length])
                if namespace == "timm" and model["name"].startswith("test_"):
                    continue  # timm's own test fixtures: trained, but for 160 pixels and no purpose
                found += _of_model(model, ref, namespace, status, "" if status == "installed" else fix)
        except (zlib.error, ValueError, KeyError) as error:
            raise sqlite3.DatabaseError(f"damaged: {error}") from error  # the catalogue will be made anew
    return found


def without_twins(weights: Iterable[Weights]) -> list[Weights]:
    """The same file once: as what is installed, else under its curated name. It takes over what only a twin states."""
    kept: dict[str, Weights] = {}
    first: dict[str, str] = {}  # address -> the ref it was first seen under
    for one in sorted(weights, key=lambda w: (w.status != "installed", not w.is_curated, w.ref)):
        twin = next((first[address] for address in one.addresses if address in first), None)
        if twin is None:
            kept[one.ref] = one
        elif kept[twin].image_size == one.image_size:
            kept[twin] = _completed(kept[twin], one)
        for address in one.addresses:
            first.setdefault(address, twin or one.ref)
    return list(kept.values())


def _completed(one: Weights, twin: Weights) -> Weights:
    return one._replace(
        params=twin.params if one.params is None else one.params,
        macs=twin.macs if one.macs is None else one.macs,
        figures=one.figures or twin.figures,
        trained_on=one.trained_on or twin.trained_on,
    )


def _of_model(model: dict[str, Any], ref: str, namespace: str, status: str, fix: str) -> Iterator[Weights]:
    """A model's rows, read from plain JSON: fields at their default are not in it."""
    own_size = _size(model)
    for number, checkpoint in enumerate(model["checkpoints"]):
        size = _size(checkpoint)
        license = checkpoint.get("license") or "unknown"
        yield Weights(
            ref=ref if number == 0 else f"{ref}.{checkpoint['name']}",
            name=f"{namespace}/{model['name']}",
            checkpoint=checkpoint["name"],
            family=model.get("family") or model["name"],
            task=model.get("task", "classification"),
            status=status,
            fix=fix,
            params=model.get("params"),
            macs=model.get("macs") if size == own_size else None,  # counted at the model's own input size
            image_size=size,
            figures=tuple(_figure(metric) for metric in checkpoint.get("metrics", ())),
            license=license,
            license_class=classify(license),
            gated=checkpoint.get("gated", False),
            trained_on=tuple(checkpoint.get("trained_on", ())),
            tags=tuple(model.get("tags", ())),
            named_classes=bool(checkpoint.get("labels")),
            addresses=tuple(_REVISION.sub(r"\1/", source) for source in checkpoint["sources"]),
        )


def _size(row: dict[str, Any]) -> tuple[int, int]:
    height, width = row.get("input", {}).get("size", InputSpec.size)
    return height, width


def _figure(metric: dict[str, Any]) -> Figure:
    side = metric.get("conditions", {}).get("image_size")
    size = (side, side) if isinstance(side, int) else tuple(side) if isinstance(side, list) and len(side) == 2 else None
    return Figure(metric["name"], metric["dataset"], metric["value"], metric.get("unit", "%"), size)
