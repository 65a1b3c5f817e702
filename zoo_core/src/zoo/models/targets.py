"""Targets of detectors: what they are made of, and whether an image can have them.

A target is a mapping, one an image: `boxes` (N, 4) xyxy in input pixels and `labels` (N,) int64; where a model asks for
them `masks` (N, H, W) and `keypoints` (N, P, 3); `iscrowd` (N,) says which boxes are crowds, and those teach nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from zoo.errors import InputError, LabelError
from zoo.models.labels import LabelSpace

Target: TypeAlias = Mapping[str, Tensor]

SLACK = 1.0
"""Pixels that a box may reach over the edge of its image, for the rounding of resized annotations."""


def check_targets(
    targets: Any,
    images: Tensor,
    sizes: Tensor,
    *,
    num_classes: int,
    labels: LabelSpace | None = None,
    needs: Sequence[str] = (),
    num_keypoints: int | None = None,
) -> list[dict[str, Tensor]]:
    """The targets of a batch as a loss takes them: float32 boxes on the images' device, crowds left out.

    Args:
        targets: one mapping an image, as the module describes; N may be 0.
        images: (B, C, H, W). sizes: (B, 2) int64, (h, w) of each image in it.
        num_classes: labels are 0..num_classes-1. labels: where some of these are no classes, which.
        needs: `masks`, `keypoints`: what every image with objects must have beside boxes and labels.
        num_keypoints: P, where the model has so many points and no others.

    Returns:
        new mappings of the keys named here. A box that reaches over the edge by rounding is clipped.

    Raises:
        InputError: a target that is none, a box without area, outside of its image or not finite, a label that does
            not exist; image and object are named. LabelError: a label that is no class.
    """
    if not isinstance(targets, Sequence) or len(targets) != len(images):
        found = f"{len(targets)} targets" if isinstance(targets, Sequence) else type(targets).__name__
        fix = "[target], a mapping for each image"
        raise InputError(f"{len(images)} images need a list of {len(images)} targets", found=found, fix=fix)
    checked = []
    for number, (target, (height, width)) in enumerate(zip(targets, sizes.tolist(), strict=True)):
        where = f"targets[{number}]"
        parts = _parts(target, images, needs, num_keypoints, where)
        _check_boxes(parts["boxes"], height, width, where)
        _check_labels(parts["labels"], num_classes, labels, where)
        limits = parts["boxes"].new_tensor([width, height, width, height])
        parts["boxes"] = parts["boxes"].clamp(min=0).minimum(limits)
        crowd = parts.pop("iscrowd", None)
        kept = slice(None) if crowd is None else crowd == 0
        checked.append({name: tensor[kept] for name, tensor in parts.items()})
    return checked


def _parts(
    target: Any, images: Tensor, needs: Sequence[str], num_keypoints: int | None, where: str
) -> dict[str, Tensor]:
    """The known keys of a target, of the right shapes and dtypes, on the images' device."""
    if not isinstance(target, Mapping) or "boxes" not in target or "labels" not in target:
        found = ", ".join(map(str, target)) if isinstance(target, Mapping) else type(target).__name__
        raise InputError(
            f"{where} is a mapping with `boxes` and `labels`", found=found, fix='{"boxes": …, "labels": …}'
        )
    parts = {name: target[name] for name in ("boxes", "labels", "iscrowd", *needs) if name in target}
    for name, value in parts.items():
        if not isinstance(value, Tensor):
            raise InputError(f"{where}: `{name}` is a tensor", found=type(value).__name__, fix=f"torch.tensor({name})")
    if parts["labels"].ndim == 0:
        raise InputError(f"{where}: `labels` has the shape (N,)", found="()", fix="labels[None] for one object")
    count = len(parts["labels"])
    missing = [name for name in needs if name not in parts]
    if missing and count:
        raise InputError(f"{where} has no `{missing[0]}`, which this model learns", fix=f'{{…, "{missing[0]}": …}}')
    shapes = {
        "boxes": (count, 4),
        "labels": (count,),
        "iscrowd": (count,),
        "masks": (count, *images.shape[2:]),
        "keypoints": (count, num_keypoints, 3),
    }
    for name, value in parts.items():
        wanted = shapes[name]
        empty = not count and not value.numel()
        if not empty and not _fits(value.shape, wanted):
            shown = f"({', '.join('P' if n is None else str(n) for n in wanted)}{',' * (len(wanted) == 1)})"
            raise InputError(f"{where}: `{name}` has the shape {shown}", found=str(tuple(value.shape)))
    _check_dtypes(parts, where)
    parts = {name: value.to(images.device) for name, value in parts.items()}
    parts["boxes"] = parts["boxes"].reshape(count, 4).float()
    parts["labels"] = parts["labels"].reshape(count).long()
    return parts


