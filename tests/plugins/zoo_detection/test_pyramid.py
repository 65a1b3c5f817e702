"""A backbone and a neck under a detector: which maps, which input, whose weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import OptionError, UnsupportedError
from zoo.models.counting import multiply_accumulates
from zoo.models.parts import build_backbone
from zoo.specs import InputSpec
from zoo_detection import FasterRCNN, Pyramid, RetinaNet
from zoo_detection.pyramid import fitted_input

SMALL = {"backbone": "resnet18", "neck": {"name": "fpn", "width": 16}}


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


def test_a_detector_gives_its_pyramid_as_maps_of_any_backbone() -> None:
    pyramid = zoo.create("faster_rcnn", features_only=True, **SMALL)
    maps = pyramid(torch.rand(1, 3, 64, 96))
    assert (pyramid.channels, pyramid.strides) == ((16,) * 5, (4, 8, 16, 32, 64))
    assert [tuple(m.shape[2:]) for m in maps] == [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    some = zoo.create("retinanet", features_only=True, out_indices=(0, -1), **SMALL)
    assert some.strides == (8, 128)
    assert [tuple(m.shape[2:]) for m in some(torch.rand(1, 3, 64, 96))] == [(8, 12), (1, 1)]
    with pytest.raises(OptionError, match="5 maps"):
        zoo.create("retinanet", features_only=True, out_indices=(5,), **SMALL)


def test_a_file_of_a_whole_detector_fills_its_pyramid(tmp_path: Path) -> None:
    detector = RetinaNet(num_classes=2, **SMALL)
    detector.save_pretrained(tmp_path / "saved")
    pyramid = zoo.create(f"file://{tmp_path}/saved", features_only=True)
    assert pyramid.load_report.ok
    assert all("heads" in why for why in pyramid.load_report.skipped.values())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        pairs = list(zip(pyramid(images), detector.eval().maps(images), strict=True))
    assert max((ours - theirs).abs().max() for ours, theirs in pairs) < 1e-5
    published = detector.key_maps()["torchvision"].save(detector.state_dict())
    again = Pyramid(levels=5, min_stride=8, extra="conv", **SMALL)
    mapped = again.key_maps()["torchvision"].load(published)
    assert mapped.tensors.keys() == again.state_dict().keys()


def test_a_plain_vit_gets_the_simple_pyramid_and_its_own_size() -> None:
    model = FasterRCNN(backbone="vit_ti_16", neck={"name": "simple_pyramid", "width": 16}, num_classes=2)
    assert (model.input_spec.size, model.input_spec.divisor) == ((224, 224), 224)
    assert model.input_spec.mean == zoo.create("vit_ti_16", features_only=True).input_spec.mean
    larger = Pyramid(backbone="vit_ti_16", image_size=256)
    assert type(larger.neck).__name__ == "SimplePyramid"
    assert larger.input_spec.size == (256, 256)
    assert larger(torch.rand(1, 3, 256, 256))[0].shape[2:] == (64, 64)


def test_images_are_fitted_and_normalised_as_the_backbone_is_used_to() -> None:
    half = InputSpec(size=(224, 224), mean=(0.5,) * 3, std=(0.5,) * 3, divisor=14)
    spec = fitted_input(half, None)
    assert (spec.size, spec.resize, spec.mean, spec.std) == ((800, 1333), "fit", (0.5,) * 3, (0.5,) * 3)
    assert spec.divisor % 14 == 0
    assert fitted_input(half, 320).size == (320, 320)
    assert fitted_input(half, (480, 640)).size == (480, 640)


def test_frozen_norms_stay_frozen_in_training_and_have_the_epsilon_asked_for() -> None:
    model = RetinaNet(num_classes=2, freeze_norm=True, norm_eps=0.0, **SMALL).train()
    inside = norms(model.backbone)
    assert inside
    assert all(not m.training and m.eps == 0.0 and not m.weight.requires_grad for m in inside)
    assert model.head.training
    before = [m.running_mean.clone() for m in inside]
    model(torch.rand(1, 3, 64, 64), [{"boxes": torch.tensor([[8.0, 8, 40, 40]]), "labels": torch.tensor([1])}])
    assert all(m.running_mean.equal(b) for m, b in zip(inside, before, strict=True))
    free = RetinaNet(num_classes=2, **SMALL).train()
    assert all(m.training and m.eps == 1e-5 and m.weight.requires_grad for m in norms(free.backbone))


def test_what_published_weights_need_is_not_asked_of_fresh_ones() -> None:
    fresh = zoo.create("retinanet", neck={"name": "fpn", "width": 16}, backbone="resnet18")
    assert not fresh.config.freeze_norm
    assert all(m.eps == 1e-5 for m in norms(fresh.backbone))
    with torch.device("meta"):
        assert not zoo.create("retinanet").config.freeze_norm
        named = zoo.create("retinanet_r50_fpn.coco_v1")
    assert named.config.freeze_norm  # this checkpoint's structure was asked for by name
    assert all(m.eps == 0.0 for m in norms(named.backbone))


def test_a_report_says_which_parts_came_with_weights() -> None:
    part = {"name": "mobilenetv2", "pretrained": True}
    model = zoo.create("retinanet", backbone=part, neck={"name": "fpn", "width": 16}, num_classes=2)
    report = model.load_report
    assert report.ok
    assert all(name.startswith("backbone.") for name in report.loaded)
    fresh = {name.partition(".")[0] for name in report.reinitialised}
    assert fresh == {"neck", "head"}
    assert {*report.loaded, *report.kept, *report.reinitialised} == set(model.state_dict())
    assert model.provenance is not None
    assert "mobilenetv2" in model.provenance.ref
    assert zoo.create("retinanet", num_classes=2, **SMALL).load_report is None


@pytest.mark.parametrize("name", ["faster_rcnn", "mask_rcnn", "keypoint_rcnn", "cascade_rcnn", "cascade_mask_rcnn"])
def test_a_second_stage_costs_what_all_its_regions_cost(name: str) -> None:
    with torch.device("meta"):
        model = zoo.create(name, num_classes=2, img_size=128, proposals=10, max_detections=1, **SMALL)
        more = zoo.create(name, num_classes=2, img_size=128, proposals=20, max_detections=1, **SMALL)
        seen = zoo.create(name, num_classes=2, img_size=128, proposals=10, max_detections=4, **SMALL)
    cost = multiply_accumulates(model, model.input_spec)
    looks = 3 if "cascade" in name else 1
    per_region = 16 * 49 * 1024 + 1024 * 1024 + 1024 * (3 + 4 * (1 if looks == 3 else 3))
    assert multiply_accumulates(more, model.input_spec) - cost == 10 * looks * per_region
    details = multiply_accumulates(seen, model.input_spec) - cost
    assert (details > 0) == ("mask" in name or "keypoint" in name)


@pytest.mark.parametrize("name", ["retinanet", "fcos", "faster_rcnn"])
def test_an_image_of_odd_sides_is_seen_as_in_a_larger_batch(name: str) -> None:
    torch.manual_seed(0)
    model = zoo.create(name, num_classes=2, img_size=128, max_detections=20, score_threshold=0.0, **SMALL).eval()
    image = torch.rand(1, 3, 100, 76)
    padded = nn.functional.pad(image, (0, 20, 0, 28))
    with torch.no_grad():
        alone, within = model(image), model(padded, sizes=torch.tensor([[100, 76]]))
    assert (alone["boxes"] - within["boxes"]).abs().max() < 1e-3
    assert alone["boxes"].abs().max() > 1


@pytest.mark.parametrize("name", ["retinanet", "ssd300", "cascade_rcnn", "mask_rcnn"])
def test_a_fresh_head_is_where_the_old_one_was_and_knows_no_names(name: str) -> None:
    model = zoo.create(name, num_classes=2, backbone="resnet18").double()
    model.label_space = zoo.LabelSpace(name="two", names=("a", "b"))
    model.reset_head(3)
    assert model.num_classes == 3
    assert model.label_space is None
    assert {p.dtype for p in model.parameters()} == {torch.float64}


def test_a_parts_own_report_is_kept() -> None:
    part = zoo.create("mobilenetv2", pretrained=True, features_only=True)
    part.load_report = replace(part.load_report, reinitialised={"encoder.conv_stem.weight": "not in the file"})
    model = RetinaNet(num_classes=2, backbone=part, neck=SMALL["neck"])
    assert model.load_report.reinitialised["backbone.encoder.conv_stem.weight"] == "not in the file"


@pytest.mark.parametrize("name", ["vit_ti_16", "resnet18"])
def test_weights_are_fetched_once_where_an_image_size_is_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def without_weights(part: dict[str, object], **options: object) -> zoo.Backbone:
        fetched.extend(part.pop("checkpoint") for _ in range("checkpoint" in part))
        return build_backbone(part, **options)

    monkeypatch.setattr("zoo_detection.pyramid.build_backbone", lambda part, **o: without_weights(dict(part), **o))
    pyramid = Pyramid(backbone={"name": name, "checkpoint": "file"}, image_size=256)
    assert fetched == ["file"]
    assert pyramid.input_spec.size == (256, 256)


@pytest.mark.parametrize(
    ("name", "options", "format"),
    [
        ("retinanet", {"backbone": "resnet18", "neck": "bifpn"}, "torchvision"),
        ("faster_rcnn", {"backbone": "vit_ti_16", "img_size": 64}, "torchvision"),
        ("resnet50_fpn", {"backbone": "resnet18", "neck": "panet"}, "torchvision"),
        ("cascade_rcnn", {"backbone": "resnet18", "neck": "panet"}, "mmdet"),
        ("cascade_rcnn", {"backbone": "resnet18", "neck": {"name": "fpn", "norm": "batch"}}, "mmdet"),
        ("ssd300", {"neck": "bifpn"}, "torchvision"),
        ("ssd_mobilenetv2", {"predictors": "separable"}, "tensorflow"),
    ],
    ids=["bifpn", "simple_pyramid", "pyramid", "panet", "norm", "ssd", "predictors"],
)
def test_names_that_nobody_published_are_not_written(
    name: str, options: dict[str, Any], format: str, tmp_path: Path
) -> None:
    with torch.device("meta"):
        model = zoo.create(name, **options)
    with pytest.raises(UnsupportedError, match="no names for some of its parts") as error:
        model.save_pretrained(tmp_path / "saved", format=format)
    assert error.value.fix == 'format="native"'
    assert not (tmp_path / "saved").exists()
