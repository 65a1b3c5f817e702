"""Grad-CAM against gradients taken by hand, on every way in which layers hold an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from zoo.models.labels import LabelSpace
from zoo.models.model import Layout
from zoo.specs import InputSpec
from zoo_explain import GradCAM
from zoo_explain.layers import default_layer
from zoo_vit import DINOv2, Hiera, Swin, VisionTransformer

SIZE = 64


class SmallNet(zoo.Model):
    """conv -> conv, ReLU in place -> mean -> linear."""

    task = "classification"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.body = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU(inplace=True))
        self.head = nn.Linear(8, 4)
        self.unused = nn.Conv2d(3, 3, 1)
        self.input_spec = InputSpec(size=(SIZE, SIZE), resize="stretch", crop_pct=1.0)
        self.label_space = LabelSpace(name="four", names=("ant", "bee", "cat", "dog"))

    def forward(self, images: Tensor, targets: Any = None) -> dict[str, Any]:
        return {"logits": self.head(self.body(self.stem(images).relu_()).mean((2, 3)))}


@pytest.fixture
def net() -> SmallNet:
    torch.manual_seed(0)
    return SmallNet().eval()


def images(count: int = 1, size: int = SIZE) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(count, 3, size, size)


def by_hand(
    activations: Tensor, score: Callable[[Tensor], Tensor], to_map: Callable[[Tensor], Tensor], size: int = SIZE
) -> Tensor:
    """Grad-CAM as the paper has it, in [0, 1], at the input's size: (h, w)."""
    activations = activations.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(score(activations), activations)
    maps, gradients = to_map(activations), to_map(gradient)
    weights = gradients.mean((2, 3), keepdim=True)
    cells = (weights * maps).sum(1, keepdim=True).relu().detach()
    assert cells.max() > 0
    return F.interpolate(cells / cells.max(), size=(size, size), mode="bilinear", align_corners=False)[0, 0]


def agree(heat: Tensor, expected: Tensor) -> bool:
    return heat.shape == expected.shape and float((heat - expected).abs().max()) < 1e-4


def test_a_convolutional_layer_gives_gradients_times_activations(net: SmallNet) -> None:
    batch = images()
    for target in range(4):

        def score(stem: Tensor, target: int = target) -> Tensor:
            return net.head(net.body(stem.clone().relu_()).mean((2, 3)))[0, target]

        expected = by_hand(net.stem(batch), score, lambda maps: maps)
        found = GradCAM(net, "stem")(batch, target_class=target)
        assert agree(found.heat, expected)
        assert (found.class_id, found.layer, found.at_input) == (target, "stem", False)
    assert not agree(GradCAM(net, "stem")(batch, 0).heat, GradCAM(net, "stem")(batch, 1).heat)


def vit(num_classes: int = 5) -> zoo.Model:
    torch.manual_seed(2)
    return with_random_weights(VisionTransformer(image_size=SIZE, width=24, depth=6, heads=2, num_classes=num_classes))


