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
from overfitting import average_precision, found_on, lesson, point_error, train
from real_scenes import CLASSES, KEYPOINTS, QUOKKA, SIDE, Scene, eight_masked_scenes, eight_scenes
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

import zoo
from zoo.models.detections import Detections
from zoo.models.detector import Detector, InstanceSegmenter, KeypointDetector
from zoo_detection.keypoint_rcnn import KeypointStage
from zoo_detection.mask_rcnn import MaskStage

SMALL = {"num_classes": len(CLASSES), "backbone": "mobilenetv3_small", "img_size": (SIDE, SIDE)}


class Case(NamedTuple):
    """A detector made small, and how long it learns.

    entropy: losses with soft targets, whose least is not 0 but the targets' own entropy: they are left out where the
    fall of the loss is measured. least_fall: of the loss, as a multiple. Later looks and points have little to learn
    from before there are good proposals, so that their loss falls from less, and tenfold takes more steps than these.
    """

    ref: str
    options: dict[str, Any]
    steps: int
    rate: float
    entropy: tuple[str, ...] = ()
    least_fall: float = 10.0


NARROW = {"name": "fpn", "width": 64}
SSD_HALVES = {"name": "ssd_extras", "widths": (64,), "strides": (2,)}  # maps of stride 8, 16 and 32
SSD_BOXES = {"scales": (0.15, 0.25, 0.45, 0.7), "ratios": ((2,),) * 3, "steps": None, "min_stride": 8}

CASES = {
    "ssd300": Case("ssd300", {"neck": SSD_HALVES | {"block": "plain"}, **SSD_BOXES}, steps=120, rate=3e-3),
    "ssdlite320": Case("ssdlite320", {"neck": SSD_HALVES, **SSD_BOXES}, steps=150, rate=6e-3),
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
    "fcos": Case("fcos_r50_fpn", {"neck": NARROW}, steps=80, rate=2e-3, entropy=("loss_centreness",)),
}
TWO_STAGES = {
    "neck": NARROW,
    "anchor_sizes": ((16,), (32,), (64,), (128,), (256,)),
    **{"proposals_per_level": 100, "proposals": 100, "training_proposals": 100},
    **{"rpn_samples": 64, "box_samples": 32},
}
CASES |= {
    "faster_rcnn": Case(
        "faster_rcnn_r50_fpn",
        TWO_STAGES | {"anchor_sizes": None, "box_samples": 64},
        steps=100,
        rate=1e-3,
    ),
    "mask_rcnn": Case("mask_rcnn_r50_fpn", TWO_STAGES, steps=80, rate=2e-3),
    "keypoint_rcnn": Case(
        "keypoint_rcnn_r50_fpn", TWO_STAGES | {"num_keypoints": KEYPOINTS}, steps=80, rate=2e-3, least_fall=4
    ),
    "cascade_rcnn": Case("cascade_rcnn_r50_fpn", TWO_STAGES, steps=80, rate=2e-3, least_fall=3),
    "cascade_mask_rcnn": Case("cascade_mask_rcnn_r50_fpn", TWO_STAGES, steps=80, rate=2e-3, least_fall=5),
}
QUICK = ("ssd300",)


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
    width = NARROW["width"]
    for stage in model.modules():
        if isinstance(stage, MaskStage):
            stage.head = MaskRCNNHeads(width, [width] * 2, 1)
            stage.predictor = MaskRCNNPredictor(width, width, len(CLASSES) + 1)
        elif isinstance(stage, KeypointStage):
            stage.head = KeypointRCNNHeads(width, [width] * 2)
            stage.predictor = KeypointRCNNPredictor(width, KEYPOINTS)
    return model


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.long) for n in CASES])
def test_a_detector_learns_eight_real_images_by_heart(name: str) -> None:
    case = CASES[name]
    model = small(case)
    scenes = eight_masked_scenes() if isinstance(model, InstanceSegmenter) else eight_scenes()
    history = train(model, lesson(model, scenes), steps=case.steps, rate=case.rate)
    found = found_on(model, scenes)
    assert fall(history, case.entropy) >= case.least_fall
    assert average_precision(scenes, found) >= 0.9
    if isinstance(model, InstanceSegmenter):
        assert average_precision(scenes, found, "segm") >= 0.9
    if isinstance(model, KeypointDetector):
        assert point_error(scenes, found) <= 0.05


def fall(history: dict[str, list[float]], entropy: tuple[str, ...]) -> float:
    """The loss before anything is learnt, as a multiple of the last five steps'."""
    total = np.array(history["loss"]) - sum(np.array(history[name]) for name in entropy)
    return float(total[0] / total[-5:].mean())


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
