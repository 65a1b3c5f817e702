"""`zoo summary MODEL`: its layers, their shapes, and what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.cli.arguments import Arguments, Command, Option, UsageError
from zoo.cli.progress import Progress
from zoo.cli.terminal import show_warnings_plainly, styled, table

if TYPE_CHECKING:
    from zoo_explain.summary import Summary

SUMMARY = "layers, shapes, parameters, multiply-accumulates and memory of a model"
COMMAND = Command(
    "summary",
    operands=("MODEL",),
    options=(
        Option("--depth", "how deep to look into the model (3)", value="N", short="-d"),
        Option("--image-size", "pixels, one side or HEIGHTxWIDTH; otherwise the model's own", value="SIZE"),
        Option("--features-only", "of the backbone that gives its feature maps"),
        Option("--json", "one JSON object for machines, with every layer"),
    ),
    notes=(
        "Nothing is computed and no weights are fetched: the largest model takes as long as a small one.",
        "MACS are multiply-accumulates of one image, which papers call FLOPs; ACTIVATIONS are all tensors that layers "
        "give, in float32.",
    ),
    examples=(
        ("zoo summary resnet50", "its stages and blocks"),
        ("zoo summary resnet50 --depth 2 --image-size 384x512", "the stages, for larger images"),
    ),
)


def run(arguments: Arguments) -> int:
    """Print one model's summary."""
    (ref,) = arguments.operands
    depth = arguments.number("depth", 3)
    size = _size(arguments.text("image-size"))
    show_warnings_plainly()
    with Progress(f"looking into {ref}"):
        summary = _summary(ref, size, features_only=arguments.flag("features-only"))
    if arguments.flag("json"):
        import json

        print(json.dumps({"model": ref} | summary.to_dict(), indent=2))
        return 0
    _print(summary, depth)
    return 0


def _print(summary: Summary, depth: int) -> None:
    from zoo_explain.summary import HEADING

    print(styled(summary.name, "bold") + "\n")
    table([HEADING, *(row.cells() for row in summary.down_to(depth))], right=(3, 4, 5), whole=True)
    print()
    table([*summary.totals()], heading=False)


def _summary(ref: str, size: tuple[int, int] | None, *, features_only: bool) -> Summary:
    import zoo
    from zoo_explain.summary import summarize

    model = zoo.create(ref, img_size=size, features_only=features_only, device="meta")
    return summarize(model, image_size=size)


def _size(text: str | None) -> tuple[int, int] | None:
    """`224` or `224x320` → (height, width). Raises `UsageError`."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise UsageError("--image-size is a number of pixels, or two", asked=text, fix="--image-size 224x320")
    return int(sides[0]), int(sides[-1])
