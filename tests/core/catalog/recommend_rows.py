"""Weights and answers of `zoo.recommend`, for tests."""

from __future__ import annotations

from typing import Any

from zoo.catalog.recommend import Recommendations, choose
from zoo.catalog.recommend_facts import Figure, Weights
from zoo.catalog.recommend_ranking import Limits
from zoo.catalog.recommend_words import Data

CONSTRAINTS = ("accuracy", "balanced", "memory", "speed")
POINTS = {"accuracy": (0, 0), "balanced": (0.75, 0.75), "memory": (0, 3), "speed": (3, 0)}  # (macs, params)
FEW = Data(500, "500 images")


def figure(value: float, name: str = "top1", dataset: str = "imagenet-1k/val", size: int | None = 224) -> Figure:
    return Figure(name, dataset, value, "%", None if size is None else (size, size))


def weights(ref: str, **facts: Any) -> Weights:
    """Weights whose every fact is known, but for those given otherwise."""
    usual = {
        "name": f"cnn/{ref}",
        "checkpoint": "a",
        "family": ref,
        "task": "classification",
        "status": "installed",
        "fix": "",
        "params": 10_000_000,
        "macs": 10**9,
        "image_size": (224, 224),
        "figures": (figure(80.0),),
        "license": "MIT",
        "license_class": "permissive",
        "gated": False,
        "trained_on": ("imagenet-1k",),
        "tags": (),
        "named_classes": True,
        "addresses": (f"hf://org/{ref}/model.safetensors",),
    }
    return Weights(ref=ref, **{**usual, **facts})


def answer(
    rows: list[Weights], constraint: str = "balanced", data: Data | None = None, count: int = 5, **limits: Any
) -> Recommendations:
    return choose(rows, {"task": "classification", "constraint": constraint, "limit": count}, Limits(**limits), data)


def refs(*arguments: Any, **limits: Any) -> list[str]:
    return [one.ref for one in answer(*arguments, **limits)]
