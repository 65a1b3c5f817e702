"""`zoo info MODEL`: everything known about one model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zoo.catalog import open_catalog
from zoo.catalog.counts import shown_count
from zoo.catalog.names import short_ref
from zoo.cli.arguments import Arguments, Command, Option
from zoo.cli.terminal import clean, fitted, styled, table, wrapped
from zoo.specs import CheckpointSpec, InputSpec, Metric, ModelSpec

if TYPE_CHECKING:
    from zoo.catalog import ModelInfo

COMMAND = Command(
    "info",
    operands=("MODEL",),
    options=(Option("--json", "one JSON object for machines"),),
    examples=(
        ("zoo info resnet50", "its size, input, options and checkpoints"),
        ("zoo info resnet50.a1_in1k", "one set of weights: source, digest, licence, accuracy"),
    ),
)

LONGEST_DEFAULT = 32
"""Columns of an option's default: some are long lists, and the meaning beside it is to stay on the screen."""

_PREDICTED = ("classification", "detection", "instance_segmentation", "keypoints")
"""Tasks whose models `zoo predict` takes."""


def run(arguments: Arguments) -> int:
    """Print one model's record."""
    info = open_catalog().info(arguments.operands[0])
    if arguments.flag("json"):
        import json

        print(json.dumps(info.to_dict(), indent=2, ensure_ascii=False))
        return 0
    print(styled(info.ref, "bold"))
    if info.model.summary:
        print(wrapped(info.model.summary))
    print()
    table([*_facts(info)], heading=False, indent="  ", whole=True)
    if len(info.model.checkpoints) > 1:
        _print_checkpoints(info.model)
    if info.checkpoint is not None:
        _print_checkpoint(info.checkpoint, info.complete)
    if info.complete:
        _print_options(info)
    if info.status == "installed":
        _print_use(info)
    else:
        print(f"\n{styled('not to be created here:', 'yellow')} {clean(info.reason or 'its plugin is not installed')}")
        print(f"  {styled('try:', 'green')} {clean(info.fix)}")
    return 0


def _facts(info: ModelInfo) -> Iterator[tuple[str, str]]:
    model, plugin = info.model, info.plugin
    part = model.kind in ("neck", "head")
    if part:
        yield "kind", f"{model.kind}, a part of a model"
    if model.kind != "neck":
        yield "task", model.task + (", but here features; these weights have no classes" if _is_headless(info) else "")
    if model.family:
        yield "family", model.family
    if model.params is not None:
        yield "parameters", f"{shown_count(model.params)}  ({model.params:,}){_counted_with(info)}"
    if model.macs is not None:
        yield "computation", f"{shown_count(model.macs)} multiply-accumulates an image"
    if info.complete and not part:
        yield "input", shown_input(info.checkpoint.input if info.checkpoint else model.input)
    if model.channels:
        maps = ", ".join(f"{c} at 1/{s}" for c, s in zip(model.channels, model.strides, strict=True))
        yield "feature maps", maps
    if model.aliases:
        yield "also called", ", ".join(model.aliases)
    yield "status", info.status
    yield "plugin", f"{plugin.distribution} {plugin.version}".rstrip()
    yield "class", model.factory
    yield "code licence", model.license
    yield "formats", ", ".join(model.formats)
    if model.tags:
        yield "tags", ", ".join(model.tags)
    if model.paper:
        yield "paper", model.paper


def _is_headless(info: ModelInfo) -> bool:
    """Whether a model for classification is asked for with weights that have no classes."""
    return info.model.task == "classification" and info.checkpoint is not None and info.checkpoint.num_classes == 0


def _counted_with(info: ModelInfo) -> str:
    """The figures are the default weights'; another number of classes has another head."""
    first = info.model.checkpoints[0] if info.model.checkpoints else None
    if info.checkpoint is None or first is None or None in (first.num_classes, info.checkpoint.num_classes):
        return ""
    same = first.num_classes == info.checkpoint.num_classes
    return "" if same else f", with the {first.num_classes} classes of {first.name}"


def shown_input(spec: InputSpec) -> str:
    """`224 x 224, shorter side to 256, centre crop, bilinear`"""
    order = "" if spec.channel_order == "rgb" else f", {spec.channel_order.upper()}"
    fixed = ", no other size" if spec.fixed_size else ""
    return f"{_shown_resize(spec)}, {spec.interpolation}{order}{fixed}"


def _shown_resize(spec: InputSpec) -> str:
    """The size of the input, and how an image comes to it."""
    height, width = spec.size
    if spec.resize == "fit":
        short, long = min(spec.size), max(spec.size)
        sides = f"the shorter side {short} pixels, the longer at most {long}"
        sides = sides if short < long else f"the longer side {long} pixels"
        padded = f", padded to multiples of {spec.divisor}" if spec.divisor > 1 else ""
        return f"fitted into {short} x {long}: {sides}{padded}"
    ways = {
        "shortest": f"shorter side to {min(spec.resize_to)}, centre crop",
        "stretch": "stretched",
        "letterbox": "letterboxed",
    }
    return f"{height} x {width}, {ways[spec.resize]}"


