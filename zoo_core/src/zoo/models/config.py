"""Configs: what a user may set on a model; typed, bounded, documented, frozen, and every field has a default."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from zoo.errors import OptionError

SPELLINGS = {
    "in_channels": "in_chans",
    "input_channels": "in_chans",
    "classes": "num_classes",
    "n_classes": "num_classes",
    "nb_classes": "num_classes",
    "img_size": "image_size",
    "input_size": "image_size",
    "embed_dim": "width",
    "hidden_size": "width",
    "num_layers": "depth",
    "num_heads": "heads",
}
"""Spellings people bring along, and ours. Accepted at a config's door, not used inside."""


class SpellingWarning(UserWarning):
    """A known foreign spelling was understood; the message names the zoo's own."""


class ModelConfig(BaseModel):
    """Base of all configs. Subclass it as `Config` of a model; give every field a default.

    Attributes:
        spellings: further foreign spellings this config understands, beside `SPELLINGS`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    spellings: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def of(cls, config: ModelConfig | Mapping[str, Any] | None, options: Mapping[str, Any]) -> Self:
        """A config from a config, a mapping or nothing, with options on top.

        Raises:
            OptionError: an unknown field (with the nearest known one), a wrong type or a value out of bounds.
        """
        if isinstance(config, cls) and not options:
            return config
        if isinstance(config, ModelConfig):
            values = config.given()
        elif config is None or isinstance(config, Mapping):
            values = dict(config or {})
        else:
            raise OptionError(
                f"a config is a {cls.__name__} or a mapping, not {type(config).__name__}",
                fix=f"{cls.__name__}(…) or {{…}}",
            )
        values = translate_spellings({**values, **options}, cls.model_fields, cls.spellings)
        unknown = [name for name in values if name not in cls.model_fields]
        if unknown:
            raise unknown_option(str(unknown[0]), cls.model_fields, f"{cls.__name__}")
        try:
            return cls(**values)
        except ValidationError as error:
            raise option_error(error, cls) from None

    def given(self) -> dict[str, Any]:
        """The fields as they are, parts and sub-configs not flattened."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    def replace(self, **changes: Any) -> Self:
        """A validated copy with some fields changed."""
        return type(self).of(self, changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `of` builds the same config from it."""
        return self.model_dump(mode="json")


def translate_spellings(
    values: Mapping[str, Any], known: Mapping[str, Any], extra: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Foreign spellings turned into known field names, each with a `SpellingWarning`."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        ours = {**SPELLINGS, **(extra or {})}.get(name, name)
        if name in known or ours not in known:
            ours = name
        if ours != name:
            warnings.warn(f"`{name}` is understood; the zoo's word is `{ours}`", SpellingWarning, stacklevel=4)
        if ours in out:
            raise OptionError(f"`{ours}` is given twice, once as `{name}`", fix=f"pass only `{ours}`")
        out[ours] = value
    return out


def unknown_option(name: str, known: Mapping[str, Any], where: str) -> OptionError:
    """The error for an option nobody knows, with the nearest known one."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return OptionError(
        f"{where} has no option `{name}`" + (f"; did you mean `{near[0]}`?" if near else ""),
        asked=name,
        found=", ".join(sorted(known)) or "it takes no options",
        fix=f"{near[0]}=…" if near else None,
    )


def option_error(error: ValidationError, config: type[ModelConfig]) -> OptionError:
    """Pydantic's first complaint about a config's values as one of ours."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    name, *further = map(str, first["loc"]) if first["loc"] else ("",)
    bounds = first.get("ctx", {}) if not any(part.isdigit() for part in further) else {}  # not those of one of many
    field = config.model_fields.get(name)
    fix = instead(name, bounds.get("ge"), bounds.get("le"), field.default if field is not None else None)
    return OptionError(
        f"{config.__name__}: {path}: {first['msg']}", asked=f"{path}={first.get('input')!r}"[:200], fix=fix
    )


def instead(name: str, least: Any, most: Any, default: Any) -> str | None:
    """What to type in place of a refused value: the least or the most that may be, else the default, if known."""
    if least is not None:
        return f"{name}={least}, or more"
    if most is not None:
        return f"{name}={most}, or less"
    return f"{name}={default!r}" if isinstance(default, str | int | float | list | tuple) else None
