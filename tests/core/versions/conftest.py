"""Every test's home begins with the catalogue's cache in it: these tests are about something else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

import zoo
from loopback_hub import TOKEN, LoopbackHub, running_hub
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


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    """A running hub that knows nothing of xet, with the client pointed at it and allowed to write."""
    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "127.0.0.1")
        for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # HF_HUB_DISABLE_XET=1, which is read at import
        yield hub