def _print_checkpoints(model: ModelSpec) -> None:
    rows = [("CHECKPOINT", "LICENCE", "CLASSES", "TOP-1", "INPUT", "FROM")]
    for number, checkpoint in enumerate(model.checkpoints):
        name = checkpoint.name + (" (default)" if number == 0 and len(model.checkpoints) > 1 else "")
        classes = "-" if checkpoint.num_classes is None else str(checkpoint.num_classes)
        size = "x".join(map(str, checkpoint.input.size))
        source = checkpoint.sources[0] if checkpoint.sources else "-"
        rows.append((name, checkpoint.license, classes, _top1(checkpoint), size, source))
    print()
    table(rows, right=(2, 3), indent="  ")


def _print_checkpoint(checkpoint: CheckpointSpec, complete: bool) -> None:
    rows = [("source" if i == 0 else "or", source) for i, source in enumerate(checkpoint.sources)]
    if complete:
        rows += [("sha256", checkpoint.sha256 or "not known; pinned on this machine when first fetched")]
    rows += [("size", f"{checkpoint.size / 1e6:.1f} MB")] if checkpoint.size else []
    rows += [("licence", checkpoint.license + (", to be accepted at the host" if checkpoint.gated else ""))]
    rows += [("format", checkpoint.format)] if complete else []
    rows += [("labels", checkpoint.labels)] if checkpoint.labels else []
    rows += [("classes", str(checkpoint.num_classes))] if checkpoint.num_classes is not None else []
    rows += [("trained on", ", then ".join(checkpoint.trained_on))] if checkpoint.trained_on else []
    rows += [("also called", ", ".join(checkpoint.aliases))] if checkpoint.aliases else []
    rows += [("paper", checkpoint.paper)] if checkpoint.paper else []
    rows += [(metric.name, _shown_metric(metric)) for metric in checkpoint.metrics]
    print("\n" + styled(f"checkpoint {clean(checkpoint.name)}", "bold"))
    table(rows, heading=False, indent="  ", whole=True)
    if checkpoint.notes:
        print(wrapped(checkpoint.notes, "  "))


def _shown_metric(metric: Metric) -> str:
    conditions = ", ".join(f"{name} {value}" for name, value in metric.conditions.items())
    source = f", {metric.source}" if metric.source else ""
    return f"{metric.value:g} {metric.unit} on {metric.dataset}" + (f" ({conditions})" if conditions else "") + source


def _top1(checkpoint: CheckpointSpec) -> str:
    return next((f"{metric.value:.1f}" for metric in checkpoint.metrics if metric.name == "top1"), "-")


def _print_options(info: ModelInfo) -> None:
    """What may be set, with what it is for this model and these weights."""
    properties = info.schema.get("properties", {})
    if not properties:
        return
    values: dict[str, Any] = dict(info.model.config)
    if info.checkpoint is not None:
        classes = info.checkpoint.num_classes
        values |= {**info.checkpoint.config, **({} if classes is None else {"num_classes": classes})}
    rows = [("OPTION", "DEFAULT", "MEANING")]
    for name, about in properties.items():
        default = values.get(name, about.get("default"))
        shown = "-" if default is None else fitted(clean(str(default)), LONGEST_DEFAULT)
        rows.append((name, shown, str(about.get("description", ""))))
    print()
    table(rows, indent="  ")
    if any(shown.endswith("…") for _, shown, _ in rows):
        print(styled("  a default that ends in … is longer: --json has all of it", "dim"))


def _print_use(info: ModelInfo) -> None:
    ref, kind = short_ref(info.ref.partition("/")[0], info.model.name), info.model.kind
    if info.checkpoint is not None and info.checkpoint is not info.model.checkpoints[0]:
        ref += f".{info.checkpoint.name}"
    rows = []
    if kind in ("neck", "head"):
        rows.append((f'zoo.create("…", {kind}="{ref}")', f"in Python, after import zoo: in a model that has a {kind}"))
        rows.append((f'zoo.build_{kind}("{ref}")', "by itself"))
    else:
        if info.checkpoint is not None and info.model.task in _PREDICTED and not _is_headless(info):
            rows.append((f"zoo predict {ref} photo.jpg", "see what it says"))
        pretrained = ", pretrained=True" if info.checkpoint is not None else ""
        rows.append((f'zoo.create("{ref}"{pretrained})', "in Python, after import zoo"))
    print("\n" + styled("use", "bold"))
    table(rows, heading=False, indent="  ")
