"""Parts of a composed model: a backbone, neck or head given by name, by config or as a module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import PlainSerializer, WithJsonSchema
from torch import nn

from zoo.errors import OptionError, UnsupportedError
from zoo.models.model import Backbone, Component, Head, Neck

OF_THE_WEIGHTS = ("pretrained", "checkpoint", "format", "allow_licenses")
"""Options of a part that say where its weights come from; a saved model has its own."""

_PartType = TypeVar("_PartType", bound=Component)


def _recipe(part: Any) -> Any:
    """A part as JSON. Weights asked for by name are not asked for again when a saved model is rebuilt."""
    if isinstance(part, Component):
        cls = type(part)
        return {"factory": f"{cls.__module__}:{cls.__qualname__}", "config": part.config.to_dict()}
    if isinstance(part, nn.Module):
        raise UnsupportedError(
            f"a model with a {type(part).__name__} inside cannot be written as a config",
            fix="make the part a zoo.Backbone, zoo.Neck or zoo.Head with a Config",
        )
    if isinstance(part, Mapping):
        return {name: value for name, value in part.items() if name not in OF_THE_WEIGHTS}
    return part


Part = Annotated[
    str | dict[str, Any] | nn.Module,
    PlainSerializer(_recipe),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object"}]}),
]
"""A config field that names a part: `"resnet50"`, `{"name": "resnet50", "pretrained": True}` or a module."""


def build_backbone(part: Any, **defaults: Any) -> Backbone:
    """A backbone from a part; `defaults` are `zoo.create_backbone` options that a mapping may override."""
    from zoo.build.create import create_backbone

    if isinstance(part, nn.Module) or (isinstance(part, Mapping) and "factory" in part):
        return _ready(part, Backbone, "backbone")
    name, options = _name_and_options(part, "backbone")
    return create_backbone(name, **{**defaults, **options})


def build_neck(part: Any, **defaults: Any) -> Neck:
    """A neck from a part, not bound yet."""
    return _component(part, Neck, "neck", defaults)


def build_head(part: Any, **defaults: Any) -> Head:
    """A head from a part, not bound yet."""
    return _component(part, Head, "head", defaults)


def _component(part: Any, kind: type[_PartType], word: str, defaults: Mapping[str, Any]) -> _PartType:
    from zoo.build.create import build_component

    if isinstance(part, nn.Module) or (isinstance(part, Mapping) and "factory" in part):
        return _ready(part, kind, word)
    name, options = _name_and_options(part, word)
    component = build_component(name, word, options, defaults)
    return _ready(component, kind, word)


def _ready(part: Any, kind: type[_PartType], word: str) -> _PartType:
    if isinstance(part, Mapping):
        from zoo.build.pretrained import rebuild

        part = rebuild(str(part["factory"]), part.get("config", {}))
    if isinstance(part, kind):
        return part
    hint = 'zoo.create("…", features_only=True)' if kind is Backbone else f"subclass zoo.{kind.__name__}"
    raise OptionError(f"a {type(part).__name__} is not a {word}", asked=f"{word}={type(part).__name__}", fix=hint)


def _name_and_options(part: Any, word: str) -> tuple[str, dict[str, Any]]:
    if isinstance(part, str):
        return part, {}
    if isinstance(part, Mapping) and isinstance(part.get("name"), str):
        return part["name"], {name: value for name, value in part.items() if name != "name"}
    raise OptionError(
        f"a {word} is a name, a mapping with `name`, or a module",
        asked=f"{word}={part!r}"[:120],
        fix=f'{word}="resnet50"' if word == "backbone" else f'{word}={{"name": "…"}}',
    )
