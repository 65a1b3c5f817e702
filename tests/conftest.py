"""Every test gets its own zoo home and none of the developer's zoo or hub settings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # each process of several has one core; before anything imports torch
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def zoo_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh `$ZOO_HOME`; other `ZOO_*` and hub variables are unset."""
    for name in list(os.environ):
        if name.startswith("ZOO_") or name in ("HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN"):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("zoo-home")
    monkeypatch.setenv("ZOO_HOME", str(home))
    yield home
    shutil.rmtree(home, ignore_errors=True)  # thousands of them are gigabytes


TOLLS: list[str] = []
"""What the fault tests of the other processes counted."""


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """Another process is done."""
    TOLLS.extend(getattr(node, "workeroutput", {}).get("faults", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what the fault tests did."""
    if TOLLS:
        terminalreporter.section("faults")
    for line in TOLLS:
        terminalreporter.line(line)
