"""Which weights fit, and in which order. Every rule is here, and each looks at stated facts only.

1. A limit that cannot be checked, because nobody states the fact, is not kept: such weights are out.
2. Accuracies are compared within one yardstick: the same metric on the same data set.
3. Weights whose accuracy or cost is unknown come after all whose are known.
4. With few images to learn from, broad pre-training comes first.
5. Weights that others beat in accuracy and in every cost come after those that nobody beats.
6. Then a score decides: accuracy less so many points for each doubling of the cost (`POINTS`).
7. Ties go to fewer parameters, then to the name.

A score depends on nothing but the weights' own facts, so that relaxing a limit can only improve the best one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import inf, log2, prod
from typing import NamedTuple

from zoo.catalog.licenses import CLASSES
from zoo.catalog.recommend_facts import Figure, Weights

POINTS = {"accuracy": (0.0, 0.0), "balanced": (0.75, 0.75), "memory": (0.0, 3.0), "speed": (3.0, 0.0)}
"""Constraint → percentage points of accuracy that a doubling of (multiply-accumulates, parameters) has to buy."""

Yardstick = tuple[str, str]
"""(metric, data set)."""


class Limits(NamedTuple):
    """What an answer must keep to; None asks nothing. `labels`: its classes have names."""

    max_params: int | None = None
    max_macs: int | None = None
    license: str | None = None
    installed: bool = False
    labels: bool = False


class Ranked(NamedTuple):
    """One candidate in its place.

    figure: its accuracy by the yardstick. score: None where a fact it needs is unknown. beaten_by: the ref of weights
    that are at least as accurate and cost no more, empty where there are none.
    """

    weights: Weights
    figure: Figure | None
    score: float | None
    beaten_by: str = ""


def yardstick_of(candidates: Iterable[Weights]) -> Yardstick | None:
    """The metric and data set that most candidates state first, as their publishers' main figure.

    Zero-shot figures are none: they measure an image tower together with a text tower, which these weights are not.
    """
    measured = ([f for f in one.figures if not f.name.startswith("zero_shot")] for one in candidates)
    counts = Counter((figures[0].name, figures[0].dataset) for figures in measured if figures)
    return min(counts, key=lambda stick: (-counts[stick], stick)) if counts else None


def figure_by(yardstick: Yardstick | None, weights: Weights) -> Figure | None:
    """The weights' figure by the yardstick: the one measured at their own input size, else the first."""
    fitting = [figure for figure in weights.figures if (figure.name, figure.dataset) == yardstick]
    return next((f for f in fitting if f.image_size == weights.image_size), fitting[0] if fitting else None)


def broken_limits(weights: Weights, limits: Limits) -> list[str]:
    """The names of the limits that the weights do not keep to."""
    license = None if limits.license is None else limits.license.casefold()
    broken = {
        "max_params": limits.max_params is not None and (weights.params is None or weights.params > limits.max_params),
        "max_macs": limits.max_macs is not None and (weights.macs is None or weights.macs > limits.max_macs),
        "license": license is not None and license not in (weights.license.casefold(), weights.license_class),
        "installed": limits.installed and weights.status != "installed",
        "labels": limits.labels and not weights.named_classes,
    }
    return [name for name, is_broken in broken.items() if is_broken]


def excess(weights: Weights, limits: Limits) -> float:
    """By how many doublings the counts exceed their limits; infinite where nobody has counted."""
    doublings = 0.0
    for limit, count in ((limits.max_params, weights.params), (limits.max_macs, weights.macs)):
        if limit is not None:
            doublings += inf if count is None else max(0.0, log2(max(count, 1) / max(limit, 1)))
    return doublings


def rank(candidates: Iterable[Weights], yardstick: Yardstick | None, constraint: str, few_images: bool) -> list[Ranked]:
    """The candidates in order, the best first, by the rules above."""
    scored = [_scored(one, figure_by(yardstick, one), constraint) for one in candidates]
    known = [one for one in scored if one.score is not None]
    if few_images:  # within each half, so that weights that come later anyway beat none that come before
        halves = [[one for one in known if one.weights.is_broad is broad] for broad in (True, False)]
        placed = _compared(halves[0], constraint) + _compared(halves[1], constraint)
    else:
        placed = _compared(known, constraint)
    placed.sort(key=lambda one: (few_images and not one.weights.is_broad, bool(one.beaten_by), *_order(one)))
    unknown = sorted((one for one in scored if one.score is None), key=lambda one: _unknown_order(one, constraint))
    return placed + unknown


def one_a_family(ranked: Iterable[Ranked]) -> list[Ranked]:
    """The best of each family, in order."""
    best: dict[str, Ranked] = {}
    for one in ranked:
        best.setdefault(family_of(one.weights), one)
    return list(best.values())


def family_of(weights: Weights) -> str:
    """`VisionTransformer` and timm's `vision_transformer` are one family."""
    return "".join(letter for letter in weights.family.casefold() if letter.isalnum())


def is_of_larger_images(figure: Figure, weights: Weights) -> bool:
    """Whether the accuracy was measured on larger images than the computation was counted for: it cost more."""
    return figure.image_size is not None and prod(figure.image_size) > prod(weights.image_size)


def _scored(weights: Weights, figure: Figure | None, constraint: str) -> Ranked:
    if figure is None or (POINTS[constraint][0] and is_of_larger_images(figure, weights)):
        return Ranked(weights, figure, None)
    score = figure.value
    for points, cost in zip(POINTS[constraint], (weights.macs, weights.params), strict=True):
        if points and not cost:
            return Ranked(weights, figure, None)
        score -= points * log2(cost) if points and cost else 0.0
    return Ranked(weights, figure, score)


def _compared(known: list[Ranked], constraint: str) -> list[Ranked]:
    """The same, each with who beats it. Nobody beats by equality. `accuracy` knows no cost, so it compares nothing."""
    weighs = [bool(points) for points in POINTS[constraint]]
    if not any(weighs):
        return known

    def costs(one: Ranked) -> list[int]:
        counts = (one.weights.macs, one.weights.params)
        return [count or 0 for count, counted in zip(counts, weighs, strict=True) if counted]

    def accuracy(one: Ranked) -> float:
        return one.figure.value if one.figure else -inf

    unbeaten: list[Ranked] = []
    compared: list[Ranked] = []
    # By falling accuracy and rising cost: whoever beats one stands before it, and so do those nobody beats.
    for one in sorted(known, key=lambda r: (-accuracy(r), costs(r), r.weights.ref)):
        own = costs(one)
        by = next(
            (
                other.weights.ref
                for other in unbeaten
                if all(c <= o for c, o in zip(costs(other), own, strict=True))
                and (accuracy(other) > accuracy(one) or costs(other) != own)
            ),
            "",
        )
        compared.append(one._replace(beaten_by=by))
        if not by:
            unbeaten.append(one)
    return compared


def _order(one: Ranked) -> tuple[float, float, str]:
    params = inf if one.weights.params is None else one.weights.params
    return -(one.score or 0.0), params, one.weights.ref


def _unknown_order(one: Ranked, constraint: str) -> tuple[bool, float, bool, bool, int, float, str]:
    """A stated accuracy first, then broad pre-training (unlabelled before the rest), freer licences, lower costs."""
    weights = one.weights
    cost = weights.macs if POINTS[constraint][0] else weights.params
    return (
        one.figure is None,
        -one.figure.value if one.figure else 0.0,
        not weights.is_broad,
        not weights.is_self_supervised,
        CLASSES.index(weights.license_class),
        inf if cost is None else cost,
        weights.ref,
    )
