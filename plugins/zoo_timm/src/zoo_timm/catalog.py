"""The rows of `registry.json`, which `python -m zoo_timm.harvest` writes from timm, as the zoo's records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise
from typing import Any

from zoo.specs import IMAGENET_MEAN, IMAGENET_STD, CheckpointSpec, InputSpec, Metric, ModelSpec, PluginSpec
from zoo_timm.inputs import input_spec

STRUCTURE = False
"""Harvesting has measured the models; compiling the manifest builds none."""

# What timm leaves unsaid in a configuration.
_INPUT_DEFAULTS: Mapping[str, Any] = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "crop_pct": 0.875,
    "crop_mode": "center",
    "mean": IMAGENET_MEAN,
    "std": IMAGENET_STD,
}

# timm writes licences as the Hub does. What SPDX does not list keeps timm's name.
_SPDX = {
    "apache-2.0": "Apache-2.0",
    "bsd-3-clause": "BSD-3-Clause",
    "cc-by-4.0": "CC-BY-4.0",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "mit": "MIT",
}

# Numbers of classes whose outputs are ImageNet's labels in one of its editions. Other outputs of published files are
# coordinates of a space that images share with text.
_LABELLED = frozenset({1000, 11221, 11821, 19168, 21841, 21842, 21843, 115217})

# Words of a tag that name a data set, in its order: `fb_in22k_ft_in1k` is ImageNet-22k, then ImageNet-1k.
_DATA = {
    "datacompxl": "datacomp-xl",
    "dfn2b": "dfn-2b",
    "dfn5b": "dfn-5b",
    "ig1b": "instagram-1b",
    "in12k": "imagenet-12k",
    "in1k": "imagenet-1k",
    "in21k": "imagenet-21k",
    "in22k": "imagenet-22k",
    "jft": "jft-300m",
    "laion2b": "laion-2b",
    "laion400m": "laion-400m",
    "laiona": "laion-aesthetic",
    "lvd142m": "lvd-142m",
    "m38m": "merged-38m",
    "merged2b": "merged-2b",
    "sa1b": "sa-1b",
    "webli": "webli",
    "yfcc100m": "yfcc-100m",
}

_MEASURED_BY = "timm results-imagenet.csv"


def model(name: str, about: Mapping[str, Any], tags: Mapping[str, Mapping[str, Any]]) -> ModelSpec:
    """The record of one architecture with its checkpoints, the default first."""
    classes = about["classes"]
    config = (
        {"architecture": name}
        if about["maps_only"] or classes == 1000
        else {"architecture": name, "num_classes": classes}
    )
    return ModelSpec(
        name=name,
        factory="zoo_timm.adapter:TimmBackbone" if about["maps_only"] else "zoo_timm.adapter:TimmModel",
        kind="backbone" if about["maps_only"] else "model",
        task="classification" if classes in _LABELLED and not about["maps_only"] else "features",
        config=config,
        family=about["family"],
        tags=(_shape_of_maps(about["strides"]),),
        input=_input(about, about["input"]),
        formats=("native", "timm"),
        checkpoints=tuple(checkpoint(tag, facts, about) for tag, facts in tags.items()),
        channels=tuple(about["channels"]),
        strides=tuple(about["strides"]),
        params=about["params"],
        macs=about["macs"],
    )


def checkpoint(tag: str, facts: Mapping[str, Any], about: Mapping[str, Any]) -> CheckpointSpec:
    """The record of one set of published weights. Their digests are pinned on first use: timm does not publish any."""
    license = facts.get("license", "unknown")
    return CheckpointSpec(
        name=tag,
        sources=tuple(facts["sources"]),
        format="timm",
        license=_SPDX.get(license, license),
        labels="imagenet_1k" if facts["classes"] == 1000 and "in1k" in tag else None,
        num_classes=facts["classes"],
        input=_input(about, facts.get("input", {})),
        trained_on=tuple(_DATA[word] for word in tag.split("_") if word in _DATA),
        metrics=tuple(metric for row in facts.get("results", ()) for metric in _metrics(row)),
        paper=facts.get("paper", ""),
        notes=facts.get("notes", ""),
    )


def _input(about: Mapping[str, Any], cfg: Mapping[str, Any]) -> InputSpec:
    spec = input_spec({**_INPUT_DEFAULTS, **cfg})
    return replace(spec, fixed_size=about["fixed_size"], divisor=about["divisor"])


def _metrics(row: Sequence[Any]) -> tuple[Metric, Metric]:
    size, crop, interpolation, top1, top5 = row
    conditions = {"image_size": size, "crop_pct": crop, "interpolation": interpolation}
    return (
        Metric(name="top1", value=top1, dataset="imagenet-1k/val", conditions=conditions, source=_MEASURED_BY),
        Metric(name="top5", value=top5, dataset="imagenet-1k/val", conditions=conditions, source=_MEASURED_BY),
    )


def _shape_of_maps(strides: Sequence[int]) -> str:
    """How a neck finds the maps: `pyramid` doubles the stride from map to map, `single-stride` is one grid."""
    if len(strides) == 1:
        return "single-stride"
    doubled = all(coarse == 2 * fine for fine, coarse in pairwise(strides))
    return "pyramid" if doubled else "irregular"


def _plugin() -> PluginSpec:
    registry = json.loads(files("zoo_timm").joinpath("registry.json").read_text(encoding="utf-8"))
    return PluginSpec(
        namespace="timm",
        distribution="zoo-timm",
        summary=f"every architecture and checkpoint of timm {registry['timm']}",
        homepage="https://github.com/huggingface/pytorch-image-models",
        requires=("torch", "timm"),
        hooks=("read_weights",),
        models=tuple(model(name, row["about"], row["tags"]) for name, row in registry["architectures"].items()),
    )


PLUGIN = _plugin()

ARCHITECTURES: Mapping[str, ModelSpec] = {row.name: row for row in PLUGIN.models}
"""Every row by its name, for catalogues that publish timm's weights under names of their own."""
