"""From a registered version back to its class.

A class of a plugin is found as everywhere. A class of the user's own is imported from where it was: a registry is the
user's own, and lists only code that has run here before. That is not so of versions that came from another registry:
for them no module is imported that the program has not imported itself. What cannot be imported again (a class of a
script, of a notebook, inside a function) is remembered until the process ends, and can be handed over after that. Every
program has a `__main__` of its own: a name in it finds only what this process registered with those very weights.
"""

from __future__ import annotations

import sys
from importlib import import_module
from weakref import WeakValueDictionary

from zoo.build.descriptions import plugin_of
from zoo.build.saved import factory_path, find_class
from zoo.errors import OptionError, PluginError
from zoo.models.model import Component

_MAIN = ("__main__", "__mp_main__")
_REGISTERED: WeakValueDictionary[tuple[str, str], type[Component]] = WeakValueDictionary()
"""By factory and by the digest of the weights, which tells apart classes of the same name."""


def remember(cls: type[Component], sha256: str) -> None:
    """Keep the class of the registered weights with that digest at hand for this process."""
    _REGISTERED[factory_path(cls), sha256] = cls


def is_importable(cls: type[Component]) -> bool:
    """Whether another program can import the class from where it is."""
    if cls.__module__ in _MAIN:
        return False
    try:
        return _found(factory_path(cls), "it", "") is cls
    except PluginError:
        return False


def class_of(
    factory: str, ref: str, sha256: str, given: type[Component] | None = None, *, foreign: bool = False
) -> type[Component]:
    """The class that a registered version names.

    Args:
        sha256: of its weights.
        foreign: it came from another registry: nothing is imported because it says so, and what this program has not
            imported itself is not found.
        given: a class of the caller's: itself if it has that name, wherever it is defined now; or one above it.

    Raises:
        OptionError: the given class is neither.
        PluginError: the class cannot be imported; the message says what to do.
    """
    name = factory.rpartition(":")[2].rpartition(".")[2]
    if given is not None and given.__name__ == name:
        return given
    found = _found(factory, ref, sha256, foreign=foreign)
    if given is not None and not issubclass(found, given):
        raise OptionError(f"{ref} is a {factory}, not a {given.__name__}", fix=f"cls={name}")
    return found


def _found(factory: str, ref: str, sha256: str, *, foreign: bool = False) -> type[Component]:
    if plugin_of(factory) is not None:
        return find_class(factory)
    module, _, qualname = factory.partition(":")
    here = _REGISTERED.get((factory, sha256))
    if module in _MAIN:
        if here is None:
            raise _lost(factory, ref, "another program has registered it, or an earlier run of this one")
        return here
    if foreign and module not in sys.modules:
        raise _lost(factory, ref, f"it came from another registry, and this program has not imported {module}")
    try:
        found: object = sys.modules.get(module) or import_module(module)
        for name in qualname.split("."):
            found = vars(found)[name] if foreign else getattr(found, name)  # a module may compute what it is asked for
    except (ImportError, AttributeError, KeyError, TypeError, ValueError) as error:
        if here is not None:
            return here
        raise _lost(factory, ref, str(error)) from error
    except Exception as error:  # whatever the user's own module raises while it is imported
        raise _lost(factory, ref, f"{type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Component)):
        raise _lost(factory, ref, f"{factory} is no zoo.Model, Backbone, Neck or Head")
    return found


def _lost(factory: str, ref: str, why: str) -> PluginError:
    module, _, qualname = factory.partition(":")
    package, name = module.partition(".")[0], qualname.rpartition(".")[2]
    if module in _MAIN or "<locals>" in qualname:
        where = "it was defined in the program that registered it: move it to a module"
    else:
        where = f"put the module {module} on the import path (install the package that has {package!r})"
    return PluginError(
        f"{ref} is a {factory}, which belongs to no installed plugin and cannot be imported as a model",
        found=why[:300],
        fix=f'{where}, or hand it over: registry.load("{ref.partition("/")[2].partition("@")[0]}", cls={name})',
    )
