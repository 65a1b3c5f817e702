"""Every detector learns eight real annotated images by heart: what is taught is what is found again.

Small backbones from random weights, narrow necks, 128 pixels, the eight scenes in every step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from overfitting import Lesson, average_precision, found_on, lesson, point_error, train
from real_scenes import CLASSES, KEYPOINTS, QUOKKA, SIDE, Scene, eight_masked_scenes, eight_scenes
from torch import Tensor
from torch.distributions import Bernoulli
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

import zoo
from zoo.models.detections import Detections
from zoo.models.detector import Detector, InstanceSegmenter, KeypointDetector
from zoo_detection.box_coding import DistanceCoder
from zoo_detection.cascade_rcnn import AgnosticPredictor
from zoo_detection.fcos import FCOS, centreness_of
from zoo_detection.keypoint_rcnn import KeypointStage
from zoo_detection.mask_rcnn import MaskStage
from zoo_detection.matching import fcos_assign
from zoo_detection.roi_heads import BoxStage

SMALL = {"num_classes": len(CLASSES), "backbone": "mobilenetv3_small", "img_size": (SIDE, SIDE)}


class Case(NamedTuple):
    """A detector made small, and how long it learns.

    vector: width of what box heads make of a region; None: as it is.
    """

    ref: str
    options: dict[str, Any]
    steps: int
    rate: float
    vector: int | None = None


NARROW = {"name": "fpn", "width": 64}
SSD_HALVES = {"name": "ssd_extras", "widths": (64,), "strides": (2,)}  # maps of stride 8, 16 and 32
SSD_BOXES = {"scales": (0.15, 0.25, 0.45, 0.7), "ratios": ((2,),) * 3, "steps": None, "min_stride": 8}

CASES = {
    "ssd300": Case("ssd300", {"neck": SSD_HALVES | {"block": "plain"}, **SSD_BOXES}, steps=120, rate=3e-3),
    "ssdlite320": Case("ssdlite320", {"neck": SSD_HALVES, **SSD_BOXES}, steps=200, rate=6e-3),
    "ssd_mobilenetv2": Case(
        "ssd_mobilenetv2",
        {"neck": SSD_HALVES | {"same_padding": True}, "shapes": None, "score_threshold": 0.01, **SSD_BOXES},
        steps=150,
        rate=3e-3,
    ),
}
CASES |= {
    "retinanet": Case(
        "retinanet_r50_fpn",
        {"neck": NARROW, "head": {"name": "detection_head", "depth": 2}},
        steps=120,
        rate=2e-3,
    ),
    "retinanet_v2": Case("retinanet_r50_fpn_v2", {"neck": NARROW | {"extra": "conv_input"}}, steps=80, rate=2e-3),
    "fcos": Case("fcos_r50_fpn", {"neck": NARROW}, steps=120, rate=2e-3),
}
TWO_STAGES = {
    "neck": NARROW,
    "anchor_sizes": ((16,), (32,), (64,), (128,), (256,)),
    **{"proposals_per_level": 100, "proposals": 100, "training_proposals": 100},
    **{"rpn_samples": 64, "box_samples": 32},
}
CASCADE = TWO_STAGES | {"roi_samples": 2}
CASES |= {
    "faster_rcnn": Case(
        "faster_rcnn_r50_fpn", TWO_STAGES | {"anchor_sizes": None, "box_samples": 64}, steps=100, rate=1e-3
    ),
    "mask_rcnn": Case("mask_rcnn_r50_fpn", TWO_STAGES, steps=80, rate=2e-3),
    "keypoint_rcnn": Case(
        "keypoint_rcnn_r50_fpn",
        TWO_STAGES | {"num_keypoints": KEYPOINTS, "training_proposals": 16},
        steps=180,
        rate=2e-3,
        vector=256,
    ),
    "cascade_rcnn": Case("cascade_rcnn_r50_fpn", CASCADE, steps=110, rate=2e-3, vector=256),
    "cascade_mask_rcnn": Case("cascade_mask_rcnn_r50_fpn", CASCADE, steps=95, rate=2e-3, vector=256),
}


@pytest.fixture(autouse=True)
def the_same_on_every_machine() -> Iterator[None]:
    """One seed and one thread, whose sums come out alike wherever they are taken."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def small(case: Case) -> Detector:
    """The case's detector. Heads of masks and points, 256 and 512 wide, take minutes here, and are made anew."""
    model = zoo.create(case.ref, **SMALL, **case.options)
    assert isinstance(model, Detector)
    width, classes = NARROW["width"], len(CLASSES)
    for stage in model.modules():
        if isinstance(stage, BoxStage) and case.vector:
            stage.head = TwoMLPHead(width * 7**2, case.vector)
            if isinstance(stage.predictor, AgnosticPredictor):
                stage.predictor = AgnosticPredictor(case.vector, classes)
            else:
                stage.predictor = FastRCNNPredictor(case.vector, classes + 1)
        elif isinstance(stage, MaskStage):
            stage.head = MaskRCNNHeads(width, [width] * 2, 1)
            stage.predictor = MaskRCNNPredictor(width, width, classes + 1)
        elif isinstance(stage, KeypointStage):
            stage.head = KeypointRCNNHeads(width, [width] * 2)
            stage.predictor = KeypointRCNNPredictor(width, KEYPOINTS)
    return model


def least_loss(model: Detector, taught: Lesson) -> float:
    """What the model's loss cannot fall below on the lesson: 0, and more for FCOS.

    FCOS's targets of centre-ness are soft, between 0 and 1, and the cross entropy to a soft target is never less than
    the target's own entropy. Its mean over the cells that have an object is a constant of the eight images.
    """
    if not isinstance(model, FCOS):
        return 0.0
    _, _, central = cells_with_objects(model, taught)
    return float(Bernoulli(torch.cat(central)).entropy().mean())


