"""Heat maps: how much each pixel of a picture matters, as a result like any other.

cells (r, c) of a layer -> the model's input (h, w) -> heat (H, W) of the original, through the inverse of its frame
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.errors import InputError
from zoo.models.plots import draw_ranking
from zoo.models.preprocessing import Frame
from zoo.models.results import Result

_STRONGEST = 0.65  # how much of the picture the hottest pixel's colour hides

NOTHING = "nothing in this layer speaks for it"
"""Said of heat that is zero everywhere."""


@dataclass(frozen=True, kw_only=True, repr=False)
class HeatMap(Result):
    """Where in a picture something is found.

    heat: (H, W) float32 in [0, 1], of the original's pixels; 0 where preprocessing cropped them away. method: `gradcam`
    or `rollout`. layer: the path of the layer; at_input: it is what the layer is given. class_id, class_name,
    probability: of the class it is about; None and empty where it is about none.
    """

    heat: Tensor = field(compare=False)
    method: str
    layer: str = ""
    at_input: bool = False
    class_id: int | None = None
    class_name: str = ""
    probability: float | None = None

    @classmethod
    def from_cells(cls, cells: Tensor, frame: Frame, *, method: str) -> Self:
        """The heat of cells (r, c), none negative, that cover the model's input evenly; the hottest becomes 1."""
        cells = cells.detach().double().cpu()
        peak = float(cells.max())
        heat = to_original(cells / peak if peak > 0 else cells, frame)
        return cls(source=frame.source, size=frame.size, frame=frame, heat=heat, method=method)

    @property
    def peak(self) -> tuple[int, int] | None:
        """The hottest pixel, (x, y); None where nothing is hot."""
        if not self.heat.any():
            return None
        y, x = divmod(int(self.heat.argmax()), self.heat.shape[1])
        return x, y

    def hot_box(self, threshold: float = 0.5) -> tuple[int, int, int, int] | None:
        """The smallest box (x1, y1, x2, y2) around every pixel of at least that heat; None where there is none."""
        rows, columns = ((self.heat >= threshold) & (self.heat > 0)).nonzero(as_tuple=True)
        if not len(rows):
            return None
        return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1

    def heat_share(self, box_xyxy: Sequence[float]) -> float:
        """The share of all heat that is inside a box, in pixels of the original; a pixel counts by its centre.

        Raises:
            InputError: no box (x1, y1, x2, y2) with x1 < x2 and y1 < y2.
        """
        if len(box_xyxy) != 4 or not (box_xyxy[0] < box_xyxy[2] and box_xyxy[1] < box_xyxy[3]):
            raise InputError("a box is (x1, y1, x2, y2), x1 < x2 and y1 < y2", asked=str(tuple(box_xyxy)))
        left, top, right, bottom = box_xyxy
        x, y = (torch.arange(side) + 0.5 for side in (self.heat.shape[1], self.heat.shape[0]))
        inside = ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))
        total = float(self.heat.sum())
        return float(self.heat[inside].sum()) / total if total > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: where the heat is, without the map itself."""
        return super().to_dict() | {
            "method": self.method,
            "layer": self.layer or None,
            "at_input": self.at_input,
            "class_id": self.class_id,
            "label": self.class_name or None,
            "probability": self.probability,
            "peak": None if (peak := self.peak) is None else list(peak),
            "hot_box": None if (box := self.hot_box()) is None else list(box),
        }

    def __repr__(self) -> str:
        lines = [f"{self.source or 'image'} ({self.size[1]} x {self.size[0]})"]
        if self.probability is not None:
            lines.append(f"  {self.probability:7.2%}  {self.class_name}  {self.class_id}")
        where = f" of {self.layer}" + (" (what it is given)" if self.at_input else "") if self.layer else ""
        found = f"hottest at {self.peak}, hot within {self.hot_box()}" if self.peak else NOTHING
        lines.append(f"  {self.method}{where}: {found}")
        return "\n".join(lines)

    def _draw(self, photo: Image.Image) -> Image.Image:
        picture = overlaid(photo, self.heat)
        if self.probability is None:
            return picture
        return draw_ranking(picture, [(self.class_name, self.probability)])


def to_original(cells: Tensor, frame: Frame) -> Tensor:
    """Cells (r, c) over the model's input → (H, W) float32 over the original: bilinear, 0 outside of the input."""
    x, y = (_weights(frame.size[1 - axis], cells.shape[1 - axis], frame, axis) for axis in (0, 1))  # (W, c) and (H, r)
    return (y @ cells.double().cpu() @ x.T).float()


def overlaid(photo: Image.Image, heat: Tensor) -> Image.Image:
    """The photo under the colours of its heat (H, W) in [0, 1]; what is cold stays as it is."""
    from matplotlib import colormaps

    values = heat.clamp(0, 1).numpy()
    colours = colormaps["turbo"](values)[..., :3] * 255
    opacity = _STRONGEST * values[..., None]
    mixed = np.asarray(photo.convert("RGB")) * (1 - opacity) + colours * opacity
    return Image.fromarray(mixed.round().astype(np.uint8))


def _weights(length: int, cells: int, frame: Frame, axis: int) -> Tensor:
    """(length, cells): the part that each cell has in each original pixel along x (axis 0) or y (1)."""
    extent = frame.input_size[1 - axis]
    at = (torch.arange(length, dtype=torch.float64) + 0.5) * frame.scale[axis] + frame.offset[axis]  # input pixels
    place = (at / extent * cells - 0.5).clamp(0, cells - 1)
    weights = (1 - (place[:, None] - torch.arange(cells)).abs()).clamp(min=0)
    return weights * ((at >= 0) & (at <= extent))[:, None]
