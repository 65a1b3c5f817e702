"""What `zoo predict` asks of a model: only what it takes, and the usual where nothing is said."""

from __future__ import annotations

from typing import Any

import pytest

import zoo
from zoo.cli.arguments import Command, UsageError, read
from zoo.cli.questions import OPTIONS, Question
from zoo.errors import LabelError
from zoo.models.labels import LabelSpace
from zoo.models.model import Model

COMMAND = Command("predict", options=OPTIONS)


def question(*words: str) -> Question:
    return Question(read(COMMAND, words))


class Recorder(zoo.Detector):
    """Keeps what it was asked."""

    def predict(self, inputs: Any, **asked: Any) -> list[Any]:
        self.asked = (inputs, asked)
        return []


class Finder(zoo.Detector):
    """Looks classes up by name, if they have any."""

    label_space = LabelSpace(name="things", names=("red", "blue"))

    def predict(self, inputs: Any, *, classes: list[str], **asked: Any) -> list[Any]:
        if self.label_space is None:
            raise LabelError("the model's classes have no names", asked=classes[0], fix="classes=[0], by number")
        return [self.label_space.id_of(name) for name in classes]


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ((), {"score_threshold": 0.5}),
        (("--score", "0"), {"score_threshold": 0.0}),
        (
            ("--classes", "cat,stop sign", "--classes=dog"),
            {"score_threshold": 0.5, "classes": ["cat", "stop sign", "dog"]},
        ),
        (("--classes", " cat , stop sign ,"), {"score_threshold": 0.5, "classes": ["cat", "stop sign"]}),
        (("--max-detections=7", "--score=1"), {"score_threshold": 1.0, "max_detections": 7}),
    ],
    ids=str,
)
def test_a_detector_is_asked_for_what_the_line_says_and_else_for_what_is_half_sure(
    words: tuple[str, ...], asked: dict[str, Any]
) -> None:
    model = Recorder()
    question(*words).check(Recorder, "acme/finder")
    question(*words).ask(model, ["a.png", "b.png"], 2)
    assert model.asked == (["a.png", "b.png"], {"batch_size": 2, **asked})
    question(*words).ask(model, ["a.png"], 1)
    assert model.asked[0] == "a.png"


def test_slices_are_asked_of_the_function_that_cuts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(zoo, "predict_sliced", lambda *given, **options: calls.append((given, options)) or [])
    model = Recorder()
    question("--slice", "320", "--score", "0.2").ask(model, ["a.png"], 1)
    assert calls == [((model, "a.png"), {"batch_size": 1, "slice_size": 320, "score_threshold": 0.2})]


@pytest.mark.parametrize(
    ("kind", "word", "others"),
    [
        (zoo.Classifier, "--score=0.5", "--top"),
        (zoo.Classifier, "--classes=cat", "--top"),
        (zoo.Classifier, "--max-detections=3", "--top"),
        (zoo.Classifier, "--slice=512", "--top"),
        (zoo.Detector, "--top=5", "--score, --classes, --max-detections, --slice"),
        (zoo.InstanceSegmenter, "--top=5", "--score, --classes, --max-detections, --slice"),
        (Model, "--top=5", "nothing can be asked"),
    ],
)
def test_what_a_model_does_not_take_is_refused_with_what_it_takes(kind: type[Model], word: str, others: str) -> None:
    option = word.partition("=")[0]
    with pytest.raises(UsageError, match=rf"acme/it is for .+ and takes no {option}\b") as error:
        question(word).check(kind, "acme/it")
    assert error.value.found == others
    assert error.value.fix == f"the same without {option}"
    question().check(kind, "acme/it")


def test_a_refusal_says_what_the_model_is_for() -> None:
    with pytest.raises(UsageError, match=r"^mobilenetv2 is for classification and takes no --classes\n"):
        question("--classes=cup").check(zoo.Classifier, "mobilenetv2")


@pytest.mark.parametrize("nothing", ["", ",", " , "])
def test_no_classes_at_all_are_refused_in_the_words_of_the_line(nothing: str) -> None:
    with pytest.raises(UsageError, match="--classes names no class") as error:
        question("--classes", nothing)
    assert error.value.fix.startswith("--classes cup")


@pytest.mark.parametrize(
    ("word", "fix"), [("nonsense", "--classes red"), ("1", "--classes red"), ("blu", "--classes blue")]
)
def test_a_class_that_there_is_not_is_answered_with_those_there_are(word: str, fix: str) -> None:
    with pytest.raises(LabelError, match=r"--classes takes names of classes: .* has no class") as error:
        question("--classes", word).ask(Finder(), ["a.png"], 1)
    assert (error.value.asked, error.value.found, error.value.fix) == (word, "2 names: red, blue", fix)


def test_where_classes_have_no_names_none_can_be_asked_for() -> None:
    model = Finder()
    model.label_space = None
    with pytest.raises(LabelError, match="no names") as error:
        question("--classes", "red").ask(model, ["a.png"], 1)
    assert error.value.fix == "the same without --classes"


@pytest.mark.parametrize(
    "word",
    [
        "--score=2",
        "--score=-1",
        "--score=nan",
        "--score=much",
        "--max-detections=0",
        "--slice=31",
        "--slice=big",
        "--top=0",
    ],
)
def test_a_number_that_cannot_be_is_a_usage_error_with_one_that_can(word: str) -> None:
    with pytest.raises(UsageError) as error:
        question(word)
    assert error.value.fix.startswith(word.partition("=")[0] + " ")


def test_a_model_says_what_it_may_be_asked_for() -> None:
    assert zoo.Classifier.predict_options() == ("topk",)
    assert set(zoo.Detector.predict_options()) == {
        "score_threshold",
        "nms_threshold",
        "max_detections",
        "classes",
        "embeddings",
    }
    assert Model.predict_options() == ()