def cells_with_objects(model: FCOS, taught: Lesson) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The cells of each level (A, 4), and for every image the cells' objects (N,), below 0 where there is none, and how
    central those (n,) are that have one."""
    with torch.no_grad():
        levels = model.head.anchors(taught.images, model.eval().maps(taught.images))
    cells, objects, central = torch.cat(levels), [], []
    for target in taught.targets:
        objects.append(fcos_assign(cells, target["boxes"], [len(level) for level in levels]))
        own = objects[-1] >= 0
        central.append(centreness_of(DistanceCoder().encode(target["boxes"][objects[-1][own]], cells[own])))
    return levels, objects, central


@pytest.mark.long
@pytest.mark.parametrize("name", list(CASES))
def test_a_detector_learns_eight_real_images_by_heart(name: str) -> None:
    case = CASES[name]
    model = small(case)
    scenes = eight_masked_scenes() if isinstance(model, InstanceSegmenter) else eight_scenes()
    taught = lesson(model, scenes)
    least = least_loss(model, taught)
    history = train(model, taught, steps=case.steps, rate=case.rate)
    found = found_on(model, scenes)
    assert fall(history["loss"], least) >= 10
    assert average_precision(scenes, found) >= 0.9
    if isinstance(model, InstanceSegmenter):
        assert average_precision(scenes, found, "segm") >= 0.9
    if isinstance(model, KeypointDetector):
        assert point_error(scenes, found) <= 0.05


def fall(losses: list[float], least: float) -> float:
    """How far above the least there can be the loss is before anything is learnt, over the same of the last five."""
    return (losses[0] - least) / (float(np.mean(losses[-5:])) - least)


def test_the_least_loss_is_that_of_perfect_answers() -> None:
    model = small(CASES["fcos"])
    assert isinstance(model, FCOS)
    taught = lesson(model, eight_scenes())
    levels, objects, central = cells_with_objects(model, taught)
    cells = torch.cat(levels)
    logits = torch.full((len(objects), len(cells), len(CLASSES)), -50.0)
    boxes, centreness = torch.zeros(len(objects), len(cells), 4), torch.zeros(len(objects), len(cells), 1)
    for image, (target, match, middle) in enumerate(zip(taught.targets, objects, central, strict=True)):
        (own,) = torch.where(match >= 0)
        logits[image, own, target["labels"][match[own]]] = 50.0
        boxes[image, own] = DistanceCoder().encode(target["boxes"][match[own]], cells[own])
        centreness[image, own, 0] = middle.logit(eps=1e-6)
    losses = model.head.losses({"logits": logits, "boxes": boxes, "centreness": centreness}, levels, taught.targets)
    assert float(sum(losses.values())) == pytest.approx(least_loss(model, taught), abs=1e-4)
    assert least_loss(model, taught) > 0.4


# The measures themselves: what is true scores 1, what is wrong does not.


def true_answers(scenes: list[Scene]) -> list[Detections]:
    """The annotations, as if a model had found them."""
    return [
        Detections(
            source="scene",
            size=scene.image.shape[:2],
            boxes=torch.from_numpy(scene.boxes),
            scores=torch.ones(len(scene.boxes)),
            ids=torch.from_numpy(scene.labels),
            names=tuple(CLASSES[label] for label in scene.labels),
            masks=None if scene.masks is None else torch.from_numpy(scene.masks.copy()),
            keypoints=None if scene.keypoints is None else torch.from_numpy(scene.keypoints),
        )
        for scene in scenes
    ]


def test_the_truth_scores_one() -> None:
    for scenes in (eight_scenes(), eight_masked_scenes()):
        assert average_precision(scenes, true_answers(scenes)) == pytest.approx(1)
    assert average_precision(scenes, true_answers(scenes), "segm") == pytest.approx(1)
    assert point_error(scenes, true_answers(scenes)) == 0


def test_an_object_that_is_not_found_or_lies_elsewhere_costs_precision() -> None:
    scenes = eight_scenes()
    truth = true_answers(scenes)
    tenth = [result[: len(result) - 1] if number == 0 else result for number, result in enumerate(truth)]
    assert 0.95 < average_precision(scenes, tenth) < 1  # a tree of 34, in one class of three
    aside = [replace(result, boxes=result.boxes + 25) for result in truth]
    assert average_precision(scenes, aside) < 0.4  # the quokka is larger than that
    wrong = [replace(result, ids=(result.ids + 1) % len(CLASSES)) for result in truth]
    assert average_precision(scenes, wrong) == 0
    assert average_precision(scenes, [result[:0] for result in truth]) == 0


def test_wrong_masks_and_points_are_noticed_behind_right_boxes() -> None:
    scenes = eight_masked_scenes()
    truth = true_answers(scenes)
    upside_down = [replace(result, masks=result.masks.flip(1)) for result in truth if result.masks is not None]
    assert average_precision(scenes, upside_down) == pytest.approx(1)
    assert average_precision(scenes, upside_down, "segm") < 0.6
    away = [result if result.keypoints is None else replace(result, keypoints=result.keypoints + 8) for result in truth]
    side = float(np.sqrt(np.prod(scenes[-1].boxes[0, 2:] - scenes[-1].boxes[0, :2])))
    assert point_error(scenes, away) == pytest.approx(8 * 2**0.5 / side, rel=1e-5)
    assert point_error(scenes, [result[:0] for result in truth]) == float("inf")
    assert scenes[-1].labels.tolist() == [QUOKKA]
