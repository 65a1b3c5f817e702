"""Discovery: every installed plugin with its state. One broken plugin never hides another."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from importlib import invalidate_caches
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import NamedTuple

from zoo.errors import ManifestError
from zoo.plugin import manifest
from zoo.plugin.rows import distribution_of
from zoo.plugin.scanner import EntryPoint, Scan, scan
from zoo.plugin.stamps import Stamp, stamp
from zoo.plugin.state import PluginRecord
from zoo.specs import PluginSpec


class Discovery(NamedTuple):
    """Every installed plugin, the readable ones with what they declare, and what all of it was read from."""

    plugins: list[tuple[PluginRecord, PluginSpec | None]]
    fingerprint: list[Stamp]


class Switches(NamedTuple):
    """What the user allows: `ZOO_NO_PLUGINS=1` leaves only the core, `ZOO_PLUGINS=a,b` only those."""

    no_plugins: bool
    allowed: tuple[str, ...]

    @classmethod
    def of_environment(cls) -> Switches:
        """As the environment variables say now; an empty one says nothing."""
        no_plugins = os.environ.get("ZOO_NO_PLUGINS", "").strip().lower() not in ("", "0", "false", "no")
        allowed = [name.strip() for name in os.environ.get("ZOO_PLUGINS", "").split(",")]
        return cls(no_plugins, tuple(filter(None, allowed)))


def discover(paths: Iterable[str] | None = None, read: Callable[[str], PluginSpec] = manifest.read) -> Discovery:
    """Find every plugin installed on `paths` (default: `sys.path`). Imports none of them and never raises for one.

    `read` is how a manifest is read, for a caller that remembers some: it answers and raises as `manifest.read` does.
    """
    paths = None if paths is None else list(paths)
    return inspect(scan(paths), paths, read)


def inspect(
    found: Scan, paths: list[str] | None = None, read: Callable[[str], PluginSpec] = manifest.read
) -> Discovery:
    """The plugins among the scanned entry points."""
    switches = Switches.of_environment()
    fingerprint = list(found.fingerprint)
    plugins: list[tuple[PluginRecord, PluginSpec | None]] = []
    importable = _Importable(paths)
    seen: set[tuple[str, str]] = set()
    for entry in found.entries:
        if entry.group != "zoo.plugins":
            continue
        record = PluginRecord(entry.name, entry.distribution, entry.version, location=entry.path)
        try:
            record, spec = _inspect(entry, record, switches, importable, paths, read, fingerprint)
        except Exception as error:  # whatever it is, it is this plugin's alone
            reason = f"{type(error).__name__}: {error}"
            record, spec = record.quarantined("invalid-manifest", reason, _mend(entry, record.manifest)), None
        if (entry.name, entry.distribution) in seen:
            record, spec = _conflict(record, f"its entry points name {entry.name!r} twice"), None
        seen.add((entry.name, entry.distribution))
        plugins.append((record, spec))
    return Discovery(plugins, fingerprint)


def _inspect(
    entry: EntryPoint,
    record: PluginRecord,
    switches: Switches,
    importable: _Importable,
    paths: list[str] | None,
    read: Callable[[str], PluginSpec],
    fingerprint: list[Stamp],
) -> tuple[PluginRecord, PluginSpec | None]:
    off = _why_off(record, switches)
    if off:
        return record.quarantined("disabled", *off), None
    owner = distribution_of(entry.name)
    if entry.distribution != owner:  # a liar's manifest is not even opened
        return _conflict(record, f"the namespace {entry.name!r} belongs to the distribution {owner}"), None
    now = time.time_ns()
    try:
        record = record._replace(manifest=manifest.locate(entry, paths))
        fingerprint.append(stamp(record.manifest, now))
        spec = read(record.manifest)
    except manifest.NoManifestError as error:
        fingerprint += [stamp(error.found, now)] if error.found else []  # so that its coming is noticed
        return record.quarantined("manifest-missing", error.message, _mend(entry, error.found or "")), None
    except manifest.IncompatibleError as error:
        behind = "zoo-core" if error.core_is_old else entry.distribution
        return record.quarantined("incompatible", error.message, f"pip install --upgrade {behind}"), None
    except ManifestError as error:
        return record.quarantined("invalid-manifest", error.message, _mend(entry, record.manifest)), None
    if spec.namespace != entry.name:
        return _conflict(record, f"its manifest says {spec.namespace!r}, its entry point {entry.name!r}"), None
    missing = [name for name in spec.requires if not importable(name)]
    if missing:
        reason = f"it needs {', '.join(missing)}, which is not installed"
        return record.quarantined("missing-deps", reason, f"pip install {entry.distribution}"), spec
    return record, spec


def _why_off(record: PluginRecord, switches: Switches) -> tuple[str, str] | None:
    """(reason, fix) where the user has switched this plugin off. The core is always on."""
    if (record.namespace, record.distribution) == ("core", "zoo-core"):
        return None
    if switches.no_plugins:
        return "ZOO_NO_PLUGINS is set", "unset ZOO_NO_PLUGINS"
    if switches.allowed and record.namespace not in switches.allowed:
        wider = ",".join((*switches.allowed, record.namespace))
        return "ZOO_PLUGINS does not name it", f"export ZOO_PLUGINS={wider}"
    return None


def _conflict(record: PluginRecord, reason: str) -> PluginRecord:
    return record.quarantined("namespace-conflict", reason, f"pip uninstall {record.distribution}")


def _mend(entry: EntryPoint, file: str) -> str:
    """The author of an editable plugin compiles its manifest; everyone else installs the published one again."""
    installed = os.path.dirname(entry.path) + os.sep
    if file and not file.startswith(installed):
        return f"zoo plugin compile {entry.value.partition(':')[0].strip()}.catalog"
    return f"pip install --force-reinstall --no-deps {entry.distribution}"


class _Importable:
    """Whether a package could be imported from these paths, asked without importing anything, each name once."""

    def __init__(self, paths: list[str] | None) -> None:
        self.paths = paths
        self.known: dict[str, bool] = {}

    def __call__(self, name: str) -> bool:
        top = name.partition(".")[0]  # finding a submodule would import its parent
        if top not in self.known:
            if not self.known:
                invalidate_caches()  # a package installed while this process runs
            self.known[top] = self._find(top)
        return self.known[top]

    def _find(self, top: str) -> bool:
        if top in sys.builtin_module_names:
            return True
        try:
            return (find_spec(top) if self.paths is None else PathFinder.find_spec(top, self.paths)) is not None
        except Exception:  # a stranger's import hook may raise anything
            return False
