"""Synthetic distributions, written to disk as pip writes them: a site folder holds metadata folders and packages."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MODEL = """
    import torch
    from torch import nn

    import zoo
    from zoo.models.classifier import Classifier
    from zoo.models.config import ModelConfig

    class TinyConfig(ModelConfig):
        width: int = 4
        num_classes: int = 3

    class Maps(zoo.Backbone):
        def __init__(self, config):
            super().__init__(config)
            self.stem = nn.Conv2d(3, config.width, 4, stride=4)
            self.channels, self.strides = (config.width,), (4,)

        def forward(self, images):
            return [self.stem(images)]

    class Tiny(Classifier):
        Config = TinyConfig

        def __init__(self, config):
            super().__init__(config)
            self.stem = nn.Conv2d(3, config.width, 4, stride=4)
            self.head = nn.Linear(config.width, config.num_classes)

        @classmethod
        def as_backbone(cls, config, out_indices=None):
            return type("TinyMaps", (Maps,), {"Config": TinyConfig})(config)

    def not_a_class():
        pass

    class NotAModel:
        pass
"""
"""A model in twenty lines, with 3*4*4*width + width + (width + 1) * classes parameters."""


class Site:
    """A folder that stands on `sys.path`, with what is installed in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, files: Mapping[str, str | bytes]) -> None:
        """Files by path below the site folder; indentation common to all lines is taken off texts."""
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else textwrap.dedent(content).encode())

    def install(
        self, distribution: str, entry_points: str | bytes = "", *, version: str = "1.0", files: Mapping[str, Any] = {}
    ) -> Path:
        """A distribution of any kind; the path of its metadata folder."""
        metadata = f"{distribution.replace('-', '_')}-{version}.dist-info"
        head = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        self.write({f"{metadata}/METADATA": head, f"{metadata}/entry_points.txt": entry_points, **files})
        return self.folder / metadata

    def plugin(
        self,
        namespace: str,
        manifest: Any = None,
        *,
        distribution: str = "",
        files: Mapping[str, Any] = {},
        hooks: Sequence[str] | None = None,
        **fields: Any,
    ) -> Path:
        """A plugin with one model, by default a sound one; the path of its metadata folder.

        manifest: its text or its JSON value instead; `...` leaves the file out. hooks: those it declares; its module
        `hooks` is to come with `files`. fields: further manifest fields.
        """
        distribution = distribution or f"zoo-{namespace}"
        package = distribution.replace("-", "_")
        if manifest is None:
            manifest = manifest_of(namespace, distribution=distribution, **fields)
            manifest |= {"hooks": list(hooks)} if hooks else {}
        text = json.dumps(manifest) if isinstance(manifest, dict) else manifest
        entries = f"[zoo.plugins]\n{namespace} = {package}:zoo.json\n"
        entries += f"[zoo.hooks]\n{namespace} = {package}.hooks\n" if hooks is not None else ""
        tree: dict[str, Any] = {f"{package}/__init__.py": "", f"{package}/tiny.py": MODEL}
        tree |= {} if manifest is ... else {f"{package}/zoo.json": text}
        return self.install(distribution, entries, files={**tree, **{f"{package}/{k}": v for k, v in files.items()}})

    def age(self, seconds: int = 60) -> None:
        """Make everything look untouched for a while: what was touched just now is never trusted as unchanged."""
        for path in [self.folder, *self.folder.rglob("*")]:
            then = path.stat().st_mtime_ns - seconds * 10**9
            os.utime(path, ns=(then, then))


def manifest_of(namespace: str, **fields: Any) -> dict[str, Any]:
    """The JSON value of a sound manifest with one model."""
    distribution = fields.pop("distribution", "") or f"zoo-{namespace}"
    model = {"name": "tiny", "factory": f"{distribution.replace('-', '_')}.tiny:Tiny", "params": 211}
    return {"schema": 1, "namespace": namespace, "distribution": distribution, "models": [model], **fields}
