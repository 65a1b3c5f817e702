"""A loopback hub with the client pointed at it, and a store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loopback_hub import LoopbackHub, running_hub
from zoo.checkpoints.store import Store


@pytest.fixture
def store(zoo_home: Path) -> Store:
    """The store in this test's own home."""
    return Store()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    """A running hub, with `HF_ENDPOINT` and an empty `HF_HOME`."""
    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "127.0.0.1")
        for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
            monkeypatch.delenv(name, raising=False)
        yield hub
