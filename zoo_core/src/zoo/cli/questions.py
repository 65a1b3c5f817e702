"""What `zoo predict` may ask of a model: the options, and which of them a model takes, which the model itself says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.cli.arguments import Arguments, Option, UsageError
from zoo.errors import LabelError

if TYPE_CHECKING:
    from zoo.models.images import ImageInput
    from zoo.models.model import Model
    from zoo.models.results import Result

OPTIONS = (
    Option("--top", "classifiers: how many classes to name (5)", value="K", short="-k"),
    Option("--score", "detectors: name objects that score more than this, 0 to 1 (0.5)", value="SHARE"),
    Option("--classes", "detectors: look for these classes only, by name, commas between", value="NAMES", repeat=True),
    Option("--max-detections", "detectors: at most so many objects a photo", value="N"),
    Option("--slice", "detectors: look for small objects in slices of so many pixels, too", value="PIXELS"),
)
_MEANT = {
    "--top": "topk",
    "--score": "score_threshold",
    "--classes": "classes",
    "--max-detections": "max_detections",
    "--slice": "slice_size",
}
"""What the options are called in `predict` and in `predict_sliced`."""
_USUAL: dict[str, float] = {"topk": 5, "score_threshold": 0.5}
"""What is asked for where the command line does not say. A detector's own threshold is for measuring it: far lower."""
_SMALLEST_SLICE = 32


class Question:
    """What one command line asks. Raises `UsageError` for what no model takes."""

    def __init__(self, arguments: Arguments) -> None:
        given = {
            "--top": arguments.number("top", 5),
            "--score": _share(arguments.text("score")),
            "--classes": arguments.texts("classes"),
            "--max-detections": arguments.number("max-detections", 100),
            "--slice": arguments.number("slice", 512, least=_SMALLEST_SLICE),
        }
        self._given = {
            option: value for option, value in given.items() if arguments.text(option.removeprefix("--")) is not None
        }
        if self._given.get("--classes") == []:
            raise UsageError(
                "--classes names no class",
                asked=arguments.text("classes"),
                fix="--classes cup,bowl; without it, all",
            )

    def check(self, model: type[Model], ref: str) -> None:
        """Raise `UsageError` unless models of this class take all that is asked."""
        takes = _taken_by(model)
        for option in self._given:
            if _MEANT[option] not in takes:
                raise UsageError(
                    f"{ref} is for {model.task or 'no known task'} and takes no {option}",
                    found=", ".join(name for name, meant in _MEANT.items() if meant in takes) or "nothing can be asked",
                    fix=f"the same without {option}",
                )

    def ask(self, model: Model, images: Sequence[ImageInput], batch_size: int) -> list[Result]:
        """The model's results, one an image. Raises `LabelError` for classes that there are not."""
        try:
            return self._answers(model, images, batch_size)
        except LabelError as error:
            if "--classes" not in self._given:
                raise
            fix = (
                f"--classes {error.fix}"
                if model.label_space is not None and error.fix
                else "the same without --classes"
            )
            raise LabelError(
                f"--classes takes names of classes: {error.message}", asked=error.asked, found=error.found, fix=fix
            ) from None

    def _answers(self, model: Model, images: Sequence[ImageInput], batch_size: int) -> list[Result]:
        takes = _taken_by(type(model))
        asked: dict[str, Any] = {name: value for name, value in _USUAL.items() if name in takes}
        asked |= {_MEANT[option]: value for option, value in self._given.items()}
        inputs = images if len(images) > 1 else images[0]  # so that an error does not number a single photo
        if "slice_size" in asked:
            from zoo import predict_sliced
            from zoo.models.detector import Detector

            assert isinstance(model, Detector)  # or `check` would not have let it pass
            return list(predict_sliced(model, inputs, batch_size=batch_size, **asked))
        return model.predict(inputs, batch_size=batch_size, **asked)


def _taken_by(model: type[Model]) -> set[str]:
    """What models of this class may be asked, in the words of `predict`."""
    from zoo.models.detector import Detector

    return {*model.predict_options(), *(["slice_size"] if issubclass(model, Detector) else [])}


def _share(text: str | None) -> float:
    if text is None:
        return _USUAL["score_threshold"]
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError("--score takes a number from 0 to 1", asked=text, fix="--score 0.5")
    return share
