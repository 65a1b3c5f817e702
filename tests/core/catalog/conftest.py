"""A site folder that is all the catalogue sees: nothing that happens to be installed here shows in these tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synthetic_plugins import Site


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The only folder on `sys.path` that holds distributions."""
    site = Site(tmp_path / "site")
    bare = [path for path in sys.path if not path.endswith("site-packages") and "/src" not in path]
    monkeypatch.setattr(sys, "path", [str(site.folder), *bare])
    return site


@pytest.fixture(scope="session")
def a_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of some environment, in which the snapshot has been read."""
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "ZOO_HOME": str(home)}
    subprocess.run([sys.executable, "-c", "import zoo; zoo.plugins()"], env=environment, check=True)
    (file,) = home.glob("catalog-*.sqlite")
    return file


@pytest.fixture(autouse=True)
def furnished_home(a_catalogue: Path, zoo_home: Path) -> None:
    """A catalogue for another environment lies in the home already: reading the snapshot anew takes a while."""
    shutil.copy(a_catalogue, zoo_home / "catalog-of-others.sqlite")


@pytest.fixture
def install(site: Site) -> Callable[..., Path]:
    """Install a plugin with these models, given as names or as fields: `install("acme", "tiny", {"name": "big"})`.

    Everything is made to look untouched for a while, so that a catalogue made of it stays fresh.
    """

    def installed(namespace: str, *models: str | dict[str, Any], **fields: Any) -> Path:
        rows = [{"name": model} if isinstance(model, str) else model for model in models]
        factory = f"zoo_{namespace}.tiny:Tiny"
        metadata = site.plugin(namespace, models=[{"factory": factory, **row} for row in rows], **fields)
        site.age()
        return metadata

    return installed
