"""Scores as a person reads them: one table of averages, one of classes. Torch-free."""

from __future__ import annotations

from zoo.cli.terminal import clean, styled, table, wrapped
from zoo_detection.evaluation.scores import DetectionScores, KindScores, Score

_SIZES = ("small", "medium", "large")
_SHOWN = 12  # classes that the model does not know, named before `and more`


def print_scores(scores: DetectionScores) -> None:
    """Print what was evaluated, the averages of every kind, and each class."""
    provenance = scores.model.get("provenance") or {}
    print(styled(clean(str(provenance.get("ref") or scores.model["class"])), "bold"))
    data, split = scores.data, f", {scores.data['split']}" if scores.data["split"] else ""
    print(f"  {clean(data['folder'])} ({data['format']}{clean(split)}): {data['images']} images")
    matched = scores.classes
    known = f"{len(matched.evaluated)} of {len(matched.evaluated) + len(matched.not_known)}"
    print(f"  {known} classes evaluated, matched by {matched.how}")
    if matched.not_known:
        names = [category.name for category in matched.not_known]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        print(wrapped(f"the model does not know, and these were left out: {', '.join(names[:_SHOWN])}{more}", "  "))
    if scores.dropped:
        print(f"  {scores.dropped} detections of classes that the data does not have were left out")
    print()
    _print_averages(scores)
    for kind, one in scores.kinds.items():
        print()
        _print_classes(kind, one)


def _print_averages(scores: DetectionScores) -> None:
    kinds = scores.kinds
    rows = [("", *(kind.upper() for kind in kinds))]
    rows += [
        ("AP", *(_shown(one.ap) for one in kinds.values())),
        ("AP50", *(_shown(one.ap50) for one in kinds.values())),
        ("AP75", *(_shown(one.ap75) for one in kinds.values())),
        *(
            (f"AP {size}", *(_shown(one.numbers()[f"AP_{size}"]) for one in kinds.values()))
            for size in _SIZES
        ),
    ]  # fmt: skip
    for limit in sorted({limit for one in kinds.values() for limit in one.ar}):
        rows.append((f"AR at {limit}", *(_shown(one.ar[limit]) if limit in one.ar else "" for one in kinds.values())))
    for size in _SIZES:
        rows.append((f"AR {size}", *(_shown(one.numbers()[f"AR_{size}"]) for one in kinds.values())))
    rows.append(("objects", *(str(one.objects) for one in kinds.values())))
    rows.append(("ignored", *(str(one.ignored) for one in kinds.values())))
    rows.append(("detections", *(str(one.detections) for one in kinds.values())))
    table(rows, right=range(1, len(kinds) + 1), indent="  ", whole=True)


def _print_classes(kind: str, scores: KindScores) -> None:
    """The classes that there are objects of; of the others there is no score to show."""
    rows = [(f"CLASS ({kind})", "AP", "AP50", "AP75", "OBJECTS", "DETECTIONS")]
    absent = [one for one in scores.per_class.values() if not one.objects]
    for name, one in scores.per_class.items():
        if one.objects:
            counts = (str(one.objects), str(one.detections))
            rows.append((name, _shown(one.ap), _shown(one.ap50), _shown(one.ap75), *counts))
    table(rows, right=range(1, 6), indent="  ", whole=True)
    if absent:
        print(f"  and {len(absent)} without objects here, {sum(one.detections for one in absent)} detections of them")


def _shown(score: Score) -> str:
    return "-" if score is None else f"{score:.3f}"
