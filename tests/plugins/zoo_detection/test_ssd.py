"""SSD's parts on small networks: what is in a box, what is learned, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from zoo.errors import CheckpointError, InputError, OptionError
from zoo.models.labels import label_space
from zoo_detection.anchors import ssd_shapes
from zoo_detection.object_embeddings import object_embeddings
from zoo_detection.same_padding import SameConv2d, pad_as_tensorflow
from zoo_detection.ssd import CODER, SSD
from zoo_detection.ssd_backbones import SSDVGG16
from zoo_detection.ssd_extras import SSDExtras
from zoo_detection.ssd_loss import hardest, ssd_losses

SIDE, CLASSES = 96, 3
SMALL: Mapping[str, Any] = {
    "backbone": "mobilenetv3_small_050",
    "neck": {"name": "ssd_extras", "widths": [32, 32], "strides": [2, 2]},
    "min_stride": 16,
    "predictors": "separable",
    "scales": (0.2, 0.4, 0.6, 0.8, 1.0),
    "ratios": ((2,),) * 4,
    "steps": None,
    "image_size": SIDE,
    "num_classes": CLASSES,
}


def small(**options: Any) -> SSD:
    torch.manual_seed(0)
    model: SSD = SSD({**SMALL, **options}).eval()
    return model


def photos(count: int = 2) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def said(
    model: SSD, anchor: int, label: int, *, logit: float = 9.0, codes: tuple[float, ...] = (0,) * 4
) -> dict[str, Tensor]:
    """A head that says background everywhere, and one object at one default box."""
    count = len(model.anchors(photos(1), model.maps(photos(1))))
    raw = {"boxes": torch.zeros(1, count, 4), "logits": torch.zeros(1, count, CLASSES + 1)}
    raw["logits"][..., 0] = 9.0
    raw["boxes"][0, anchor] = torch.tensor(codes).float()
    raw["logits"][0, anchor] = F.one_hot(torch.tensor(label + 1), CLASSES + 1) * logit
    return raw


def detections(
    model: SSD, raw: dict[str, Tensor], size: tuple[int, int] = (SIDE, SIDE), **selection: Any
) -> dict[str, Tensor]:
    anchors = model.anchors(photos(1), model.maps(photos(1)))
    return model.detections(raw, anchors, torch.tensor([size]), model.selection._replace(**selection))


def test_an_object_lies_where_its_code_moves_the_default_box() -> None:
    model = small()
    anchor = model.anchors(photos(1), model.maps(photos(1)))[40]
    found = detections(model, said(model, 40, 2, codes=(1.0, -1.0, 0.5, 0.0)), score_threshold=0.5)
    x1, y1, x2, y2 = anchor.tolist()
    width, height = x2 - x1, y2 - y1
    wide = width * torch.tensor(0.1).exp().item()
    x, y = (x1 + x2) / 2 + 0.1 * width, (y1 + y2) / 2 - 0.1 * height
    expected = torch.tensor([x - wide / 2, y - height / 2, x + wide / 2, y + height / 2]).clamp(0, SIDE)
    assert found["labels"][0, :2].tolist() == [2, -1]
    torch.testing.assert_close(found["boxes"][0, 0], expected)
    assert found["boxes"].shape == (1, 200, 4)
    assert not found["boxes"][0, 1:].any()


def test_softmax_scores_share_with_the_background_and_sigmoid_scores_do_not() -> None:
    model = small()
    raw = said(model, 0, 1, logit=2.0)
    raw["logits"][0, 0, 0] = 2.0
    shared = detections(model, raw)["scores"][0, 0]
    alone = detections(small(scoring="sigmoid"), raw)["scores"][0, 0]
    assert shared == pytest.approx(torch.tensor([2.0, 2, 0, 0]).softmax(0)[0].item())
    assert alone == pytest.approx(torch.tensor(2.0).sigmoid().item())


def test_boxes_end_at_the_edge_of_their_own_image() -> None:
    model = small()
    last = len(model.anchors(photos(1), model.maps(photos(1)))) - 1
    found = detections(model, said(model, last, 0), size=(50, 70), score_threshold=0.5)
    x1, y1, x2, y2 = found["boxes"][0, 0].tolist()
    assert 0 <= y1 <= y2 <= 50
    assert 0 <= x1 <= x2 == 70


def test_classes_that_are_not_looked_for_take_no_place_and_hide_nothing() -> None:
    model = small()
    raw = said(model, 5, 0)
    raw["logits"][0, 5, 3] = 4.0
    every = detections(model, raw, score_threshold=0.001)
    only = detections(model, raw, score_threshold=0.001, classes=(2,), max_detections=1)
    assert every["labels"][0, :2].tolist() == [0, 2]
    assert only["labels"].tolist() == [[2]]
    assert only["scores"][0, 0] == every["scores"][0, 1]


def test_only_the_best_of_a_class_go_on_to_suppression() -> None:
    few, many = small(topk=2), small(topk=400)
    raw = said(few, 0, 0)
    raw["logits"][0, ::7, 1] = torch.linspace(9, 12, raw["logits"][0, ::7, 1].numel())
    kept = {model.config.topk: detections(model, raw, nms_threshold=1.0) for model in (few, many)}
    assert (kept[2]["labels"] >= 0).sum() == 2
    assert (kept[400]["labels"] >= 0).sum() > 2
    assert torch.equal(kept[2]["scores"][0, :2], kept[400]["scores"][0, :2])


def test_images_of_a_batch_do_not_see_each_other() -> None:
    model = small()
    together, alone = model(photos(2)), model(photos(2)[1:])
    for name in ("boxes", "scores", "labels"):
        torch.testing.assert_close(together[name][1:], alone[name], atol=1e-4, rtol=1e-4)


def test_raw_outputs_and_embeddings_come_on_request() -> None:
    model = small()
    outputs = model(photos(2), output_raw=True, output_embeddings=True)
    count = len(model.anchors(photos(1), model.maps(photos(1))))
    assert outputs["raw"]["boxes"].shape == (2, count, 4)
    assert outputs["raw"]["logits"].shape == (2, count, CLASSES + 1)
    assert outputs["embeddings"].shape == (2, 200, model.neck.channels[0])
    assert model(photos(1)).keys() == {"boxes", "scores", "labels"}


def test_an_embedding_is_the_average_over_its_box() -> None:
    model = small()
    maps = [torch.zeros(1, c, 6, 6) for c in model.neck.channels]
    maps[0][..., 3:] = 1.0  # the right half
    boxes = torch.tensor([[[0.0, 0, 40, 96], [56, 0, 96, 96], [0, 0, 96, 96], [56, 0, 96, 96]]])
    vectors = object_embeddings(maps, model.strides, boxes, torch.tensor([[0, 1, 0, -1]]))
    assert vectors[0, :, 0].tolist() == pytest.approx([0.0, 1.0, 0.5, 0.0], abs=0.02)


def test_detections_have_the_names_and_ids_of_the_label_space() -> None:
    model = small(num_classes=90)
    model.label_space = label_space("coco_90")
    raw = {name: torch.zeros(1, 1, n) for name, n in (("boxes", 4), ("logits", 91))}
    raw["logits"][0, 0, 18] = 30.0  # COCO's id of a dog
    found = model.detections(raw, torch.tensor([[0.0, 0, 50, 50]]), torch.tensor([[96, 96]]), model.selection)
    assert found["labels"][0, 0] == 17
    assert model.label_space.names[model.label_space.class_table[17]] == "dog"


# Learning.


def test_the_loss_is_that_of_the_formula_on_a_case_by_hand() -> None:
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50], [60, 60, 70, 70], [80, 80, 90, 90]])
    target = {"boxes": torch.tensor([[1.0, 0, 11, 10]]), "labels": torch.tensor([1])}
    logits = torch.tensor([[0.0, 1, 2], [3, 0, 0], [0, 3, 0], [1, 0, 0], [0, 0, 5]])[None]
    codes = torch.zeros(1, 5, 4)
    losses = ssd_losses(
        codes, logits, anchors, [target], coder=CODER, scoring="softmax", positive_iou=0.5, negatives_per_positive=2
    )
    chosen = torch.stack([-logits[0, 0].log_softmax(0)[2], *(-logits[0, i].log_softmax(0)[0] for i in (2, 4))])
    torch.testing.assert_close(losses["loss_classification"], chosen.sum())
    torch.testing.assert_close(losses["loss_boxes"], torch.tensor(0.5))  # 10 * 1 / 10, smooth L1
    torch.testing.assert_close(losses["loss"], chosen.sum() + 0.5)


def test_sigmoid_scores_learn_every_class_for_itself() -> None:
    anchors, logits = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[[0.5, -1.0, 2.0]]])
    target = {"boxes": torch.tensor([[0.0, 0, 10, 10]]), "labels": torch.tensor([1])}
    losses = ssd_losses(
        torch.zeros(1, 1, 4),
        logits,
        anchors,
        [target],
        coder=CODER,
        scoring="sigmoid",
        positive_iou=0.5,
        negatives_per_positive=3,
    )
    expected = F.softplus(torch.tensor([0.5, -1.0, -2.0])).sum()
    torch.testing.assert_close(losses["loss_classification"], expected)


def test_the_hardest_negatives_are_chosen_image_by_image() -> None:
    losses = torch.tensor([[5.0, 1, 4, 3, 2], [1, 2, 3, 4, 5]])
    positive = torch.tensor([[True, False, False, False, False], [False] * 5])
    assert hardest(losses, positive, 2.0).tolist() == [[False, False, True, True, False], [False] * 5]


def test_more_negatives_than_there_are_take_all_and_no_positive_twice() -> None:
    positive = torch.tensor([[True, True, False]])
    assert hardest(torch.ones(1, 3), positive, 3.0).tolist() == [[False, False, True]]


def test_losses_have_gradients_everywhere_also_without_objects() -> None:
    model = small().train()
    target = {"boxes": torch.tensor([[5.0, 5, 60, 80]]), "labels": torch.tensor([2])}
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = model(photos(2), [target, nothing])
    assert losses.keys() == {"loss_boxes", "loss_classification", "loss"}
    losses["loss"].backward()
    grown = [name for name, p in model.named_parameters() if p.grad is None]
    assert all("conv_head" in name or "norm_head" in name for name in grown), grown
    model.zero_grad()
    empty = model(photos(2), [nothing, nothing])["loss"]
    assert empty == 0
    empty.backward()


def test_a_label_that_is_no_class_is_refused_with_its_place() -> None:
    target = {"boxes": torch.tensor([[5.0, 5, 60, 80]]), "labels": torch.tensor([CLASSES])}
    with pytest.raises(InputError, match=r"targets\[0\].*labels\[0\]"):
        small()(photos(1), [target])


def test_a_new_head_keeps_what_is_before_it_and_the_boxes() -> None:
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.reset_head(7)
    assert model.num_classes == model.config.num_classes == 7
    assert model(photos(1), output_raw=True)["raw"]["logits"].shape[-1] == 8
    after = model.state_dict()
    assert after.keys() == before.keys()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed
    assert all(name.startswith("head.logits.") for name in changed)


# Parts.


@pytest.mark.parametrize(
    ("backbone", "strides"),
    [
        ("resnet18", (8, 16, 32, 64, 64, 64)),
        ("vit_ti_16", (16, 32, 64, 64, 64)),
    ],
)
def test_any_backbone_carries_an_ssd(backbone: str, strides: tuple[int, ...]) -> None:
    model = zoo.create("ssd300", backbone=backbone, num_classes=3, img_size=320).eval()
    assert model.neck.strides == strides
    assert model.num_classes == 3
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 320, 320))["boxes"].shape == (1, 200, 4)


def test_images_are_normalised_as_the_backbone_is_used_to() -> None:
    model = zoo.create("ssdlite320", backbone="resnet18", num_classes=3)
    spec = model.input_spec
    assert (spec.size, spec.resize, spec.antialias) == ((320, 320), "stretch", False)
    assert spec.mean == zoo.info("resnet18").model.input.mean


def test_frozen_norms_stay_as_they_are_in_training() -> None:
    model = small(freeze_norm=True).train()
    norms = [m for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [m.running_mean.clone() for m in norms if m.running_mean is not None]
    model(photos(2))
    assert norms
    assert all(
        torch.equal(m.running_mean, old) for m, old in zip(norms, before, strict=True) if m.running_mean is not None
    )
    assert not any(p.requires_grad for m in norms for p in m.parameters())


def test_more_maps_than_default_boxes_are_refused() -> None:
    with pytest.raises(OptionError, match=r"4 maps.*default boxes for 2 levels"):
        small(ratios=((2,),) * 2, scales=(0.2, 0.5, 1.0))


def test_steps_count_only_where_the_maps_agree_with_them() -> None:
    model = small(steps=(16, 32, 48, 96))
    maps = [torch.zeros(1, 1, n, n) for n in (6, 3, 2, 1)]
    stepped = model.anchors(torch.zeros(1, 3, 96, 96), maps)
    assert torch.equal(stepped, torch.cat(model.stepped_boxes(torch.zeros(1, 3, 96, 96), maps)))
    wide = [torch.zeros(1, 1, n, n) for n in (8, 4, 2, 1)]
    assert torch.equal(
        model.anchors(torch.zeros(1, 3, 128, 128), wide), torch.cat(model.even_boxes(torch.zeros(1, 3, 128, 128), wide))
    )


def test_shapes_stand_in_place_of_scales_and_ratios() -> None:
    shapes = ssd_shapes(SMALL["ratios"], SMALL["scales"])
    images = photos(1)
    plain, given = small(), small(shapes=shapes, scales=(0.1, 0.9))
    assert torch.equal(plain.anchors(images, plain.maps(images)), given.anchors(images, given.maps(images)))


def test_a_config_of_an_ssd_builds_the_same_one() -> None:
    model = small()
    again = SSD(SSD.Config.of(model.config.to_dict(), {}))
    assert again.config == model.config
    assert {n: v.shape for n, v in again.state_dict().items()} == {n: v.shape for n, v in model.state_dict().items()}


def test_extra_maps_halve_or_lose_a_pixel_on_every_side() -> None:
    neck = SSDExtras(block="plain", widths=(16, 8, 8), strides=(2, 1, 1))
    neck.bind([4, 6], [8, 16])
    maps = neck([torch.zeros(1, 4, 19, 19), torch.zeros(1, 6, 10, 10)])
    assert [tuple(m.shape[1:]) for m in maps] == [(4, 19, 19), (6, 10, 10), (16, 5, 5), (8, 3, 3), (8, 1, 1)]
    assert neck.channels == (4, 6, 16, 8, 8)
    assert neck.strides == (8, 16, 32, 32, 32)


def test_extra_maps_fill_up_to_the_same_number_of_levels() -> None:
    neck = SSDExtras(widths=(16, 8, 4), strides=(2, 2, 2))
    neck.bind([4, 4, 4, 4], [4, 8, 16, 32])
    assert neck.channels == (4, 4, 4, 4, 4)
    assert neck.strides == (4, 8, 16, 32, 64)


def test_an_image_that_is_too_small_for_the_last_map_is_refused() -> None:
    neck = SSDExtras(block="plain", widths=(8,), strides=(1,))
    neck.bind([4], [16])
    with pytest.raises(InputError, match="too small"):
        neck([torch.zeros(1, 4, 2, 5)])


@pytest.mark.parametrize(("backbone", "least"), [("resnet18", 257), ("convnext_t", 288)])
def test_an_image_size_that_is_too_small_is_refused_with_one_that_works(backbone: str, least: int) -> None:
    with torch.device("meta"):
        with pytest.raises(OptionError, match="200 x 256 pixels are too small") as error:
            zoo.create("ssd300", backbone=backbone, img_size=(200, 256))
        assert "img_size=288" in str(error.value.fix)
        for side in {least, 288}:
            model = zoo.create("ssd300", backbone=backbone, img_size=side)
            assert model.maps(torch.zeros(1, 3, side, side))[-1].shape[2:] == (1, 1)
        with pytest.raises(InputError, match="too small") as later:
            model.maps(torch.zeros(1, 3, least - 1, 300))
    assert "img_size=288" in str(later.value.fix)


def test_widths_and_strides_go_together() -> None:
    with pytest.raises(OptionError, match="a width and a stride"):
        SSDExtras(widths=(16, 8), strides=(2,))


@pytest.mark.parametrize("side", [5, 6, 7, 8])
def test_tensorflows_padding_puts_the_odd_pixel_right_and_below(side: int) -> None:
    conv = SameConv2d(1, 1, 3, stride=2, bias=False)
    nn.init.zeros_(conv.weight)
    conv.weight.data[0, 0, 0, 0] = 1.0  # picks the window's upper left pixel
    image = torch.arange(1.0, side * side + 1).view(1, 1, side, side)
    first = conv(image)[0, 0, 0, 0].item()
    assert conv(image).shape[2:] == (-(-side // 2),) * 2
    assert first == (0.0 if side % 2 else 1.0)


def test_only_strided_convolutions_are_padded_anew_and_keep_their_weights() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1, 2))
    before = dict(network.named_parameters())
    pad_as_tensorflow(network)
    assert [type(m) for m in network] == [SameConv2d, nn.Conv2d, nn.Conv2d]
    assert dict(network.named_parameters()).keys() == before.keys()
    assert all(p is before[name] for name, p in network.named_parameters())


def test_vgg_gives_conv4_3_with_every_pixel_of_the_learned_length() -> None:
    with torch.no_grad():
        shallow, deep = SSDVGG16()(torch.randn(1, 3, 76, 76) * 50)
    assert shallow.shape == (1, 512, 10, 10)
    assert deep.shape == (1, 1024, 5, 5)
    torch.testing.assert_close(shallow.norm(dim=1), torch.full((1, 10, 10), 20.0))


def test_backbones_take_images_of_other_channels() -> None:
    for ref in ("ssd_mobilenetv2_tf", "ssdlite_mobilenetv3_large", "ssd_vgg16"):
        backbone = zoo.create(ref, features_only=True, in_chans=4).eval()
        with torch.no_grad():
            maps = backbone(torch.zeros(1, 4, 64, 64))
        assert tuple(m.shape[1] for m in maps) == backbone.channels
        assert tuple(64 // m.shape[2] for m in maps) == backbone.strides


@pytest.mark.parametrize("damaged", ["logits", "boxes"])
def test_weights_that_are_no_numbers_are_refused_and_do_not_look_like_an_empty_image(damaged: str) -> None:
    model = small()
    for parameter in model.head.get_submodule(damaged).parameters():
        nn.init.constant_(parameter, torch.nan)
    with pytest.raises(CheckpointError, match="not a number"):
        model.predict(np.zeros((SIDE, SIDE, 3), np.uint8), embeddings=True)