def with_random_weights(model: zoo.Model) -> zoo.Model:
    """A fresh head of zeros would have no gradients."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model.eval()


def patches(tokens: Tensor) -> Tensor:
    return tokens[:, 1:].transpose(1, 2).unflatten(2, (4, 4))


def vit_from(model: Any, block: int) -> Callable[[Tensor], Tensor]:
    def score(tokens: Tensor) -> Tensor:
        encoder = model.encoder
        return encoder.forward_head(encoder.norm(encoder.blocks[block:](tokens)))[0, 3]

    return score


def tokens_after(model: Any, block: int, batch: Tensor) -> Tensor:
    encoder = model.encoder
    return encoder.blocks[:block](encoder.norm_pre(encoder.patch_drop(encoder._pos_embed(encoder.patch_embed(batch)))))


def test_a_transformers_block_gives_gradients_times_activations_of_its_patches() -> None:
    model, batch = vit(), images()
    expected = by_hand(tokens_after(model, 3, batch), vit_from(model, 3), patches)
    assert agree(GradCAM(model, "blocks.2")(batch, 3).heat, expected)


def test_behind_the_last_block_only_the_class_token_counts_so_its_input_is_taken() -> None:
    model, batch = vit(), images()
    expected = by_hand(tokens_after(model, 5, batch), vit_from(model, 5), patches)
    for cam in (GradCAM(model, target_layer="blocks.5"), GradCAM(model)):
        found = cam(batch, target_class=3)
        assert (found.layer, found.at_input) == ("encoder.blocks.5", True)
        assert agree(found.heat, expected)
    assert "what it is given" in repr(found)


def swin() -> zoo.Model:
    torch.manual_seed(3)
    options = {"width": 12, "depths": (1, 1, 1, 1), "heads": (1, 2, 4, 4), "window_size": 4}
    return with_random_weights(Swin({"image_size": SIZE, "num_classes": 5, **options}))


def test_a_swin_stage_keeps_its_channels_last() -> None:
    model = swin()
    batch, encoder = images(), model.encoder

    def score(maps: Tensor) -> Tensor:
        return encoder.head(encoder.norm(encoder.layers[2:](maps)))[0, 3]

    expected = by_hand(encoder.layers[:2](encoder.patch_embed(batch)), score, lambda maps: maps.permute(0, 3, 1, 2))
    assert agree(GradCAM(model, "layers.1")(batch, 3).heat, expected)
    assert GradCAM(model)(batch).layer == "encoder.layers.3"


def test_registers_are_no_patches() -> None:
    torch.manual_seed(4)
    options = {"image_size": 56, "width": 24, "depth": 3, "heads": 2, "registers": 4, "num_classes": 5}
    model = with_random_weights(DINOv2(options))
    assert model.layout == Layout(prefix_tokens=5)
    kept: list[Tensor] = []
    model.encoder.blocks[0].register_forward_hook(lambda module, args, tokens: kept.append(tokens.detach()))
    batch = images(size=56)
    found = GradCAM(model, "blocks.0")(batch, 3)

    def score(tokens: Tensor) -> Tensor:
        encoder = model.encoder
        return encoder.forward_head(encoder.norm(encoder.blocks[1:](tokens)))[0, 3]

    def to_map(tokens: Tensor) -> Tensor:
        return tokens[:, 5:].transpose(1, 2).unflatten(2, (4, 4))

    assert agree(found.heat, by_hand(kept[0], score, to_map, size=56))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("timm/resnet10t", "encoder.layer4.0"),
        ("timm/convnext_atto", "encoder.stages.3"),
        ("timm/mobilenetv2_035", "encoder.bn2"),
    ],
)
def test_without_a_layer_the_last_stage_or_block_is_taken(name: str, layer: str) -> None:
    torch.manual_seed(4)
    model = with_random_weights(zoo.create(name, num_classes=5))
    assert GradCAM(model)(images()).layer == layer


@pytest.mark.parametrize(
    ("name", "size", "layer"),
    [
        ("timm/mobilenetv2_035", 32, "encoder.blocks.4.2"),
        ("timm/convnext_atto", 32, "encoder.stages.2"),
        ("timm/resnet10t", 32, "encoder.layer3.0"),
    ],
)
def test_stages_that_come_down_to_one_cell_leave_the_last_that_has_more(name: str, size: int, layer: str) -> None:
    model = zoo.create(name, num_classes=5).eval()
    assert default_layer(model, images(size=size))[0] == layer


def test_values_that_are_not_finite_are_refused(net: SmallNet) -> None:
    for value in (float("nan"), float("inf")):
        batch = images()
        batch[0, 1, 2, 3] = value
        with pytest.raises(zoo.InputError, match="not finite"):
            GradCAM(net)(batch)


def test_a_pooling_by_attention_is_no_last_block(net: SmallNet) -> None:
    class Pooled(SmallNet):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.pool = Pool()

        def forward(self, images: Tensor, targets: Any = None) -> dict[str, Any]:
            return {"logits": self.head(self.pool(self.body(self.stem(images))))}

    class Pool(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.keys = nn.Conv2d(8, 8, 1)

        def forward(self, maps: Tensor) -> Tensor:
            return (self.keys(maps).flatten(2).softmax(-1) * maps.flatten(2)).sum(-1)

    assert GradCAM(Pooled().eval())(images()).layer == "body.1"


def test_looking_changes_nothing(net: SmallNet) -> None:
    batch = images()
    net.train()
    net.body.eval()
    net.requires_grad_(False)
    before = net(batch)["logits"]
    with torch.inference_mode():
        inside = GradCAM(net, "stem")(batch.clone())
    assert agree(inside.heat, GradCAM(net, "stem")(batch).heat)
    assert torch.equal(net(batch)["logits"], before)
    assert (net.training, net.body.training) == (True, False)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_class_is_an_id_a_name_or_the_most_probable(net: SmallNet) -> None:
    batch, cam = images(), GradCAM(net)
    best = cam(batch)
    logits = net(batch)["logits"][0]
    assert best.class_id == int(logits.argmax())
    assert best.probability == pytest.approx(logits.softmax(0).max().item(), abs=1e-6)
    named = cam(batch, "Cat")
    assert (named.class_id, named.class_name) == (2, "cat")
    assert torch.equal(named.heat, cam(batch, np.int64(2)).heat)
    with pytest.raises(zoo.LabelError, match="has no class 'cta'"):
        cam(batch, "cta")
    with pytest.raises(zoo.LabelError, match="no class 4"):
        cam(batch, 4)
    for wrong in (1.0, True, [1], torch.tensor([1, 2])):
        with pytest.raises(zoo.LabelError, match="a whole number or a name"):
            cam(batch, wrong)  # type: ignore[arg-type]  # it is no class
    net.label_space = None
    assert cam(batch, 2).class_name == "class 2"
    with pytest.raises(zoo.LabelError, match="no names"):
        cam(batch, "cat")


def test_a_background_output_is_no_class(net: SmallNet) -> None:
    batch = images()
    second = GradCAM(net)(batch, 1)
    net.label_space = LabelSpace(name="three", names=("bee", "cat", "dog"), background="first")
    shifted = GradCAM(net)(batch, "bee")
    assert shifted.class_id == 0
    assert torch.equal(shifted.heat, second.heat)
    with torch.no_grad():
        net.head.bias[0] += 100
    assert GradCAM(net)(batch).class_id in (0, 1, 2)


def test_pictures_and_what_they_become_get_the_same_heat(net: SmallNet) -> None:
    torch.manual_seed(5)
    picture = torch.rand(3, SIZE, SIZE)
    spec = net.input_spec
    prepared = ((picture - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(3, 1, 1))[None]
    cam = GradCAM(net)
    as_picture, as_batch = cam(picture, 1), cam(prepared, 1)
    assert agree(as_picture.heat, as_batch.heat)
    assert agree(cam(picture[None], 1).heat, as_batch.heat)
    assert not agree(cam(picture[None], 1, preprocessed=True).heat, as_batch.heat)
    shown = np.asarray(as_batch.frame.photo())
    assert np.abs(shown / 255 - picture.permute(1, 2, 0).numpy()).max() < 0.01
    with pytest.raises(zoo.OptionError, match="float tensor"):
        cam(picture, preprocessed=True)


def test_each_picture_of_several_is_as_if_alone(net: SmallNet) -> None:
    torch.manual_seed(6)
    pictures = [torch.rand(3, height, width) for height, width in ((64, 64), (40, 90), (90, 40))]
    cam = GradCAM(net)
    together = cam.each(pictures, batch_size=2)
    assert [result.size for result in together] == [(64, 64), (40, 90), (90, 40)]
    for result, picture in zip(together, pictures, strict=True):
        alone = cam(picture)
        assert agree(result.heat, alone.heat)
        assert result.class_id == alone.class_id
        assert result.heat.shape == result.size
    with pytest.raises(zoo.InputError, match="one image at a time"):
        cam(images(2))
    assert len(cam.each(images(2))) == 2


# Layers


def test_a_layer_is_a_path_the_end_of_one_or_the_module(net: SmallNet) -> None:
    assert GradCAM(net, "body.0").target_layer == "body.0"
    assert GradCAM(net, net.body[1]).target_layer == "body.1"
    model = vit()
    for layer in ("blocks.3", "encoder.blocks.3", model.encoder.blocks[3]):
        assert GradCAM(model, layer).target_layer == "encoder.blocks.3"


def test_a_path_that_is_not_there_is_answered_with_near_ones(net: SmallNet) -> None:
    with pytest.raises(zoo.OptionError, match=r"no layer 'blocks\.12'") as caught:
        GradCAM(vit(), "blocks.12")
    assert "encoder.blocks.1" in str(caught.value.found)
    with pytest.raises(zoo.OptionError, match="this Conv2d"):
        GradCAM(net, nn.Conv2d(1, 1, 1))
    with pytest.raises(zoo.UnsupportedError, match="no zoo model"):
        GradCAM(nn.Conv2d(3, 3, 1), "0")


def test_an_end_that_several_paths_have_is_answered_with_them() -> None:
    with pytest.raises(zoo.OptionError, match="end of 6 layers") as caught:
        GradCAM(vit(), "norm1")
    assert "encoder.blocks.0.norm1, encoder.blocks.1.norm1" in str(caught.value.found)


def test_a_layer_that_cannot_answer_says_why(net: SmallNet) -> None:
    with pytest.raises(zoo.UnsupportedError, match="no map of the image"):
        GradCAM(net, "head")(images())
    with pytest.raises(zoo.UnsupportedError, match="does not run"):
        GradCAM(net, "unused")(images())
    with pytest.raises(zoo.UnsupportedError, match="never called itself; one of its parts: encoder"):
        GradCAM(vit(), "encoder")(images())
    with pytest.raises(zoo.UnsupportedError, match="reaches the class") as caught:
        GradCAM(vit(), "encoder.norm")(images())
    assert caught.value.fix is not None
    assert "earlier layer" in caught.value.fix
    with pytest.raises(zoo.UnsupportedError, match="no classes to explain"):
        GradCAM(vit(num_classes=0), "blocks.3")(images())


def test_tokens_in_windows_are_refused_and_plain_maps_of_the_same_model_are_not() -> None:
    options = {"width": 8, "depths": (1, 1, 1, 1), "image_size": SIZE, "num_classes": 3}
    model, batch = with_random_weights(Hiera(options)), images()
    with pytest.raises(zoo.UnsupportedError, match="in its order"):
        GradCAM(model)(batch)
    with pytest.raises(zoo.UnsupportedError, match="another order than the image's"):
        GradCAM(model, "blocks.3")(batch)
    assert GradCAM(model, "patch_embed.proj")(batch).heat.max() > 0.5
    with pytest.raises(zoo.UnsupportedError, match="holds 16 pieces of 1 image"):
        GradCAM(swin(), "layers.0.blocks.0.attn")(batch)
