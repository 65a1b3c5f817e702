"""The R-CNN family against torchvision's, on the same weights, in through the published key names.

Numbers are compared in float64, where rounding does not choose other boxes, and once in float32 from picture to result.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision_rcnn import (
    CASES,
    FEW,
    LONG,
    LOSSES,
    OUR_FEW,
    PUBLISHED,
    SHORT,
    Case,
    awake,
    objects,
    older,
    pictures,
)

import zoo

TOLERANCE = 1e-4
SIZES = ((80, 130), (150, 96), (60, 170))


def pair(case: Case, folder: Path, **options: Any) -> tuple[nn.Module, Any]:
    """The oracle and our model with its weights, both in float64."""
    torch.manual_seed(0)
    oracle = awake(case.oracle(case.classes, min_size=SHORT, max_size=LONG, _skip_resize=True, **FEW))
    file = folder / "published.pth"
    torch.save(oracle.state_dict(), file)
    model = zoo.create(
        case.row.partition(".")[0],
        checkpoint=file,
        format="torchvision",
        num_classes=case.classes,
        img_size=(SHORT, LONG),
        **OUR_FEW,
        **case.options,
        **options,
    )
    return oracle.double(), model.double()


QUICK = "faster"  # the others are long tests


@pytest.fixture(
    scope="module", params=[name if name == QUICK else pytest.param(name, marks=pytest.mark.long) for name in CASES]
)
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Any]:
    return pair(CASES[request.param], tmp_path_factory.mktemp(request.param))


def within(oracle: nn.Module, images: list[Tensor]) -> tuple[list[dict[str, Tensor]], Tensor, Tensor]:
    """What the oracle finds, in input pixels; and the batch it made of the images, with their sizes."""
    seen = []
    hook = oracle.transform.register_forward_hook(lambda _, __, output: seen.append(output[0]))
    postprocess, oracle.transform.postprocess = oracle.transform.postprocess, lambda result, *_: result
    with torch.no_grad():
        found = oracle([image.double() for image in images])
    hook.remove()
    oracle.transform.postprocess = postprocess
    return found, seen[0].tensors, torch.tensor(seen[0].image_sizes)


def assert_same(wanted: list[dict[str, Tensor]], found: dict[str, Tensor]) -> None:
    """Every output of the oracle, image by image, is in the padded tensors, and nothing else is."""
    for i, theirs in enumerate(wanted):
        count = len(theirs["boxes"])
        assert count > 3, "too few to say anything"
        assert torch.equal(found["labels"][i, :count], theirs["labels"] - 1)
        assert (found["labels"][i, count:] == -1).all()
        pairs = [(found["boxes"], theirs["boxes"]), (found["scores"], theirs["scores"])]
        if "masks" in theirs:
            pairs.append((found["masks"], theirs["masks"][:, 0]))
        if "keypoints" in theirs:
            pairs.append((found["keypoints"][..., :2], theirs["keypoints"][..., :2]))
            pairs.append((found["keypoints"][..., 2], theirs["keypoints_scores"]))
        for ours, others in pairs:
            assert (ours[i, :count] - others).abs().max() < TOLERANCE
            assert not ours[i, count:].any()


def test_every_output_is_torchvisions(models: tuple[nn.Module, Any]) -> None:
    oracle, model = models
    for sizes in (SIZES, SIZES[1:2]):
        wanted, batch, own = within(oracle.eval(), pictures(*sizes))
        with torch.no_grad():
            found = model.eval()(batch, sizes=own)
        assert_same(wanted, found)
        assert ({"masks", "keypoints"} & set(wanted[0])) == ({"masks", "keypoints"} & set(found))


@pytest.mark.parametrize("mode", [True, pytest.param(False, marks=pytest.mark.long)], ids=["training", "evaluation"])
def test_every_loss_is_torchvisions(models: tuple[nn.Module, Any], mode: bool) -> None:
    oracle, model = models
    if not mode and any(isinstance(m, nn.BatchNorm2d) for m in oracle.modules()):
        pytest.skip("torchvision's has losses in training only, where its norms use the batch")
    images = pictures(*SIZES)
    targets = objects(images, model.num_classes)
    oracle.train()
    torch.manual_seed(3)
    wanted = oracle([image.double() for image in images], targets)
    batch, sizes = padded(oracle, images)
    model.train(mode)
    torch.manual_seed(3)
    found = model(batch, [ours(target, batch) for target in targets], sizes=sizes)
    assert set(found) == {LOSSES[name] for name in wanted} | {"loss"}
    for name, value in wanted.items():
        assert value > 0.01
        assert abs(found[LOSSES[name]] - value) < TOLERANCE, name
    assert abs(found["loss"] - sum(wanted.values())) < TOLERANCE
    model.eval()


def padded(oracle: nn.Module, images: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The batch that torchvision makes of images in training, not resized, and their sizes."""
    oracle.transform.train()
    batch, _ = oracle.transform([image.double() for image in images])
    return batch.tensors, torch.tensor(batch.image_sizes)


