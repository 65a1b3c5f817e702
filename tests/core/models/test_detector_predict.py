"""predict() of detectors: from photos of unequal sizes to named objects, with thresholds that reach the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from colour_detector import ColourDetector
from PIL import Image, ImageDraw

from zoo.errors import InputError, LabelError, OptionError
from zoo.models.detector import Selection, whole_sizes
from zoo.models.labels import LabelSpace


def picture(width: int = 320, height: int = 200) -> Image.Image:
    """A red thing of 96 x 80 pixels and a smaller blue one."""
    image = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(image).rectangle((32, 20, 127, 99), "red")
    ImageDraw.Draw(image).rectangle((160, 100, 207, 139), "blue")
    return image


def test_objects_are_found_in_the_photos_own_pixels():
    (seen,) = ColourDetector().predict(picture())
    assert seen.names == ("red", "blue")
    torch.testing.assert_close(seen.boxes, torch.tensor([[32.0, 20, 128, 100], [160, 100, 208, 140]]), atol=2.6, rtol=0)
    assert seen.size == (200, 320)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_photos_of_unequal_sizes_do_not_change_each_other(batch_size):
    images = [picture(), picture(230, 400), picture(640, 150), Image.new("RGB", (50, 60), "white")]
    model = ColourDetector()
    together = model.predict(images, batch_size=batch_size)
    for image, one in zip(images, together, strict=True):
        (alone,) = ColourDetector().predict(image)
        torch.testing.assert_close(one.boxes, alone.boxes)
        assert one.names == alone.names
    assert len(together[3]) == 0


def test_what_is_asked_for_reaches_the_model():
    model = ColourDetector(score_threshold=0.1, nms_threshold=0.6, max_detections=7)
    model.predict(picture())
    assert model.asked == Selection(0.1, 0.6, 7, None)
    model.predict(picture(), score_threshold=0.2, nms_threshold=0.3, max_detections=5, classes=["blue", 0, "Blue"])
    assert model.asked == Selection(0.2, 0.3, 5, (1, 0))
    model.predict(picture(), score_threshold=np.float32(0.5), max_detections=np.int64(2), classes=np.int64(1))
    assert model.asked == Selection(0.5, 0.6, 2, (1,))
    model.predict(picture(), classes="red")
    assert model.asked.classes == (0,)


def test_thresholds_choose_the_objects():
    model = ColourDetector()
    assert model.predict(picture(), classes=["blue"])[0].names == ("blue",)
    assert model.predict(picture(), max_detections=1)[0].names == ("red",)
    assert model.predict(picture(), score_threshold=1)[0].names == ()


def test_classes_become_the_heads_outputs():
    model = ColourDetector(num_classes=5)
    model.label_space = LabelSpace(name="gaps", names=("a", "b"), outputs=(0, 3), slots=5)
    model.predict(picture(), classes=["b", "a"])
    assert model.asked.classes == (3, 0)
    model.predict(picture(), classes=[1])
    assert model.asked.classes == (3,)


@pytest.mark.parametrize(
    "classes",
    [
        np.array([1, 0]),
        np.array(["blue", "red"]),
        torch.tensor([1, 0]),
        {"blue": 1, 0: 2}.keys(),
        np.array([1, 0], np.uint8),
    ],
    ids=["numbers", "names", "tensor", "keys", "bytes"],
)
def test_classes_come_in_arrays_and_tensors_as_they_do_in_lists(classes):
    model = ColourDetector()
    model.predict(picture(), classes=classes)
    assert model.asked.classes == (1, 0)


def test_one_class_is_a_number_of_an_array_or_tensor():
    for one in (torch.tensor(0), torch.tensor([0]), np.array(0), np.array([0])):
        model = ColourDetector()
        model.predict(picture(), classes=one)
        assert model.asked.classes == (0,)


def test_embeddings_come_when_they_are_asked_for():
    model = ColourDetector()
    assert model.predict(picture())[0].embeddings is None
    assert model.predict(picture(), embeddings=True)[0].embeddings.shape == (2, 2)


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [("score_treshold", "score_threshold"), ("nms_treshold", "nms_threshold"), ("max_detection", "max_detections")],
)
def test_a_misspelt_threshold_gets_a_suggestion(misspelt, meant):
    with pytest.raises(OptionError, match=rf"ColourDetector.predict\(\) has no option `{misspelt}`") as error:
        ColourDetector().predict(picture(), **{misspelt: 0.5})
    assert f"did you mean `{meant}`?" in str(error.value)


def test_an_option_of_another_task_is_refused_with_those_there_are():
    with pytest.raises(OptionError, match="no option `topk`") as error:
        ColourDetector().predict(picture(), topk=5)
    assert error.value.found == "classes, embeddings, max_detections, nms_threshold, score_threshold"


@pytest.mark.parametrize(
    "wrong",
    [
        {"score_threshold": 1.1},
        {"score_threshold": -0.1},
        {"score_threshold": float("nan")},
        {"score_threshold": "0.5"},
        {"score_threshold": True},
        {"nms_threshold": 2},
        {"max_detections": 0},
        {"max_detections": 2.0},
        {"max_detections": True},
        {"classes": []},
        {"classes": [1.5]},
        {"classes": 1.5},
        {"classes": np.array([])},
        {"classes": np.array([True, False])},
        {"classes": torch.tensor([[0, 1]])},
        {"classes": [None]},
        {"classes": [True]},
    ],
    ids=str,
)
def test_what_cannot_be_asked_for_is_refused_with_a_way_out(wrong):
    with pytest.raises(OptionError) as error:
        ColourDetector().predict(picture(), **wrong)
    assert error.value.fix


def test_a_class_that_there_is_not_is_refused():
    with pytest.raises(LabelError, match="no class 'blu'") as error:
        ColourDetector().predict(picture(), classes=["blu"])
    assert error.value.fix == "blue"
    with pytest.raises(LabelError, match="no class 2"):
        ColourDetector().predict(picture(), classes=[2])


def test_without_names_classes_are_numbers():
    model = ColourDetector()
    model.label_space = None
    assert model.predict(picture(), classes=[1])[0].names == ("class 1",)
    for wrong in ("blue", 2, -1):
        with pytest.raises(LabelError):
            model.predict(picture(), classes=[wrong])


def test_sizes_are_of_each_image_or_of_the_batch():
    batch = torch.zeros(2, 3, 8, 9)
    assert whole_sizes(batch, None).tolist() == [[8, 9], [8, 9]]
    sizes = torch.tensor([[4, 9], [8, 3]])
    assert whole_sizes(batch, sizes) is sizes
    for images, wrong in (
        (batch[0], None),
        (batch.byte(), None),
        (batch, sizes[:1]),
        (batch, sizes.float()),
        (batch, sizes[:, :1]),
        (batch, sizes.bool()),
        (batch, [(4, 9), (8, 3)]),
        (list(batch), None),
        (batch[:0], None),
        (batch[..., :0], None),
    ):
        with pytest.raises(InputError) as error:
            whole_sizes(images, wrong)
        assert error.value.fix


@pytest.mark.parametrize("wrong", [(9, 9), (8, 10), (0, 9), (8, 0), (-5, 3)], ids=str)
def test_sizes_that_no_image_of_the_batch_has_are_refused_by_their_place(wrong):
    batch, sizes = torch.zeros(2, 3, 8, 9), torch.tensor([(8, 9), wrong])
    with pytest.raises(InputError, match=r"sizes\[1\] is no part of a batch of 8 x 9 pixels") as error:
        whole_sizes(batch, sizes)
    assert error.value.fix


def test_sizes_are_not_looked_at_where_they_have_no_values():
    sizes = torch.tensor([[4, 9], [8, 3]])
    with torch.device("meta"):
        whole_sizes(torch.zeros(2, 3, 8, 9), torch.ones(2, 2).long())

    class Sizes(torch.nn.Module):
        def forward(self, images, sizes):
            return whole_sizes(images, sizes) + 1

    example = (torch.zeros(2, 3, 8, 9), sizes)
    batch = {0: torch.export.Dim("batch", min=2, max=9)}
    exported = torch.export.export(Sizes(), example, dynamic_shapes=(batch, batch)).module()
    compiled = torch.compile(Sizes(), backend="eager", fullgraph=True, dynamic=True)
    traced = torch.jit.trace(Sizes(), example)
    for program in (exported, compiled, traced):  # no value is part of the program
        assert program(torch.zeros(3, 3, 8, 9), sizes[[0, 1, 1]] + 90).equal(sizes[[0, 1, 1]] + 91)
