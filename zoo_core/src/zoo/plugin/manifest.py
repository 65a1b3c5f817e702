"""Manifests: found without importing their package, read as the work of a stranger, written in one canonical form."""

from __future__ import annotations

import json
import os
import stat
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from zoo.errors import ManifestError
from zoo.plugin.rows import validate
from zoo.plugin.scanner import EntryPoint, folders
from zoo.specs import MANIFEST_SCHEMA, PLUGIN_API, PluginSpec

MAX_BYTES = 64 << 20
MAX_DEPTH = 32
MAX_INTEGER = 2**63 - 1


class IncompatibleError(ManifestError):
    """A manifest written for another layout or another plugin API.

    Attributes:
        core_is_old: whether a newer core would do; otherwise the plugin is too old.
    """

    core_is_old: bool = False


class NoManifestError(ManifestError):
    """The file an entry point names is not there; `found` is its path where its package is."""


def locate(entry: EntryPoint, paths: Iterable[str] | None = None) -> str:
    """The path of the manifest `package:file` that an entry point names; the package is not imported.

    Args:
        entry: an entry point of the group `zoo.plugins`.
        paths: folders to look for the package in; by default `sys.path`, and then whatever import hooks know.

    Raises:
        NoManifestError: the package or the file is not there.
        ManifestError: the entry point's value is not `package:file` with a plain file inside the package.
    """
    package, colon, file = entry.value.partition(":")
    package, file = package.strip(), file.strip()
    if not colon or not all(map(str.isidentifier, package.split("."))) or not _is_plain(file):
        raise ManifestError(
            "the entry point's value is not `package:file.json` with a file inside the package", found=entry.value[:200]
        )
    homes = _package_folders(package, folders(paths))
    if not homes and paths is None:
        homes = _hooked_folders(package)
    if not homes:
        raise NoManifestError(f"the package `{package}` is not on sys.path")
    for home in homes:
        path = os.path.join(home, *file.split("/"))
        if os.path.exists(path):
            return path
    raise NoManifestError(f"there is no `{file}` in the package `{package}`", found=os.path.join(homes[0], file))


def read(path: str) -> PluginSpec:
    """The plugin a manifest describes.

    Raises:
        NoManifestError: there is no such file.
        IncompatibleError: it is for another plugin API or of a newer layout; nothing else in it was looked at.
        ManifestError: it is not a valid manifest; the place in the file is named.
    """
    return parse(content(path))


def content(path: str) -> bytes:
    """The bytes of a manifest, for `parse`. Raises as `read` does."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ManifestError("the manifest is not a file")
        if status.st_size > MAX_BYTES:
            raise ManifestError(f"the manifest has {status.st_size:,} bytes; at most {MAX_BYTES:,} are read")
        with open(path, "rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise NoManifestError("there is no such file", found=path) from None
    except OSError as error:
        raise ManifestError(f"the manifest cannot be read: {error.strerror}") from None


def read_header(path: str) -> PluginSpec:
    """The plugin without its models and schemas, which are not looked at. Raises as `read` does."""
    header = _json(content(path))
    for rows in ("models", "schemas"):
        header.pop(rows, None)
    return _spec(header)


def parse(data: bytes) -> PluginSpec:
    """`read` from the file's content."""
    return _spec(_json(data))


def write(spec: PluginSpec) -> str:
    """The canonical manifest: keys sorted, no time stamps, so that equal specs give equal bytes."""
    return canonical({"schema": MANIFEST_SCHEMA, **spec.to_dict()}) + "\n"


def canonical(value: Any) -> str:
    """The one JSON text of a value. Raises `ManifestError` where it has none."""
    try:
        return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ManifestError(f"not plain JSON data: {error}") from error


def _is_plain(file: str) -> bool:
    parts = file.split("/")
    return file.isprintable() and "\\" not in file and ":" not in file and not {"", ".", ".."} & set(parts)


