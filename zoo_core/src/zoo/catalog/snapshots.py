"""What first-party plugins offer even where they are not installed: slim manifests inside core, one a namespace."""

from __future__ import annotations

import os

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "index", "snapshot")
"""Written by `python -m zoo.index.snapshot`."""


def snapshot_files() -> dict[str, str]:
    """Namespace → path of its slim manifest, by namespace."""
    try:
        names = sorted(os.listdir(FOLDER))
    except OSError:
        return {}
    return {name.removesuffix(".json"): os.path.join(FOLDER, name) for name in names if name.endswith(".json")}
