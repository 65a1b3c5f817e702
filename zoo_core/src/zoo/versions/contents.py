"""The torch side of the registry: from what the caller hands over to a description and a weights file, and back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.build.descriptions import plugin_of
from zoo.build.saved import Origin, Use, check_saved_license, describe, factory_path, read_saved, revive
from zoo.build.weights import load_weights
from zoo.checkpoints.files import read_tensors
from zoo.checkpoints.writing import serialize
from zoo.errors import OptionError
from zoo.models.config import ModelConfig
from zoo.models.model import Component
from zoo.versions.classes import class_of, is_importable
from zoo.versions.records import VersionRecord

NATIVE = "native"


def built(
    model: type[Component] | Component,
    config: ModelConfig | Mapping[str, Any] | None,
    weights: Mapping[str, Tensor] | None,
) -> Component:
    """The component to register: the instance itself, or one of the class, with weights by its own names if given.

    Raises:
        OptionError: neither a component nor a class of components, or a config that does not fit.
        LoadError: weights that do not fit.
    """
    if isinstance(model, Component):
        if config is not None or weights is not None:
            raise OptionError("a model has its config and weights with it", fix="register(…, model=model)")
        return model
    if not (isinstance(model, type) and issubclass(model, Component)):
        raise OptionError(
            "what is registered is a zoo.Model, Backbone, Neck or Head: an instance, or its class with a config",
            asked=repr(model)[:100],
            fix="class YourModel(zoo.Model): …",
        )
    made = model(model.Config.of(config, {}))
    if weights is not None:
        load_weights(made, weights, format=NATIVE, source="weights=")
    return made


def described(component: Component) -> dict[str, Any]:
    """Its description, checked as it will be when it is loaded."""
    saved = describe(component, NATIVE)
    read_saved(saved, "the model's description")
    cls = type(component)
    if not is_importable(cls):
        warnings.warn(
            f"{cls.__qualname__} cannot be imported from {cls.__module__}: another program loads what is registered "
            f"here only with registry.load(…, cls={cls.__name__}); a class in a module needs no cls",
            stacklevel=5,
        )
    return saved


def weights_of(component: Component) -> Iterator[memoryview]:
    """Its weights as a file. The bytes depend on the tensors alone, so that equal weights are one blob."""
    return serialize(component.state_dict(), {"zoo_format": NATIVE})


def owner_of(component: Component) -> tuple[str, str]:
    """The distribution and version of the plugin its class belongs to; empty for none."""
    plugin = plugin_of(factory_path(type(component)))
    return (plugin.distribution, plugin.version) if plugin is not None else ("", "")


def opened(
    record: VersionRecord,
    weights: str,
    use: Use,
    *,
    allow_licenses: Sequence[str] | str | None,
    cls: type[Component] | None,
) -> Component:
    """The component that was registered. weights: its verified file; it is mapped, never edited."""
    saved = read_saved(record.saved, record.ref)
    check_saved_license(saved, record.ref, allow_licenses)
    factory = class_of(saved.factory, record.ref, record.sha256, cls, foreign=record.imported is not None)
    origin = Origin(record.ref, record.ref, record.sha256)
    tensors = read_tensors(weights).tensors
    kept = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if use.placement.dtype is None and len(kept) == 1 and kept != {torch.get_default_dtype()}:
        use = use._replace(placement=use.placement._replace(dtype=kept.pop()))  # as it was registered
    return revive(saved, factory, tensors, origin, use)