def _package_folders(package: str, paths: Sequence[str]) -> list[str]:
    """The folders of a package: the one the import system would take, or all parts of a namespace package."""
    parts: list[str] = []
    for path in paths:
        folder = os.path.join(path, *package.split("."))
        if os.path.isfile(os.path.join(folder, "__init__.py")):
            return [folder]
        if os.path.isdir(folder):
            parts.append(folder)
    return parts


def _hooked_folders(package: str) -> list[str]:
    """Where import hooks (editable installs of some build tools) keep a package. Nothing is imported."""
    from importlib.util import find_spec

    top, *rest = package.split(".")
    try:
        spec = find_spec(top)
    except Exception:  # a stranger's import hook may raise anything
        return []
    known = list(spec.submodule_search_locations or ()) if spec else []
    return [folder for folder in (os.path.join(location, *rest) for location in known) if os.path.isdir(folder)]


def _json(data: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_not_a_number,
        )
    except UnicodeDecodeError as error:
        raise ManifestError(f"not UTF-8: byte {error.start}") from None
    except RecursionError:
        raise ManifestError("nested too deep") from None
    except ValueError as error:  # JSONDecodeError, and integers of thousands of digits
        raise ManifestError(f"not JSON: {error}") from None
    if not isinstance(manifest, dict):
        raise ManifestError(f"expected an object, found {type(manifest).__name__}")
    return manifest


def _spec(manifest: dict[str, Any]) -> PluginSpec:
    _check_values(manifest)
    _check_compatible(manifest)
    del manifest["schema"]
    spec = PluginSpec.from_dict(manifest)
    validate(spec)
    return spec


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return values


def _not_a_number(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _check_values(manifest: dict[str, Any]) -> None:
    """Refuse what would hurt later: depth, numbers no database takes, and characters that command a terminal."""
    level: list[Any] = [manifest]
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for value in level:
            if isinstance(value, str):
                _check_text(value)
            elif isinstance(value, dict):
                deeper += value
                deeper += value.values()
            elif isinstance(value, list):
                deeper += value
            elif isinstance(value, float) and not -sys.float_info.max <= value <= sys.float_info.max:
                raise ManifestError(f"the number {value} is not finite")
            elif isinstance(value, int) and abs(value) > MAX_INTEGER:
                raise ManifestError(f"the number {str(value)[:20]}… has more than 64 bits")
        if not deeper:
            return
        level = deeper
    raise ManifestError(f"nested more than {MAX_DEPTH} deep")


def _check_text(text: str) -> None:
    if text.isprintable():
        return
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cf", "Cs") and character not in "\n\t":
            raise ManifestError(
                f"the character {ord(character):#06x} has no place in a manifest", found=ascii(text)[:80]
            )


def _check_compatible(manifest: dict[str, Any]) -> None:
    schema = manifest.get("schema")
    if type(schema) is not int or schema < 1:
        raise ManifestError(f"`schema` is not the number of a manifest layout: {str(schema)[:40]}")
    if schema != MANIFEST_SCHEMA:
        raise _incompatible(f"the manifest's layout is {schema}", f"{MANIFEST_SCHEMA}", schema > MANIFEST_SCHEMA)
    api = manifest.get("api", [PLUGIN_API, PLUGIN_API])
    if not isinstance(api, list) or len(api) != 2 or any(type(v) is not int for v in api) or api[0] > api[1]:
        raise ManifestError("`api` is not [lowest, highest]", found=str(api)[:80])
    if not api[0] <= PLUGIN_API <= api[1]:
        needs = f"{api[0]}" if api[0] == api[1] else f"{api[0]} to {api[1]}"
        raise _incompatible(f"it needs plugin API {needs}", f"{PLUGIN_API}", api[0] > PLUGIN_API)


def _incompatible(needs: str, ours: str, core_is_old: bool) -> IncompatibleError:
    error = IncompatibleError(f"{needs}, this core speaks {ours}")
    error.core_is_old = core_is_old
    return error
