"""Rows of a manifest, for tests."""

from __future__ import annotations

from typing import Any


def checkpoint(name: str, **fields: Any) -> dict[str, Any]:
    """One checkpoint's row."""
    return {"name": name, "sources": [f"hf://org/{name}/model.safetensors"], "license": "Apache-2.0", **fields}
