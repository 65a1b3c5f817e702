"""Saving and loading a training checkpoint, against torch.save and torch.load of the same state."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import nn

import zoo
from benchmarks.measuring import Table, in_turns, shown_ratio, shown_seconds

WIDTH = 1024


def checkpointing(quick: bool) -> list[Table]:
    """One table: seconds of a save, of what training is held up for in the background, and of a load."""
    model, optimizer = _trained(layers=8 if quick else 40)
    size = sum(p.numel() * p.element_size() for p in model.parameters()) * 3  # the two averages of AdamW
    with tempfile.TemporaryDirectory() as folder:
        figures = in_turns(_competitors(model, optimizer, Path(folder)), 3 if quick else 7)
    middles = {name: median(found) for name, found in figures.items()}
    rows = []
    for name, middle in middles.items():
        peer = middles["torch.load" if "load" in name else "torch.save, synced"]
        rows.append((name, shown_seconds(middle), shown_ratio(middle / peer)))
    return [
        Table(
            "A training checkpoint",
            f"A model and its AdamW state, {size / 2**20:.0f} MiB together. save_checkpoint hashes every file and "
            "syncs it to the disk; torch.save does neither, so it is shown with a sync too. In the background: how "
            "long save holds training up. load_checkpoint compares every digest. Medians, in turns.",
            ("what", "time", "÷ torch"),
            rows,
        )
    ]


def _trained(layers: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(layers)))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.rand(2, WIDTH)).sum().backward()
    optimizer.step()
    return model, optimizer


def _competitors(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> dict[str, Callable[[], float]]:
    file, run = folder / "state.pt", folder / "run"
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "kept.pt")
    zoo.save_checkpoint(model, optimizer, 1, path=folder / "kept")

    def pickled() -> None:
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 1}, file)

    def pickled_and_synced() -> None:
        pickled()
        with open(file, "rb") as opened:
            os.fsync(opened.fileno())

    def unpickled() -> None:
        state = torch.load(folder / "kept.pt", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])

    def saved_in_the_background() -> float:
        with zoo.CheckpointSaver(run, background=True) as saver:
            start = time.perf_counter()
            saver.save(model, optimizer, 1)
            blocked = time.perf_counter() - start
        shutil.rmtree(run)
        return blocked

    return {
        "torch.save": _timed(pickled),
        "torch.save, synced": _timed(pickled_and_synced),
        "zoo.save_checkpoint": _timed(lambda: zoo.save_checkpoint(model, optimizer, 1, path=run), run),
        "zoo.CheckpointSaver in the background": saved_in_the_background,
        "torch.load": _timed(unpickled),
        "zoo.load_checkpoint": _timed(lambda: zoo.load_checkpoint(folder / "kept", model, optimizer)),
    }


def _timed(action: Callable[[], object], leftover: Path | None = None) -> Callable[[], float]:
    def run() -> float:
        start = time.perf_counter()
        action()
        seconds = time.perf_counter() - start
        if leftover is not None:
            shutil.rmtree(leftover)
        return seconds

    return run
