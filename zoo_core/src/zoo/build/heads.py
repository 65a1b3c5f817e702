"""Heads that `create` and `create_model` are given: what is made for them, and whether they fit in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.build.locked import check_component, check_factory
from zoo.catalog import Resolved, open_catalog
from zoo.errors import OptionError
from zoo.models.model import Head
from zoo.plugin.loading import load_factory


def composes(head: Any) -> str:
    """The reference of the architecture that a head, as `create_model` takes it, is made for."""
    name = head.get("name") if isinstance(head, Mapping) else head
    if isinstance(name, str):
        resolved = open_catalog().resolve(name, kinds=("head",))
        check_component(name, resolved)
        cls: type = load_factory(resolved.model.factory, resolved.plugin)
    elif isinstance(head, Mapping) and isinstance(head.get("factory"), str):
        from zoo.build.saved import find_class  # which builds, too

        check_factory(head["factory"])
        cls = find_class(head["factory"])
    else:
        cls = type(head)
    return cls.architecture if issubclass(cls, Head) else Head.architecture


def check_head(options: Mapping[str, Any], resolved: Resolved) -> None:
    """Refuse a head where there is no place for one, and one that has another number of classes than is asked for."""
    known = resolved.schema.get("properties", {})
    if "head" in options and "head" not in known:
        composed = composes(options["head"])
        raise OptionError(
            f"{resolved.ref} has no option `head`: it is made with its own",
            found=", ".join(sorted(known)) or "it takes no options",
            fix=f'zoo.create_model("{composed}", backbone=…, head=…), which such a head is made for',
        )
    theirs, asked = classes_of(options.get("head")), options.get("num_classes")
    if theirs is not None and asked not in (None, theirs):
        raise OptionError(
            f"the head has {theirs} classes, and {asked} are asked for",
            asked=f"num_classes={asked!r}",
            fix=f"a head with num_classes={asked!r}, and `num_classes` there alone",
        )


def classes_of(head: Any) -> int | None:
    """How many classes a head, as `create` takes it, says it has; None where it leaves that to the model."""
    if isinstance(head, Head):
        said = head.config.given().get("num_classes")
    else:
        values = head.get("config", head) if isinstance(head, Mapping) else None
        said = values.get("num_classes") if isinstance(values, Mapping) else None
    return said if isinstance(said, int) else None
