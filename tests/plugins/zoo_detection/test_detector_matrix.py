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

HIERARCHICAL = ("mobilenetv3_small", "resnet18", "efficientnet_b0", "hivit_t", "convnext_t", "swin_t", "hiera_t")
PLAIN = ("vit_ti_16", "dinov2_vits14")
MERGING = ("fpn", "panet", "bifpn")

SHALLOW = {
    "swin_t": {"depths": (1, 1, 1, 1)},
    "hiera_t": {"depths": (1, 1, 2, 1)},
    "hivit_t": {"depths": (1, 1, 2)},
    "vit_ti_16": {"depth": 4},
    "dinov2_vits14": {"depth": 4},
}
"""Fewer blocks, and so given as mappings; the others are given as names."""

SMALL = {"proposals": 100, "training_proposals": 200, "box_samples": 4}
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


def part(backbone: str) -> str | dict[str, Any]:
    return {"name": backbone, **SHALLOW[backbone]} if backbone in SHALLOW else backbone


def built(backbone: str, neck: str, detector: str) -> Any:
    torch.manual_seed(0)
    known = open_catalog().resolve(detector).schema["properties"]
    small = {name: value for name, value in SMALL.items() if name in known}
    side = 98 if backbone == "dinov2_vits14" else 96
    return zoo.create(detector, backbone=part(backbone), neck=neck, num_classes=3, img_size=side, **small)


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
    (found,) = model.predict(photo("chelsea"), score_threshold=0.0, max_detections=2)
    assert isinstance(found, Detections)
    assert 0 < len(found.boxes) <= 2
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
        place = name.partition(".")[0]
        parts[place] = parts.get(place, 0.0) + (0.0 if parameter.grad is None else float(parameter.grad.square().sum()))
    assert {"backbone", "neck"} < set(parts)
    assert all(norm > 0 for norm in parts.values()), parts
    assert any(downhill(model, taught, float(before["loss"].detach()), share) for share in (0.1, 0.03, 0.01))


def downhill(model: Any, taught: tuple[Tensor, list[dict[str, Tensor]], Tensor], loss: float, share: float) -> bool:
    """Whether a step along the gradient that should take a share off the loss lowers it; the step is taken back.

    Two stages take it with what comes behind the proposals only: others would be looked at after it.
    """
    before = ("backbone.", "neck.", "rpn.") if "proposals" in type(model.config).model_fields else ()
    named = [(name, parameter) for name, parameter in model.named_parameters() if not name.startswith(before)]
    learning = [parameter for _, parameter in named if parameter.grad is not None]
    step = share * loss / float(sum(parameter.grad.square().sum() for parameter in learning))
    with torch.no_grad():
        for parameter in learning:
            parameter -= step * parameter.grad
        lower = bool(losses(model, taught)["loss"] < loss)
        for parameter in learning:
            parameter += step * parameter.grad
    return lower


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


@pytest.mark.parametrize(("backbone", "neck"), [*product(PLAIN[:1], MERGING), (HIERARCHICAL[0], "simple_pyramid")])
def test_what_does_not_fit_says_what_does(backbone: str, neck: str) -> None:
    with torch.device("meta"):
        for detector in DETECTORS:
            with pytest.raises(zoo.OptionError, match="strides") as caught:
                zoo.create(detector, backbone=part(backbone), neck=neck, num_classes=3, img_size=128)
        named = re.fullmatch(r'neck="(\w+)"', str(caught.value.fix))
        assert named
        assert zoo.create(DETECTORS[-1], backbone=part(backbone), neck=named[1], num_classes=3, img_size=128)


@pytest.mark.parametrize(("backbone", "name"), [(HIERARCHICAL[0], "FPN"), (PLAIN[0], "SimplePyramid")])
def test_without_a_neck_a_backbone_gets_the_one_it_suits(backbone: str, name: str) -> None:
    with torch.device("meta"):
        for detector in DETECTORS:
            model = zoo.create(detector, backbone=part(backbone), num_classes=3, img_size=320)
            assert type(model.neck).__name__ == ("SSDExtras" if detector.startswith("ssd") else name)


def test_irregular_strides_are_named_with_a_way_out() -> None:
    with torch.device("meta"):
        with pytest.raises(zoo.OptionError, match=r"strides \(12, 17\)"):
            zoo.create("retinanet", backbone="timm/crossvit_9_240", num_classes=3)
        last = {"name": "timm/crossvit_9_240", "out_indices": (-1,)}
        assert zoo.create("retinanet", backbone=last, neck="simple_pyramid", num_classes=3).strides[0] == 17
