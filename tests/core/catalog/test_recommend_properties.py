"""What holds of a recommendation for any catalogue."""

from __future__ import annotations

from math import log2
from typing import Any

from hypothesis import given, settings, strategies as st
from recommend_rows import CONSTRAINTS, FEW, POINTS, answer, figure, weights

from zoo.catalog.recommend_facts import Weights, without_twins
from zoo.catalog.recommend_ranking import Limits
from zoo.catalog.recommend_words import Data

facts = st.fixed_dictionaries(
    {
        "family": st.sampled_from(["f", "g", "h"]),
        "task": st.sampled_from(["classification", "classification", "features"]),
        "status": st.sampled_from(["installed", "available"]),
        "params": st.none() | st.sampled_from([1, 2, 4, 7]),
        "macs": st.none() | st.sampled_from([1, 2, 4, 7]),
        "figures": st.lists(
            st.builds(figure, st.sampled_from([70.0, 73.0, 74.5, 76.0]), st.sampled_from(["top1", "top5"])), max_size=2
        ).map(tuple),
        "license": st.sampled_from(["MIT", "GPL-3.0"]),
        "trained_on": st.sampled_from([(), ("imagenet-1k",), ("imagenet-22k", "imagenet-1k"), ("lvd-142m",)]),
        "named_classes": st.booleans(),
        "address": st.integers(0, 9),
    }
)


@st.composite
def catalogues(draw: st.DrawFn) -> list[Weights]:
    rows = []
    for number, row in enumerate(draw(st.lists(facts, max_size=8))):
        address = f"hf://org/{row.pop('address')}/f"
        license_class = {"MIT": "permissive", "GPL-3.0": "copyleft"}[row["license"]]
        rows.append(weights(f"m{number}", **row, license_class=license_class, addresses=(address,)))
    return rows


limits = st.builds(
    Limits,
    max_params=st.none() | st.integers(0, 8),
    max_macs=st.none() | st.integers(0, 8),
    license=st.sampled_from([None, "MIT", "permissive", "copyleft"]),
    installed=st.booleans(),
    labels=st.booleans(),
)
amounts = st.sampled_from([None, FEW, Data(50_000, "50000 images")])
counts = st.integers(1, 4)


def keeps_to(one: Weights, asked: Limits) -> bool:
    """The limits as one would write them in Python."""
    return (
        (asked.max_params is None or (one.params is not None and one.params <= asked.max_params))
        and (asked.max_macs is None or (one.macs is not None and one.macs <= asked.max_macs))
        and (asked.license is None or asked.license in (one.license, one.license_class))
        and (not asked.installed or one.status == "installed")
        and (not asked.labels or one.named_classes)
    )


def score(one: Any, constraint: str) -> float | None:
    costs = (one.weights.macs, one.weights.params)
    if one.figure is None or any(p and c is None for p, c in zip(POINTS[constraint], costs, strict=True)):
        return None
    paid = (p * log2(c) for p, c in zip(POINTS[constraint], costs, strict=True) if p)
    return round(one.figure.value - sum(paid), 9)


@settings(max_examples=150, deadline=None)
@given(catalogues(), limits, st.sampled_from(CONSTRAINTS), amounts, counts, st.randoms())
def test_every_answer_keeps_to_the_limits_and_the_rows_order_decides_nothing(
    rows: list[Weights], asked: Limits, constraint: str, data: Data | None, count: int, random: Any
) -> None:
    found = answer(rows, constraint, data, count, **asked._asdict())
    assert len(found) <= count
    assert all(keeps_to(one.weights, asked) for one in found)
    if not found:
        of_the_task = without_twins(one for one in rows if one.task == "classification")
        assert data is FEW or not [one for one in of_the_task if keeps_to(one, asked)]
        assert "othing fits" in found.explanation
    shuffled = random.sample(rows, len(rows))
    assert answer(shuffled, constraint, data, count, **asked._asdict()) == found


@settings(max_examples=150, deadline=None)
@given(catalogues(), limits, st.sampled_from(Limits._fields), st.sampled_from(CONSTRAINTS), amounts)
def test_relaxing_a_limit_never_worsens_the_best_score(
    rows: list[Weights], asked: Limits, relaxed: str, constraint: str, data: Data | None
) -> None:
    def best(asked: Limits) -> tuple[bool, bool, float]:
        found = answer(rows, constraint, data, **asked._asdict())
        if not found or (value := score(found[0], constraint)) is None:
            return False, False, 0.0
        return True, data is not FEW or found[0].weights.is_broad, value

    assert best(asked._replace(**{relaxed: Limits._field_defaults[relaxed]})) >= best(asked)


@settings(max_examples=150, deadline=None)
@given(catalogues(), limits, st.sampled_from(CONSTRAINTS), amounts, counts)
def test_answers_are_of_different_families_the_known_first_and_none_beats_the_first(
    rows: list[Weights], asked: Limits, constraint: str, data: Data | None, count: int
) -> None:
    found = answer(rows, constraint, data, count, **asked._asdict())
    known = [score(one, constraint) is not None for one in found]
    assert known == sorted(known, reverse=True)
    ranked = found if data is not FEW else found[:-1]  # the last place may be kept for features
    assert len({one.weights.family for one in ranked}) == len(ranked)
    addresses = [address for one in found for address in one.weights.addresses]
    assert len(addresses) == len(set(addresses))
    if found and known[0] and data is not FEW and constraint != "accuracy":
        everything = answer(rows, constraint, data, 99, **asked._asdict())
        for other in (one for one in everything if score(one, constraint) is not None):
            costs = [
                (getattr(other.weights, cost), getattr(found[0].weights, cost))
                for cost, points in zip(("macs", "params"), POINTS[constraint], strict=True)
                if points
            ]
            no_worse = other.figure.value >= found[0].figure.value and all(a <= b for a, b in costs)
            better = other.figure.value > found[0].figure.value or any(a < b for a, b in costs)
            assert not (no_worse and better)
