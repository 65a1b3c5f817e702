"""One-stage detectors: parts go together, thresholds are honoured, images do not see each other, everything learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.errors import CheckpointError, InputError, OptionError
from zoo.models.counting import multiply_accumulates
from zoo.models.detector import Selection
from zoo_detection.dense import DenseDetector
from zoo_detection.fcos import FCOS, FCOSHead
from zoo_detection.fpn import FPN
from zoo_detection.retinanet import DetectionHead, RetinaNet

FAMILIES = {"retinanet": (RetinaNet, DetectionHead), "fcos": (FCOS, FCOSHead)}
CLASSES = 5


class Toy(zoo.Backbone):
    """Three maps, of strides 8, 16 and 32, of one convolution each."""

    Config = zoo.ModelConfig
    channels = (8, 8, 8)
    strides = (8, 16, 32)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.convs = nn.ModuleList(nn.Conv2d(3, 8, 2 * s + 1, stride=s, padding=s) for s in self.strides)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.norm(conv(images)) for conv in self.convs]


def detector(family: str, **options: Any) -> DenseDetector:
    """A small one, whose scores of noise lie on both sides of 0.5."""
    torch.manual_seed(0)
    cls, head = FAMILIES[family]
    model: DenseDetector = cls(
        backbone=Toy(), neck=FPN(levels=5, extra="conv", width=32), head=head(num_classes=CLASSES, depth=1), **options
    )
    with torch.no_grad():
        for name, conv in model.head.named_children():
            if isinstance(conv, nn.Conv2d):
                conv.weight.normal_(std=0.1 if name == "logits" else 0.02)
                conv.bias.normal_(mean=1.0 if name == "centreness" else 0.0, std=0.3)
    return model.eval()


@pytest.fixture(params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def target(*boxes: tuple[float, ...], crowd: tuple[int, ...] | None = None) -> dict[str, Tensor]:
    found = {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.arange(len(boxes)) % CLASSES}
    return found if crowd is None else {**found, "iscrowd": torch.tensor(crowd)}


def test_detections_are_sorted_padded_and_inside_their_image(family: str) -> None:
    model = detector(family, score_threshold=0.5, max_detections=600)
    sizes = torch.tensor([[64, 96], [50, 33]])
    outputs = model(noise(2, 3, 64, 96), sizes=sizes)
    assert outputs["boxes"].shape == (2, 600, 4)
    assert outputs["scores"].shape == outputs["labels"].shape == (2, 600)
    found = outputs["labels"] >= 0
    assert found.sum(dim=1).gt(5).all()
    assert (~found).any()
    assert (outputs["scores"].diff(dim=1) <= 0).all()
    assert (outputs["scores"][found] > 0.5).all()
    assert outputs["labels"].max() < CLASSES
    assert not outputs["boxes"][~found].any()
    assert not outputs["scores"][~found].any()
    assert (outputs["boxes"] >= 0).all()
    for boxes, (height, width) in zip(outputs["boxes"], sizes, strict=True):
        assert boxes[:, [0, 2]].max() <= width
        assert boxes[:, [1, 3]].max() <= height


def test_unequal_images_do_not_see_each_other(family: str) -> None:
    model = detector(family, score_threshold=0.5).double()  # so that a batch of one gives the same to the last digit
    images, sizes = noise(2, 3, 64, 96).double(), torch.tensor([[64, 96], [50, 33]])
    images[1, :, 50:], images[1, :, :, 33:] = 0, 0
    together = model(images, sizes=sizes)
    images[0] = images[0] * 3 + 1
    other = model(images, sizes=sizes)
    alone = model(images[1:], sizes=sizes[1:])
    assert not torch.equal(together["scores"][0], other["scores"][0])
    for name, values in together.items():
        torch.testing.assert_close(values[1], other[name][1])
        torch.testing.assert_close(values[1], alone[name][0])


def test_thresholds_and_the_number_of_detections_are_honoured(family: str) -> None:
    model, images = detector(family, score_threshold=0.4, topk=10_000), noise(1, 3, 64, 64)
    few = model(images, selection=Selection(0.6, 0.5, 7))
    assert few["scores"].shape == (1, 7)
    assert (few["scores"] > 0.6).all()
    everything = model(images, selection=Selection(0.0, 1.0, 20_000))
    raw = model(images, output_raw=True)["raw"]
    assert (everything["labels"] >= 0).sum() == raw["logits"].numel()
    nothing = model(images, selection=Selection(1.0, 0.5, 7))
    assert (nothing["labels"] == -1).all()
    loose, strict = (model(images, selection=Selection(0.4, t, 20_000))["labels"] for t in (0.9, 0.1))
    assert (loose >= 0).sum() > (strict >= 0).sum() > 0


def test_classes_that_are_not_looked_for_take_no_place(family: str) -> None:
    model, images = detector(family, topk=2), noise(1, 3, 64, 64)
    every = model(images, selection=Selection(0.0, 1.0, 500))
    some = model(images, selection=Selection(0.0, 1.0, 500, classes=(4, 1)))
    assert set(some["labels"][some["labels"] >= 0].tolist()) == {1, 4}
    # The best two of a level are now of these two classes.
    assert (some["labels"] >= 0).sum() == (every["labels"] >= 0).sum()
    for label in (1, 4):
        seen = every["scores"][every["labels"] == label]
        assert torch.isin(seen, some["scores"][some["labels"] == label]).all()


def test_a_level_has_at_most_topk_candidates(family: str) -> None:
    model = detector(family, topk=3)
    found = model(noise(2, 3, 128, 128), selection=Selection(0.0, 1.0, 100))
    assert (found["labels"] >= 0).sum(dim=1).tolist() == [3 * 5, 3 * 5]


def test_losses_are_given_in_both_modes_and_reach_every_parameter(family: str) -> None:
    model = detector(family)
    images = noise(2, 3, 64, 96)
    targets = [target((5.0, 5, 60, 50), (20, 10, 36, 30)), target((0.0, 0, 90, 64))]
    evaluated = model(images, targets)
    assert "boxes" not in evaluated
    losses = model.train()(images, targets)
    assert losses.keys() == evaluated.keys()
    parts = [value for name, value in losses.items() if name != "loss"]
    torch.testing.assert_close(losses["loss"], torch.stack(parts).sum())
    losses["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_images_without_objects_teach_the_background(family: str) -> None:
    model, images = detector(family), noise(2, 3, 64, 64)
    losses = model(images, [target(), target()])
    assert losses["loss_boxes"] == 0
    assert losses["loss_classification"] > 0
    losses["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.head.logits.bias.grad.sum() > 0  # downhill is towards lower scores


def test_crowds_teach_nothing(family: str) -> None:
    model, images = detector(family), noise(1, 3, 64, 64)
    one, crowd = (5.0, 5.0, 40.0, 50.0), (10.0, 20.0, 60.0, 60.0)
    with_crowd = model(images, [target(one, crowd, crowd=(0, 1))])
    assert with_crowd["loss"] == model(images, [target(one)])["loss"]
    assert with_crowd["loss"] != model(images, [target(one, crowd)])["loss"]


def test_a_box_that_cannot_be_is_refused_by_its_place(family: str) -> None:
    model = detector(family)
    with pytest.raises(InputError, match=r"targets\[1\]: boxes\[1\] has no area"):
        model(noise(2, 3, 64, 64), [target(), target((1.0, 1, 5, 5), (9, 9, 9, 12))])


@pytest.mark.parametrize(
    "change", [lambda m: m.to(torch.bfloat16), lambda m: m.to(memory_format=torch.channels_last)], ids=["bf16", "last"]
)
def test_other_dtypes_and_layouts_run_and_agree(family: str, change: Callable[[nn.Module], Any]) -> None:
    model, images = detector(family, score_threshold=0.5), noise(2, 3, 64, 64)
    targets = [target((5.0, 5, 40, 50)), target()]
    before, loss = model(images, output_raw=True), model(images, targets)["loss"]
    change(model)
    images = images.to(next(model.parameters()).dtype).contiguous(memory_format=torch.channels_last)
    after = model(images, output_raw=True, output_embeddings=True)
    torch.testing.assert_close(after["raw"]["logits"].float(), before["raw"]["logits"], atol=0.1, rtol=0.05)
    assert after["boxes"].dtype == torch.float32
    torch.testing.assert_close(model(images, targets)["loss"].float(), loss, atol=0.05, rtol=0.05)


def test_a_vector_for_each_object(family: str) -> None:
    model = detector(family, score_threshold=0.55, max_detections=300)
    outputs = model(noise(2, 3, 64, 64), output_embeddings=True)
    assert outputs["embeddings"].shape == (2, 300, 32)
    found = outputs["labels"] >= 0
    assert found.any()
    assert not found.all()
    assert (outputs["embeddings"].abs().sum(-1) > 0).equal(found)


def test_what_is_computed_before_boxes_are_chosen_is_counted_on_the_meta_device(family: str) -> None:
    with torch.device("meta"):
        model = detector(family)
        raw = model.network(torch.empty(2, 3, 64, 64))
    assert raw["logits"].shape[0] == raw["boxes"].shape[0] == 2
    assert multiply_accumulates(model, model.input_spec) > 1e9


def test_other_classes_take_new_logits_and_keep_the_rest(family: str) -> None:
    model = detector(family)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    model.reset_head(2)
    assert model.num_classes == model.head.num_classes == 2
    changed = {
        name for name, p in model.state_dict().items() if p.shape != before[name].shape or not p.equal(before[name])
    }
    assert changed == {"head.logits.weight", "head.logits.bias"}
    assert model(noise(1, 3, 64, 64), output_raw=True)["raw"]["logits"].shape[-1] == 2
    assert type(model).Config.of(model.config.to_dict(), {}).head["config"]["num_classes"] == 2


def test_a_head_is_a_module_with_classes_of_its_own_or_a_name() -> None:
    model = zoo.create_model("retinanet", backbone="efficientnet_b0", head=DetectionHead(num_classes=20))
    assert model.num_classes == 20
    assert model.head.logits.out_channels == 9 * 20
    model = zoo.create("retinanet", backbone="resnet18", head="fcos_head", num_classes=4)
    assert isinstance(model.head, FCOSHead)
    assert model.num_classes == 4


@pytest.mark.parametrize("neck", [None, "fpn"])
def test_a_backbone_and_a_detection_head_make_a_detector(neck: str | None) -> None:
    model = zoo.create_model(backbone="efficientnet_b0", neck=neck, head=DetectionHead(num_classes=20))
    assert type(model) is RetinaNet
    assert model.num_classes == model.config.num_classes == 20
    by_name = zoo.create_model(backbone="resnet18", neck=neck, head="fcos_head", num_classes=3)
    assert type(by_name) is FCOS
    assert by_name.num_classes == 3
    part = {"name": "detection_head", "num_classes": 7}
    assert type(zoo.create_model(backbone="resnet18", neck=neck, head=part)) is RetinaNet


def test_a_head_of_other_classes_than_are_asked_for_is_refused(family: str) -> None:
    cls, head = FAMILIES[family]
    with pytest.raises(OptionError, match="the head has 20 classes, and 5 are asked for"):
        cls(backbone=Toy(), head=head(num_classes=20), num_classes=5)
    with pytest.raises(OptionError, match="the head has 20 classes, and 5 are asked for"):
        zoo.create(family, backbone="resnet18", head={"name": "fcos_head", "num_classes": 20}, num_classes=5)


def test_a_head_is_told_which_detectors_take_one() -> None:
    with pytest.raises(OptionError, match="no option `head`") as error:
        zoo.create("faster_rcnn", backbone="resnet18", head=DetectionHead(num_classes=20))
    assert 'zoo.create_model("detection/retinanet"' in str(error.value.fix)


def test_any_backbone_and_neck_go_together() -> None:
    model = zoo.create("retinanet", backbone="convnext_t", neck="bifpn", num_classes=3).eval()
    assert model.strides == (8, 16, 32, 64, 128)
    with torch.inference_mode():
        assert model(noise(1, 3, 64, 64))["boxes"].shape == (1, 300, 4)


def test_what_cannot_be_a_head_is_refused() -> None:
    head = DetectionHead(num_classes=3)
    head.bind((16, 16), (8, 16))
    with pytest.raises(OptionError, match="bound to maps already"):
        head.bind((16, 16), (8, 16))
    with pytest.raises(OptionError, match="differ in channels"):
        FCOSHead().bind((16, 32), (8, 16))
    with pytest.raises(OptionError, match="sizes of anchors for each of its maps"):
        DetectionHead(anchor_sizes=((32.0,),)).bind((16, 16), (8, 16))
    with pytest.raises(OptionError, match="not the head of a one-stage detector"):
        zoo.create("retinanet", backbone="resnet18", head="classifier")


@pytest.mark.parametrize("damaged", ["logits", "boxes"])
def test_weights_that_are_no_numbers_are_refused_and_do_not_look_like_an_empty_image(family: str, damaged: str) -> None:
    model = detector(family, image_size=64, score_threshold=0.3)
    nn.init.constant_(model.head.get_submodule(damaged).bias, torch.nan)
    with pytest.raises(CheckpointError, match="not a number"):
        model.predict(np.zeros((64, 64, 3), np.uint8), embeddings=True)
