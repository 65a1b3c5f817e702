"""What `zoo plugin check` says: everything an author has to mend before a plugin can be published."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from email import message_from_bytes
from typing import Any, NamedTuple

from zoo.errors import ZooError
from zoo.plugin.compile import Compiled, compile_plugin
from zoo.plugin.doctor import examine
from zoo.plugin.hooks import HOOKS
from zoo.plugin.project import Project, find_project, importable
from zoo.plugin.rows import distribution_of
from zoo.plugin.scanner import normalized, scan
from zoo.plugin.state import PluginRecord
from zoo.specs import PluginSpec


class Finding(NamedTuple):
    """One thing to mend. rule: `catalog`, `manifest`, `entry-point`, `hooks`, `build`, `readme` or `license`."""

    rule: str
    message: str
    fix: str


class _Metadata(NamedTuple):
    """What a distribution says about itself, in its `pyproject.toml` or, once installed, in its `METADATA`."""

    where: str
    name: str
    plugins: Mapping[str, str]
    hooks: Mapping[str, str]
    readme: bool
    license: bool


def check(target: str, *, full: bool = False) -> list[Finding]:
    """Everything that is wrong with a plugin; an empty list if it may be published.

    Args:
        target: a project folder, a module such as `zoo_cnn.catalog`, or an installed namespace.
        full: measure every model again instead of those whose rows have changed.

    Raises:
        NotFoundError: there is no catalogue at `target`.
    """
    project = find_project(target)
    try:
        compiled = compile_plugin(target, full=full)
    except ZooError as error:
        asked = f" ({error.asked})" if error.asked else ""
        return [Finding("catalog", error.message + asked, error.fix or f"edit {project.catalog}")]
    return [
        *_check_manifest(compiled, target),
        *_check_metadata(project, compiled.spec),
        *_check_builds(project, compiled.spec),
    ]


def _check_manifest(compiled: Compiled, target: str) -> Iterator[Finding]:
    if not compiled.changed:
        return
    there = os.path.isfile(compiled.path)
    message = "is not what its catalogue compiles to" if there else "is not there"
    yield Finding("manifest", f"{compiled.path} {message}", f"zoo plugin compile {target}")


def _check_builds(project: Project, spec: PluginSpec) -> Iterator[Finding]:
    record = PluginRecord(spec.namespace, spec.distribution, "", location=project.package)
    with importable(project):
        found = examine(record, spec).record
    if found.state != "ok":
        yield Finding(
            "build", f"{found.state}: {found.reason}", f"mend it and run `zoo plugin check {project.package}`"
        )


def _check_metadata(project: Project, spec: PluginSpec) -> Iterator[Finding]:
    metadata = _of_project(project) if project.folder else _of_installation(project)
    if metadata is None:
        yield Finding("entry-point", f"no distribution provides {project.package}", f"pip install {spec.distribution}")
        return
    where, owner = metadata.where, distribution_of(spec.namespace)
    if normalized(metadata.name) != owner:
        message = (
            f"{where}: the namespace {spec.namespace!r} belongs to the distribution {owner}, not {metadata.name!r}"
        )
        yield Finding("entry-point", message, f'name = "{owner}"')
    package = project.catalog.rpartition(".")[0]
    declared = {spec.namespace: f"{package}:zoo.json"}
    if metadata.plugins != declared:
        message = f"{where}: the entry points of zoo.plugins are {dict(metadata.plugins)}, not {declared}"
        yield Finding(
            "entry-point", message, f'[project.entry-points."zoo.plugins"] {spec.namespace} = "{package}:zoo.json"'
        )
    yield from _check_hooks(spec, metadata)
    if not metadata.readme:
        yield Finding("readme", f"{where}: there is no README", 'readme = "README.md"')
    if not metadata.license:
        yield Finding("license", f"{where}: no licence is named", 'license = "Apache-2.0"')


def _check_hooks(spec: PluginSpec, metadata: _Metadata) -> Iterator[Finding]:
    for hook in spec.hooks:
        if hook not in HOOKS:
            yield Finding("hooks", f"there is no hook {hook!r}", f"hooks are {', '.join(HOOKS)}")
    if bool(spec.hooks) != (spec.namespace in metadata.hooks):
        message = "hooks need both PluginSpec(hooks=…) and an entry point of zoo.hooks"
        example = f'{spec.namespace} = "{spec.distribution.replace("-", "_")}.hooks"'
        yield Finding("hooks", f"{metadata.where}: {message}", f'[project.entry-points."zoo.hooks"] {example}')


def _of_project(project: Project) -> _Metadata:
    path = os.path.join(project.folder, "pyproject.toml")
    try:
        with open(path, "rb") as stream:
            table: dict[str, Any] = tomllib.load(stream).get("project", {})
    except (OSError, ValueError):
        table = {}
    entry_points = table.get("entry-points", {})
    dynamic = table.get("dynamic", [])
    readme = table.get("readme", "")
    file = readme.get("file", "") if isinstance(readme, dict) else readme
    return _Metadata(
        path,
        str(table.get("name", "")),
        entry_points.get("zoo.plugins", {}),
        entry_points.get("zoo.hooks", {}),
        "readme" in dynamic or (bool(file) and os.path.isfile(os.path.join(project.folder, file))),
        bool(table.get("license")) or "license" in dynamic,
    )


def _of_installation(project: Project) -> _Metadata | None:
    top = project.catalog.partition(".")[0]
    entries = [e for e in scan().entries if e.value.partition(":")[0].partition(".")[0].strip() == top]
    if not entries:
        return None
    folder = entries[0].path
    try:
        with open(os.path.join(folder, "METADATA"), "rb") as stream:
            message = message_from_bytes(stream.read())
    except OSError:
        message = message_from_bytes(b"")
    groups = {group: {e.name: e.value for e in entries if e.group == group} for group in ("zoo.plugins", "zoo.hooks")}
    readme = bool(str(message.get_payload()).strip() or message["Description"])
    license = bool(message["License-Expression"] or message["License"])
    return _Metadata(folder, entries[0].distribution, groups["zoo.plugins"], groups["zoo.hooks"], readme, license)
