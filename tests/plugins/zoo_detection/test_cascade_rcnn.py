"""Cascade R-CNN against three of torchvision's box heads chained by hand, and mmdetection's names."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder as TheirCoder
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign, batched_nms
from torchvision.ops.boxes import clip_boxes_to_image

import zoo
from zoo.build.weights import load_weights
from zoo.errors import CheckpointError
from zoo_detection import CascadeMaskRCNN, CascadeRCNN
from zoo_detection.cascade_rcnn import CODERS
from zoo_detection.proposals import Regions
from zoo_detection.roi_heads import choose

SIDE, CLASSES = 160, 3


@pytest.fixture(scope="module")
def model() -> CascadeRCNN:
    """Small, with scores that differ, and cut-outs as torchvision's class makes them."""
    torch.manual_seed(0)
    options = {"num_classes": CLASSES, "image_size": SIDE, "roi_samples": 2, "roi_aligned": False}
    model = CascadeRCNN(backbone="resnet18", neck={"name": "fpn", "width": 32}, **options)
    with torch.no_grad():
        for stage in model.looks.stages:
            stage.predictor.cls_score.weight.mul_(40)
            stage.predictor.bbox_pred.weight.mul_(20)
    return model.eval()


@pytest.fixture(scope="module")
def regions() -> Regions:
    """Forty proposals in two images."""
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(40, 2, generator=generator) * 100
    boxes = torch.cat([corners, corners + 10 + torch.rand(40, 2, generator=generator) * 40], dim=1)
    return Regions(boxes, torch.arange(40) // 20)


def chained_by_hand(
    model: CascadeRCNN, maps: list[Tensor], boxes: list[Tensor], sizes: list[tuple[int, int]]
) -> tuple[Tensor, list[Tensor]]:
    """The average of the three looks' logits, and the final boxes of each image, of torchvision's classes only."""
    pool = MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2)
    features, said = OrderedDict((str(i), level) for i, level in enumerate(maps)), []
    for stage, coder in zip(model.looks.stages, CODERS, strict=True):
        head = TwoMLPHead(32 * 49, 1024)
        head.load_state_dict(stage.head.state_dict())
        vectors = head(pool(features, boxes, sizes))
        said.append(torch.nn.functional.linear(vectors, *stage.predictor.cls_score.parameters()))
        codes = torch.nn.functional.linear(vectors, *stage.predictor.bbox_pred.parameters())
        decoded = TheirCoder(coder.weights).decode(codes, boxes)[:, 0].split([len(b) for b in boxes])
        boxes = [clip_boxes_to_image(b, size) for b, size in zip(decoded, sizes, strict=True)]
    return sum(said) / 3, boxes


def test_three_looks_are_three_box_heads_of_torchvision_in_a_chain(model: CascadeRCNN, regions: Regions) -> None:
    sizes = torch.tensor([[160, 128], [96, 160]])
    with torch.no_grad():
        maps = model.maps(torch.rand(2, 3, SIDE, SIDE))
        look = model.looks(lambda some: model.pool(maps, some), regions, sizes)
        found = choose(look, sizes, model.selection)
        parts = [regions.boxes[regions.images == i] for i in range(2)]
        logits, boxes = chained_by_hand(model, maps, parts, [(160, 128), (96, 160)])
    assert (look.raw["logits"] - logits).abs().max() < 1e-4
    scores = logits.softmax(dim=-1)[:, 1:].split([20, 20])
    count = 0
    for image, (theirs, theirs_scores) in enumerate(zip(boxes, scores, strict=True)):
        rows, labels = (theirs_scores > 0.05).nonzero(as_tuple=True)
        rows, labels = (x[((theirs[rows, 2:] - theirs[rows, :2]) >= 0.01).all(dim=1)] for x in (rows, labels))
        kept = batched_nms(theirs[rows], theirs_scores[rows, labels], labels, 0.5)
        count += len(kept)
        assert int((found["labels"][image] >= 0).sum()) == len(kept)
        assert (found["scores"][image][: len(kept)] - theirs_scores[rows, labels][kept]).abs().max() < 1e-4
        assert (found["boxes"][image][: len(kept)] - theirs[rows][kept]).abs().max() < 1e-3
        assert found["labels"][image][: len(kept)].equal(labels[kept])
    assert count > 20


def test_later_looks_learn_from_better_boxes_only(model: CascadeRCNN) -> None:
    target = {"boxes": torch.tensor([[20.0, 20, 60, 60]]), "labels": torch.tensor([2])}
    # Overlaps of 0.95, 0.65 and 0.55 with the object; the object's own box joins in.
    shifted = torch.tensor([[20.0, 20, 60, 62], [20.0, 20, 60, 81.5], [20.0, 20, 60, 92.7], [100.0, 100, 120, 120]])
    regions = Regions(shifted, torch.zeros(4, dtype=torch.long))
    positives = [int((stage.sample(regions, [target]).labels > 0).sum()) for stage in model.looks.stages]
    assert positives == [4, 3, 2]
    labels = model.looks.stages[0].sample(regions, [target]).labels
    assert set(labels.tolist()) == {0, 3}


