"""The catalogue: every model that is installed or could be, as data in one SQLite file that is rebuilt when stale.

Listing, searching and resolving read only that file. `zoo list` pays for every import made here, so what it does not
need is loaded on first use.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from zoo.catalog.catalog import Catalog as Catalog, open_catalog as open_catalog
    from zoo.catalog.records import ModelInfo as ModelInfo, ModelRow as ModelRow, Resolved as Resolved

_HOMES = {
    "Catalog": "zoo.catalog.catalog",
    "ModelInfo": "zoo.catalog.records",
    "ModelRow": "zoo.catalog.records",
    "Resolved": "zoo.catalog.records",
    "open_catalog": "zoo.catalog.catalog",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'zoo.catalog' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
