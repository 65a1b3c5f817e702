"""Detections: the objects found in one image, in its own pixels, with names.

N objects   P keypoints   D width of an embedding   H W the original's sides
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple, Self

import torch
from torch import Tensor

from zoo.errors import CheckpointError
from zoo.models.labels import LabelSpace
from zoo.models.results import Result

if TYPE_CHECKING:
    from zoo.models.preprocessing import Frame


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
        boxes, scores = rows["boxes"].float(), rows["scores"].float()
        if not (boxes.isfinite().all() and scores.isfinite().all()):
            raise CheckpointError(
                "the model's output is not a number (NaN or infinite)",
                asked=frame.source,
                fix="check its weights, or run it in float32",
            )
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

    def __getitem__(self, rows: int | slice | Tensor | list[int]) -> Self:
        """Some of the objects, by place, slice, mask (N,) or list of places."""
        places = torch.arange(len(self))[[rows] if isinstance(rows, int) else rows]
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
