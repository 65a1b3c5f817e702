"""Detections: the objects found in one image, in its own pixels, with names.

N objects   P keypoints   D width of an embedding   H W the original's sides
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.errors import CheckpointError, InputError, LabelError
from zoo.models.labels import LabelSpace
from zoo.models.results import Result, Row

if TYPE_CHECKING:
    import pandas
    import supervision

    from zoo.models.preprocessing import Frame

MOST_SHOWN = 20
"""Objects that `print` names; a picture of a crowd has hundreds."""


class Detected(NamedTuple):
    """One object. box: x1, y1, x2, y2 in pixels of the original."""

    id: int
    name: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Detections(Result):
    """The objects found in an image, best first; every tensor is on the CPU and has a row for each.

    boxes: (N, 4) float32, xyxy in pixels of the original, within it. scores: (N,) in [0, 1]. ids: (N,) int64 class ids.
    names: of the classes, `class 17` where they have none. masks: (N, H, W) bool. keypoints: (N, P, 3), x and y in
    pixels of the original, and the network's score. embeddings: (N, D). labels: the label space, where there is one.
    """

    boxes: Tensor
    scores: Tensor
    ids: Tensor
    names: tuple[str, ...]
    masks: Tensor | None = None
    keypoints: Tensor | None = None
    embeddings: Tensor | None = None
    labels: LabelSpace | None = field(default=None)

    @classmethod
    def from_outputs(
        cls, outputs: Mapping[str, Tensor], frame: Frame, labels: LabelSpace | None, table: Tensor | None
    ) -> Self:
        """One image's rows of a detector's outputs, padding and outputs that are no class left out.

        Args:
            outputs: `boxes` (K, 4) in input pixels, `scores` (K,), `labels` (K,), and what else the task has.
            table: the class id of each output of the head, -1 for none; None where outputs are class ids.

        Raises:
            CheckpointError: scores or boxes that are not numbers.
        """
        ids = outputs["labels"]
        if table is not None:
            ids = torch.where(ids >= 0, table[ids.clamp(min=0)], -1)
        kept = ids >= 0
        rows = {name: value[kept] for name, value in outputs.items() if value.shape[:1] == kept.shape}
        # What is no object is looked at, too: without numbers nothing may have been found.
        if not (outputs["boxes"].isfinite().all() and outputs["scores"].isfinite().all()):
            raise CheckpointError(
                "the model's output is not a number (NaN or infinite)",
                asked=frame.source,
                fix="check its weights, or run it in float32",
            )
        boxes, scores = rows["boxes"].float(), rows["scores"].float()
        height, width = frame.size
        boxes = frame.boxes_to_original(boxes).clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
        masks, keypoints, embeddings = rows.get("masks"), rows.get("keypoints"), rows.get("embeddings")
        if masks is not None:
            from zoo.models.masks import paste_masks

            masks = paste_masks(masks.float(), boxes, frame.size)
        if keypoints is not None:
            keypoints = torch.cat([frame.points_to_original(keypoints[..., :2].float()), keypoints[..., 2:]], dim=-1)
        ids = ids[kept]
        return cls(
            source=frame.source,
            size=frame.size,
            frame=frame,
            boxes=boxes,
            scores=scores,
            ids=ids,
            names=tuple(labels.name_of(i) if labels is not None else f"class {i}" for i in ids.tolist()),
            masks=masks,
            keypoints=keypoints,
            embeddings=None if embeddings is None else embeddings.float(),
            labels=labels,
        )

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Detected]:
        for i, name, score, box in zip(
            self.ids.tolist(), self.names, self.scores.tolist(), self.boxes.tolist(), strict=True
        ):
            yield Detected(i, name, score, tuple(box))

    def __getitem__(self, rows: int | slice | Tensor | Sequence[int]) -> Self:
        """Some of the objects, by place, slice, mask (N,) or list of places.

        Raises:
            IndexError: a place that there is not. InputError: what is no place.
        """
        places = torch.arange(len(self))[_chosen(rows, len(self))]
        return replace(
            self,
            boxes=self.boxes[places],
            scores=self.scores[places],
            ids=self.ids[places],
            names=tuple(self.names[i] for i in places.tolist()),
            masks=None if self.masks is None else self.masks[places],
            keypoints=None if self.keypoints is None else self.keypoints[places],
            embeddings=None if self.embeddings is None else self.embeddings[places],
        )

    def of(self, *classes: str | int) -> Self:
        """The objects of some classes, by name or class id: `detections.of("person", "dog")`.

        Raises:
            LabelError: a class that the label space does not have. InputError: neither a name nor a number.
        """
        ids = [self._id_of(one) for one in classes]
        return self[torch.isin(self.ids, torch.tensor(ids, dtype=torch.int64))]

    def above(self, score: float) -> Self:
        """The objects that score more than this. Raises `InputError` for what is no number."""
        if not isinstance(score, Real):
            raise InputError("a score is a number", asked=repr(score), fix="detections.above(0.5)")
        return self[self.scores > score]

    @property
    def point_names(self) -> tuple[str, ...]:
        """The names of an object's keypoints, `point 3` where they have none; empty without keypoints."""
        if self.keypoints is None:
            return ()
        count = self.keypoints.shape[1]
        if self.labels is not None and len(self.labels.keypoints) == count:
            return self.labels.keypoints
        return tuple(f"point {i}" for i in range(count))

    @property
    def rows(self) -> list[Row]:
        """Name, score and box of every object, best first; the box in whole pixels."""
        sides = [[str(round(side)) for side in one.box] for one in self]
        wide = max((len(side) for box in sides for side in box), default=0)
        return [
            Row(one.name, one.score, " ".join(side.rjust(wide) for side in box))
            for one, box in zip(self, sides, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: `objects`, each with id, name, score and box, and what else the task has: a `mask` in the
        run-length code of COCO, `keypoints` by name, each x, y and the network's score, an `embedding`."""
        from zoo.models.rle import encode_rle

        objects = []
        for row, one in enumerate(self):
            entry: dict[str, Any] = {**one._asdict(), "box": list(one.box)}
            if self.masks is not None:
                entry["mask"] = encode_rle(self.masks[row])
            if self.keypoints is not None:
                entry["keypoints"] = dict(zip(self.point_names, self.keypoints[row].tolist(), strict=True))
            if self.embeddings is not None:
                entry["embedding"] = self.embeddings[row].tolist()
            objects.append(entry)
        return super().to_dict() | {"objects": objects}

    def to_coco(self, *, image_id: int | str) -> list[dict[str, Any]]:
        """COCO's result records of this image, one an object: `image_id`, `category_id` (the data set's own id where
        the label space knows it), `bbox` (x, y, width, height), `score`, `segmentation` in run-length code,
        `keypoints`."""
        from zoo.models.detection_formats import coco_records

        return coco_records(self, image_id)

    def to_supervision(self) -> supervision.Detections:
        """`supervision.Detections`, the names, keypoints and embeddings in their data.

        Raises:
            MissingDependencyError: supervision is not installed.
        """
        from zoo.models.detection_formats import as_supervision

        return as_supervision(self)

    def to_dataframe(self) -> pandas.DataFrame:
        """A row an object: `source name id score x1 y1 x2 y2`, and three columns a keypoint.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        from zoo.models.detection_formats import as_dataframe

        return as_dataframe(self)

    def __repr__(self) -> str:
        count = f"{len(self) or 'no'} object{'' if len(self) == 1 else 's'}"
        names = max((len(name) for name in self.names[:MOST_SHOWN]), default=0)
        lines = [f"{self.source or 'image'} ({self.size[1]} x {self.size[0]}): {count}"]
        lines += [f"  {row.share:7.2%}  {row.name:<{names}}  {row.detail}" for row in self.rows[:MOST_SHOWN]]
        if len(self) > MOST_SHOWN:
            lines.append(f"  … and {len(self) - MOST_SHOWN} more")
        return "\n".join(lines)

    def _id_of(self, one: str | int) -> int:
        if isinstance(one, bool) or not isinstance(one, str | Integral):
            raise InputError("classes are names or class ids", asked=repr(one), fix='detections.of("person", 17)')
        if not isinstance(one, str):
            return int(one)
        if self.labels is not None:
            return self.labels.id_of(one)
        number = one.removeprefix("class ")
        if not number.isdecimal():
            raise LabelError("these classes have no names", asked=one, fix="detections.of(17), by class id")
        return int(number)

    def _draw(self, photo: Image.Image) -> Image.Image:
        from zoo.models.box_plots import draw_detections

        return draw_detections(photo, self)


def _chosen(rows: Any, count: int) -> Tensor:
    """Places (n,) int64, or a mask (count,) bool, for whatever objects are chosen by."""
    if isinstance(rows, slice):
        return torch.tensor(range(count)[rows], dtype=torch.int64)  # torch knows no steps backwards
    try:
        chosen = (
            rows.cpu() if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows))
        )  # a copy, in torch's order
    except (TypeError, ValueError, RuntimeError):
        chosen = torch.empty(())
    if not chosen.numel():
        chosen = chosen.long()  # an empty list is one of floats
    whole = not (chosen.is_floating_point() or chosen.is_complex())
    if not whole or chosen.ndim > 1 or (chosen.dtype == torch.bool and chosen.ndim == 0):
        raise InputError(
            "objects are chosen by place, slice, mask or list of places", asked=repr(rows)[:80], fix="detections[0]"
        )
    return chosen.reshape(-1) if chosen.dtype == torch.bool else chosen.reshape(-1).long()
