"""Every test's home begins with the catalogue's cache in it: these tests are about something else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import zoo
from zoo.catalog import open_catalog


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with nothing but the catalogue's cache."""
    home = tmp_path_factory.mktemp("catalogue")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_HOME", str(home))
        open_catalog().plugins()
    return home


@pytest.fixture(autouse=True)
def warm_home(zoo_home: Path, catalogue: Path) -> Path:
    """`$ZOO_HOME`, with that cache."""
    for file in catalogue.glob("catalog-*"):
        shutil.copy2(file, zoo_home)
    return zoo_home


@pytest.fixture
def registry() -> zoo.ModelRegistry:
    """The user's own."""
    return zoo.ModelRegistry()
