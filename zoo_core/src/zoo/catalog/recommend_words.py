"""The reasons of a recommendation in plain words, built of the facts it was made from."""

from __future__ import annotations

from typing import NamedTuple

from zoo.catalog.counts import shown_count
from zoo.catalog.recommend_facts import Figure, Weights
from zoo.catalog.recommend_ranking import Limits, Ranked, Yardstick, broken_limits, excess

FEW, MANY = 2_000, 20_000
"""Labelled images below which a frozen network is the safer start, and from which fine-tuning all of it is. Rules of
thumb, not results: `zoo probe` measures it on your images."""


class Data(NamedTuple):
    """An amount of labelled images. said: in words, `500 images`, `few images`."""

    images: int
    said: str

    @property
    def is_little(self) -> bool:
        """Whether there are some, but few."""
        return 0 < self.images < FEW


_METRICS = {
    "top1": "top-1",
    "top5": "top-5",
    "knn_top1": "nearest-neighbour top-1",
    "linear_top1": "linear-probe top-1",
    "zero_shot_top1": "zero-shot top-1",
}
_DATASETS = {"imagenet-1k/val": "ImageNet-1k"}


def reason(ranked: Ranked, yardstick: Yardstick | None, constraint: str, data: Data | None) -> str:
    """One sentence: the facts, then why it stands where it stands, then what to do with that much data."""
    weights = ranked.weights
    parts = [
        _shown_figure(ranked.figure) if ranked.figure else _no_figure(weights, yardstick),
        f"{shown_count(weights.params)} parameters" if weights.params else "parameters unknown",
        shown_macs(weights.macs) + _counted_at(weights, ranked.figure),
        _license(weights),
    ]
    if weights.trained_on:
        parts.append("trained on " + ", then ".join(weights.trained_on))
    elif data is not None:
        parts.append("training data unknown")
    said = [", ".join(parts), _place(ranked, constraint), use(data) if data else ""]
    return "; ".join(part for part in said if part)


def use(data: Data) -> str:
    """What to do with so many labelled images."""
    if data.images == 0:
        return "as it is: it names the classes it was trained on"
    if data.images < FEW:
        return f"for {data.said}: frozen embeddings and a linear probe"
    if data.images < MANY:
        return f"for {data.said}: a linear probe first, then fine-tuning at a small learning rate"
    return f"for {data.said}: fine-tuning all of it"


def shown_macs(macs: int | None) -> str:
    """`17.6 GMACs`"""
    if macs is None:
        return "computation unknown"
    if macs < 1e5:
        return f"{macs} MACs"
    return f"{macs / 1e9:.1f} GMACs" if macs >= 0.95e9 else f"{macs / 1e6:.3g} MMACs"


def shown_yardstick(yardstick: Yardstick) -> str:
    """`top-1 on ImageNet-1k`"""
    name, dataset = yardstick
    return f"{_METRICS.get(name, name)} on {_DATASETS.get(dataset, dataset)}"


def nothing_fits(ranked: list[Ranked], limits: Limits) -> str:
    """Which limit shut out the candidate that came nearest: it breaks the fewest, by the least; the better first."""
    if not ranked:
        return "Nothing fits: no model for this task has published weights."
    weights = [one.weights for one in ranked]
    nearest = min(weights, key=lambda one: (len(broken_limits(one, limits)), excess(one, limits)))
    broken = "; ".join(_broken(name, nearest, limits) for name in broken_limits(nearest, limits))
    return f"Nothing fits; nearest is {nearest.ref}, shut out by {broken}."


def _broken(name: str, weights: Weights, limits: Limits) -> str:
    """`max_params 30.0M: it has 86.6M`"""
    match name:
        case "max_params":
            has = "nobody has counted" if weights.params is None else f"it has {shown_count(weights.params)}"
            return f"max_params {shown_count(limits.max_params)}: {has}"
        case "max_macs":
            has = "nobody has counted" if weights.macs is None else f"it takes {shown_macs(weights.macs)}"
            return f"max_macs {shown_macs(limits.max_macs)}: {has}"
        case "license":
            return f"license {limits.license}: it has {weights.license} ({weights.license_class})"
        case "installed":
            return f"installed: it is not ({weights.fix})"
    return "data none: it names no classes by itself"


def _no_figure(weights: Weights, yardstick: Yardstick | None) -> str:
    """What is not known, and what is stated instead."""
    unknown = f"{shown_yardstick(yardstick)} unknown" if yardstick else "accuracy unknown"
    return unknown + (f" (stated: {_shown_figure(weights.figures[0])})" if weights.figures else "")


def _shown_figure(figure: Figure) -> str:
    """`85.1 % top-1 on ImageNet-1k at 224 px`"""
    value = f"{figure.value:.1f}" if figure.unit == "%" else f"{figure.value:g}"
    size = _at(figure.image_size) if figure.image_size else ""
    return f"{value} {figure.unit} {shown_yardstick((figure.name, figure.dataset))}{size}".replace("  ", " ")


def _counted_at(weights: Weights, figure: Figure | None) -> str:
    """The size the computation is of, where the accuracy is of another."""
    other = figure is not None and figure.image_size not in (None, weights.image_size)
    return _at(weights.image_size) if other and weights.macs is not None else ""


def _at(size: tuple[int, int]) -> str:
    height, width = size
    return f" at {height} px" if height == width else f" at {height} x {width} px"


def _license(weights: Weights) -> str:
    said = "licence unknown" if weights.license == "unknown" else weights.license
    if weights.license_class not in ("permissive", "unknown"):
        said += f" ({weights.license_class})"
    return said + (", to be accepted at the host" if weights.gated else "")


_LESS = {
    "speed": ("less computation", "no more computation"),
    "memory": ("fewer parameters", "no more parameters"),
    "balanced": ("less computation and fewer parameters", "no more of either"),
}


def _place(ranked: Ranked, constraint: str) -> str:
    if ranked.score is None:
        return "stands behind all whose accuracy and cost are known"
    if constraint not in _LESS:
        return ""
    less, no_more = _LESS[constraint]
    if ranked.beaten_by:
        return f"{ranked.beaten_by} is as accurate for {no_more}"
    return f"nothing that fits is as accurate for {less}"
