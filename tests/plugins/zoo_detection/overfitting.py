"""Training a detector on a few scenes by heart, and what it then finds on them.

scenes -> images (B, 3, H, W), sizes (B, 2), targets -> steps over the whole batch -> `predict` -> COCO's AP at IoU 0.5

Plain PyTorch: AdamW, one cycle of the learning rate, clipped gradients, every step sees all scenes. Images go in by the
model's own preprocessing and come out by `predict`, so that a box that moves on the way is noticed here. The measure is
pycocotools', which shares no code with the package.
"""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from real_scenes import CLASSES, KEYPOINTS, Scene
from torch import Tensor

import zoo
from zoo.models.detections import Detections
from zoo.models.detector import Detector
from zoo.models.images import load_images
from zoo.models.preprocessing import Frame


class Lesson(NamedTuple):
    """What a step takes: images (B, 3, H, W), sizes (B, 2) and a target an image."""

    images: Tensor
    sizes: Tensor
    targets: list[dict[str, Tensor]]


def lesson(model: Detector, scenes: Sequence[Scene]) -> Lesson:
    """Scenes as the model takes them."""
    images, frames = zoo.Preprocessor(model.input_spec)(load_images([scene.image for scene in scenes]))
    sizes = torch.tensor([frame.input_size for frame in frames])
    area = (images.shape[2], images.shape[3])
    targets = [_target(scene, frame, area) for scene, frame in zip(scenes, frames, strict=True)]
    return Lesson(images, sizes, targets)


def _target(scene: Scene, frame: Frame, area: tuple[int, int]) -> dict[str, Tensor]:
    """Boxes, masks and points in input pixels. An object without points has seven that are not annotated."""
    boxes = frame.boxes_to_input(torch.from_numpy(scene.boxes))
    target = {"boxes": boxes, "labels": torch.from_numpy(scene.labels)}
    if scene.masks is not None:
        height, width = frame.input_size
        masks = F.interpolate(torch.from_numpy(scene.masks)[None].float(), (height, width), mode="area")[0] >= 0.5
        target["masks"] = F.pad(masks, (0, area[1] - width, 0, area[0] - height))
    points = torch.zeros(len(boxes), KEYPOINTS, 3)
    if scene.keypoints is not None:
        known = torch.from_numpy(scene.keypoints)
        points = torch.cat([frame.points_to_input(known[..., :2]), known[..., 2:]], dim=-1)
    target["keypoints"] = points
    return target


def train(model: Detector, taught: Lesson, *, steps: int, rate: float) -> dict[str, list[float]]:
    """Every loss of every step, by name. The model is left in training mode."""
    model.train()
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.15)
    history = defaultdict(list)
    for _ in range(steps):
        losses = model(taught.images, taught.targets, sizes=taught.sizes)
        optimizer.zero_grad()
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(learning, 10.0)
        optimizer.step()
        schedule.step()
        for name, loss in losses.items():
            history[name].append(float(loss.detach()))
    return dict(history)


def found_on(model: Detector, scenes: Sequence[Scene]) -> list[Detections]:
    """What `predict` says, in the scenes' own pixels."""
    results = model.predict([scene.image for scene in scenes])
    return [result for result in results if isinstance(result, Detections)]


# Measures.


def average_precision(scenes: Sequence[Scene], found: Sequence[Detections], kind: str = "bbox") -> float:
    """COCO's AP at IoU 0.5, mean of the classes, of boxes (`bbox`) or masks (`segm`)."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for number, (scene, result) in enumerate(zip(scenes, found, strict=True)):
        annotations += _rows(number, scene.boxes, scene.labels, scene.masks if kind == "segm" else None)
        rows = _rows(number, result.boxes.numpy(), result.ids.numpy(), result.masks if kind == "segm" else None)
        answers += [{**row, "score": score} for row, score in zip(rows, result.scores.tolist(), strict=True)]
    if not answers:
        return 0.0
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i, "height": s.image.shape[0], "width": s.image.shape[1]} for i, s in enumerate(scenes)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES)],
        # Counted from 1: an annotation of id 0 is no match to COCOeval.
        "annotations": [{**row, "id": number, "iscrowd": 0} for number, row in enumerate(annotations, start=1)],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        measure = COCOeval(truth, truth.loadRes(answers), kind)
        measure.evaluate()
        measure.accumulate()
        measure.summarize()
    return float(measure.stats[1])


def _rows(number: int, boxes: NDArray[Any], labels: NDArray[Any], masks: Any) -> list[dict[str, Any]]:
    """COCO's rows of the objects of an image. boxes (N, 4) corners, labels (N,), masks (N, H, W) bool or None."""
    rows: list[dict[str, Any]] = []
    for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True):
        box = [x1, y1, x2 - x1, y2 - y1]
        rows.append({"image_id": number, "category_id": label, "bbox": box, "area": box[2] * box[3]})
    if masks is not None:
        from pycocotools.mask import area, encode

        for row, mask in zip(rows, masks, strict=True):
            row["segmentation"] = encode(np.asfortranarray(mask, dtype=np.uint8))
            row["area"] = float(area(row["segmentation"]))
    return rows


def point_error(scenes: Sequence[Scene], found: Sequence[Detections]) -> float:
    """How far the points of the best object of their class lie from the annotated ones, in shares of the box's side.

    The mean over all points of all scenes that have some; infinite where an object is not found.
    """
    errors = []
    for scene, result in zip(scenes, found, strict=True):
        if scene.keypoints is None:
            continue
        for box, label, points in zip(scene.boxes, scene.labels, scene.keypoints, strict=True):
            places = (result.ids == int(label)).nonzero().flatten()
            if not len(places) or result.keypoints is None:
                return float("inf")
            side = float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
            apart = result.keypoints[places[0], :, :2].numpy() - points[:, :2]
            errors += (np.linalg.norm(apart, axis=1)[points[:, 2] > 0] / side).tolist()
    return float(np.mean(errors))