def test_each_look_starts_from_the_boxes_of_the_one_before(model: CascadeRCNN, regions: Regions) -> None:
    sizes = torch.tensor([[160, 160], [160, 160]])
    targets = [{"boxes": torch.tensor([[30.0, 30, 70, 70]]), "labels": torch.tensor([1])}] * 2
    with torch.no_grad():
        maps = model.maps(torch.rand(2, 3, SIDE, SIDE))
        losses, looked_at = model.looks.learn(lambda some: model.pool(maps, some), regions, targets, sizes)
        first, second = looked_at[0].regions, looked_at[1].regions
        _, codes = model.looks.stages[0](model.pool(maps, first))
    moved = CODERS[0].decode(codes[:, 0], first.boxes).clamp(min=0, max=160)
    own = (first.boxes == torch.tensor([30.0, 30, 70, 70])).all(dim=1)
    assert int(own.sum()) == 2  # the object of each image, which is not corrected but joins in anew
    assert len(second.boxes) == len(first.boxes)
    distance = torch.cdist(moved[~own], second.boxes, p=torch.inf).amin(dim=1)
    assert distance.max() < 1e-4
    assert losses.keys() == {f"loss_{name}_{i}" for name in ("classification", "boxes") for i in (1, 2, 3)}


def mmdet_names(masks: bool) -> set[str]:
    """The names in mmdetection's files of a ResNet-50 with an FPN, but for the body's."""
    names = {
        f"neck.{kind}_convs.{i}.conv.{leaf}"
        for kind in ("lateral", "fpn")
        for i in range(4)
        for leaf in ("weight", "bias")
    }
    names |= {f"rpn_head.rpn_{part}.{leaf}" for part in ("conv", "cls", "reg") for leaf in ("weight", "bias")}
    parts = ["shared_fcs.0", "shared_fcs.1", "fc_cls", "fc_reg"]
    names |= {f"roi_head.bbox_head.{k}.{p}.{x}" for k in range(3) for p in parts for x in ("weight", "bias")}
    if masks:
        parts = [*(f"convs.{i}.conv" for i in range(4)), "upsample", "conv_logits"]
        names |= {f"roi_head.mask_head.{k}.{p}.{x}" for k in range(3) for p in parts for x in ("weight", "bias")}
    return names


@pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])
def test_mmdetections_names_go_in_whole_and_come_back(masks: bool) -> None:
    family = CascadeMaskRCNN if masks else CascadeRCNN
    options = {"num_classes": 4, "backbone": "resnet18", "neck": {"name": "fpn", "width": 32}}
    torch.manual_seed(2)
    ours, other = family(**options), family(**options)
    published = ours.key_maps()["mmdet"].save(ours.state_dict())
    assert {name for name in published if not name.startswith("backbone.")} == mmdet_names(masks)
    assert "backbone.layer1.0.conv1.weight" in published
    scores = ours.looks.stages[1].predictor.cls_score.bias
    assert published["roi_head.bbox_head.1.fc_cls.bias"].equal(torch.cat([scores[1:], scores[:1]]))  # background last
    if masks:
        assert published["roi_head.mask_head.2.conv_logits.weight"].shape[0] == 4  # no background
    report = load_weights(other, published, format="mmdet", source="test")
    assert not report.unexpected
    assert not report.skipped
    for name, tensor in ours.state_dict().items():
        loaded = other.state_dict()[name]
        if "mask_fcn_logits" in name:  # the first row is the background's, which nothing reads
            assert not loaded[0].any()
            tensor, loaded = tensor[1:], loaded[1:]
        assert loaded.equal(tensor), name


def test_masks_are_the_average_of_three_heads() -> None:
    torch.manual_seed(3)
    model = CascadeMaskRCNN(num_classes=2, backbone="resnet18", neck={"name": "fpn", "width": 32}, image_size=SIDE)
    maps = [torch.rand(1, 32, 40 // 2**i, 40 // 2**i) for i in range(5)]
    regions, labels = Regions(torch.tensor([[8.0, 8, 90, 70]]), torch.tensor([0])), torch.tensor([1])
    with torch.no_grad():
        whole = model.masks(maps, regions, labels)["masks"]
        parts = [stage(maps, regions, labels)["masks"] for stage in model.masks.stages]
    assert whole.shape == (1, 28, 28)
    assert torch.allclose(whole, sum(parts) / 3, atol=1e-6)
    assert (parts[0] - parts[1]).abs().max() > 1e-4


def test_a_cascade_is_made_by_name_of_any_backbone() -> None:
    model = zoo.create("cascade_rcnn", backbone="mobilenetv3_small", num_classes=3, img_size=SIDE)
    losses = model(torch.rand(1, 3, SIDE, SIDE), [{"boxes": torch.empty(0, 4), "labels": torch.empty(0).long()}])
    losses["loss"].backward()
    assert all(p.grad is not None for p in model.looks.stages[2].predictor.cls_score.parameters())


@pytest.mark.parametrize("look", [0, 1, 2])
@pytest.mark.parametrize("damaged", ["cls_score", "bbox_pred"])
def test_a_look_whose_weights_are_no_numbers_is_refused(model: CascadeRCNN, look: int, damaged: str) -> None:
    part = model.looks.stages[look].predictor.get_submodule(damaged)
    bias = part.bias.detach().clone()
    nn.init.constant_(part.bias, torch.nan)
    try:
        with pytest.raises(CheckpointError, match="not a number"):
            model.predict(np.zeros((SIDE, SIDE, 3), np.uint8))
    finally:
        part.bias.data = bias
