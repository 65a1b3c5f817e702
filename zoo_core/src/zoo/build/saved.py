"""A saved model as data: its class, config, input, labels and origin; and the component that comes back from it.

Folders of `save_pretrained` hold it as `config.json`; the version registry holds it in its rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from zoo.build.create import construct, replace_head
from zoo.build.descriptions import plugin_of
from zoo.build.fast_init import without_initialisation
from zoo.build.fresh import Fresh
from zoo.build.locked import within_saved
from zoo.build.placement import Placement
from zoo.build.weights import key_map, load_weights
from zoo.catalog.licenses import check_license
from zoo.errors import FormatError, LabelError, ManifestError, PluginError, UnsupportedError
from zoo.models.labels import LabelSpace
from zoo.models.model import Backbone, Component, Model
from zoo.models.provenance import Provenance
from zoo.plugin.hooks import call
from zoo.plugin.hookspecs import ModelCreated
from zoo.plugin.loading import load_factory
from zoo.specs import CheckpointSpec, InputSpec

LAYOUT = 1


class Saved(NamedTuple):
    """What a saved model's description says. factory: `module:qualname` of its class. sharded: in several files."""

    factory: str
    config: dict[str, Any]
    format: str
    input: InputSpec | None
    labels: LabelSpace | None
    provenance: Provenance | None
    sharded: bool = False


class Origin(NamedTuple):
    """What a component is revived from: the reference it was asked by, the address of its weights, their digest."""

    ref: str
    source: str
    sha256: str


class Use(NamedTuple):
    """What the caller makes of a saved model; see `zoo.create`."""

    num_classes: int | None = None
    features_only: bool = False
    out_indices: Sequence[int] | None = None
    placement: Placement = Placement()
    strict: bool = True


def describe(component: Component, format: str) -> dict[str, Any]:
    """A component's description in plain JSON types; `read_saved` understands it.

    Raises:
        UnsupportedError: its config does not lead to it any more, so it could not be opened again.
        LabelError: its label space is one of another number of outputs.
        OptionError: an unknown format.
    """
    labels: LabelSpace | None = component.label_space if isinstance(component, Model) else None
    spec = component.input_spec if isinstance(component, Model | Backbone) else None
    record: dict[str, Any] = {
        "zoo": LAYOUT,
        "factory": factory_path(type(component)),
        "config": component.config.to_dict(),
        "format": format,
        "input": spec.to_dict() if spec is not None else None,
        "labels": labels.to_dict() if labels is not None else None,
        "provenance": component.provenance.to_dict() if component.provenance else None,
    }
    if labels is not None:
        try:
            _check_labels(labels, record["config"], type(component).__name__)
        except LabelError as error:
            error.fix = "model.label_space = zoo.LabelSpace(name=…, names=…) of all its outputs, or None"
            raise
    _check_reopens(component, record)
    return record


def read_saved(record: Any, where: str) -> Saved:
    """A description, checked. Raises `FormatError` that names `where` it stands."""
    try:
        if record["zoo"] > LAYOUT:
            raise FormatError(f"{where} was written by a newer zoo", fix="pip install -U zoo-core")
        before, labels, spec = record.get("provenance"), record.get("labels"), record.get("input")
        saved = Saved(
            factory=str(record["factory"]),
            config=dict(record["config"]),
            format=str(record.get("format", "native")),
            input=None if spec is None else InputSpec.from_dict(spec),
            labels=None if labels is None else LabelSpace.from_dict(labels),
            provenance=None if before is None else Provenance.from_json(json.dumps(before)),
            sharded=record.get("sharded") is True,
        )
        _refuse_fetching(saved.config)
        return saved
    except (ValueError, KeyError, TypeError, LookupError, AttributeError, ManifestError, LabelError) as error:
        raise FormatError(
            f"{where} is not a config that save_pretrained wrote ({type(error).__name__}: {error})",
            fix="a folder written by save_pretrained",
        ) from None


def check_saved_license(saved: Saved, ref: str, allow: Sequence[str] | str | None) -> None:
    """Refuse a saved model whose weights' licence is not accepted. Raises `LicenseError`.

    What the caller trained from nothing, or from a file of the caller's, has none to accept.
    """
    license = _license(saved, ref)
    if license:
        check_license(CheckpointSpec(name="saved", sources=(ref,), license=license), ref, allow)


