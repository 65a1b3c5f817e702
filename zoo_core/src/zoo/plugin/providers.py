"""Which plugins implement which hook, asked without importing any of them, nor pluggy."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

from zoo.plugin.discovery import inspect
from zoo.plugin.manifest import read_header
from zoo.plugin.scanner import Scan, scan
from zoo.plugin.state import PluginRecord

HOOKS = ("checkpoint_source", "cli_commands", "error_hint", "license_policy", "model_created", "read_weights")


class Provider(NamedTuple):
    """A plugin that declares hooks, and where their implementations are."""

    record: PluginRecord
    hooks: tuple[str, ...]
    address: str


_KNOWN: dict[tuple[str, ...], list[Provider]] = {}


def providers(name: str) -> list[Provider]:
    """The plugins that declare a hook, in order of namespace."""
    if name not in HOOKS:
        raise ValueError(f"there is no hook {name!r}")  # a mistake of the caller's, which is the core
    key = (os.environ.get("ZOO_NO_PLUGINS", ""), os.environ.get("ZOO_PLUGINS", ""), *map(str, sys.path))
    if key not in _KNOWN:
        _KNOWN[key] = _find()
    return [provider for provider in _KNOWN[key] if name in provider.hooks]


def _find() -> list[Provider]:
    """The plugins with hooks. Of their manifests only the heads are read, of other plugins' nothing."""
    found = scan()
    addresses = {(e.name, e.distribution): e.value for e in found.entries if e.group == "zoo.hooks"}
    owners = [e for e in found.entries if e.group == "zoo.plugins" and (e.name, e.distribution) in addresses]
    plugins = inspect(Scan(owners, []), read=read_header).plugins
    return sorted(
        Provider(record, spec.hooks, addresses[record.namespace, record.distribution])
        for record, spec in plugins
        if spec is not None and record.state == "ok"
    )
