"""predict(): one call from any image to a typed result, in batches, without changing the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn

from photos import photo
from zoo.errors import InputError, LabelError, OptionError, UnsupportedError
from zoo.models.classifier import Classifier
from zoo.models.config import ModelConfig
from zoo.models.labels import LabelSpace
from zoo.specs import InputSpec


class ColourConfig(ModelConfig):
    sharpness: float = Field(20.0, ge=0)


class Colour(Classifier):
    """Says which of red, green and blue an image has most of."""

    Config = ColourConfig

    def __init__(self, config: ColourConfig) -> None:
        super().__init__(config)
        self.scale = nn.Parameter(torch.tensor(config.sharpness))
        self.drop = nn.Dropout(0.5)
        self.input_spec = InputSpec(size=(16, 16), crop_pct=1.0, mean=(0, 0, 0), std=(1, 1, 1))
        self.label_space = LabelSpace(name="colours", names=("red", "green", "blue"))
        self.batches: list[int] = []

    def forward(self, images: Tensor, targets: Tensor | None = None) -> dict[str, Tensor]:
        self.batches.append(len(images))
        return {"logits": self.drop(images.mean(dim=(2, 3)) * self.scale)}


def plain(colour: str) -> Image.Image:
    return Image.new("RGB", (40, 30), colour)


def test_every_kind_of_image_gets_its_label():
    red = np.array(plain("red"))
    images = [plain("red"), red, torch.from_numpy(red).permute(2, 0, 1) / 255, plain("lime"), plain("blue")]
    assert [result.label for result in Colour().predict(images)] == ["red", "red", "red", "green", "blue"]
    assert Colour().predict(photo("chelsea"))[0].size == (300, 451)
    assert Colour().predict(red, channels="bgr")[0].label == "blue"


@pytest.mark.parametrize(("batch_size", "batches"), [(1, [1] * 5), (2, [2, 2, 1]), (8, [5])])
def test_batches_do_not_change_the_answers(batch_size, batches):
    images = [plain(colour) for colour in ("red", "lime", "blue", "gray", "navy")]
    model = Colour()
    assert model.predict(images, batch_size=batch_size) == Colour().predict(images)
    assert model.batches == batches


def test_images_are_opened_when_their_batch_comes(tmp_path):
    model = Colour()
    with pytest.raises(InputError, match="image 3: no such file"):
        model.predict([plain("red")] * 3 + [tmp_path / "none.png"], batch_size=2)
    assert model.batches == [2]


def test_a_generator_of_images_will_do():
    assert len(Colour().predict(plain("red") for _ in range(3))) == 3


def test_predicting_leaves_the_model_in_its_mode():
    model = Colour().train()
    first, second = (model.predict(plain("red"))[0] for _ in range(2))
    assert first == second  # no dropout
    assert model.training
    assert model.drop.training


def test_predicting_follows_the_models_dtype():
    assert Colour().bfloat16().predict(plain("red"))[0].label == "red"


def test_wrong_calls_say_what_is_right():
    with pytest.raises(OptionError, match="did you mean `topk`"):
        Colour().predict(plain("red"), top_k=3)
    with pytest.raises(InputError, match="empty"):
        Colour().predict([])


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "8", None])
def test_a_batch_is_a_whole_number_of_images(batch_size):
    with pytest.raises(OptionError, match="at least one image") as raised:
        Colour().predict(plain("red"), batch_size=batch_size)
    assert raised.value.asked == f"batch_size={batch_size!r}"


@pytest.mark.parametrize("topk", ["5", 2.5, None, -1])
def test_topk_is_a_number_of_classes(topk):
    with pytest.raises(OptionError, match="number of classes") as raised:
        Colour().predict(plain("red"), topk=topk)
    assert raised.value.asked == f"topk={topk!r}"


def test_numpys_whole_numbers_will_do():
    (result,) = Colour().predict(plain("red"), batch_size=np.int64(2), topk=np.int32(2))
    assert len(result.ids) == 2


def test_labels_that_do_not_fit_are_refused():
    model = Colour()
    model.label_space = LabelSpace(name="two", names=("a", "b"))
    with pytest.raises(LabelError, match="3 outputs"):
        model.predict(plain("red"))


def test_a_model_without_a_head_names_no_classes():
    model = Colour()
    model.forward = lambda images: {"embeddings": images.mean(dim=(2, 3))}
    with pytest.raises(UnsupportedError, match="no classification head"):
        model.predict(plain("red"))
