"""Key maps against the implementations whose names they read: equal outputs, every key used, the way back exact."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo_cnn
from zoo.build.fast_init import without_initialisation
from zoo.build.weights import load_weights
from zoo.models.model import Component

TOLERANCE = 1e-5


def randomised(model: nn.Module) -> nn.Module:
    """Random scales, biases and statistics too: at ones and zeros, swapped normalisations would not show."""
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point() or (tensor.ndim > 1 and "layer_scale" not in name):
            continue
        positive = name.endswith(("weight", "running_var")) or "layer_scale" in name
        tensor.uniform_(0.5, 1.5) if positive else tensor.uniform_(-0.1, 0.1)
    return model.eval()


def check(theirs: nn.Module, ours: Component, format: str, images: Tensor, logits: Callable[[Any], Tensor]) -> None:
    published = {name: tensor.clone() for name, tensor in randomised(theirs).state_dict().items()}
    report = load_weights(ours, published, format=format, source="the reference")
    assert not report.skipped
    assert len(report.loaded) + len(report.adapted) == len(published)
    with torch.inference_mode():
        expected, found = logits(theirs(images)), ours.eval()(images)["logits"]
    assert expected.std() > 0.01
    assert epsilons(found_in=ours) == epsilons(found_in=theirs)  # with variances near one they hardly show
    assert (found - expected).abs().max() <= TOLERANCE * max(1.0, float(expected.abs().max()))
    assert_same(ours.key_maps()[format].save(ours.state_dict()), published)


def epsilons(found_in: nn.Module) -> list[float]:
    return [module.eps for module in found_in.modules() if isinstance(module, nn.BatchNorm2d)]


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


TORCHVISION = [
    ("resnet18", "ResNet", {"depth": 18}, 64),
    pytest.param("resnet50", "ResNet", {"depth": 50}, 64, marks=pytest.mark.long),
    ("mobilenet_v2", "MobileNetV2", {}, 64),
    ("mobilenet_v3_large", "MobileNetV3", {"size": "large", "bn_eps": 1e-3}, 64),
    ("mobilenet_v3_small", "MobileNetV3", {"size": "small", "bn_eps": 1e-3}, 64),
    ("efficientnet_b0", "EfficientNet", {"size": "b0"}, 64),
    pytest.param("efficientnet_b1", "EfficientNet", {"size": "b1"}, 64, marks=pytest.mark.long),
    pytest.param("efficientnet_b5", "EfficientNet", {"size": "b5", "bn_eps": 1e-3}, 64, marks=pytest.mark.long),
    pytest.param("efficientnet_b7", "EfficientNet", {"size": "b7", "bn_eps": 1e-3}, 64, marks=pytest.mark.long),
    ("convnext_tiny", "ConvNeXt", {"size": "t"}, 64),
    pytest.param("convnext_base", "ConvNeXt", {"size": "b"}, 64, marks=pytest.mark.long),
    pytest.param("vgg11", "VGG", {"depth": 11}, 224, marks=pytest.mark.long),
    pytest.param("vgg16_bn", "VGG", {"depth": 16, "batch_norm": True}, 224, marks=pytest.mark.long),
]


@pytest.mark.parametrize(("name", "family", "config", "side"), TORCHVISION)
def test_torchvision_weights_give_torchvisions_logits(
    name: str, family: str, config: dict[str, Any], side: int
) -> None:
    from torchvision.models import get_model

    torch.manual_seed(0)
    theirs = get_model(name, num_classes=50)
    with without_initialisation():
        ours = getattr(zoo_cnn, family)({**config, "num_classes": 50})
    check(theirs, ours, "torchvision", torch.randn(2, 3, side, side), lambda logits: logits)


def test_a_wrong_epsilon_would_be_noticed() -> None:
    """torchvision's MobileNetV3 has 1e-3 where timm's has 1e-5: the fact is on the checkpoint, and it matters."""
    from torchvision.models import mobilenet_v3_small

    torch.manual_seed(0)
    theirs, ours = mobilenet_v3_small(), zoo_cnn.MobileNetV3(size="small")
    with pytest.raises(AssertionError):
        check(theirs, ours, "torchvision", torch.randn(2, 3, 64, 64), lambda logits: logits)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("efficientnet-lite0", "lite0"),
        pytest.param("efficientnet-lite2", "lite2", marks=pytest.mark.long),
        pytest.param("efficientnet-b1", "b1", marks=pytest.mark.long),
        pytest.param("efficientnet-lite4", "lite4", marks=pytest.mark.long),
        pytest.param("efficientnet-b7", "b7", marks=pytest.mark.long),
    ],
)
def test_efficientnet_pytorch_weights_give_its_logits(name: str, size: str) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    torch.manual_seed(0)
    theirs = package.EfficientNet.from_name(name)
    ours = zoo_cnn.EfficientNet(size=size, padding="same", bn_eps=1e-3)
    # Its padding is computed for the image size it is built for.
    side = package.EfficientNet.get_image_size(name)
    check(theirs, ours, "efficientnet_pytorch", torch.randn(1, 3, side, side), lambda logits: logits)


@pytest.mark.parametrize(
    ("config", "depth"),
    [
        pytest.param({}, 50, marks=pytest.mark.long),
        ({"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}, 18),
    ],
)
def test_transformers_resnet_weights_give_its_logits(config: dict[str, Any], depth: int) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    theirs = ResNetForImageClassification(ResNetConfig(num_labels=1000, **config))
    check(theirs, zoo_cnn.ResNet(depth=depth), "transformers", torch.randn(2, 3, 64, 64), lambda out: out.logits)


def test_transformers_convnext_weights_give_its_logits() -> None:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    torch.manual_seed(0)
    theirs = ConvNextForImageClassification(ConvNextConfig(num_labels=1000))
    check(theirs, zoo_cnn.ConvNeXt(size="t"), "transformers", torch.randn(2, 3, 64, 64), lambda out: out.logits)


def test_a_backbone_takes_the_classifiers_file_and_says_what_it_left_out() -> None:
    from torchvision.models import mobilenet_v2

    theirs = mobilenet_v2().state_dict()
    backbone = zoo_cnn.MobileNetV2.as_backbone(zoo_cnn.MobileNetV2.Config())
    report = load_weights(backbone, theirs, format="torchvision", source="torchvision")
    assert set(report.skipped) == {"classifier.1.weight", "classifier.1.bias"}


def test_maps_run_on_tensors_without_data() -> None:
    """So that a structure is checked before a download."""
    from torchvision.models import mobilenet_v3_small

    with torch.device("meta"):
        published = mobilenet_v3_small().state_dict()
        ours = zoo_cnn.MobileNetV3(size="small")
    state = ours.key_maps()["torchvision"].load(published)
    own = ours.state_dict()
    assert {name: tensor.shape for name, tensor in state.tensors.items()} == {n: t.shape for n, t in own.items()}
