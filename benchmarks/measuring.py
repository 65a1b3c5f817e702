"""How we measure: competitors take turns, so that a noisy machine is unfair to all of them alike."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import NamedTuple


class Table(NamedTuple):
    """One table of results: what was measured, how, and the rows as text."""

    title: str
    how: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def markdown(self) -> str:
        """The table as the documentation shows it."""
        lines = [f"## {self.title}", "", self.how, ""]
        lines += ["| " + " | ".join(self.columns) + " |", "|---" + "|---:" * (len(self.columns) - 1) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join(lines) + "\n"

    def text(self) -> str:
        """The table as the terminal shows it."""
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = [self.title]
        for row in (self.columns, *self.rows):
            cells = [
                cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  " + "  ".join(cells).rstrip())
        return "\n".join(lines)


def in_turns(competitors: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Every competitor once a round, each round starting with another one; one round before is not counted."""
    names = list(competitors)
    figures: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-1, rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            figure = competitors[name]()
            if number >= 0:
                figures[name].append(figure)
    return figures


def process_seconds(command: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """Wall-clock seconds of one whole process, from fork to its last word."""
    full = {**os.environ, **(environment or {})}
    start = time.perf_counter()
    subprocess.run(command, env=full, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def processes(
    commands: Mapping[str, Sequence[str]], rounds: int, environment: Mapping[str, str] | None = None
) -> dict[str, list[float]]:
    """Seconds of whole processes, in turns."""

    def measured(command: Sequence[str]) -> Callable[[], float]:
        return lambda: process_seconds(command, environment)

    return in_turns({name: measured(command) for name, command in commands.items()}, rounds)


def shown_seconds(seconds: float) -> str:
    """`12.3 ms` or `1.23 s`."""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def shown_ratio(ratio: float) -> str:
    """`2.9 x` or `140 x`."""
    return f"{ratio:.2f} x" if ratio < 10 else f"{ratio:.0f} x"


def machine() -> str:
    """The machine and the versions, one sentence for the top of the report."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    packages = ("torch", "torchvision", "timm", "transformers", "safetensors", "zoo-core")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    hardware = f"{_processor()}, {cores} cores, {_memory()}, load {os.getloadavg()[0]:.1f} before the start"
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{hardware}; {system}, {versions}."


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "unknown CPU")


def _memory() -> str:
    with open("/proc/meminfo", encoding="utf-8") as file:
        return f"{round(int(file.readline().split()[1]) / 2**20)} GiB"
