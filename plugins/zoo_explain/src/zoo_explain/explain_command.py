"""`zoo explain MODEL IMAGE`: where in a photo a model sees what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.cli.arguments import Arguments, Command, Option, UsageError
from zoo.cli.inputs import Source, expand
from zoo.cli.progress import Progress
from zoo.cli.saving import Destination
from zoo.cli.terminal import clean, show_warnings_plainly, styled
from zoo.errors import UnsupportedError
from zoo_explain.loading import OPTIONS, created

if TYPE_CHECKING:
    from zoo.models.model import Model
    from zoo_explain.heat import HeatMap

SUMMARY = "show where in a photo a model sees what it says"
METHODS = ("gradcam", "rollout", "attention", "features")
COMMAND = Command(
    "explain",
    operands=("MODEL", "IMAGE"),
    options=(
        Option("--method", f"one of {', '.join(METHODS)} (gradcam)", value="METHOD", short="-m"),
        Option("--layer", "gradcam, features: the layer's path, or the end of it; otherwise the last", value="PATH"),
        Option("--class", "gradcam: a class id or name; otherwise what the model says", value="CLASS"),
        Option("--layers", "attention: how many layers, from the last (4)", value="N"),
        Option("--save", "write the photo with its heat, or the figure", value="PATH"),
        Option("--json", "one JSON object for machines"),
        *OPTIONS,
    ),
    notes=(
        "gradcam: the cells of a layer that speak for a class, by its gradient. rollout: the patches that reach the "
        "answer of a vision transformer through all its layers. attention: what the last layers of one attend to. "
        "features: the strongest channels of a layer. The last two are figures, and need --save.",
    ),
    examples=(
        ("zoo explain mobilenetv2 cat.jpg --save seen.png", "the photo, warm where the cat is"),
        ('zoo explain mobilenetv2 cat.jpg --class "tiger cat"', "where it would be one"),
        ("zoo explain vit_b_16 cat.jpg --method rollout --save seen.png", "through all layers of a transformer"),
    ),
)


def run(arguments: Arguments) -> int:
    """Explain one photo."""
    ref, operand = arguments.operands
    method = arguments.text("method") or "gradcam"
    if method not in METHODS:
        raise UsageError(f"--method is one of {', '.join(METHODS)}", asked=method, fix="--method gradcam")
    if method in ("attention", "features") and arguments.text("save") is None:
        raise UsageError(f"--method {method} draws a figure, which has to go somewhere", fix="--save figure.png")
    layers = arguments.number("layers", 4)
    _check_belonging(arguments, method)
    source = _one(operand)
    path = Destination(arguments.text("save"), [source]).of(source)
    show_warnings_plainly()
    with Progress(f"loading {ref}") as progress:
        model = _whole_model(created(ref, arguments, progress), ref)
        progress.step("looking")
        facts, lines = _explained(model, source, arguments, method, layers, path)
    if model.provenance is not None:
        ref = model.provenance.ref
    if arguments.flag("json"):
        import json

        entry = {"source": source.shown, "model": ref}
        print(json.dumps(entry | facts | entry | ({"saved": path} if path else {}), indent=2, ensure_ascii=False))
        return 0
    print(styled(clean(source.shown), "bold"))
    for line in lines:
        print(f"  {clean(line)}")
    if path:
        print(styled(f"  saved as {clean(path)}", "dim"))
    return 0


def _check_belonging(arguments: Arguments, method: str) -> None:
    """An option that the method would not look at is a mistake."""
    for option, methods in {"layer": ("gradcam", "features"), "class": ("gradcam",), "layers": ("attention",)}.items():
        if arguments.text(option) is not None and method not in methods:
            raise UsageError(f"--{option} means nothing to --method {method}", fix=f"--method {methods[0]}")


def _one(operand: str) -> Source:
    sources, _ = expand([operand])
    if len(sources) != 1:
        raise UsageError(
            "zoo explain looks at one photo",
            found=f"{len(sources)} in {operand}",
            fix=f"one of them, {sources[0].shown}",
        )
    if sources[0].error is not None:
        raise sources[0].error
    return sources[0]


def _whole_model(made: Any, ref: str) -> Model:
    from zoo.models.model import Model

    if not isinstance(made, Model):
        raise UnsupportedError(f"{ref} is a {type(made).__name__}, which is no whole model", fix="zoo list")
    return made


def _explained(
    model: Model, source: Source, arguments: Arguments, method: str, layers: int, path: str | None
) -> tuple[dict[str, Any], list[str]]:
    """What was found, for machines and for people; the picture is written."""
    from zoo_explain.batches import batches
    from zoo_explain.figures import save_figure
    from zoo_explain.pictures import attention_figure, feature_figure, rollout_heat

    if method == "gradcam":
        from zoo_explain.gradcam import GradCAM

        heat = GradCAM(model, arguments.text("layer"))(source.image, _class(arguments.text("class")))
        return _shown(heat, path)
    images, (frame,) = next(batches(model, source.image))
    if method == "rollout":
        return _shown(rollout_heat(model, images, frame), path)
    if method == "attention":
        figure, facts = attention_figure(model, images, layers)
        lines = [f"{len(facts['layers'])} layers, the last of them {facts['layers'][-1]}"]
    else:
        figure, facts = feature_figure(model, images, arguments.text("layer"))
        lines = [f"{facts['layer']}: {facts['shape']}, strongest channels {facts['channels']}"]
    save_figure(figure, path)
    return {"method": method, **facts}, lines


def _shown(heat: HeatMap, path: str | None) -> tuple[dict[str, Any], list[str]]:
    from zoo_explain.heat import NOTHING

    if path is not None:
        heat.plot(path)
    lines = [] if heat.probability is None else [f"{heat.class_name}  {heat.probability:.1%}"]
    if heat.peak is None:
        lines.append(NOTHING)
    else:
        x, y = heat.peak
        lines.append(f"hottest at x {x}, y {y}" + (f"; hot within {box}" if (box := heat.hot_box()) else ""))
    if heat.layer:
        lines.append(f"{'given to' if heat.at_input else 'layer'} {heat.layer}")
    return heat.to_dict(), lines


def _class(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdecimal() else text
