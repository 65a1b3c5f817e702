"""`zoo info`: what it says of a model in words, for every kind of model and input."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from synthetic_plugins import Site, manifest_of
from zoo.cli.info import shown_input
from zoo.specs import InputSpec
from zoo_command import zoo

FIT = {"size": [800, 1333], "resize": "fit", "crop_pct": 1.0, "antialias": False, "divisor": 32}


def told(folder: Path, **fields: Any) -> str:
    """`zoo info acme/tiny`, of a model with those fields."""
    manifest = manifest_of("acme")
    schema = fields.pop("schema", None)
    manifest["models"][0] |= fields
    if schema is not None:
        manifest["schemas"] = {manifest["models"][0]["factory"]: schema}
    site = Site(folder / "site")
    site.plugin("acme", manifest)
    outcome = zoo("info", "acme/tiny", site=site.folder)
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.out


def test_every_way_to_resize_has_words_of_its_own() -> None:
    ways = get_args(get_type_hints(InputSpec)["resize"])
    assert len({shown_input(InputSpec(size=(64, 96), resize=way, crop_pct=1.0)) for way in ways}) == len(ways) > 3


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            InputSpec.from_dict(FIT),
            "fitted into 800 x 1333: the shorter side 800 pixels, the longer at most 1333, padded to multiples of 32, "
            "bilinear",
        ),
        (
            InputSpec(size=(224, 224), resize="fit", crop_pct=1.0),
            "fitted into 224 x 224: the longer side 224 pixels, bilinear",
        ),
        (InputSpec(), "224 x 224, shorter side to 256, centre crop, bilinear"),
        (
            InputSpec(size=(300, 200), resize="stretch", channel_order="bgr", fixed_size=True),
            "300 x 200, stretched, bilinear, BGR, no other size",
        ),
    ],
    ids=["fit", "fit a square", "shortest", "stretch"],
)
def test_an_input_is_said_in_words(spec: InputSpec, words: str) -> None:
    assert shown_input(spec) == words


def test_a_detector_whose_images_are_fitted_is_told_to_the_end(tmp_path: Path) -> None:
    out = told(tmp_path, task="detection", input=FIT)
    assert "the longer at most 1333" in out
    assert 'zoo.create("acme/tiny")' in out


def test_a_long_default_leaves_room_for_the_meanings(tmp_path: Path) -> None:
    about = {"short": {"default": 3, "description": "first"}, "long": {"description": "last"}}
    boxes = [[0.123456789, 0.5]] * 90
    out = told(tmp_path, schema={"type": "object", "properties": about}, config={"long": boxes})
    (short,), (long,) = ([line for line in out.splitlines() if line.endswith(end)] for end in ("first", "last"))
    assert short.index("first") == long.index("last") < 60
    assert str(boxes)[:20] in long
    assert "--json has all of it" in out
    machine = zoo("info", "acme/tiny", "--json", site=tmp_path / "site").out
    assert json.loads(machine)["config"]["long"] == boxes


@pytest.mark.parametrize("kind", ["neck", "head"])
def test_a_part_is_not_said_to_be_made_as_a_model_is(tmp_path: Path, kind: str) -> None:
    out = told(tmp_path, kind=kind, task="features")
    assert re.search(rf"kind +{kind}, a part of a model", out)
    assert f'zoo.create("…", {kind}="acme/tiny")' in out
    assert f'zoo.build_{kind}("acme/tiny")' in out
    assert 'zoo.create("acme/tiny")' not in out
    assert " input " not in out
    assert re.search(r"task +features", out) is None or kind == "head"


@pytest.mark.parametrize(
    ("task", "answers"), [("detection", True), ("instance_segmentation", True), ("keypoints", True), ("depth", False)]
)
def test_zoo_predict_is_named_for_the_models_it_takes(tmp_path: Path, task: str, answers: bool) -> None:
    weights = {"name": "first", "num_classes": 3, "sources": ["hf://org/a/f"], "license": "MIT"}
    assert ("zoo predict acme/tiny photo.jpg" in told(tmp_path, task=task, checkpoints=[weights])) == answers
