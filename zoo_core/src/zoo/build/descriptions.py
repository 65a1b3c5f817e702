"""Saved models seen from outside: their addresses, their descriptions, and who owns what these name. Needs no torch."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from zoo.catalog import open_catalog
from zoo.checkpoints.opening import SAFETENSORS, TORCH
from zoo.checkpoints.sharding import is_index
from zoo.errors import FormatError
from zoo.plugin.state import PluginRecord

CONFIG = "config.json"
"""What `save_pretrained` calls a model's description."""

PARTS = ("backbone", "neck", "head")
"""The fields of a config that name parts of a composed model."""

_REPO = re.compile(r"hf://[^/@]+/[^/@]+(?:@refs/(?:pr|convert)/[^/]+|@[^/]+)?(?:/(?P<path>.+))?")
_VERSION = re.compile(r"\d+\.\d+\.\d+([-+].*)?")


def is_saved(ref: str) -> bool:
    """Whether an address is a saved model's folder, rather than a file's.

    On the Hub that is a repository, or a folder in one: its name has no file's ending, or is a version.
    """
    on_hub = _REPO.fullmatch(ref)
    if on_hub is None:
        return ref.startswith("file://") and saved_folder(ref) is not None
    name = (on_hub["path"] or "").rstrip("/").rpartition("/")[2]
    if name.lower().endswith(SAFETENSORS + TORCH) or is_index(name):
        return False
    return bool(_VERSION.fullmatch(name)) or not re.search(r"\.[A-Za-z]\w*$", name)


def saved_folder(ref: str) -> str | None:
    """The folder a `file://` address means; None where there is none."""
    text = ref.removeprefix("file://")
    paths = [os.path.abspath(os.path.expanduser(spelling)) for spelling in (text, unquote(text))]
    return next((path for path in paths if os.path.isdir(path)), None)


def read_description(path: str) -> dict[str, Any]:
    """A saved model's `config.json`, hardly looked at. Raises `FormatError` where it is none."""
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not a config that save_pretrained wrote ({error})") from None
    if not isinstance(record, dict) or not isinstance(record.get("factory"), str):
        raise FormatError(f"{path} is not a config that save_pretrained wrote", fix="a folder of save_pretrained")
    return record


def plugin_of(factory: str) -> PluginRecord | None:
    """The installed plugin whose package a `module:qualname` lies in."""
    package = factory.partition(":")[0].partition(".")[0]
    for plugin in open_catalog().plugins():
        if os.path.basename(os.path.dirname(plugin.manifest)) == package:
            return plugin
    return None


def plugins_of(config: Any) -> Iterator[PluginRecord]:
    """The installed plugins that the parts of a saved model's config come from: by their factories or their names.

    Raises:
        RefError, NotFoundError, PluginError: a part's name leads nowhere here.
    """
    if not isinstance(config, Mapping):
        return
    plugin = plugin_of(config["factory"]) if isinstance(config.get("factory"), str) else None
    if plugin is not None:
        yield plugin
    for field, part in config.items():
        name = part.get("name") if isinstance(part, Mapping) else part
        if field in PARTS and isinstance(name, str):
            kinds = {} if field == "backbone" else {"kinds": (field,)}
            yield open_catalog().resolve(name, **kinds).plugin
        yield from plugins_of(part)
