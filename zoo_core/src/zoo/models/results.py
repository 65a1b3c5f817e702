"""Results: what `predict` returns, one typed object an image, with names inside and the picture at hand."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from PIL import Image

from zoo.errors import CheckpointError, InputError, OptionError
from zoo.models.labels import LabelSpace

if TYPE_CHECKING:
    from os import PathLike

    from torch import Tensor

    from zoo.models.preprocessing import Frame


class Row(NamedTuple):
    """One line of a result as a person reads it: what it is, how sure the model is (0 to 1), and what else there is."""

    name: str
    share: float
    detail: str = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class Result:
    """Base of all results.

    source: the path or address of the image, or `image`, `array`, `tensor`, `bytes`. size: (H, W) of the upright
    original, in whose pixels every coordinate of a result is. frame: where its pixels went.
    """

    source: str
    size: tuple[int, int]
    frame: Frame | None = field(default=None, compare=False)

    @property
    def rows(self) -> list[Row]:
        """The result for people, a line each, best first; empty where nothing was found."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it reads: define rows")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"source": self.source, "height": self.size[0], "width": self.size[1]}

    def plot(self, path: str | PathLike[str] | None = None) -> Image.Image:
        """The original with the result drawn on it; written to `path`, too, if one is given.

        Raises:
            InputError: the original cannot be opened again, or `path` cannot be written.
        """
        if self.frame is None:
            raise InputError("this result does not know its picture", fix="plot what predict() returned")
        picture = self._draw(self.frame.photo())
        if path is not None:
            save_picture(picture, path)
        return picture

    def _draw(self, photo: Image.Image) -> Image.Image:
        raise NotImplementedError(f"{type(self).__name__} does not say how it is drawn: define _draw()")


class Ranked(NamedTuple):
    """One class of a ranking."""

    id: int
    name: str
    probability: float


@dataclass(frozen=True, kw_only=True, repr=False)
class Classification(Result):
    """The most probable classes of an image, best first: `ids`, `names` and `probabilities` side by side."""

    ids: tuple[int, ...]
    names: tuple[str, ...]
    probabilities: tuple[float, ...]

    @classmethod
    def from_probabilities(
        cls, probabilities: Tensor, frame: Frame, *, labels: LabelSpace | None = None, topk: int = 5
    ) -> Self:
        """The `topk` best (0: all) of one image's probabilities (K,); names from `labels`, else `class 17`.

        Raises:
            CheckpointError: probabilities that are not numbers.
            LabelError: labels for another number of outputs. OptionError: a `topk` that is no number of classes.
        """
        if not isinstance(topk, Integral) or topk < 0:
            raise OptionError("topk is a number of classes", asked=f"topk={topk!r}", fix="topk=5, or topk=0 for all")
        if labels is not None:
            labels.check(len(probabilities))
            probabilities = probabilities[labels.classes_of_outputs]
        if not probabilities.isfinite().all():
            raise CheckpointError(
                "the model's output is not a number (NaN or infinite)",
                asked=frame.source,
                fix="check its weights, or run it in float32",
            )
        best = probabilities.sort(descending=True, stable=True)
        ids = tuple(best.indices[: topk or None].tolist())
        return cls(
            source=frame.source,
            size=frame.size,
            frame=frame,
            ids=ids,
            names=tuple(labels.name_of(i) if labels is not None else f"class {i}" for i in ids),
            probabilities=tuple(best.values[: topk or None].tolist()),
        )

    @property
    def label(self) -> str:
        """The name of the best class."""
        return self.names[0]

    @property
    def probability(self) -> float:
        """The probability of the best class."""
        return self.probabilities[0]

    @property
    def top(self) -> list[Ranked]:
        """(id, name, probability) of every class kept, best first."""
        return [Ranked(*row) for row in zip(self.ids, self.names, self.probabilities, strict=True)]

    @property
    def rows(self) -> list[Row]:
        """Name and probability of every class kept, best first."""
        return [Row(row.name, row.probability) for row in self.top]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return super().to_dict() | {
            "label": self.label,
            "probability": self.probability,
            "top": [row._asdict() for row in self.top],
        }

    def __repr__(self) -> str:
        lines = [f"{self.source or 'image'} ({self.size[1]} x {self.size[0]})"]
        width = max(len(name) for name in self.names)
        lines += [f"  {row.probability:7.2%}  {row.name:<{width}}  {row.id}" for row in self.top]
        return "\n".join(lines)

    def _draw(self, photo: Image.Image) -> Image.Image:
        from zoo.models.plots import draw_ranking

        return draw_ranking(photo, [(row.name, row.probability) for row in self.top])


def save_picture(picture: Image.Image, path: str | PathLike[str]) -> None:
    """Write a picture, complete or not at all; the format is the file's ending."""
    target = os.fspath(path)
    stem, ending = os.path.splitext(target)
    form = Image.registered_extensions().get(ending.lower())
    if form not in Image.SAVE:
        raise InputError(f"no pictures are written as {ending!r}", asked=target, fix=f"{stem}.png")
    encoded = io.BytesIO()
    partial = f"{target}.{os.getpid()}.partial"
    try:
        picture.save(encoded, format=form)
        with open(partial, "wb") as stream:
            stream.write(encoded.getvalue())
        os.replace(partial, target)
    except (OSError, ValueError) as error:
        raise InputError(f"the picture cannot be written: {error}", asked=target, fix="another path") from None
    finally:  # also when interrupted
        if os.path.exists(partial):
            os.unlink(partial)
