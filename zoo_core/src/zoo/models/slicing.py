"""Sliced inference: small objects are looked for in slices of the picture. Akyon et al. 2022, arXiv:2202.06934.

picture (H, W) -> overlapping slices and the whole -> objects of each, moved to the picture -> one for each object

An object at a slice's border is found in two slices, once or twice in part. What is found in different slices and lies
on one another becomes one; what was found in one slice stays apart, since the model itself told it apart. A box that
ends at a border of its slice may be a part of an object: where an object's best box does not, the object was seen
whole, and what may be parts of it does not make it larger.

N objects of all slices   P keypoints   D width of an embedding
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from numbers import Real
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from zoo.errors import OptionError, UnsupportedError
from zoo.models.detections import Detections
from zoo.models.detector import Detector
from zoo.models.images import iter_images
from zoo.models.preprocessing import Preprocessor

if TYPE_CHECKING:
    from zoo.models.images import ImageInput, LoadedImage
    from zoo.models.labels import LabelSpace
    from zoo.models.preprocessing import Frame

Box = tuple[int, int, int, int]
Merge = Literal["nms", "nmm"]
Match = Literal["iou", "ios"]

AT_BORDER = 0.05
"""Share of a slice's side within which a box ends at its border: boxes of cut objects end a little before it."""


def predict_sliced(
    model: Detector,
    inputs: ImageInput | Iterable[ImageInput],
    *,
    slice_size: int | tuple[int, int] = 512,
    overlap: float = 0.2,
    merge: Merge = "nmm",
    match: Match = "ios",
    merge_threshold: float = 0.5,
    whole: bool = True,
    batch_size: int = 8,
    channels: str = "rgb",
    score_threshold: float | None = None,
    nms_threshold: float | None = None,
    max_detections: int | None = None,
    classes: Sequence[str | int] | None = None,
    embeddings: bool = False,
) -> list[Detections]:
    """`predict` for objects that are small in large pictures: slice by slice, and the whole picture once.

    Args:
        model: any detector; segmenters and keypoint detectors too.
        inputs: what `predict` takes.
        slice_size: pixels of a slice's sides, or (height, width). overlap: the least share of it that neighbours share;
            best so large that every object that is looked for in slices fits in.
        merge: what becomes of objects of one class, found in different slices, that lie on one another. `nmm`: the
            better one grows to hold the other, so that halves become a whole; one that was seen whole, by the whole
            picture or well inside its slice, grows only by a larger one of which that is true. `nms`: the weaker goes.
        match: how much they lie on one another: `ios`, intersection over the smaller area, finds a part of an object in
            the object; `iou`, intersection over union. merge_threshold: they are one above it.
        whole: whether the whole picture is looked at as well, for objects larger than a slice.
        batch_size: slices a forward pass.
        channels, score_threshold, nms_threshold, max_detections, classes, embeddings: as in `predict`. max_detections
            holds for every slice and for the picture; None leaves the picture without a limit.

    Raises:
        OptionError: no such slices, merge or threshold. UnsupportedError: the model is no detector. InputError: an
            image that cannot be used.
    """
    if not isinstance(model, Detector):
        raise UnsupportedError(
            f"objects are looked for in slices, and {type(model).__name__} finds no objects",
            fix="zoo.create(a detector)",
        )
    merging = Merging(merge, match, merge_threshold)
    sides = _sides(slice_size)
    slice_grid((1, 1), sides, overlap)  # says at once if there is no such grid
    preprocessor, seen = Preprocessor(model.input_spec), []
    for loaded in iter_images(inputs, channels):
        grid = slice_grid(loaded.size, sides, overlap)
        picture = (0, 0, loaded.size[1], loaded.size[0])
        parts = [picture, *grid] if whole and grid != [picture] else grid
        found = model.predict(
            (_cut(loaded, part) for part in parts),
            batch_size=batch_size,
            score_threshold=score_threshold,
            nms_threshold=nms_threshold,
            max_detections=max_detections,
            classes=classes,
            embeddings=embeddings,
        )
        empty = _nothing_in(loaded, preprocessor.frame(loaded), model.label_space)
        seen.append(
            merged(empty, [one for one in found if isinstance(one, Detections)], parts, merging)[:max_detections]
        )
    return seen


