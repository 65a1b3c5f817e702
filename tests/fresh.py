"""Wheels of this workspace, and fresh environments that hold a wheel and what it declares to need: nothing else.

What a wheel needs is not downloaded again: every distribution that its metadata asks for, and that those ask for, is
linked into the fresh environment from the one that runs the tests. A dependency that nobody declares is missing there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def build_wheel(project: Path, folder: Path) -> Path:
    """The wheel of a project, built as pip would build it, with the build backend that is installed here."""
    before = set(folder.glob("*.whl"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(project)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    (wheel,) = set(folder.glob("*.whl")) - before
    return wheel


class Environment:
    """A fresh virtual environment with pip."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, capture_output=True, timeout=300)
        self.folder = folder
        self.python = str(folder / "bin" / "python")
        self.zoo = str(folder / "bin" / "zoo")
        self.packages = next(folder.glob("lib/python*/site-packages"))

    def install(self, *wheels: Path) -> None:
        """Install wheels with pip, after what they need and is not among them."""
        for wheel in wheels:
            (found,) = metadata.distributions(path=[str(wheel)])
            self._borrow(_needs(found), skip={_name(w.name.partition("-")[0]) for w in wheels})
        self.pip("install", "--no-index", "--no-deps", "--force-reinstall", *map(str, wheels))

    def link(self, distribution: str) -> None:
        """Link one installed distribution into this environment, without what it asks for."""
        found = metadata.distribution(distribution)
        for top in {file.parts[0] for file in found.files or () if file.parts[0] != ".."}:
            source, target = Path(str(found.locate_file(top))), self.packages / top
            if source.exists() and not target.exists():
                target.symlink_to(source)

    def borrow(self, *distributions: str) -> None:
        """Link installed distributions and everything they ask for."""
        self._borrow(distributions, skip=set())

    def pip(self, *words: str) -> str:
        """Run its pip; what it says."""
        return self.run("-m", "pip", "--disable-pip-version-check", *words)

    def run(self, *words: str, cwd: Path | None = None) -> str:
        """Run its Python outside the repository; what it prints. Raises `AssertionError` where it fails."""
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        done = subprocess.run(
            [self.python, *words], cwd=cwd or self.folder, env=environment, capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _borrow(self, names: Iterable[str], skip: set[str]) -> None:
        waiting, seen = list(names), set(skip)
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            self.link(name)
            waiting += _needs(metadata.distribution(name))


def _needs(distribution: metadata.Distribution) -> list[str]:
    """What it requires here, without extras."""
    requirements = [Requirement(text) for text in distribution.requires or ()]
    return [_name(r.name) for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]


def _name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()
