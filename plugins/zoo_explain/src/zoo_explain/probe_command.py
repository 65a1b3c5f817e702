"""`zoo probe MODEL DATA`: what a model's embeddings know of your images."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo.cli.arguments import Arguments, Command, Option, UsageError
from zoo.cli.progress import Progress
from zoo.cli.terminal import clean, show_warnings_plainly, styled, table
from zoo.errors import UnsupportedError
from zoo_explain.loading import OPTIONS, created

if TYPE_CHECKING:
    from zoo.models.classifier import Classifier
    from zoo.models.model import Backbone
    from zoo_explain.probe_measurement import ProbeResult

SUMMARY = "how well a model's frozen embeddings separate the classes of your images"
METHODS = ("linear", "knn", "both")
COMMAND = Command(
    "probe",
    operands=("MODEL", "DATA"),
    options=(
        Option("--method", f"one of {', '.join(METHODS)} (the default)", value="METHOD", short="-m"),
        Option("--k", "neighbours that vote (20, or as many as the smallest class has)", value="N", short="-k"),
        Option("--split", "share of each class to learn from (0.8)", value="SHARE"),
        Option("--seed", "of every choice by chance (0)", value="N"),
        Option("--limit", "the most images of a class", value="N"),
        Option("--json", "one JSON object for machines"),
        Option("--image-size", "pixels along a side of the input; otherwise the weights' own", value="SIZE"),
        Option("--batch-size", "images at a time (16)", value="N", short="-b"),
        *OPTIONS,
    ),
    notes=(
        "DATA is a folder with a folder of images for each class; or with train and test (or val) folders of such.",
        "Beside each accuracy, with its 95 % interval, stands what the same method makes of grey thumbnails of 16 x 16 "
        "pixels. Embeddings are kept: a second run does not run the model.",
        "A file that cannot be used is named on stderr and left out.",
    ),
    examples=(
        ("zoo probe mobilenetv2 photos/", "a linear probe and nearest neighbours"),
        ("zoo probe dinov2_vits14 photos/ --method knn --k 5 --json", "for another program"),
    ),
)


def run(arguments: Arguments) -> int:
    """Measure, and print what was found."""
    ref, data = arguments.operands
    method = arguments.text("method") or "both"
    if method not in METHODS:
        raise UsageError(f"--method is one of {', '.join(METHODS)}", asked=method, fix="--method both")
    k = None if arguments.text("k") is None else arguments.number("k", 5)
    limit = None if arguments.text("limit") is None else arguments.number("limit", 100)
    image_size = None if arguments.text("image-size") is None else arguments.number("image-size", 224)
    batch_size = arguments.number("batch-size", 16)
    seed = arguments.number("seed", 0, least=0)
    split = _share(arguments.text("split"))
    show_warnings_plainly()
    with Progress(f"loading {ref}") as progress:
        _look(data, split, seed, limit)
        model = _embedding(created(ref, arguments, progress, image_size=image_size), ref)
        from zoo_explain.probe_measurement import probe

        result = probe(
            model,
            data,
            method=method,
            k=k,
            split=split,
            seed=seed,
            limit=limit,
            batch_size=batch_size,
            progress=_shown_on(progress),
        )
    for path, why in result.skipped:
        print(styled(f"skipped: {clean(path)}: {clean(why)}", "dim", sys.stderr), file=sys.stderr)
    if arguments.flag("json"):
        import json

        print(json.dumps(result.to_dict(), indent=2, ensure_ascii=False))
    else:
        _print(result)
    return 0


def _look(data: str, split: float, seed: int, limit: int | None) -> None:
    """What can be said against the images, before a model is fetched for them."""
    from zoo_explain.probe_images import labelled_images

    labelled_images(data, split=split, seed=seed, limit=limit)


def _embedding(made: Any, ref: str) -> Classifier | Backbone:
    from zoo.models.classifier import Classifier
    from zoo.models.model import Backbone

    if not isinstance(made, Classifier | Backbone):
        raise UnsupportedError(f"{ref} is a {type(made).__name__}, which has no embeddings", fix="zoo list")
    return made


def _shown_on(progress: Progress) -> Callable[[str, int, int], None]:
    said = ""

    def show(what: str, done: int, total: int) -> None:
        nonlocal said
        if what != said:
            progress.step(what, total=total, unit="images" if "probing" not in what else "methods")
            said = what
        progress.advance(done)

    return show


def _share(text: str | None) -> float:
    try:
        share = 0.8 if text is None else float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise UsageError("--split takes a share between 0 and 1", asked=text, fix="--split 0.8")
    return share


def _print(result: ProbeResult) -> None:
    print(styled(clean(result.model), "bold"))
    kept = result.train + result.test - result.computed
    print(
        f"  {len(result.classes)} classes, {result.train} images to learn from, {result.test} asked about; "
        f"{result.computed} embeddings of width {result.width} computed, {kept} kept from before\n"
    )
    rows = [("METHOD", "ACCURACY", "95 % INTERVAL", "RAW PIXELS", "")]
    for one in result.methods:
        (low, high), raw = one.accuracy.interval, one.raw_pixels
        settings = ", ".join(f"{name} {value:g}" for name, value in one.settings.items())
        interval = f"{low:.1%} to {high:.1%}"
        rows.append(
            (f"{one.method} ({settings})", f"{one.accuracy.value:.1%}", interval, f"{raw.value:.1%}", one.verdict)
        )
    rows.append(("always the most frequent class", f"{result.majority.value:.1%}", "", "", ""))
    table(rows, right=(1, 3), indent="  ", whole=True)
    print()
    heading = ("CLASS", "ASKED", *(one.method.upper() for one in result.methods))
    shown = [heading]
    for name in result.classes:
        each = [one.per_class[name] for one in result.methods]
        shown.append((name, str(each[0].total), *(f"{a.value:.1%}" if a.total else "-" for a in each)))
    table(shown, right=range(1, len(heading)), indent="  ")
