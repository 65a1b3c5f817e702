"""`zoo predict` with a detector, real weights and real photographs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from photos import photo
from zoo.cli import main

MODEL = "ssd_mobilenetv2"
"""Its weights come in a Python package of the demo group."""

Predict = Callable[..., tuple[int, str, str]]


@pytest.fixture
def predict(capsys: pytest.CaptureFixture[str]) -> Predict:
    """Run `zoo predict MODEL …` in this process: (exit code, stdout, stderr)."""

    def run(*words: str, model: str = MODEL) -> tuple[int, str, str]:
        code = main(["predict", model, *words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The photos of a cat and of a cup in the current folder, and nothing else."""
    for name in ("coffee", "chelsea"):
        shutil.copy(photo(name), tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def made() -> zoo.Detector:
    """The model, made once: its weights lie in a frozen graph, which takes seconds to read."""
    return zoo.create(MODEL, pretrained=True)


@pytest.fixture
def loaded(made: zoo.Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command gets the model that is there already."""
    monkeypatch.setattr(zoo, "create", lambda *_, **__: made)


def overlap(one: list[float], other: list[float]) -> float:
    """Intersection over union."""
    sides = [max(0, min(one[i + 2], other[i + 2]) - max(one[i], other[i])) for i in (0, 1)]
    inter, areas = sides[0] * sides[1], sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    return inter / (areas - inter)


def test_a_cup_is_found_where_it_is_in_a_table(predict: Predict) -> None:
    code, out, err = predict("coffee.png")
    title, *rows = out.splitlines()
    assert (code, err, title) == (0, "", "coffee.png")
    read = [re.fullmatch(r"  (\S.*?) +(\d+\.\d)% +(\d+) +(\d+) +(\d+) +(\d+)", row) for row in rows]
    shares = [float(row[2]) for row in read]
    assert shares == sorted(shares, reverse=True)
    assert min(shares) > 50
    assert read[0][1] == "cup"
    assert overlap([float(side) for side in read[0].groups()[2:]], [172, 14, 410, 245]) > 0.8
    assert len({row.index("%") for row in rows}) == 1


def test_the_answer_for_machines_has_every_object(predict: Predict) -> None:
    code, out, _ = predict("chelsea.png", "coffee.png", "--json")
    cat, cup = json.loads(out)
    assert code == 0
    assert cat["model"].startswith("detection/ssd_mobilenetv2.")
    assert (cat["width"], cat["height"]) == (451, 300)
    assert [one["name"] for one in cat["objects"]] == ["cat"]
    assert cat["objects"][0]["id"] == 15
    assert "cup" in [one["name"] for one in cup["objects"]]


@pytest.mark.usefixtures("loaded")
def test_classes_and_scores_choose_what_is_named(predict: Predict) -> None:
    def names(*words: str) -> list[str]:
        return [one["name"] for one in json.loads(predict("coffee.png", "--json", *words)[1])[0]["objects"]]

    usual = names()
    assert set(names("--classes", "cup,dining table")) == {"cup", "dining table"} < set(usual)
    assert names("--max-detections", "1") == usual[:1]
    assert len(names("--score", "0.1")) > len(usual) > len(names("--score", "0.9"))


@pytest.mark.usefixtures("loaded")
def test_a_photo_without_such_an_object_says_so(predict: Predict) -> None:
    assert predict("coffee.png", "--classes", "giraffe")[:2] == (0, "coffee.png\n  nothing found\n")


@pytest.mark.usefixtures("loaded")
def test_the_photo_is_saved_with_its_boxes(predict: Predict) -> None:
    code, out, _ = predict("coffee.png", "--classes", "cup", "--json", "--save", "boxes.png")
    ((x1, y1, x2, y2),) = [one["box"] for one in json.loads(out)[0]["objects"]]
    assert code == 0
    drawn, original = (np.asarray(Image.open(name).convert("RGB")) for name in ("boxes.png", "coffee.png"))
    rows, columns = (drawn != original).any(-1).nonzero()
    assert (columns.min(), columns.max()) == (round(x1), round(x2) - 1)
    assert rows.max() == round(y2) - 1
    assert rows.min() <= round(y1)


@pytest.mark.usefixtures("loaded")
def test_slices_find_what_the_whole_photo_does_and_more(predict: Predict) -> None:
    wide = Image.new("RGB", (720, 480), "gray")
    wide.paste(Image.open("coffee.png").convert("RGB").resize((120, 80)), (300, 200))
    wide.save("far.png")

    def cups(*words: str) -> list[list[float]]:
        answers = json.loads(predict("far.png", "--json", "--classes", "cup", *words)[1])
        return [one["box"] for one in answers[0]["objects"]]

    assert cups() == []
    (box,) = cups("--slice", "200")
    assert overlap(box, [334, 203, 382, 249]) > 0.6


def test_options_of_classifiers_are_refused_before_weights_are_read(
    predict: Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.create", lambda *_, **__: pytest.fail("made a model"))
    code, out, err = predict("coffee.png", "--top", "3")
    assert (code, out) == (2, "")
    assert "is for detection and takes no --top" in err
    code, _, err = predict("coffee.png", "--score", "0.3", model="mobilenetv2")
    assert code == 2
    assert "is for classification and takes no --score" in err


@pytest.mark.usefixtures("loaded")
def test_a_misspelt_class_gets_a_suggestion(predict: Predict) -> None:
    code, out, err = predict("coffee.png", "--classes", "cupp")
    assert (code, out) == (1, "")
    assert "no class 'cupp'" in err
    assert "try:   --classes cup" in err
