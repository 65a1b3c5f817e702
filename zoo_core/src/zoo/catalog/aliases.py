"""The user's own short names for models, in `aliases.json` in the zoo's home. Read anew each time: never stale."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping

from zoo.catalog.catalog import open_catalog
from zoo.errors import NotFoundError, RefError, ZooError
from zoo.paths import home
from zoo.refs import parse


def user_aliases() -> dict[str, str]:
    """Alias → reference. A missing file, and a spoilt one, means none."""
    try:
        return _read()
    except ZooError:  # a spoilt file must not keep anyone from building a model by its own name
        return {}


def set_alias(alias: str, ref: str) -> str:
    """Let `alias` mean `ref`, in every later process of this user. Returns the reference as it was understood.

    Raises:
        RefError: the alias is not a plain name.
        ZooError: it would change what a first-party name means, or the file cannot be read or written.
        NotFoundError, PluginError …: `ref` leads to no usable model.
    """
    if parse(alias) != (alias, None, None, None):
        raise RefError(
            "an alias is one word: lower-case letters, digits and '_'", asked=alias, fix="for example my_net"
        )
    catalog = open_catalog()
    taken = catalog.first_party(alias)
    if taken:
        raise ZooError(
            f"{alias!r} already means {taken}, and a name of ours keeps its meaning", asked=alias, fix=f"my_{alias}"
        )
    aliases = {name: target for name, target in _read().items() if name != alias}
    target = aliases.get(ref, ref)  # so that no alias ever leads to another
    catalog.resolve(target, kinds=("model", "backbone", "neck", "head"))
    _write({**aliases, alias: target})
    return target


def remove_alias(alias: str) -> None:
    """Forget an alias. Raises `NotFoundError` where there is none."""
    aliases = _read()
    if alias not in aliases:
        raise NotFoundError(f"you have no alias {alias!r}", found=", ".join(sorted(aliases)) or "none at all")
    del aliases[alias]
    _write(aliases)


def _path() -> str:
    return os.path.join(home(), "aliases.json")


def _read() -> dict[str, str]:
    try:
        with open(_path(), encoding="utf-8") as stream:
            found = json.load(stream)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise _spoilt(str(error)) from error
    if not isinstance(found, dict) or not all(isinstance(ref, str) for ref in found.values()):
        raise _spoilt("it is not an object of strings")
    return found


def _spoilt(why: str) -> ZooError:
    return ZooError(f"your aliases cannot be read: {why[:200]}", found=_path(), fix="mend the file, or delete it")


def _write(aliases: Mapping[str, str]) -> None:
    """Replace all of them at once: another process sees the old file or the new one, never half of it."""
    text = json.dumps(dict(sorted(aliases.items())), indent=1, ensure_ascii=False) + "\n"
    try:
        os.makedirs(home(), exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=home(), prefix=".aliases-", suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, _path())
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise ZooError(
            f"the alias cannot be kept: {error.strerror}",
            found=_path(),
            fix="export ZOO_HOME=a/folder/you/may/write/to",
        ) from error
