"""Firing hooks: only plugins that declare one are imported, only when it fires, and each answers for itself."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from zoo.errors import LicenseError, PluginError, SourceError, ZooError
from zoo.plugin import hookspecs
from zoo.plugin.hookspecs import CheckpointSource, LicensePolicy, ReadWeights, hookimpl as hookimpl
from zoo.plugin.loading import load_object
from zoo.plugin.providers import HOOKS as HOOKS, Provider, providers
from zoo.plugin.state import as_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class HookWarning(UserWarning):
    """A plugin's hook failed and was passed over; the message names the plugin and the fix."""


def call(name: str, event: NamedTuple) -> list[Any]:
    """Fire a hook at every plugin that declares it, in order of namespace; the answers that are not None.

    Whatever an implementation raises becomes a `HookWarning`, and the others are asked all the same.
    """
    answers: list[Any] = []
    for provider in providers(name):
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
    for provider in providers(name):
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


def carry_checkpoint(address: str, folder: str) -> str | None:
    """The path of a file that a plugin brought into the folder from an address only it knows; None if none does.

    Raises:
        SourceError: a plugin failed over it, or said why it cannot be had, and no other brought it.
    """
    failure: ZooError | None = None
    for provider in providers("checkpoint_source"):
        try:
            for path in _ask(provider, "checkpoint_source", CheckpointSource(address, folder)):
                if isinstance(path, str) and os.path.isfile(path):
                    return path
                raise _broken(provider, f"its hook checkpoint_source answered with {path!r:.100}, which is no file")
        except ZooError as error:
            failure = failure or error
    if isinstance(failure, PluginError):
        raise SourceError(f"{address}: {failure.message}", asked=address, fix=failure.fix) from failure
    if failure is not None:
        raise failure
    return None


def license_answers(event: LicensePolicy) -> list[tuple[str, bool]]:
    """What each plugin that has a licence policy says to weights: (its distribution, whether they may be used).

    Raises:
        LicenseError: a plugin refuses them in its own words.
    """
    said: list[tuple[str, bool]] = []
    for provider in providers("license_policy"):
        try:
            for answer in _ask(provider, "license_policy", event):
                if not isinstance(answer, bool):
                    raise _broken(provider, f"its hook license_policy answered {answer!r:.100}, neither True nor False")
                said.append((provider.record.distribution, answer))
        except LicenseError:
            raise
        except ZooError as error:
            _warn(error)
    return said


def read_weights(path: str) -> Mapping[str, Tensor] | None:
    """The tensors of a weights file in a format only a plugin knows; None if no plugin does."""
    tensors: Mapping[str, Tensor] | None = first("read_weights", ReadWeights(path))
    return tensors


_MANAGERS: dict[Provider, pluggy.PluginManager | PluginError] = {}


def _ask(provider: Provider, name: str, event: NamedTuple) -> list[Any]:
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


def _manager(provider: Provider) -> pluggy.PluginManager:
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


def _load(provider: Provider) -> pluggy.PluginManager:
    manager = pluggy.PluginManager("zoo")
    manager.add_hookspecs(hookspecs)
    implementation = load_object(provider.address, provider.record)
    try:
        manager.register(implementation)
        manager.check_pending()  # a misspelt hook
    except (Exception, SystemExit) as error:
        raise _broken(provider, f"{provider.address}: {error}") from error
    return manager


def _broken(provider: Provider, reason: str) -> PluginError:
    fix = f"pip install --upgrade {provider.record.distribution}"
    return as_error(provider.record.quarantined("contract-failed", reason, fix))