def ours(target: dict[str, Tensor], batch: Tensor) -> dict[str, Tensor]:
    """A target of torchvision's in our terms: no background among the labels, masks over the padded batch."""
    height, width = batch.shape[2] - target["masks"].shape[1], batch.shape[3] - target["masks"].shape[2]
    masks = nn.functional.pad(target["masks"], (0, width, 0, height))
    return {**target, "labels": target["labels"] - 1, "masks": masks}


@pytest.mark.parametrize(
    "models", [pytest.param(name, marks=pytest.mark.long) for name in ("faster", "mask", "keypoint")], indirect=True
)
def test_from_picture_to_result_as_torchvision(models: tuple[nn.Module, Any]) -> None:
    oracle, model = models[0].float().eval(), models[1].float()
    images = pictures(*SIZES)
    with torch.no_grad():
        wanted = oracle(images)
    for theirs, result in zip(wanted, model.predict(images, batch_size=3), strict=True):
        assert torch.equal(result.ids, theirs["labels"] - 1)
        assert (result.scores - theirs["scores"]).abs().max() < TOLERANCE
        assert (result.boxes - theirs["boxes"]).abs().max() < 0.01, "pixels"
        if result.masks is not None:
            clear = (theirs["masks"][:, 0] - 0.5).abs() > 0.01
            assert torch.equal(result.masks[clear], theirs["masks"][:, 0][clear] > 0.5)
        if result.keypoints is not None:
            assert (result.keypoints[..., :2] - theirs["keypoints"][..., :2]).abs().max() < 0.05, "pixels"
    oracle.double(), model.double()


def some_now(names: Iterable[str], *now: str) -> list[Any]:
    """Names as parameters; all but those named `now` make long tests."""
    return [name if name in now else pytest.param(name, marks=pytest.mark.long) for name in names]


@pytest.mark.parametrize("name", some_now(PUBLISHED, "mask_rcnn_r50_fpn", "faster_rcnn_mobilenetv3_large_fpn"))
def test_every_published_name_goes_in_and_comes_out(name: str) -> None:
    case = PUBLISHED[name]
    with torch.device("meta"):
        published = case.oracle(case.classes).state_dict()
    model = zoo.create(checkpoint_of(case.row), device="meta")
    keys = model.key_maps()["torchvision"]
    own = model.state_dict()
    shapes = {key: tensor.shape for key, tensor in published.items()}
    assert {key: tensor.shape for key, tensor in keys.save(own).items()} == shapes
    for file in (published, {older(key): tensor for key, tensor in published.items()}):
        state = keys.load(file)
        assert not state.skipped
        assert {key: t.shape for key, t in state.tensors.items()} == {key: t.shape for key, t in own.items()}


def checkpoint_of(row: str) -> str:
    """The row with its published weights named, and so with the config these need."""
    return row if "." in row else f"{row}.coco_v1"


def test_the_file_of_faster_rcnn_has_the_published_number_of_tensors_and_parameters() -> None:
    with torch.device("meta"):
        oracle = PUBLISHED["faster_rcnn_r50_fpn"].oracle(90)
    assert len(oracle.state_dict()) == 295
    assert sum(p.numel() for p in oracle.parameters()) == 41_755_286


NORMS = {
    "faster_rcnn_r50_fpn": (0.0, True),
    "faster_rcnn_r50_fpn_v2": (1e-5, False),
    "faster_rcnn_mobilenetv3_large_fpn": (1e-5, True),
    "mask_rcnn_r50_fpn": (0.0, True),
    "keypoint_rcnn_r50_fpn": (0.0, True),
    "keypoint_rcnn_r50_fpn.coco_legacy": (1e-5, True),
}


@pytest.mark.parametrize("name", some_now(NORMS, "faster_rcnn_r50_fpn", "keypoint_rcnn_r50_fpn.coco_legacy"))
def test_norms_are_as_the_published_file_needs_them(name: str) -> None:
    eps, frozen = NORMS[name]
    model = zoo.create(checkpoint_of(name), device="meta").train()
    norms = [m for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {eps}
    assert {norm.training for norm in norms} == {not frozen}
    assert {norm.weight.requires_grad for norm in norms} == {not frozen}


@pytest.mark.long
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_sizes_are_torchvisions(name: str, tmp_path: Path) -> None:
    row = PUBLISHED[name]
    checkpoint = {"norm_eps": 1e-5} if name.endswith("legacy") else {}
    oracle, model = pair(row, tmp_path, **checkpoint)
    wanted, batch, sizes = within(oracle.eval(), pictures(*SIZES[:2]))
    with torch.no_grad():
        assert_same(wanted, model(batch, sizes=sizes))
