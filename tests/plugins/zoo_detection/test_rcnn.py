"""What two-stage detectors promise beside torchvision's numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign, roi_pool

import zoo
from zoo.errors import CheckpointError, InputError, OptionError
from zoo.models.labels import LabelSpace
from zoo_detection.faster_rcnn import FasterRCNN
from zoo_detection.keypoint_rcnn import KeypointRCNN
from zoo_detection.mask_rcnn import MaskRCNN
from zoo_detection.proposals import Regions
from zoo_detection.roi_heads import RoIPool

FAMILIES = {"faster": FasterRCNN, "mask": MaskRCNN, "keypoint": KeypointRCNN}
DETAILED = ("mask", "keypoint")
CLASSES = 3


def small(family: str = "faster", **options: Any) -> Any:
    """A small detector in evaluation mode, whose random predictors find something."""
    torch.manual_seed(0)
    model = FAMILIES[family](
        {
            "backbone": "resnet18",
            "neck": {"name": "fpn", "width": 32},
            "num_classes": CLASSES,
            "proposals_per_level": 40,
            "proposals": 30,
            "training_proposals": 40,
            "box_samples": 16,
            "max_detections": 6,
            **options,
        }
    )
    predictor = model.looks.stage.predictor
    nn.init.normal_(predictor.cls_score.weight, std=0.3)
    nn.init.normal_(predictor.bbox_pred.weight, std=0.2)
    nn.init.normal_(model.rpn.head.cls_logits.weight, std=0.3)
    for module in model.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)  # the last of a block starts at 0, and nothing before it learns
    return model.eval()


@pytest.fixture(scope="module")
def model() -> Any:
    return small()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def target(*boxes: tuple[float, ...], height: int = 64, width: int = 96, crowd: int = 0, seed: int = 0) -> Any:
    """Boxes with classes, masks that fill them, and points within; the first `crowd` are crowds."""
    xyxy = torch.tensor(boxes).reshape(-1, 4)
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, xyxy.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    share = torch.rand(len(boxes), 17, 2, generator=torch.Generator().manual_seed(seed))
    points = xyxy[:, None, :2] + (xyxy[:, None, 2:] - xyxy[:, None, :2]) * share
    return {
        "boxes": xyxy,
        "labels": torch.arange(len(boxes)) % CLASSES,
        "iscrowd": torch.arange(len(boxes)) < crowd,
        "masks": masks,
        "keypoints": torch.cat((points, torch.ones(len(boxes), 17, 1)), dim=-1),
    }


def test_the_default_is_built_from_a_dict_of_three_words() -> None:
    with torch.device("meta"), pytest.warns(zoo.models.config.SpellingWarning):
        model = FasterRCNN({"in_channels": 3, "num_classes": 80, "backbone": "resnet50"})
    assert model.looks.stage.predictor.cls_score.out_features == 81


@torch.no_grad()
def test_places_without_a_detection_are_empty(model: Any) -> None:
    images, sizes = noise(2, 3, 64, 96), torch.tensor([[64, 96], [40, 50]])
    found = model(images, sizes=sizes, selection=model.selection._replace(score_threshold=0.999, max_detections=9))
    assert found["boxes"].shape == (2, 9, 4)
    empty = found["labels"] < 0
    assert empty.any()
    assert not found["boxes"][empty].any()
    assert not found["scores"][empty].any()


@torch.no_grad()
def test_boxes_are_best_first_and_lie_within_their_own_image(model: Any) -> None:
    sizes = torch.tensor([[64, 96], [40, 50]])
    found = model(noise(2, 3, 64, 96), sizes=sizes)
    assert (found["labels"] >= 0).all()
    assert (found["scores"].diff(dim=1) <= 0).all()
    assert (found["boxes"] >= 0).all()
    assert (found["boxes"][1] <= torch.tensor([50, 40, 50, 40])).all()
    assert (found["boxes"][0, :, 2] > 50).any()


@torch.no_grad()
def test_images_of_a_batch_do_not_see_each_other(model: Any) -> None:
    images, sizes = noise(2, 3, 64, 96), torch.tensor([[64, 96], [40, 50]])
    images[1, :, 40:] = images[1, :, :, 50:] = 0
    found = model(images, sizes=sizes)
    images[0] = noise(3, 64, 96, seed=5)
    other = model(images, sizes=sizes)
    assert not torch.allclose(found["boxes"][0], other["boxes"][0])
    for name in ("boxes", "scores", "labels"):
        torch.testing.assert_close(found[name][1], other[name][1])
    alone = model(images[1:], sizes=sizes[1:])
    torch.testing.assert_close(alone["boxes"][0], found["boxes"][1])


@torch.no_grad()
def test_a_batch_that_is_not_whole_cells_is_padded(model: Any) -> None:
    images = noise(1, 3, 50, 70)
    found = model(images)
    padded = model(nn.functional.pad(images, (0, 26, 0, 14)), sizes=torch.tensor([[50, 70]]))
    torch.testing.assert_close(found, padded)


@torch.no_grad()
def test_only_the_classes_looked_for_are_found_and_take_places(model: Any) -> None:
    images = noise(1, 3, 64, 96)
    everything = model(images, selection=model.selection._replace(max_detections=200))
    best = everything["labels"][0, 0]
    wanted = int((best + 1) % CLASSES)
    found = model(images, selection=model.selection._replace(max_detections=1, classes=(wanted,)))
    assert found["labels"].tolist() == [[wanted]]
    first = (everything["labels"][0] == wanted).nonzero()[0, 0]
    torch.testing.assert_close(found["boxes"][0, 0], everything["boxes"][0, first])


@torch.no_grad()
def test_thresholds_are_held(model: Any) -> None:
    images = noise(1, 3, 64, 96)
    many = model(images, selection=model.selection._replace(max_detections=200, nms_threshold=1.0))
    scores = many["scores"][many["labels"] >= 0]
    middle = float(scores.median())
    stricter = model.selection._replace(score_threshold=middle, nms_threshold=1.0, max_detections=200)
    fewer = model(images, selection=stricter)
    assert (fewer["labels"] >= 0).sum() == (scores > middle).sum()
    apart = model(images, selection=model.selection._replace(max_detections=200, nms_threshold=0.1))
    assert 0 < (apart["labels"] >= 0).sum() < len(scores)


@torch.no_grad()
def test_an_embedding_is_of_its_own_box(model: Any) -> None:
    images = noise(2, 3, 64, 96)
    found = model(images, output_embeddings=True, selection=model.selection._replace(max_detections=40))
    embeddings, labels = found["embeddings"], found["labels"]
    assert embeddings.shape == (2, 40, 1024)
    assert not embeddings[labels < 0].any()
    maps = model.maps(images)
    for image, place in ((0, 0), (1, 0), (1, 2)):
        region = Regions(found["boxes"][image, place][None], torch.tensor([image]))
        torch.testing.assert_close(embeddings[image, place], model.looks.embed(model.pool(maps, region))[0])
    assert (embeddings[1, 0] - embeddings[1, 2]).abs().max() > 0.01


@torch.no_grad()
def test_raw_outputs_are_what_the_heads_said(model: Any) -> None:
    raw = model(noise(2, 3, 64, 96), output_raw=True)["raw"]
    assert raw["anchor_codes"].shape == (*raw["objectness"].shape, 4)
    assert raw["logits"].shape == (len(raw["proposals"]), CLASSES + 1)
    assert raw["codes"].shape == (len(raw["proposals"]), CLASSES + 1, 4)
    assert raw["images"].tolist() == sorted(raw["images"].tolist())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_learns(family: str) -> None:
    model = small(family, num_classes=CLASSES, box_samples=64).train()
    model(noise(2, 3, 64, 96), [target((5, 5, 40, 50), (30, 10, 90, 60)), target((0, 0, 96, 64))])["loss"].backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_images_without_objects_teach_background_only(family: str) -> None:
    model = small(family).train()
    losses = model(noise(2, 3, 64, 96), [target(), {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}])
    assert all(value.isfinite() for value in losses.values())
    assert losses["loss_classification"] > 0
    assert losses["loss_boxes"] == losses["loss_rpn_boxes"] == 0
    losses["loss"].backward()


def test_crowds_teach_nothing() -> None:
    model, images = small(), noise(1, 3, 64, 96)
    both = target((0, 0, 80, 60), (30, 10, 90, 60), crowd=1)
    without = {name: value[1:] for name, value in both.items()}
    losses = []
    for one in (both, without):
        torch.manual_seed(1)
        losses.append(model(images, [one])["loss"])
    assert losses[0] == losses[1]


def test_frozen_norms_neither_learn_nor_count_and_losses_do_not_depend_on_the_mode() -> None:
    model = small(freeze_norm=True)
    norm = next(m for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d))
    mean, losses = norm.running_mean.clone(), []
    for mode in (True, False):
        torch.manual_seed(1)
        losses.append(model.train(mode)(noise(1, 3, 64, 96), [target((5, 5, 40, 50))])["loss"])
    torch.testing.assert_close(losses[0], losses[1])
    assert torch.equal(norm.running_mean, mean)
    assert not norm.weight.requires_grad


@torch.no_grad()
@pytest.mark.parametrize("family", ["faster", *(pytest.param(name, marks=pytest.mark.long) for name in DETAILED)])
def test_bfloat16_runs_and_boxes_stay_precise(family: str) -> None:
    found = small(family).bfloat16()(noise(1, 3, 64, 96).bfloat16())
    assert found["boxes"].dtype == torch.float32
    assert all(value.isfinite().all() for value in found.values())
    assert (found["labels"] >= 0).any()


class Fixed(nn.Module):
    """Says the same of every region: a map (P, S, S)."""

    def __init__(self, map: Tensor) -> None:
        super().__init__()
        self.map = map

    def forward(self, cuts: Tensor) -> Tensor:
        return self.map.expand(len(cuts), *self.map.shape)


def photo() -> Any:
    return np.random.default_rng(0).integers(0, 255, (60, 130, 3), dtype=np.uint8)


def test_masks_land_in_the_right_pixels_of_the_original() -> None:
    model = small("mask", image_size=(96, 300))
    left = torch.full((CLASSES + 1, 28, 28), -20.0)
    left[:, :, :14] = 20.0
    model.mask.predictor = Fixed(left)
    (result,) = model.predict([photo()])
    assert result.masks.shape == (len(result), 60, 130)
    wide = [i for i, (x1, y1, x2, y2) in enumerate(result.boxes.tolist()) if x2 - x1 > 12 and y2 - y1 > 12]
    assert wide
    for i in wide:
        x1, y1, x2, y2 = result.boxes[i].tolist()
        rows, columns = result.masks[i].nonzero(as_tuple=True)
        assert abs(columns.min() - x1) <= 2
        assert abs(columns.max() + 1 - (x1 + x2) / 2) <= 2
        assert abs(rows.min() - y1) <= 2
        assert abs(rows.max() + 1 - y2) <= 2


@pytest.mark.parametrize("points", [3, 18])
def test_an_object_with_another_number_of_points_is_refused(points: int) -> None:
    boxes, keypoints = torch.tensor([[5.0, 5, 40, 40]]), torch.ones(1, points, 3)
    target = {"boxes": boxes, "labels": torch.tensor([0]), "keypoints": keypoints}
    with pytest.raises(InputError, match=r"`keypoints` has the shape \(1, 17, 3\)"):
        small("keypoint", num_classes=1)(torch.rand(1, 3, 64, 64), [target])


def test_keypoints_land_in_the_right_pixels_of_the_original() -> None:
    model = small("keypoint", image_size=(96, 300), num_classes=1)
    maps = torch.zeros(17, 56, 56)
    maps[:, 13, 41] = 10.0  # a row and a column: a quarter down, three quarters to the right
    model.keypoints.predictor = Fixed(maps)
    (result,) = model.predict([photo()])
    x1, y1, x2, y2 = result.boxes.unbind(1)
    assert result.keypoints.shape == (len(result), 17, 3)
    x, y = x1 + (x2 - x1) * 41.5 / 56, y1 + (y2 - y1) * 13.5 / 56
    assert (result.keypoints[..., 0] - x[:, None]).abs().max() < 1
    assert (result.keypoints[..., 1] - y[:, None]).abs().max() < 1
    assert result.keypoints[..., 2].max() > 5  # less on boxes of few pixels, where the peak lies between two


@torch.no_grad()
def test_its_pyramid_is_a_backbone_under_the_same_names(model: Any) -> None:
    backbone = zoo.create(
        "faster_rcnn", features_only=True, backbone="resnet18", neck={"name": "fpn", "width": 32}
    ).eval()
    own = model.state_dict()
    backbone.load_state_dict({name: own[name] for name in backbone.state_dict()})
    images = noise(1, 3, 64, 96)
    assert backbone.strides == (4, 8, 16, 32, 64)
    for ours, theirs in zip(backbone(images), model.maps(images), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fresh_head_has_the_new_classes(family: str) -> None:
    model = small(family)
    backbone = next(model.backbone.parameters())
    model.reset_head(7)
    assert model.num_classes == 7
    assert next(model.backbone.parameters()) is backbone
    found = model(noise(1, 3, 64, 96), selection=model.selection._replace(score_threshold=0.0))
    assert found["labels"].max() <= 6
    one = target((5, 5, 40, 50))
    assert model(noise(1, 3, 64, 96), [{**one, "labels": torch.tensor([6])}])["loss"].isfinite()


def test_regions_are_cut_out_of_the_level_torchvision_takes() -> None:
    strides = (4, 8, 16, 32, 64)
    maps = [noise(2, 8, 1024 // stride, 1024 // stride, seed=stride) for stride in strides]
    sides = torch.tensor([9.0, 60, 111, 112, 113, 223, 224, 300, 448, 900])
    boxes = torch.stack((torch.full_like(sides, 20), torch.full_like(sides, 30), 20 + sides, 30 + sides), dim=1)
    images = torch.tensor([0] * 6 + [1] * 4)
    ours = RoIPool(size=7, strides=strides)(maps, Regions(boxes, images))
    pool = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2)
    named = {str(i): level for i, level in enumerate(maps)}
    torch.testing.assert_close(ours, pool(named, [boxes[:6], boxes[6:]], [(1024, 1024)] * 2))


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(OptionError, match="anchors need sizes for each of 5 levels"):
        small(anchor_sizes=[[32], [64]])
    model = small("mask")
    with pytest.raises(InputError, match="has no `masks`"):
        model(noise(1, 3, 64, 96), [{"boxes": torch.tensor([[1.0, 1, 9, 9]]), "labels": torch.tensor([0])}])
    with pytest.raises(InputError, match=r"targets\[0\].*3"):
        model(noise(1, 3, 64, 96), [{**target((1, 1, 9, 9)), "labels": torch.tensor([3])}])


def test_regions_are_pooled_by_their_largest_pixels_where_that_is_asked_for() -> None:
    torch.manual_seed(7)
    maps = [torch.rand(1, 4, 32, 32)]
    boxes = torch.tensor([[8.0, 8, 40, 40], [0.0, 16, 100, 60]])
    regions = Regions(boxes, torch.zeros(2, dtype=torch.int64))
    ours = RoIPool(size=7, strides=(4,), operation="max")(maps, regions)
    assert ours.equal(roi_pool(maps[0], [boxes], 7, 0.25))
    model = FasterRCNN(num_classes=2, backbone="resnet18", neck={"name": "fpn", "width": 8}, roi_operation="max")
    assert model.pool.operation == "max"


@pytest.mark.parametrize("family", ["faster", "keypoint"])
def test_weights_that_are_no_numbers_are_refused_and_do_not_look_like_an_empty_image(family: str) -> None:
    model = small(family, image_size=64)
    model.label_space = LabelSpace(name="gap", names=("one", "two"), outputs=(1, 2), slots=3)  # output 0 is no class
    image = np.zeros((64, 64, 3), np.uint8)
    predictor = model.looks.stage.predictor
    for damaged in (model.rpn.head.cls_logits, model.rpn.head.bbox_pred, predictor.cls_score, predictor.bbox_pred):
        bias = damaged.bias.detach().clone()
        nn.init.constant_(damaged.bias, torch.nan)
        with pytest.raises(CheckpointError, match="not a number"):
            model.predict(image, embeddings=True)
        damaged.bias.data = bias
    model.predict(image, embeddings=True)


@torch.no_grad()
def test_an_image_that_is_no_numbers_is_told_by_its_scores_and_by_no_others(model: Any) -> None:
    images = noise(3, 3, 64, 96)
    sound = model(images[:1])
    images[1] = torch.nan
    found = model(images)
    assert found["scores"].isnan().all(dim=1).tolist() == [False, True, False]
    assert found["boxes"].isfinite().all()
    torch.testing.assert_close(found["scores"][:1], sound["scores"])
