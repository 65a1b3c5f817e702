"""Firing hooks: only plugins that declare one are imported, only when it fires, and each answers for itself."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from zoo.errors import PluginError, ZooError
from zoo.plugin import hookspecs
from zoo.plugin.discovery import inspect
from zoo.plugin.hookspecs import ReadWeights, hookimpl as hookimpl
from zoo.plugin.loading import load_object
from zoo.plugin.manifest import read_header
from zoo.plugin.scanner import Scan, scan
from zoo.plugin.state import PluginRecord, as_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

HOOKS = ("checkpoint_source", "cli_commands", "error_hint", "model_created", "read_weights")


class HookWarning(UserWarning):
    """A plugin's hook failed and was passed over; the message names the plugin and the fix."""


class _Provider(NamedTuple):
    """A plugin that declares hooks, and where their implementations are."""

    record: PluginRecord
    hooks: tuple[str, ...]
    address: str


def call(name: str, event: NamedTuple) -> list[Any]:
    """Fire a hook at every plugin that declares it, in order of namespace; the answers that are not None.

    Whatever an implementation raises becomes a `HookWarning`, and the others are asked all the same.
    """
    answers: list[Any] = []
    for provider in _providers(name):
        try:
            answers += _ask(provider, name, event)
        except ZooError as error:
            _warn(error)
    return answers


def first(name: str, event: NamedTuple) -> Any:
    """Fire a hook until one plugin answers; None if none does.

    Raises:
        ZooError: no plugin answers, and one says by this error why the request, which is its own to serve, must fail.
    """
    refusal: ZooError | None = None
    for provider in _providers(name):
        try:
            answers = _ask(provider, name, event)
        except PluginError as error:
            _warn(error)
        except ZooError as error:
            refusal = refusal or error
        else:
            if answers:
                return answers[0]
    if refusal is not None:
        raise refusal
    return None


def read_weights(path: str) -> Mapping[str, Tensor] | None:
    """The tensors of a weights file in a format only a plugin knows; None if no plugin does."""
    tensors: Mapping[str, Tensor] | None = first("read_weights", ReadWeights(path))
    return tensors


_KNOWN: dict[tuple[str, ...], list[_Provider]] = {}
_MANAGERS: dict[_Provider, pluggy.PluginManager | PluginError] = {}


def _providers(name: str) -> list[_Provider]:
    if name not in HOOKS:
        raise ValueError(f"there is no hook {name!r}")  # a mistake of the caller's, which is the core
    key = (os.environ.get("ZOO_NO_PLUGINS", ""), os.environ.get("ZOO_PLUGINS", ""), *map(str, sys.path))
    if key not in _KNOWN:
        _KNOWN[key] = _find_providers()
    return [provider for provider in _KNOWN[key] if name in provider.hooks]


def _find_providers() -> list[_Provider]:
    """The plugins with hooks. Of their manifests only the heads are read, of other plugins' nothing."""
    found = scan()
    addresses = {(e.name, e.distribution): e.value for e in found.entries if e.group == "zoo.hooks"}
    owners = [e for e in found.entries if e.group == "zoo.plugins" and (e.name, e.distribution) in addresses]
    plugins = inspect(Scan(owners, []), read=read_header).plugins
    return sorted(
        _Provider(record, spec.hooks, addresses[record.namespace, record.distribution])
        for record, spec in plugins
        if spec is not None and record.state == "ok"
    )


def _ask(provider: _Provider, name: str, event: NamedTuple) -> list[Any]:
    """One plugin's answers to a hook. Raises `PluginError` for its failures; its own `ZooError`s pass."""
    manager = _manager(provider)
    hook = getattr(manager.hook, name)
    if not hook.get_hookimpls():
        raise _broken(provider, f"it declares the hook {name} and does not implement it")
    try:
        answers: list[Any] = hook(event=event)
    except ZooError:
        raise
    except (Exception, SystemExit) as error:
        raise _broken(provider, f"its hook {name} raised {type(error).__name__}: {error}") from error
    return answers


def _warn(error: ZooError) -> None:
    warnings.warn(str(error), HookWarning, stacklevel=3)


def _manager(provider: _Provider) -> pluggy.PluginManager:
    """A pluggy manager with this plugin alone, so that its failure is nobody else's."""
    if provider not in _MANAGERS:
        try:
            _MANAGERS[provider] = _load(provider)
        except PluginError as error:
            _MANAGERS[provider] = error  # a broken module is not imported again at every hook
    manager = _MANAGERS[provider]
    if isinstance(manager, PluginError):
        raise manager
    return manager


def _load(provider: _Provider) -> pluggy.PluginManager:
    manager = pluggy.PluginManager("zoo")
    manager.add_hookspecs(hookspecs)
    implementation = load_object(provider.address, provider.record)
    try:
        manager.register(implementation)
        manager.check_pending()  # a misspelt hook
    except (Exception, SystemExit) as error:
        raise _broken(provider, f"{provider.address}: {error}") from error
    return manager


def _broken(provider: _Provider, reason: str) -> PluginError:
    fix = f"pip install --upgrade {provider.record.distribution}"
    return as_error(provider.record.quarantined("contract-failed", reason, fix))
