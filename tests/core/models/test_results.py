"""Classifications: the right classes, best first, as words, as data and as a picture."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from PIL import Image

from photos import photo
from zoo.errors import CheckpointError, InputError, LabelError, OptionError
from zoo.models.images import load_images
from zoo.models.labels import LabelSpace
from zoo.models.preprocessing import Frame, Preprocessor
from zoo.models.results import Classification
from zoo.specs import InputSpec

PETS = LabelSpace(name="pets", names=("cat", "dog", "hen", "cow"))
ROW = torch.tensor([0.1, 0.6, 0.05, 0.25])


def frame_of(image: object) -> Frame:
    return Preprocessor(InputSpec())(load_images(image))[1][0]


def result(image: object = None, row: torch.Tensor = ROW, **options: object) -> Classification:
    frame = frame_of(photo("chelsea") if image is None else image)
    return Classification.from_probabilities(row, frame, **{"labels": PETS, **options})


def test_the_best_classes_come_first_with_their_names():
    best = result(topk=3)
    assert [row[:2] for row in best.top] == [(1, "dog"), (3, "cow"), (0, "cat")]
    assert best.probabilities == pytest.approx((0.6, 0.25, 0.1))
    assert (best.label, best.probability, best.ids) == ("dog", pytest.approx(0.6), (1, 3, 0))
    assert best.size == (300, 451)


@pytest.mark.parametrize(("topk", "kept"), [(0, 4), (1, 1), (5, 4)])
def test_topk_keeps_that_many_and_zero_keeps_all(topk, kept):
    assert len(result(topk=topk).top) == kept


def test_a_negative_topk_is_refused():
    with pytest.raises(OptionError, match="topk"):
        result(topk=-1)


def test_equal_probabilities_keep_the_order_of_the_classes():
    assert result(row=torch.full((4,), 0.25)).ids == (0, 1, 2, 3)


def test_without_labels_classes_are_numbered():
    assert result(labels=None).names[:2] == ("class 1", "class 3")


def test_the_background_is_no_class():
    space = LabelSpace(name="pets", names=("cat", "dog", "hen"), background="first")
    assert result(labels=space).top[0] == (0, "cat", pytest.approx(0.6))
    with pytest.raises(LabelError):
        result(row=torch.rand(3), labels=space)


def test_labels_for_another_number_of_outputs_are_refused():
    with pytest.raises(LabelError, match="5 outputs"):
        result(row=torch.full((5,), 0.2))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_outputs_that_are_not_numbers_are_refused(bad):
    with pytest.raises(CheckpointError, match="not a number") as error:
        result(row=torch.tensor([0.1, bad, 0.2, 0.3]))
    assert "chelsea" in str(error.value.asked)


def test_a_result_is_json():
    data = json.loads(json.dumps(result(topk=2).to_dict()))
    assert data == {
        "source": str(photo("chelsea")),
        "height": 300,
        "width": 451,
        "label": "dog",
        "probability": pytest.approx(0.6),
        "top": [
            {"id": 1, "name": "dog", "probability": pytest.approx(0.6)},
            {"id": 3, "name": "cow", "probability": pytest.approx(0.25)},
        ],
    }


def test_a_result_reads_as_a_table():
    lines = repr(result(np.zeros((8, 9, 3), np.uint8), topk=2)).splitlines()
    assert lines == ["array (9 x 8)", "   60.00%  dog  1", "   25.00%  cow  3"]


def test_results_survive_pickling(tmp_path):
    for image in (photo("chelsea"), np.zeros((8, 9, 3), np.uint8), torch.rand(3, 8, 9)):
        again = pickle.loads(pickle.dumps(result(image)))
        assert again == result(image)
        assert again.plot().width >= 480


def test_the_picture_shows_the_photo_and_a_bar_a_class():
    original = Image.new("RGB", (600, 400), (200, 30, 30))
    picture = result(original).plot()
    drawn = np.asarray(picture)
    assert np.array_equal(drawn[:400, :600], np.asarray(original))
    panel = drawn[400:].astype(int)
    blue = (abs(panel - (86, 156, 214)).sum(-1) < 10).sum(1)  # bar pixels in each row
    bars = [int(group.max()) for group in np.split(blue, np.where(np.diff((blue > 0).astype(int)))[0] + 1) if group[0]]
    whole = (abs(panel - (86, 156, 214)).sum(-1) < 10) | (abs(panel - (52, 56, 64)).sum(-1) < 10)
    assert [bar / whole.sum(1).max() for bar in bars] == pytest.approx([0.6, 0.25, 0.1, 0.05], abs=0.02)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 1500), st.integers(1, 1500), st.integers(1, 60))
def test_a_picture_of_any_size_is_drawn(width, height, letters):
    space = LabelSpace(name="long", names=tuple(f"{i} " + "word " * letters for i in range(30)))
    picture = result(Image.new("RGB", (width, height)), torch.rand(30), labels=space, topk=0).plot()
    assert picture.width >= max(width, 380)
    assert picture.height > height
    assert picture.height - max(height, 1) < 1400  # thirty classes do not make a poster


@pytest.mark.parametrize("name", ["out.png", "out.JPG", "out.webp"])
def test_the_picture_is_saved(tmp_path, name):
    picture = result().plot(tmp_path / name)
    with Image.open(tmp_path / name) as saved:
        assert saved.size == picture.size
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["out", "out.txt", "out.psd", "no/such/folder/out.png", "."])
def test_a_picture_that_cannot_be_saved_leaves_nothing_behind(tmp_path, name):
    with pytest.raises(InputError) as error:
        result().plot(tmp_path / name)
    assert error.value.fix
    assert not list(tmp_path.iterdir())


def test_a_photo_that_is_gone_is_said(tmp_path):
    path = tmp_path / "cat.png"
    Image.new("RGB", (9, 9)).save(path)
    seen = result(path)
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        seen.plot()
    with pytest.raises(InputError, match="does not know its picture"):
        Classification(source="", size=(1, 1), ids=(0,), names=("a",), probabilities=(1.0,)).plot()
