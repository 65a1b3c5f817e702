"""Any backbone, any neck, any detector: what fits is built by name, finds boxes and learns; the rest is told.

By default every detector stands on every neck, and every backbone is under every neck it suits. Every combination of
all three is a long test.
"""

from __future__ import annotations

import re
from itertools import cycle, product
from typing import Any

import pytest
import torch
from torch import Tensor

import zoo
from photos import photo
from zoo.catalog import open_catalog
from zoo.models.detections import Detections
from zoo.models.images import load_images

HIERARCHICAL = (
    "mobilenetv3_small_050",
    "resnet18",
    "lcnet_035",
    "efficientnet_b0",
    "hivit_t",
    "convnext_t",
    "tinyvit_5m",
    "swin_t",
    "hiera_t",
    "cs3darknet_focus_m",
)
PLAIN = ("vit_ti_16", "deit_ti_distilled", "dinov2_vits14")
MERGING = ("fpn", "panet", "bifpn")

SMALL = {"proposals": 100, "training_proposals": 200, "box_samples": 32}
"""What makes two stages affordable, of detectors that have it."""


def detectors() -> list[str]:
    """The first row of every class that takes a backbone and a neck."""
    first: dict[str, str] = {}
    for ref in zoo.list_models("detection/*"):
        info = open_catalog().resolve(ref)
        if info.model.kind == "model" and {"backbone", "neck"} <= set(info.schema["properties"]):
            first.setdefault(info.model.factory, info.model.name)
    return sorted(first.values())


DETECTORS = detectors()

ALL = [
    (backbone, neck, detector)
    for detector in DETECTORS
    for backbone, neck in (*product(HIERARCHICAL, MERGING), *product(PLAIN, ["simple_pyramid"]))
]


def covering() -> list[tuple[str, str, str]]:
    """Every detector on every neck; backbones take turns, so that each comes under each neck it suits."""
    turns = {neck: cycle(HIERARCHICAL[i:] + HIERARCHICAL[:i]) for i, neck in enumerate(MERGING)}
    turns["simple_pyramid"] = cycle(PLAIN)
    chosen = [(next(turns[neck]), neck, detector) for detector in DETECTORS for neck in turns]
    for neck in turns:  # backbones whose turn did not come
        suited = PLAIN if neck == "simple_pyramid" else HIERARCHICAL
        left = [one for one in suited if (one, neck) not in {pair[:2] for pair in chosen}]
        chosen += [(backbone, neck, detector) for backbone, detector in zip(left, cycle(DETECTORS))]
    return chosen


def built(backbone: str, neck: str, detector: str) -> Any:
    torch.manual_seed(0)
    known = open_catalog().resolve(detector).schema["properties"]
    small = {name: value for name, value in SMALL.items() if name in known}
    side = 112 if backbone == "dinov2_vits14" else 128
    return zoo.create(detector, backbone=backbone, neck=neck, num_classes=3, img_size=side, **small)


def lesson(model: Any) -> tuple[Tensor, list[dict[str, Tensor]], Tensor]:
    """A cat, and its left half: images (2, 3, H, W), targets with all that any detector learns, sizes (2, 2)."""
    images, frames = zoo.Preprocessor(model.input_spec)(load_images([photo("chelsea")]))
    images = images.repeat(2, 1, 1, 1)
    height, width = frames[0].input_size
    images[1, :, :, width // 2 :] = 0
    sizes = torch.tensor([[height, width], [height, width // 2]])
    targets = []
    for label, (h, w) in enumerate(sizes.tolist()):
        boxes = torch.tensor([[0.25 * w, 0.1 * h, 0.95 * w, 0.9 * h]])
        masks = torch.zeros(1, *images.shape[2:], dtype=torch.bool)
        masks[:, h // 4 : 3 * h // 4, w // 3 : 5 * w // 6] = True
        points = torch.tensor([0.6 * w, 0.5 * h, 1.0]).repeat(1, 17, 1)
        targets.append({"boxes": boxes, "labels": torch.tensor([label]), "masks": masks, "keypoints": points})
    return images, targets, sizes


def losses(model: Any, taught: tuple[Tensor, list[dict[str, Tensor]], Tensor]) -> dict[str, Tensor]:
    images, targets, sizes = taught
    torch.manual_seed(0)  # the samplers' draws are the same each time
    found: dict[str, Tensor] = model(images, targets, sizes=sizes)
    return found


def check(backbone: str, neck: str, detector: str) -> None:
    model = built(backbone, neck, detector)
    assert model.num_classes == 3
    (found,) = model.predict(photo("chelsea"), score_threshold=0.0, max_detections=10)
    assert isinstance(found, Detections)
    assert 0 < len(found.boxes) <= 10
    assert found.boxes.isfinite().all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= torch.tensor([451.0, 300.0, 451.0, 300.0])).all()
    assert found.scores.diff().max() <= 0 if len(found.boxes) > 1 else True
    assert set(found.ids.tolist()) <= {0, 1, 2}

    taught = lesson(model.train())
    before = losses(model, taught)
    assert all(loss.isfinite() for loss in before.values()), before
    before["loss"].backward()
    parts: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        part = name.partition(".")[0]
        parts[part] = parts.get(part, 0.0) + (0.0 if parameter.grad is None else float(parameter.grad.square().sum()))
    assert {"backbone", "neck"} < set(parts)
    assert all(norm > 0 for norm in parts.values()), parts
    # a step downhill that should take a hundredth off the loss
    step = 0.01 * float(before["loss"].detach()) / sum(parts.values())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= step * parameter.grad
        after = losses(model, taught)
    assert after["loss"] < before["loss"], (before, after)


@pytest.mark.parametrize("combination", covering(), ids="-".join)
def test_what_fits_together_finds_boxes_and_learns(combination: tuple[str, str, str]) -> None:
    check(*combination)


@pytest.mark.long
@pytest.mark.parametrize("combination", [one for one in ALL if one not in covering()], ids="-".join)
def test_every_combination_finds_boxes_and_learns(combination: tuple[str, str, str]) -> None:
    check(*combination)


def test_the_covering_selection_covers() -> None:
    chosen = covering()
    assert set(chosen) <= set(ALL)
    assert {pair[:2] for pair in chosen} == {pair[:2] for pair in ALL}
    assert {pair[1:] for pair in chosen} == {pair[1:] for pair in ALL}


@pytest.mark.parametrize("detector", DETECTORS)
def test_what_does_not_fit_says_what_does(detector: str) -> None:
    wrong = [(PLAIN[0], neck) for neck in MERGING] + [(HIERARCHICAL[0], "simple_pyramid")]
    for backbone, neck in wrong:
        with torch.device("meta"):
            with pytest.raises(zoo.OptionError, match="strides") as caught:
                zoo.create(detector, backbone=backbone, neck=neck, num_classes=3, img_size=128)
            named = re.fullmatch(r'neck="(\w+)"', str(caught.value.fix))
            assert named
            assert zoo.create(detector, backbone=backbone, neck=named[1], num_classes=3, img_size=128)


@pytest.mark.parametrize("detector", [one for one in DETECTORS if not one.startswith("ssd")])
def test_without_a_neck_the_backbone_gets_the_one_it_suits(detector: str) -> None:
    with torch.device("meta"):
        for backbone, name in ((HIERARCHICAL[0], "FPN"), (PLAIN[0], "SimplePyramid")):
            model = zoo.create(detector, backbone=backbone, num_classes=3, img_size=128)
            assert type(model.neck).__name__ == name
