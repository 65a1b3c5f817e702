"""Every test gets its own zoo home and none of the developer's zoo or hub settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def zoo_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh `$ZOO_HOME`; other `ZOO_*` and hub variables are unset."""
    for name in list(os.environ):
        if name.startswith("ZOO_") or name in ("HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN"):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("zoo-home")
    monkeypatch.setenv("ZOO_HOME", str(home))
    return home
