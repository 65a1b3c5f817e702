"""`zoo.recommend`: the models that suit a task, chosen by facts of the catalogue, each with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, overload

from zoo.catalog.catalog import open_catalog
from zoo.catalog.counts import parse_count
from zoo.catalog.licenses import CLASSES, is_known
from zoo.catalog.recommend_facts import Figure, Weights, without_twins
from zoo.catalog.recommend_ranking import (
    POINTS,
    Limits,
    Ranked,
    broken_limits,
    one_a_family,
    rank,
    yardstick_of,
)
from zoo.catalog.recommend_words import Data, nothing_fits, reason, shown_yardstick
from zoo.errors import OptionError

DATA = {"none": Data(0, "no images"), "small": Data(500, "few images"), "large": Data(100_000, "many images")}
"""What the words for an amount of labelled images stand for."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """One answer.

    ref: what `zoo.create(ref, pretrained=True)` takes. reason: why, in plain words. figure: its accuracy by the
    metric and data set the answers were compared by, None where nobody states it. weights: every fact it was chosen
    by. install: the command to run first, empty where its plugin is installed. beaten_by: another that fits, as
    accurate for no more cost; empty where there is none.
    """

    ref: str
    reason: str
    install: str
    figure: Figure | None
    weights: Weights
    beaten_by: str = ""

    def __str__(self) -> str:
        return f"{self.ref}: {self.reason}" + (f"; first: {self.install}" if self.install else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        facts = self.weights._asdict()
        facts["figures"] = [figure._asdict() for figure in self.weights.figures]
        return {
            "ref": self.ref,
            "reason": self.reason,
            "install": self.install,
            "figure": self.figure._asdict() if self.figure else None,
            "beaten_by": self.beaten_by,
            "facts": facts,
        }


@dataclass(frozen=True, kw_only=True)
class Recommendations(Sequence[Recommendation]):
    """The answers, the best first. Empty where nothing fits; `explanation` says then which limit was in the way.

    asked: what they answer. explanation: what was compared, and what the facts do not tell.
    """

    asked: dict[str, Any]
    answers: tuple[Recommendation, ...]
    explanation: str

    @overload
    def __getitem__(self, index: int) -> Recommendation: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Recommendation, ...]: ...
    def __getitem__(self, index: int | slice) -> Recommendation | tuple[Recommendation, ...]:
        return self.answers[index]

    def __len__(self) -> int:
        return len(self.answers)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.answers), self.explanation])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        answers = [answer.to_dict() for answer in self.answers]
        return {"asked": self.asked, "answers": answers, "explanation": self.explanation}


def recommend(
    task: str = "classification",
    constraint: str = "balanced",
    *,
    data: int | str | None = None,
    max_params: float | str | None = None,
    max_macs: float | str | None = None,
    license: str | None = None,
    installed: bool = False,
    limit: int = 5,
) -> Recommendations:
    """The published weights that suit best, at most one of each family, each with the reason in plain words.

    Chosen from stated facts alone, over what is installed and what could be; nothing is run and nothing is fetched.
    `docs/choosing_models.md` has the rules.

    Args:
        task: `classification`, `features` …
        constraint: what counts most. `accuracy`; `speed` (multiply-accumulates an image); `memory` (parameters);
            `balanced`.
        data: your labelled images, as a number or as `none`, `small`, `large`. Decides whether broad pre-training
            comes first and how to use the weights. None says nothing about it.
        max_params: `30e6` or `"30M"`. max_macs: multiply-accumulates an image, `5e9` or `"5G"`. Where nobody has
            counted, the limit is not kept.
        license: an SPDX id or a class (`permissive`, `copyleft` …), of the weights.
        installed: only what can be created now.
        limit: how many answers.

    Raises:
        OptionError: a task, constraint or other criterion that does not exist; says which there are.
    """
    amount = _amount(data)
    everything = open_catalog().weights()
    _check_word("task", task, {one.task for one in everything})
    _check_word("constraint", constraint, POINTS)
    if license is not None:
        _check_license(license, everything)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise OptionError("limit is a whole number from 1", asked=repr(limit), fix="limit=5")
    limits = Limits(
        max_params=_count("max_params", max_params),
        max_macs=_count("max_macs", max_macs),
        license=license,
        installed=_truth(installed),
        labels=amount is not None and amount.images == 0,
    )
    asked = {"task": task, "constraint": constraint, "data": data, **limits._asdict(), "limit": limit}
    del asked["labels"]
    return choose(everything, asked, limits, amount)


def choose(everything: Sequence[Weights], asked: dict[str, Any], limits: Limits, data: Data | None) -> Recommendations:
    """The answers among these weights, whatever their order. asked: `task`, `constraint` and `limit` at least."""
    task, constraint, count = asked["task"], asked["constraint"], asked["limit"]
    few = data is not None and data.is_little
    tasks = {task, "features"} if few and task == "classification" else {task}
    candidates = without_twins(one for one in everything if one.task in tasks)
    yardstick = yardstick_of(candidates)
    ranked = rank((one for one in candidates if not broken_limits(one, limits)), yardstick, constraint, few)
    if not ranked:
        explanation = nothing_fits(rank(candidates, yardstick, constraint, few), limits)
        return Recommendations(asked=asked, answers=(), explanation=explanation)
    chosen = one_a_family(ranked)[:count]
    if few:
        chosen = _with_a_place_for_features(chosen, ranked, count)
    return Recommendations(
        asked=asked,
        answers=tuple(
            Recommendation(
                ref=one.weights.ref,
                reason=reason(one, yardstick, constraint, data),
                install=one.weights.fix,
                figure=one.figure,
                weights=one.weights,
                beaten_by=one.beaten_by,
            )
            for one in chosen
        ),
        explanation=_explanation(ranked, yardstick and shown_yardstick(yardstick), limits.labels),
    )


def _with_a_place_for_features(chosen: list[Ranked], ranked: list[Ranked], count: int) -> list[Ranked]:
    """The chosen, the last place given to broad features without labels, of whatever family: they have no figure to be
    compared by, and still are what to try with few images."""
    beside = [one for one in ranked if one.weights.task == "features" and one.weights.is_broad and one.figure is None]
    if count < 2 or not beside or beside[0] in chosen:
        return chosen
    return chosen[: count - 1] + beside[:1]


def _explanation(ranked: list[Ranked], yardstick: str | None, no_data: bool) -> str:
    known = sum(one.score is not None for one in ranked)
    said = [
        f"{len(ranked)} sets of weights fit"
        + (f"; {known} of them can be compared, by {yardstick}" if yardstick and known else "; none can be compared")
    ]
    if known < len(ranked):
        said.append("what is unknown stands last")
    if no_data:
        said.append(
            "without labelled images only classes that the weights already name can be told apart; naming any class by "
            "its description (zero-shot) is not available yet"
        )
    return ". ".join(part[0].upper() + part[1:] for part in said) + "."


def _amount(data: int | str | None) -> Data | None:
    if data is None:
        return None
    if isinstance(data, str) and data in DATA:
        return DATA[data]
    try:
        images = -1 if isinstance(data, bool) or int(data) != float(data) else int(data)
    except (TypeError, ValueError, OverflowError):
        images = -1
    if images < 0:
        raise OptionError(
            "data is a number of labelled images, or none, small, large", asked=repr(data)[:80], fix="data=500"
        )
    return Data(images, f"{images} image{'s' * (images != 1)}")


def _truth(installed: bool) -> bool:
    if not isinstance(installed, bool):
        raise OptionError("installed is True or False", asked=repr(installed)[:80], fix="installed=True")
    return installed


def _count(name: str, value: float | str | None) -> int | None:
    try:
        return None if value is None else parse_count(value)
    except OptionError as error:
        fix = f'{name}="25M"'
        raise OptionError(f"{name} is a number, or a text such as 25M", asked=error.asked, fix=fix) from None


def _check_word(option: str, value: str, known: Sequence[str] | Any) -> None:
    choices = sorted(known)
    if value not in choices:
        near = get_close_matches(str(value), choices, n=1)
        raise OptionError(
            f"there is no {option} {value!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
            asked=f"{option}={value}",
            found=", ".join(choices),
            fix=f'{option}="{(near or choices or ["classification"])[0]}"',
        )


def _check_license(license: str, everything: Sequence[Weights]) -> None:
    known = {word.casefold() for one in everything for word in (one.license, one.license_class)}
    if isinstance(license, str) and (license.casefold() in known or license in CLASSES or is_known(license)):
        return
    _check_word("license", license, {*CLASSES, *(one.license for one in everything)})
