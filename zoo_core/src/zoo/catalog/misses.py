"""What to say when a reference leads nowhere: the nearest names, who could have provided it, what to type next."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from difflib import get_close_matches

from zoo.catalog.names import BARE
from zoo.catalog.records import all_records
from zoo.catalog.suggestions import is_very_near, suggest
from zoo.errors import AmbiguousNameError, NotFoundError, ZooError
from zoo.plugin.rows import distribution_of
from zoo.plugin.state import PluginRecord, as_error
from zoo.refs import Ref
from zoo.specs import ModelSpec

SHOWN = 12


def no_model(connection: sqlite3.Connection, ref: Ref, text: str) -> ZooError:
    """There is no row of that name: in its namespace, or among the bare names."""
    plugins = all_records(connection)
    near = suggest(connection, text)
    if ref.namespace is None:
        aside = [plugin for plugin, _ in plugins if plugin.state != "ok" and plugin.namespace in BARE]
        return _no_name(ref, near, aside, text)
    known = [(plugin, status) for plugin, status in plugins if plugin.namespace == ref.namespace]
    if any(status == "installed" for _, status in known):
        return _no_name(ref, near, [], text)
    for plugin, status in known:
        if status != "available":  # nobody can say what it would have provided: most likely this
            return as_error(plugin)
    if known:
        return NotFoundError(
            f"{known[0][0].distribution} is not installed, and the {ref.name!r} asked of it is not among what it is "
            "known to have" + _meant(near),
            asked=text,
            fix=known[0][0].fix,
        )
    return _no_namespace(ref.namespace, near, [plugin.namespace for plugin, _ in plugins], text)


def no_checkpoint(text: str, where: str, model: ModelSpec, name: str) -> NotFoundError:
    """The model is there, the checkpoint asked for is not."""
    names = [checkpoint.name for checkpoint in model.checkpoints]
    if not names:
        return NotFoundError(f"{where} has no published weights, and so no checkpoint {name!r}", asked=text, fix=where)
    near = get_close_matches(name, names, n=1, cutoff=0.5) or names[:1]
    return NotFoundError(
        f"{where} has no checkpoint {name!r}", asked=text, found=", ".join(names), fix=f"{where}.{near[0]}"
    )


def no_version(text: str, model: ModelSpec, asked: int) -> NotFoundError:
    """The model is there in another contract version."""
    newer = asked > model.version
    return NotFoundError(
        f"version {asked} of {model.name} was asked for, version {model.version} is installed",
        asked=text,
        found=f"{model.name}@{model.version}",
        fix=f"{text.rpartition('@')[0]}@{model.version}, or install a{' newer' if newer else 'n older'} plugin",
    )


def not_that_kind(text: str, kind: str, wanted: Sequence[str]) -> NotFoundError:
    """There is such a name, but it is a neck where a model is wanted, or the like."""
    return NotFoundError(
        f"{text} is a {kind}, and a {' or a '.join(wanted)} is wanted here", asked=text, fix=f"zoo info {text}"
    )


def ambiguous(text: str, providers: Sequence[str]) -> AmbiguousNameError:
    """Several first-party plugins provide the name."""
    names = list(dict.fromkeys(providers))
    return AmbiguousNameError(
        f"{text!r} is the name of several models", asked=text, found=", ".join(names), fix=f"say which: {names[0]}"
    )


def _no_name(ref: Ref, near: list[str], aside: list[PluginRecord], text: str) -> NotFoundError:
    name = ref.name if ref.namespace is None else f"{ref.namespace}/{ref.name}"
    message = f"there is no model {name!r}" + _meant(near)
    for plugin in aside:
        message += (
            f"\n  {plugin.distribution} might have it, but is {plugin.state}: {plugin.reason} (try: {plugin.fix})"
        )
    fix = near[0] if near else "zoo list"
    if aside and not (near and is_very_near(near[0], ref.name)):
        fix = aside[0].fix
    elif near and near[0].rpartition("/")[2] == ref.name and ref.checkpoint:
        fix += f".{ref.checkpoint}"
    return NotFoundError(message, asked=text, fix=fix)


def _no_namespace(namespace: str, near: list[str], namespaces: list[str], text: str) -> NotFoundError:
    meant = get_close_matches(namespace, namespaces, n=1)
    found = list(dict.fromkeys(namespaces))
    return NotFoundError(
        f"no plugin {namespace!r} is installed" + (f"; did you mean {meant[0]!r}?" if meant else _meant(near)),
        asked=text,
        found="plugins " + ", ".join(found[:SHOWN]) + (" …" if len(found) > SHOWN else ""),
        fix=f"pip install {distribution_of(namespace)}",
    )


def _meant(near: list[str]) -> str:
    return f"; did you mean {', '.join(near[:-1]) + ' or ' + near[-1] if len(near) > 1 else near[0]}?" if near else ""
