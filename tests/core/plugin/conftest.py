"""Site folders for synthetic plugins."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from synthetic_plugins import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty site folder."""
    return Site(tmp_path / "site")


@pytest.fixture
def new_site(tmp_path: Path) -> Callable[[str], Site]:
    """Further site folders, by name."""
    return lambda name: Site(tmp_path / name)


@pytest.fixture
def installed(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site folder that stands first on `sys.path`; what is imported from it is forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(site.folder))
    yield site
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(site.folder)):
            del sys.modules[name]
