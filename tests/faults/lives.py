"""One operation, one end: prepared once, copied for every life, lived to its end, and looked at by the next process."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from killing import Answer, End, Life, killed_after, lived, traced
from operations import Operation
from soundness import flaws

from zoo.checkpoints.repair import HARMLESS, verify
from zoo.checkpoints.store import Store
from zoo.versions.keeping import registered_versions


class Stage:
    """An operation with what is there before it.

    Args:
        folder: of its own; gets the prepared folder and a copy of it for each life.
        home: what `$ZOO_HOME` holds at first.
    """

    def __init__(self, operation: Operation, folder: Path, home: Path) -> None:
        self.operation = operation
        self.prepared, self.work = folder / "prepared", folder / "work"
        self.prepared.mkdir(parents=True)
        shutil.copytree(home, self.prepared / "home")
        lived(within(self.prepared, lambda answer: operation.prepare()))
        self.set_up()
        import_here(lived(within(self.work, self._imported))[-1])

    @cached_property
    def whole(self) -> Life:
        """A life to its natural end."""
        self.set_up()
        return traced(self._act(), str(self.work))

    def killed(self, end: End) -> Life:
        """A life that ends so; what it leaves is checked, and so is the next life, which needs no repair."""
        self.set_up()
        life = traced(self._act(), str(self.work), end)
        self.check(life.said)
        return life

    @cached_property
    def seconds(self) -> float:
        """How long a life takes."""
        self.set_up()
        begun = time.perf_counter()
        lived(self._act())
        return time.perf_counter() - begun

    def killed_after(self, seconds: float) -> Life:
        """A life that ends after a while; checked as well."""
        self.set_up()

        def begun(answer: Answer) -> None:
            answer(None)
            self._act()(answer)

        life = killed_after(begun, seconds)
        self.check(life.said[1:])
        return life

    def check(self, said: Sequence[Any]) -> None:
        """Fail unless everything acknowledged is there, nothing is half there, and the next process just works."""
        found = flaws(self.work)
        assert not found, "\n".join(found)

        def next_life(answer: Answer) -> None:
            damages = verify(Store(), registered_versions())
            assert not [damage for damage in damages if damage.kind not in HARMLESS], damages
            self.operation.check(said)
            again: list[Any] = []
            self.operation.act(again.append)
            self.operation.check([*said, *again])

        lived(within(self.work, next_life))
        found = flaws(self.work)
        assert not found, "\n".join(found)

    def _imported(self, answer: Answer) -> None:
        """Live once, for what is imported on the way."""
        before = set(sys.modules)
        said: list[Any] = []
        self.operation.act(said.append)
        self.operation.check(said)
        answer(sorted(set(sys.modules) - before))

    def _act(self) -> Callable[[Answer], None]:
        return within(self.work, lambda answer: self.operation.act(answer))

    def set_up(self) -> None:
        """The work folder as it was prepared."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.prepared, self.work, symlinks=True)


def import_here(modules: Sequence[str]) -> None:
    """Import modules in this process, so that no child spends its life on it."""
    for name in modules:
        with suppress(Exception):  # some are only there in the child
            importlib.import_module(name)


def within(folder: Path, act: Callable[[Answer], object]) -> Callable[[Answer], None]:
    """The same in that working folder, with its own `$ZOO_HOME`; for a child, since it changes the process."""

    def acted(answer: Answer) -> None:
        os.chdir(folder)
        os.environ["ZOO_HOME"] = str(folder / "home")
        act(answer)

    return acted
