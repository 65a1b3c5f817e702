"""Boxes for the geometry tests: drawn by hypothesis, on a grid that makes ties and touching edges, or by a seed."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor


def box_sets(*, least: int = 0, most: int = 12, smallest_side: int = 0) -> st.SearchStrategy[Tensor]:
    """(N, 4) xyxy float32 with coordinates in halves from -10 to 50; sides from `smallest_side` halves to 20."""
    start, side = st.integers(-20, 60), st.integers(smallest_side, 40)
    rows = st.lists(st.tuples(start, start, side, side), min_size=least, max_size=most)
    return rows.map(
        lambda found: torch.tensor([(x, y, x + w, y + h) for x, y, w, h in found]).reshape(-1, 4).float() / 2
    )


def seeded_boxes(count: int, seed: int = 0, *, extent: float = 300.0, largest: float = 100.0) -> Tensor:
    """(count, 4) xyxy float32 with sides from 1 to `largest`, starting inside `extent`."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(count, 2, generator=generator) * extent
    return torch.cat((start, start + 1 + torch.rand(count, 2, generator=generator) * (largest - 1)), dim=1)