def revive(
    saved: Saved, factory: type[Component], tensors: Mapping[str, Tensor], origin: Origin, use: Use
) -> Component:
    """The component a description and its weights are, in evaluation mode.

    Raises:
        OptionError, UnsupportedError: a config that its class does not take, a use it has not.
        LoadError: weights that do not fit.
    """
    config = factory.Config.of(saved.config, {})
    make = partial(construct, factory, config, use.features_only, use.out_indices)
    with without_initialisation(), within_saved():
        component = make()
    component.load_report = load_weights(
        component,
        tensors,
        format=saved.format,
        source=origin.source,
        strict=use.strict,
        fresh=Fresh(make),
        **use.placement._asdict(),
    )
    component.to(*use.placement)
    _restore(component, saved, origin)
    had = getattr(config, "num_classes", None)
    if use.num_classes is not None and use.num_classes != had:
        replace_head(component, use.num_classes, had, use.placement)
    component.eval()
    call("model_created", ModelCreated(origin.ref, component))
    return component


def find_class(factory: str) -> type[Component]:
    """The class a saved config names. Only packages of installed plugins are imported: a file cannot choose code."""
    plugin = plugin_of(factory)
    if plugin is not None:
        return load_factory(factory, plugin)
    package = factory.partition(":")[0].partition(".")[0]
    raise PluginError(
        f"the saved model is a {factory}, which belongs to no installed plugin",
        fix=f"pip install {package.replace('_', '-')}, or YourClass.from_pretrained(…)",
    )


def factory_path(cls: type) -> str:
    """`module:qualname`"""
    return f"{cls.__module__}:{cls.__qualname__}"


def _check_reopens(component: Component, record: Mapping[str, Any]) -> None:
    """Refuse to write what could not be opened: the config must lead to this structure and know this format."""
    with without_initialisation(), within_saved():
        again = type(component)(type(component).Config.of(record["config"], {}))
    key_map(again, record["format"])
    mine, theirs = component.state_dict(), again.state_dict()
    differing = [name for name in {**mine, **theirs} if _shape(mine.get(name)) != _shape(theirs.get(name))]
    if differing:
        raise UnsupportedError(
            "the config does not describe this model any more, so it could not be opened again",
            found=", ".join(differing[:4]),
            fix="a class of your own that builds it, or torch.save(model.state_dict(), …)",
        )


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)


def _refuse_fetching(value: Any) -> None:
    """A saved config describes parts; it may not have their weights fetched from anywhere, nor accept licences."""
    if isinstance(value, str) and "://" in value:
        raise ValueError(f"it names an address, {value[:80]!r}")
    if isinstance(value, Mapping):
        asked = sorted(value.keys() & {"pretrained", "checkpoint", "format", "allow_licenses"})
        if asked:
            raise ValueError(f"it asks for weights of its own, by {asked[0]!r}")
        for part in value.values():
            _refuse_fetching(part)


def _restore(component: Component, saved: Saved, origin: Origin) -> None:
    """The input, the labels and the provenance that were saved."""
    if isinstance(component, Model | Backbone) and saved.input is not None:
        component.input_spec = saved.input
    if isinstance(component, Model) and saved.labels is not None:
        _check_labels(saved.labels, saved.config, origin.ref)
        component.label_space = saved.labels
    before, license = saved.provenance or Provenance(ref=origin.ref), _license(saved, origin.ref)
    component.provenance = replace(before, source=origin.source, sha256=origin.sha256, license=license)


def _check_labels(labels: LabelSpace, config: Mapping[str, Any], where: str) -> None:
    classes = config.get("num_classes")
    if classes is not None:
        labels.check(classes, where)


def _license(saved: Saved, ref: str) -> str:
    """The licence that a saved model's weights are under; empty for the caller's own."""
    stated = saved.provenance.license if saved.provenance is not None else ""
    return stated or ("unknown" if ref.startswith("hf://") else "")  # what lies on the Hub somebody has published
