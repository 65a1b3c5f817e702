"""Reading manifests with a memory: what the old catalogue was made from need not be read or parsed again."""

from __future__ import annotations

import json
import sqlite3
import time
from hashlib import sha256
from typing import NamedTuple

from zoo.errors import ManifestError
from zoo.plugin import manifest
from zoo.plugin.stamps import MISSING, RACY, Stamp, stamp
from zoo.specs import PluginSpec


class _Known(NamedTuple):
    plugin: int
    first: int
    last: int
    status: str
    digest: str
    header: str


class KnownManifests:
    """A reader of manifests; call it with a path.

    Attributes:
        digests: path → SHA-256 of every manifest read.
    """

    def __init__(self, connection: sqlite3.Connection | None) -> None:
        """`connection` has the old catalogue attached as `old`; None where there is no old one."""
        self.digests: dict[str, str] = {}
        self._connection = connection
        self._known: dict[str, _Known] = {}
        self._stamps: dict[str, Stamp] = {}
        if connection is not None:
            rows = connection.execute(
                "SELECT source, id, first, last, status, digest, header FROM old.plugins WHERE digest != ''"
            )
            self._known = {source: _Known(*rest) for source, *rest in rows}
            self._stamps = {row[0]: row for row in connection.execute("SELECT path, mtime, tag FROM old.stamps")}

    def __call__(self, path: str) -> PluginSpec:
        """The plugin a manifest describes, without models and schemas where the old catalogue has them.

        Raises `ManifestError` as `zoo.plugin.manifest.read` does.
        """
        known, now = self._known.get(path), stamp(path, time.time_ns())
        if known is not None and now[1] not in (MISSING, RACY) and self._stamps.get(path) == now:
            return self._remembered(path, known)
        data = manifest.content(path)
        digest = sha256(data).hexdigest()
        if known is not None and known.digest == digest:
            return self._remembered(path, known)
        self._known.pop(path, None)
        self.digests[path] = digest
        return manifest.parse(data)

    def whole(self, path: str, spec: PluginSpec) -> PluginSpec | None:
        """The same plugin with its models, where `spec` was remembered without; None if the file is gone meanwhile."""
        if path not in self._known:
            return spec
        try:
            data = manifest.content(path)
            self.digests[path] = sha256(data).hexdigest()
            return manifest.parse(data)
        except ManifestError:
            return None

    def old_rows(self, path: str, status: str) -> int | None:
        """The plugin's number in the old catalogue, if its rows there are still right."""
        known = self._known.get(path)
        return known.plugin if known is not None and known.status == status else None

    def model_names(self, path: str, spec: PluginSpec) -> list[str]:
        """The names of the plugin's models."""
        known = self._known.get(path)
        if known is None or self._connection is None:
            return [model.name for model in spec.models]
        rows = self._connection.execute(
            "SELECT name FROM old.models WHERE id BETWEEN ? AND ?", (known.first, known.last)
        )
        return [name for (name,) in rows]

    def _remembered(self, path: str, known: _Known) -> PluginSpec:
        self.digests[path] = known.digest
        return PluginSpec.from_dict(json.loads(known.header))
