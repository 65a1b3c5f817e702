"""`zoo predict ssd_mobilenetv2` with real COCO weights finds what is on real photographs."""

from __future__ import annotations

import json

import pytest
import torch
from detection_photos import OBJECTS

from photos import photo
from zoo.cli import main
from zoo_detection.boxes import iou

pytest.importorskip("tensorboard")
SAFEST = ("dog", "giraffe", "eagle", "coffee", "person")


@pytest.mark.parametrize(
    "name", [*SAFEST, *(pytest.param(n, marks=pytest.mark.long) for n in OBJECTS if n not in SAFEST)]
)
def test_what_is_on_a_photo_is_found(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["predict", "ssd_mobilenetv2", str(photo(name)), "--json"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    (answer,) = json.loads(out)
    for wanted in OBJECTS[name]:
        boxes = [found["box"] for found in answer["objects"] if found["name"] == wanted.name and found["score"] > 0.4]
        assert boxes, (wanted, answer["objects"])
        if wanted.box is not None:
            overlaps = iou(torch.tensor([wanted.box]), torch.tensor(boxes))
            assert overlaps.max() >= 0.6, (wanted, boxes)


def test_nothing_else_is_seen_than_a_bird(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "ssd_mobilenetv2", str(photo("eagle")), "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert [found["name"] for found in answer["objects"]] == ["bird"]
    assert [found["id"] for found in answer["objects"]] == [14]  # the 80 names' own number; COCO says 16
