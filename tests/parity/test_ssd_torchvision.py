"""SSD300 and SSDLite320 against torchvision's, with the same weights, which go in through torchvision's file names."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops import box_iou

import zoo
from zoo.build.weights import load_weights
from zoo.models.images import load_images
from zoo.models.load_report import LoadReport
from zoo.models.preprocessing import Frame
from zoo_detection.ssd import SSD

TOLERANCE = 1e-4
BUILDERS = {"ssd300": detection.ssd300_vgg16, "ssdlite320": detection.ssdlite320_mobilenet_v3_large}
CLASSES = 12
SIZES = ((200, 320), (310, 180))
SIDE = 320  # boxes are compared as shares of it: a pixel of 300 has no more than five digits behind the point
near = partial(torch.testing.assert_close, atol=TOLERANCE, rtol=TOLERANCE)


class Sides(NamedTuple):
    """Both networks with the same weights, the same photos as each of them takes them, and what each made of them."""

    theirs: Any
    ours: SSD
    report: LoadReport
    photos: list[Tensor]  # (3, H, W) in [0, 1], of different sizes
    images: Tensor  # (B, 3, h, w), preprocessed
    frames: list[Frame]
    their_raw: dict[str, Tensor]
    their_anchors: list[Tensor]
    their_detections: list[dict[str, Tensor]]
    outputs: dict[str, Any]
    anchors: Tensor


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def sides(request: pytest.FixtureRequest) -> Sides:
    torch.manual_seed(0)
    theirs: Any = BUILDERS[request.param](weights=None, weights_backbone=None, num_classes=CLASSES + 1).eval()
    photos = [torch.rand(3, *size) for size in SIZES]
    spread(theirs, photos)
    ours = zoo.create(request.param, num_classes=CLASSES).eval()
    report = load_weights(ours, theirs.state_dict(), format="torchvision", source="torchvision")
    images, frames = zoo.Preprocessor(ours.input_spec)(load_images(photos))
    seen: dict[str, Any] = {}
    hooks = [
        theirs.head.register_forward_hook(lambda _, __, raw: seen.update(raw=raw)),
        theirs.anchor_generator.register_forward_hook(
            lambda _, given, anchors: seen.update(maps=given[1], anchors=anchors)
        ),
    ]
    with torch.no_grad():
        their_detections, outputs = theirs(photos), ours(images, output_raw=True)
    for hook in hooks:
        hook.remove()
    anchors = ours.anchors(images, seen["maps"])
    return Sides(
        theirs,
        ours,
        report,
        photos,
        images,
        frames,
        seen["raw"],
        seen["anchors"],
        their_detections,
        outputs,
        anchors,
    )


@torch.no_grad()
def spread(theirs: Any, photos: list[Tensor]) -> None:
    """A fresh SSDLite says the same everywhere, and both score every class alike: until no two scores are the same."""
    for module in theirs.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.5)
            module.bias.uniform_(-0.5, 0.5)
            module.momentum = 1.0  # so that one pass in training mode finds the statistics
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    images, _ = theirs.transform(photos[:1])
    theirs.backbone.features.train()(images.tensors)  # not the neck: its last map has a pixel or four
    maps = list(theirs.backbone.eval()(images.tensors).values())
    for head, wanted in ((theirs.head.classification_head, 3.0), (theirs.head.regression_head, 1.0)):
        for level, convolution in enumerate(head.module_list):
            last = [m for m in convolution.modules() if isinstance(m, nn.Conv2d)][-1]
            last.weight.mul_(wanted / convolution(maps[level]).std())


def targets(sides: Sides) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """The same objects as each side takes them: their labels count the background, our boxes are input pixels."""
    boxes = [
        torch.tensor([[10.0, 20, 150, 180], [30, 40, 60, 70], [100, 5, 318, 190]]),
        torch.tensor([[5.0, 5, 90, 300]]),
    ]
    labels = [torch.tensor([0, CLASSES - 1, 5]), torch.tensor([4])]
    theirs = [{"boxes": b, "labels": one + 1} for b, one in zip(boxes, labels, strict=True)]
    ours = [
        {"boxes": frame.boxes_to_input(b), "labels": one}
        for b, one, frame in zip(boxes, labels, sides.frames, strict=True)
    ]
    return theirs, ours


def test_every_published_name_is_used_and_comes_back(sides: Sides) -> None:
    published, report = sides.theirs.state_dict(), sides.report
    assert len(report.loaded) == len(published)
    assert (report.unexpected, report.skipped, report.kept, report.adapted) == ((), {}, (), {})
    written = sides.ours.key_maps()["torchvision"].save(sides.ours.state_dict())
    assert written.keys() == published.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in published.items())


def test_preprocessed_images_are_the_same(sides: Sides) -> None:
    near(sides.images, sides.theirs.transform(sides.photos)[0].tensors)


def test_raw_outputs_and_default_boxes_are_the_same(sides: Sides) -> None:
    raw, theirs = sides.outputs["raw"], sides.their_raw
    assert theirs["cls_logits"].std() > 1
    near(raw["logits"], theirs["cls_logits"])
    near(raw["boxes"], theirs["bbox_regression"])
    near(sides.anchors, sides.their_anchors[0])


def test_detections_are_the_same(sides: Sides) -> None:
    ours = sides.ours.postprocess(sides.outputs, sides.frames)
    for their, our in zip(sides.their_detections, ours, strict=True):
        assert len(our.boxes) == len(their["boxes"]) == sides.ours.config.max_detections
        assert our.scores.diff().le(0).all()
        place = counterpart(their["boxes"], their["labels"] - 1, our.boxes, our.ids)
        assert place.unique().numel() == len(place)
        near(our.boxes[place] / SIDE, their["boxes"] / SIDE)
        near(our.scores[place], their["scores"])


def counterpart(boxes: Tensor, labels: Tensor, others: Tensor, other_labels: Tensor) -> Tensor:
    """For each box the nearest of the others with its label."""
    distance = (boxes[:, None] - others).abs().amax(dim=-1)
    return distance.masked_fill(labels[:, None] != other_labels, torch.inf).argmin(dim=1)


def test_losses_in_training_are_the_same(sides: Sides) -> None:
    their_targets, our_targets = targets(sides)
    sides.theirs.train()
    sides.ours.train()
    with torch.no_grad():
        theirs, ours = sides.theirs(sides.photos, their_targets), sides.ours(sides.images, our_targets)
    sides.theirs.eval()
    sides.ours.eval()
    assert ours["loss_classification"] > 0.1
    near(ours["loss_boxes"], theirs["bbox_regression"])
    near(ours["loss_classification"], theirs["classification"])
    near(ours["loss"], theirs["bbox_regression"] + theirs["classification"])


@pytest.mark.parametrize("objects", [(0, 1), (0,), ()], ids=["objects in both", "an empty image", "no objects"])
def test_losses_are_the_same_whatever_the_images_have(sides: Sides, objects: tuple[int, ...]) -> None:
    their_targets, our_targets = targets(sides)
    for both in (their_targets, our_targets):
        for i, target in enumerate(both):
            if i not in objects:
                target.update(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64))
    anchors, (_, scaled) = sides.their_anchors, sides.theirs.transform(sides.photos, their_targets)
    matches = [
        sides.theirs.proposal_matcher(box_iou(target["boxes"], boxes))
        if len(target["boxes"])
        else boxes.new_full((len(boxes),), -1).long()
        for target, boxes in zip(scaled, anchors, strict=True)
    ]
    theirs = sides.theirs.compute_loss(scaled, sides.their_raw, anchors, matches)
    ours = sides.ours.losses(sides.outputs["raw"], anchors[0], our_targets)
    near(ours["loss_boxes"], theirs["bbox_regression"])
    near(ours["loss_classification"], theirs["classification"])
