"""The plain classes: importable, configured three ways, strict about what they are told."""

from __future__ import annotations

import pytest
import torch

import zoo_cnn
from zoo.build.fast_init import without_initialisation
from zoo.errors import OptionError
from zoo_cnn import ResNet

FAMILIES = sorted(zoo_cnn.__all__)


def test_a_config_is_keywords_a_mapping_or_a_config() -> None:
    with torch.device("meta"):
        models = [ResNet(depth=18, num_classes=10), ResNet({"depth": 18, "num_classes": 10})]
        models.append(ResNet(ResNet.Config(depth=18, num_classes=10)))
    shapes = [{name: tensor.shape for name, tensor in model.state_dict().items()} for model in models]
    assert shapes[0] == shapes[1] == shapes[2]
    assert shapes[0]["encoder.fc.weight"] == (10, 512)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({"detph": 50}, "did you mean `depth`"), ({"depth": 51}, "depth"), ({"num_classes": -1}, "num_classes")],
)
def test_a_wrong_option_fails_at_the_door(options: dict[str, int], complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint):
        ResNet(options)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_its_own_defaults_and_gives_logits_maps_and_embeddings(name: str) -> None:
    family = getattr(zoo_cnn, name)
    with without_initialisation():
        model = family(num_classes=7).eval()
    for parameter in model.parameters():
        parameter.data.zero_()
    with torch.inference_mode():
        outputs = model(torch.zeros(2, 3, 64, 64), output_features=True)
    assert outputs["logits"].shape == (2, 7)
    assert outputs["embeddings"].shape[0] == 2
    assert [m.shape[0] for m in outputs["features"]] == [2] * len(outputs["features"])
    assert outputs["features"][-1].shape[2:] == (2, 2)  # stride 32


def test_the_package_says_what_it_has() -> None:
    assert dir(zoo_cnn) == FAMILIES
    with pytest.raises(AttributeError, match="ResNext"):
        zoo_cnn.ResNext  # noqa: B018  # the access is the test