def slice_grid(size: tuple[int, int], slice_size: tuple[int, int], overlap: float) -> list[Box]:
    """Slices (x1, y1, x2, y2) that cover a picture of `size` (H, W), row by row, evenly spread and as few as can be.

    Neighbours share at least `overlap` of a slice's side. A picture that is smaller than a slice is one.

    Raises:
        OptionError: an overlap that is no share of a slice, or leaves no step from one slice to the next.
    """
    if isinstance(overlap, bool) or not isinstance(overlap, Real) or not 0 <= float(overlap) < 1:
        raise OptionError("`overlap` is a share of a slice, from 0 to below 1", asked=f"overlap={overlap!r}", fix="0.2")
    rows, columns = (_starts(whole, part, float(overlap)) for whole, part in zip(size, slice_size, strict=True))
    height, width = (min(whole, part) for whole, part in zip(size, slice_size, strict=True))
    return [(x, y, x + width, y + height) for y in rows for x in columns]


@dataclass(frozen=True)
class Merging:
    """What lies on one another, and what becomes of it; `predict_sliced` says how. Raises `OptionError`."""

    merge: Merge = "nmm"
    match: Match = "ios"
    threshold: float = 0.5

    def __post_init__(self) -> None:
        for name, value, known in (("merge", self.merge, get_args(Merge)), ("match", self.match, get_args(Match))):
            if value not in known:
                raise OptionError(f"`{name}` is {' or '.join(known)}", asked=f"{name}={value!r}", fix=f"{known[0]!r}")
        if not isinstance(self.threshold, Real) or not 0 <= float(self.threshold) <= 1:
            asked = f"merge_threshold={self.threshold!r}"
            raise OptionError("`merge_threshold` is a number from 0 to 1", asked=asked, fix="merge_threshold=0.5")

    def groups(self, boxes_xyxy: Tensor, ids: Tensor, slices: Tensor, cut: Tensor | None = None) -> list[list[int]]:
        """Objects (N, 4) of classes (N,) and slices (N,), best first → the rows of each object, the best one first.

        cut: (N,) bool, which ones a slice may have cut off; None: all of them.
        """
        cut = torch.ones(len(boxes_xyxy), dtype=torch.bool) if cut is None else cut
        free = torch.ones(len(boxes_xyxy), dtype=torch.bool)
        groups = []
        for first in range(len(boxes_xyxy)):
            if not free[first]:
                continue
            free[first] = False
            group, box = [first], boxes_xyxy[first]
            alike = free & (ids == ids[first]) & (slices != slices[first])
            while len(near := (alike & (self._matches(box, boxes_xyxy) > self.threshold)).nonzero()):
                row = int(near[0])
                free[row] = alike[row] = False
                group.append(row)
                if self.merge == "nmm":  # never two of one slice
                    alike &= slices != slices[row]
                if self.grows(first, row, boxes_xyxy, cut):  # what it has grown by may lie on more
                    box = torch.cat([box[:2].minimum(boxes_xyxy[row, :2]), box[2:].maximum(boxes_xyxy[row, 2:])])
            groups.append(group)
        return groups

    def grows(self, best: int, row: int, boxes_xyxy: Tensor, cut: Tensor) -> bool:
        """Whether the best row of an object takes in the box of another one; boxes (N, 4) and cut (N,) of `groups`."""
        if self.merge == "nms" or cut[best]:
            return self.merge == "nmm"
        areas = (boxes_xyxy[[best, row], 2:] - boxes_xyxy[[best, row], :2]).prod(1)
        return bool(~cut[row] & (areas[1] > areas[0]))

    def _matches(self, box: Tensor, boxes_xyxy: Tensor) -> Tensor:
        """One box (4,), boxes (N, 4) → how much each lies on it, (N,) in [0, 1]."""
        sides = (boxes_xyxy[:, 2:].minimum(box[2:]) - boxes_xyxy[:, :2].maximum(box[:2])).clamp(min=0)
        inter, areas = sides.prod(1), (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(1)
        area = (box[2:] - box[:2]).prod()
        whole = areas.minimum(area) if self.match == "ios" else areas + area - inter
        return inter / whole.clamp(min=1e-9)


def merged(empty: Detections, found: Sequence[Detections], parts: Sequence[Box], merging: Merging) -> Detections:
    """What was found in each part (x1, y1, x2, y2) of a picture, as the detections of the picture.

    Args:
        empty: the picture's detections without any.
    """
    if not any(len(one) for one in found):
        return empty
    corners = torch.tensor(parts, dtype=torch.float32)[:, :2]
    slices = torch.cat([torch.full((len(one),), i) for i, one in enumerate(found)])
    scores = torch.cat([one.scores for one in found])
    order = scores.argsort(descending=True, stable=True)
    boxes = torch.cat([one.boxes + corner.repeat(2) for one, corner in zip(found, corners, strict=True)])[order]
    ids = torch.cat([one.ids for one in found])[order]
    cut = torch.cat([_cut_off(one.boxes, part, empty.size) for one, part in zip(found, parts, strict=True)])[order]
    groups = merging.groups(boxes, ids, slices[order], cut)
    best = torch.tensor([group[0] for group in groups])
    grown = [[g[0], *(row for row in g[1:] if merging.grows(g[0], row, boxes, cut))] for g in groups]
    names = [name for one in found for name in one.names]
    shifts = torch.cat([corners, torch.zeros(len(corners), 1)], dim=1)  # a keypoint's score stays
    points = [one.keypoints + by for one, by in zip(found, shifts, strict=True) if one.keypoints is not None]
    vectors = [one.embeddings for one in found if one.embeddings is not None]
    return replace(
        empty,
        boxes=torch.stack([torch.cat([boxes[g, :2].amin(0), boxes[g, 2:].amax(0)]) for g in grown]),
        scores=scores[order][best],
        ids=ids[best],
        names=tuple(names[i] for i in order[best].tolist()),
        masks=_masks(found, parts, [order[group].tolist() for group in grown], empty.size),
        keypoints=torch.cat(points)[order[best]] if points else None,
        embeddings=torch.cat(vectors)[order[best]] if vectors else None,
    )


def _nothing_in(loaded: LoadedImage, frame: Frame, labels: LabelSpace | None) -> Detections:
    """A picture in which nothing is found."""
    return Detections(
        source=loaded.source,
        size=loaded.size,
        frame=frame,
        boxes=torch.zeros(0, 4),
        scores=torch.zeros(0),
        ids=torch.zeros(0, dtype=torch.int64),
        names=(),
        labels=labels,
    )


def _masks(
    found: Sequence[Detections], parts: Sequence[Box], groups: Sequence[Sequence[int]], size: tuple[int, int]
) -> Tensor | None:
    """(N, H, W) bool, the union of the masks of each group, of the whole picture; None where there are none."""
    if found[0].masks is None:
        return None
    rows = [(mask, part) for one, part in zip(found, parts, strict=True) if one.masks is not None for mask in one.masks]
    masks = torch.zeros(len(groups), *size, dtype=torch.bool)
    for place, group in zip(masks, groups, strict=True):
        for row in group:
            mask, (x1, y1, x2, y2) = rows[row]
            place[y1:y2, x1:x2] |= mask
    return masks


def _cut_off(boxes_xyxy: Tensor, part: Box, size: tuple[int, int]) -> Tensor:
    """Which boxes (N, 4), in pixels of a part of a picture, end at a border of it that is not the picture's, (N,)."""
    x1, y1, x2, y2 = part
    width, height = x2 - x1, y2 - y1
    at_start = boxes_xyxy[:, :2] <= AT_BORDER * torch.tensor([width, height])
    at_end = boxes_xyxy[:, 2:] >= (1 - AT_BORDER) * torch.tensor([width, height])
    inside = torch.tensor([x1 > 0, y1 > 0]), torch.tensor([x2 < size[1], y2 < size[0]])
    return ((at_start & inside[0]) | (at_end & inside[1])).any(dim=1)


def _starts(whole: int, part: int, overlap: float) -> list[int]:
    """Where slices of length `part` begin along a side of length `whole`."""
    step = part - ceil(overlap * part)
    if step < 1:
        raise OptionError(f"slices of {part} pixels cannot overlap by {overlap:.0%}", fix="a larger slice_size")
    if part >= whole:
        return [0]
    count = ceil((whole - part) / step)
    return [i * (whole - part) // count for i in range(count + 1)]


def _sides(slice_size: int | tuple[int, int]) -> tuple[int, int]:
    sides = slice_size if isinstance(slice_size, tuple) else (slice_size, slice_size)
    if len(sides) != 2 or any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in sides):
        raise OptionError("a slice has whole pixels", asked=f"slice_size={slice_size!r}", fix="slice_size=512")
    return sides


def _cut(loaded: LoadedImage, part: Box) -> ImageInput:
    """A part of a picture, as a picture."""
    x1, y1, x2, y2 = part
    if isinstance(loaded.image, Tensor):
        return loaded.image[:, y1:y2, x1:x2]
    return loaded.image.crop(part)
