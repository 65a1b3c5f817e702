"""RetinaNet (both versions) and FCOS against torchvision's, with the same weights, which go in through the names and
the layout of torchvision's files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18, resnet50
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead, _default_anchorgen
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

import zoo
from zoo.build.weights import load_weights
from zoo.models.images import load_images
from zoo.models.load_report import LoadReport

near = partial(torch.testing.assert_close, atol=1e-4, rtol=1e-4, check_dtype=False)

PHOTOS = ((140, 200), (200, 130))
"""Sides of the photos: one is wide, one is high, so that both are padded to a batch."""


class Sides(NamedTuple):
    """Both networks with the same weights, and the same photos as each of them takes them."""

    theirs: Any
    ours: Any
    report: LoadReport
    photos: list[Tensor]  # (3, H, W) in [0, 1], of different sizes
    images: Tensor  # (B, 3, h, w), as theirs preprocessed them
    frames: list[Any]

    @property
    def sizes(self) -> Tensor:
        """(B, 2), of each image in the batch."""
        return torch.tensor([frame.input_size for frame in self.frames])


def retinanet(network: Any, classes: int, size: tuple[int, int]) -> nn.Module:
    """As torchvision builds it for the published file."""
    body = network(norm_layer=FrozenBatchNorm2d)
    pyramid = _resnet_fpn_extractor(body, 5, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
    model = RetinaNet(pyramid, classes, min_size=size[0], max_size=size[1])
    overwrite_eps(model, 0.0)
    return model


def retinanet_v2(network: Any, classes: int, size: tuple[int, int]) -> nn.Module:
    """As torchvision builds it for the published file."""
    body = network()
    extra = LastLevelP6P7(body.fc.in_features, 256)
    pyramid = _resnet_fpn_extractor(body, 5, returned_layers=[2, 3, 4], extra_blocks=extra)
    head = RetinaNetHead(256, 9, classes, norm_layer=partial(nn.GroupNorm, 32))
    head.regression_head._loss_type = "giou"
    anchors = _default_anchorgen()
    return RetinaNet(pyramid, classes, anchor_generator=anchors, head=head, min_size=size[0], max_size=size[1])


def fcos(network: Any, classes: int, size: tuple[int, int]) -> nn.Module:
    """As torchvision builds it for the published file."""
    body = network(norm_layer=FrozenBatchNorm2d)
    pyramid = _resnet_fpn_extractor(body, 5, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
    return FCOS(pyramid, classes, min_size=size[0], max_size=size[1])


BUILDERS = {
    "retinanet_r50_fpn": (retinanet, {"freeze_norm": True, "norm_eps": 0.0}),
    "retinanet_r50_fpn_v2": (retinanet_v2, {}),
    "fcos_r50_fpn": (fcos, {"freeze_norm": True}),
}
LOSSES = {
    "classification": "loss_classification",
    "bbox_regression": "loss_boxes",
    "bbox_ctrness": "loss_centreness",
}
RAW = {"cls_logits": "logits", "bbox_regression": "boxes", "bbox_ctrness": "centreness"}


def both(name: str, network: Any, classes: int, size: tuple[int, int]) -> Sides:
    torch.manual_seed(0)
    build, config = BUILDERS[name]
    # In double precision: anchors of hundreds of pixels make pixels of what single precision rounds.
    theirs: Any = build(network, classes, size).double().eval()
    photos = [torch.rand(3, *sides, dtype=torch.float64) for sides in PHOTOS]
    spread(theirs, photos)
    ours = zoo.create(name, backbone=network.__name__, num_classes=classes, img_size=size, **config).double().eval()
    report = load_weights(ours, theirs.state_dict(), format="torchvision", source="torchvision")
    return Sides(theirs, ours, report, photos, *preprocessed(theirs, ours.input_spec, photos))


def preprocessed(theirs: Any, spec: zoo.InputSpec, photos: list[Tensor]) -> tuple[Tensor, list[Any]]:
    """The batch as theirs makes it, in double precision, and our frames."""
    images, _ = theirs.transform(photos)
    ours, frames = zoo.Preprocessor(spec)(load_images([photo.float() for photo in photos]))
    near(ours.double(), images.tensors)
    assert [frame.input_size for frame in frames] == images.image_sizes
    return images.tensors, frames


@torch.no_grad()
def spread(theirs: Any, photos: list[Tensor]) -> None:
    """Random norms, and heads scaled so that the scores of fresh weights lie on both sides of the threshold."""
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
            module.weight.uniform_(0.5, 1.0)
            module.bias.uniform_(-0.3, 0.3)
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.8, 1.5)
    head = theirs.head
    last = [head.classification_head.cls_logits, head.regression_head.bbox_reg]
    last += [head.regression_head.bbox_ctrness] if isinstance(theirs, FCOS) else []
    wanted = {"cls_logits": (-3.5, 1.5), "bbox_regression": (0.5, 0.3), "bbox_ctrness": (1.0, 1.0)}
    images, _ = theirs.transform(photos)
    maps = list(theirs.backbone(images.tensors).values())
    for conv in last:
        conv.bias.zero_()
        conv.weight.mul_(100)  # off the ReLU's zero
    for (name, (mean, deviation)), conv in zip(wanted.items(), last, strict=False):
        values = head(maps)[name]
        conv.weight.mul_(deviation / values.std())
        conv.bias.fill_(mean)


@pytest.fixture(scope="module", params=sorted(BUILDERS))
def sides(request: pytest.FixtureRequest) -> Sides:
    return both(request.param, resnet18, 11, (112, 150))


def objects(sides: Sides) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """The same objects as each side takes them: our boxes are input pixels."""
    boxes = [
        torch.tensor([[10.0, 20, 150, 130], [30, 40, 60, 70], [100, 5, 198, 90]]),
        torch.tensor([[5.0, 5, 90, 190], [40, 100, 62, 118.0]]),
    ]
    labels = [torch.tensor([0, 10, 7]), torch.tensor([4, 4])]
    theirs = [{"boxes": b, "labels": one} for b, one in zip(boxes, labels, strict=True)]
    ours = [
        {"boxes": frame.boxes_to_input(b), "labels": one}
        for b, one, frame in zip(boxes, labels, sides.frames, strict=True)
    ]
    return theirs, ours


def test_every_published_name_is_used_and_comes_back(sides: Sides) -> None:
    published, report = sides.theirs.state_dict(), sides.report
    assert not report.unexpected
    assert not report.skipped
    assert not report.kept
    assert not report.adapted
    keys = sides.ours.key_maps()["torchvision"]
    assert published.keys() <= set(keys.load(published).origins.values())
    written = keys.save(sides.ours.state_dict())
    assert written.keys() == published.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in published.items())


def test_files_from_before_the_renaming_are_read() -> None:
    theirs = retinanet(resnet18, 3, (160, 224))
    ours = zoo.create("retinanet", backbone="resnet18", num_classes=3, freeze_norm=True)
    older = {as_before(name): tensor for name, tensor in theirs.state_dict().items()}
    assert "head.regression_head.conv.6.bias" in older
    assert "backbone.fpn.inner_blocks.0.weight" in older
    load_weights(ours, older, format="torchvision", source="torchvision")
    written = ours.key_maps()["torchvision"].save(ours.state_dict())
    assert all(torch.equal(written[name], tensor) for name, tensor in theirs.state_dict().items())


def as_before(name: str) -> str:
    """The name that torchvision gave a tensor before version 0.13."""
    parts = name.split(".")
    if "_blocks" in name and parts[1] == "fpn" and parts[2] != "extra_blocks":
        del parts[4]
    elif parts[2] == "conv":
        parts[3:5] = [str(2 * int(parts[3]))]
    return ".".join(parts)


def test_raw_outputs_and_anchors_are_the_same(sides: Sides) -> None:
    images, _ = sides.theirs.transform(sides.photos)
    with torch.inference_mode():
        maps = list(sides.theirs.backbone(images.tensors).values())
        theirs, anchors = sides.theirs.head(maps), sides.theirs.anchor_generator(images, maps)
        raw = sides.ours(sides.images, sizes=sides.sizes, output_raw=True)["raw"]
        own_maps = sides.ours.maps(sides.images)
        for our, their in zip(own_maps, maps, strict=True):
            near(our, their)
        near(torch.cat(sides.ours.head.anchors(sides.images, own_maps)), anchors[0])
    assert raw.keys() == {RAW[name] for name in theirs}
    for name, values in theirs.items():
        assert values.std() > 0.2
        near(raw[RAW[name]], values)


def test_detections_are_the_same(sides: Sides) -> None:
    same_detections(sides)


def same_detections(sides: Sides) -> None:
    with torch.inference_mode():
        theirs = sides.theirs(sides.photos)
        ours = sides.ours.postprocess(sides.ours(sides.images, sizes=sides.sizes), sides.frames)
    for their, our in zip(theirs, ours, strict=True):
        assert len(our) == len(their["boxes"]) > 20
        near(our.scores, their["scores"])
        place = counterpart(their, our)
        assert place.unique().numel() == len(place)
        near(our.boxes[place], their["boxes"])
        near(our.scores[place], their["scores"])


def counterpart(their: dict[str, Tensor], our: zoo.Detections) -> Tensor:
    """For each of their detections the nearest of ours with its label. Several may have one box, clipped to an edge."""
    distance = (their["boxes"][:, None] - our.boxes).abs().amax(dim=-1)
    distance += 1e4 * (their["scores"][:, None] - our.scores).abs()
    return distance.masked_fill(their["labels"][:, None] != our.ids, torch.inf).argmin(dim=1)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_losses_are_the_same(sides: Sides, training: bool) -> None:
    same_losses(sides, training)


def same_losses(sides: Sides, training: bool) -> None:
    """torchvision gives losses in training only; with frozen norms the mode makes no difference."""
    frozen = sides.ours.config.freeze_norm
    before = {name: value.clone() for name, value in sides.theirs.state_dict().items()}
    their_targets, our_targets = objects(sides)
    sides.theirs.train()
    sides.ours.train(training or not frozen)
    with torch.no_grad():
        theirs = sides.theirs(sides.photos, their_targets)
        ours = sides.ours(sides.images, our_targets, sizes=sides.sizes)
    sides.theirs.load_state_dict(before)  # batch norm has counted
    sides.theirs.eval()
    load_weights(sides.ours.eval(), before, format="torchvision", source="torchvision")
    same_values(ours, theirs)


def same_values(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    assert ours.keys() == {"loss", *(LOSSES[name] for name in theirs)}
    for name, loss in theirs.items():
        assert loss > 0.05
        near(ours[LOSSES[name]], loss)
    near(ours["loss"], sum(theirs.values()))


def test_another_image_size_gives_the_same(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides.theirs.transform, "min_size", (90,))
    monkeypatch.setattr(sides.theirs.transform, "max_size", 110)
    images, frames = preprocessed(sides.theirs, sides.ours.input_spec.with_size(90, 110), sides.photos)
    assert images.shape != sides.images.shape
    same_detections(sides._replace(images=images, frames=frames))


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_the_published_size_gives_the_same(name: str) -> None:
    sides = both(name, resnet50, 91, (224, 320))
    assert sides.ours.num_classes == 91
    same_detections(sides)
    same_losses(sides, training=True)