def _check_dtypes(parts: Mapping[str, Tensor], where: str) -> None:
    """Whatever has objects is of the dtype that losses can take; a mask of floats may be anything but a mask."""
    kinds = {
        "boxes": (not parts["boxes"].is_complex() and parts["boxes"].dtype != torch.bool, "floats", "boxes.float()"),
        "labels": (parts["labels"].dtype == torch.int64, "int64", "labels.long()"),
    }
    if "masks" in parts:
        kinds["masks"] = (parts["masks"].dtype in (torch.bool, torch.uint8), "bool or uint8", "masks > 0.5")
    if "keypoints" in parts:
        kinds["keypoints"] = (parts["keypoints"].is_floating_point(), "floats", "keypoints.float()")
    for name, (sound, wanted, fix) in kinds.items():
        if not sound and parts[name].numel():
            found = str(parts[name].dtype).removeprefix("torch.")
            raise InputError(f"{where}: {name} are {wanted}", found=found, fix=fix)
    if "masks" in parts and parts["masks"].dtype == torch.uint8 and (parts["masks"] > 1).any():
        found = f"values up to {int(parts['masks'].max())}"
        raise InputError(f"{where}: masks are 0 and 1", found=found, fix="masks > 0")
    faulty = ~parts["keypoints"].isfinite() if "keypoints" in parts else torch.zeros(0)
    if faulty.any():
        index = int(faulty.nonzero()[0, 0])
        raise InputError(f"{where}: keypoints[{index}] is not finite", fix="0, 0 and visibility 0 for an absent point")


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(w is None or n == w for n, w in zip(shape, wanted, strict=True))


def _check_boxes(boxes_xyxy: Tensor, height: int, width: int, where: str) -> None:
    faults = (
        (~boxes_xyxy.isfinite().all(dim=1), "is not finite", "leave it out"),
        (
            (boxes_xyxy[:, 2:] <= boxes_xyxy[:, :2]).any(dim=1),
            "has no area: boxes are x1 < x2, y1 < y2",
            "leave it out; x, y, width, height would be turned into corners first",
        ),
        (
            (boxes_xyxy < -SLACK).any(dim=1)
            | (boxes_xyxy[:, 2] > width + SLACK)
            | (boxes_xyxy[:, 3] > height + SLACK)
            | (boxes_xyxy[:, 0] >= width)
            | (boxes_xyxy[:, 1] >= height)
            | (boxes_xyxy[:, 2:] <= 0).any(dim=1),
            f"lies outside of its image of {width} x {height} pixels",
            "clip it to the image; boxes are in pixels of the model's input (Frame.boxes_to_input)",
        ),
    )
    for fault, why, fix in faults:
        if fault.any():
            index = int(fault.nonzero()[0])
            raise InputError(f"{where}: boxes[{index}] {why}", found=str(boxes_xyxy[index].tolist()), fix=fix)


def _check_labels(labels: Tensor, num_classes: int, space: LabelSpace | None, where: str) -> None:
    wrong = (labels < 0) | (labels >= num_classes)
    if wrong.any():
        index = int(wrong.nonzero()[0])
        fix = "labels counted from 0"
        if labels[index] > 0:
            fix = f"num_classes={int(labels.max()) + 1} when the model is made, or {fix}"
        raise InputError(
            f"{where}: labels[{index}] is {int(labels[index])}; labels go from 0 to {num_classes - 1}, without a "
            "background",
            fix=fix,
        )
    if space is None or not space.outputs:
        return
    table = torch.tensor(space.class_table, device=labels.device)
    holes = table[labels] < 0
    if holes.any():
        index = int(holes.nonzero()[0])
        raise LabelError(
            f"{where}: labels[{index}] is output {int(labels[index])}, which is no class of label space {space.name!r}",
            fix="model.label_space.output_of(class_id) gives the output of a class",
        )
