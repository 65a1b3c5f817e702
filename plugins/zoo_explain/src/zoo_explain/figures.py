"""Rows of maps as one matplotlib figure, without pyplot and its global state."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from os import PathLike

from matplotlib.figure import Figure
from torch import Tensor

from zoo.errors import InputError

_INCHES = 2.2


def map_figure(maps: Sequence[Tensor], titles: Sequence[str], *, columns: int, colours: str = "viridis") -> Figure:
    """Maps in rows of that many columns, each with its own scale of colours, under their titles.

    Args:
        maps: (h, w) each, or pixels (H, W, 3) in [0, 1].
    """
    rows = math.ceil(len(maps) / columns)
    figure = Figure(figsize=(_INCHES * columns, (_INCHES + 0.3) * rows), layout="tight")
    for number, (values, title) in enumerate(zip(maps, titles, strict=True), start=1):
        axes = figure.add_subplot(rows, columns, number)
        axes.imshow(values.detach().float().cpu().numpy(), cmap=colours, interpolation="nearest")
        axes.set_title(title, fontsize=8)
        axes.set_axis_off()
    return figure


def save_figure(figure: Figure, path: str | PathLike[str] | None) -> None:
    """Write a figure, complete or not at all; the format is the file's ending. Raises `InputError`."""
    if path is None:
        return
    target = os.fspath(path)
    stem, ending = os.path.splitext(target)
    if ending[1:].lower() not in figure.canvas.get_supported_filetypes():
        raise InputError(f"no figures are written as {ending!r}", asked=target, fix=f"{stem}.png")
    partial = f"{target}.{os.getpid()}.partial"
    try:
        figure.savefig(partial, format=ending[1:].lower(), dpi=150)
        os.replace(partial, target)
    except OSError as error:
        raise InputError(f"the figure cannot be written: {error}", asked=target, fix="another path") from None
    finally:  # also when interrupted
        if os.path.exists(partial):
            os.unlink(partial)
