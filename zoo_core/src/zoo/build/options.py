"""Options of a model, checked against its published JSON schema before any of its code is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.errors import OptionError
from zoo.models.config import instead, translate_spellings, unknown_option

CREATE_SPELLINGS = {
    "weights": "checkpoint",
    "output_indices": "out_indices",
    "in_channels": "in_chans",
    "input_channels": "in_chans",
    "classes": "num_classes",
    "n_classes": "num_classes",
    "nb_classes": "num_classes",
    "image_size": "img_size",
    "input_size": "img_size",
}
"""Spellings of `zoo.create`'s own arguments that people bring along."""


def merge_spellings(named: Mapping[str, Any], extra: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Move foreign spellings of create()'s own arguments from `extra` to where they belong.

    Returns:
        The named arguments, completed, and what remains of `extra`.
    """
    own = {name: value for name, value in extra.items() if name in CREATE_SPELLINGS}
    translated = translate_spellings(own, named, CREATE_SPELLINGS)
    for name in translated:
        if named[name] is not None:
            raise OptionError(f"`{name}` is given twice, in two spellings", fix=f"pass only `{name}`")
    return {**named, **translated}, {name: value for name, value in extra.items() if name not in own}


def check_options(options: Mapping[str, Any], schema: Mapping[str, Any], model: str) -> None:
    """Hold options against a config's JSON schema.

    Raises:
        OptionError: an unknown option, with the nearest known one; a wrong type or a value out of bounds, with what
            is allowed.
    """
    known = schema.get("properties", {})
    for name in options:
        if name not in known:
            raise unknown_option(name, known, model)
    plain = {name: value for name, value in options.items() if _is_json(value)}
    from jsonschema import Draft202012Validator  # only when there is something to check
    from jsonschema.exceptions import best_match

    # A tuple is how Python spells a list; anything else that is not JSON (a module) is left to the config itself.
    error = best_match(Draft202012Validator({**schema, "required": []}).iter_errors(_as_json(plain)))
    if error is not None:
        path = ".".join(str(part) for part in error.absolute_path)
        bounds = {error.validator: error.validator_value} if len(error.absolute_path) == 1 else {}
        name = str(error.absolute_path[0]) if error.absolute_path else ""
        fix = instead(name, bounds.get("minimum"), bounds.get("maximum"), known.get(name, {}).get("default"))
        raise OptionError(f"{model}: {path}: {error.message}", asked=f"{path}={error.instance!r}", fix=fix)


def _is_json(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_json, value))
    if isinstance(value, Mapping):
        return all(isinstance(key, str) for key in value) and all(map(_is_json, value.values()))
    return value is None or isinstance(value, str | int | float | bool)


def _as_json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_json(v) for v in value]
    if isinstance(value, Mapping):
        return {key: _as_json(v) for key, v in value.items()}
    return value
