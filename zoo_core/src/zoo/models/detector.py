"""Detector: the task base of everything that puts boxes around objects.

images (B, C, H, W), sizes (B, 2) -> boxes (B, K, 4), scores (B, K), labels (B, K), best first, padded to K

B batch   C channels   H W of the padded batch   K detections an image   N objects in it   M side of a mask
P keypoints   D width of an embedding
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from zoo.errors import InputError, LabelError, OptionError
from zoo.models.config import ModelConfig
from zoo.models.model import Model

if TYPE_CHECKING:
    from zoo.models.preprocessing import Frame
    from zoo.models.results import Result
    from zoo.models.targets import Target

Pixels = Annotated[int, Field(ge=1, le=16384)]


class Selection(NamedTuple):
    """Which candidates become detections.

    score_threshold: scores above it count, in [0, 1]. nms_threshold: IoU above which the weaker of two boxes of a class
    goes; families without suppression pass it over. max_detections: K, best first. classes: outputs of the head that
    are looked for, None for all; the others are left out before they could suppress anything or take a place.
    """

    score_threshold: float
    nms_threshold: float
    max_detections: int
    classes: tuple[int, ...] | None = None


class DetectorConfig(ModelConfig):
    """What every detector may be told."""

    num_classes: int = Field(80, ge=1, le=100_000, description="classes, a background not among them")
    in_chans: int = Field(3, ge=1, le=4096, description="channels of the image")
    image_size: Pixels | tuple[Pixels, Pixels] | None = Field(
        None, description="pixels: the shorter and the longer side that images are fitted into; None: the family's own"
    )
    score_threshold: float = Field(0.05, ge=0, le=1, description="detections score more than this")
    nms_threshold: float = Field(0.5, ge=0, le=1, description="IoU above which the weaker box of a class goes")
    max_detections: int = Field(100, ge=1, le=100_000, description="detections an image")


class Detector(Model):
    """Interface of detectors.

    `forward` takes images that `Preprocessor` made, or any float batch (B, C, H, W) with `sizes` (B, 2) int64, the
    (height, width) of each image, which lies at the top left; None: they fill the batch.

    Without targets it returns `boxes` (B, K, 4) xyxy in input pixels within the image's size, `scores` (B, K) in
    [0, 1], descending, and `labels` (B, K) int64, outputs of the head counted without a background; K is always
    `max_detections`, and places without a detection have box 0, score 0 and label -1. With targets
    (`zoo.models.targets`), in training or evaluation mode, it returns the losses by name, `loss_…`, and `loss`, their
    sum. `output_raw=True` adds `raw`, what the heads said before boxes were chosen, `output_embeddings=True`
    `embeddings` (B, K, D), a vector an object.
    """

    task: ClassVar[str] = "detection"
    Config = DetectorConfig
    config: DetectorConfig
    layout = None

    @property
    def num_classes(self) -> int:
        """Classes it tells apart, a background not among them."""
        return self.config.num_classes

    @property
    def selection(self) -> Selection:
        """What `forward` chooses by unless it is told otherwise: the config's thresholds, all classes."""
        config = self.config
        return Selection(config.score_threshold, config.nms_threshold, config.max_detections)

    def forward(
        self,
        images: Tensor,
        targets: Sequence[Target] | None = None,
        *,
        sizes: Tensor | None = None,
        selection: Selection | None = None,
        output_raw: bool = False,
        output_embeddings: bool = False,
    ) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} does not say how it computes: define forward()")

    def infer(
        self,
        images: Tensor,
        frames: Sequence[Frame],
        *,
        score_threshold: float | None = None,
        nms_threshold: float | None = None,
        max_detections: int | None = None,
        classes: Sequence[str | int] | Tensor | NDArray[Any] | None = None,
        embeddings: bool = False,
    ) -> dict[str, Any]:
        """Outputs of one batch. What `predict` may be asked for: other thresholds than the config's; `classes`, by name
        or class id, and no others; `embeddings`, a vector an object.

        Raises:
            OptionError: a threshold out of bounds, no classes. LabelError: a class that there is not.
        """
        selection = self.selection
        if score_threshold is not None:
            selection = selection._replace(score_threshold=_share(score_threshold, "score_threshold"))
        if nms_threshold is not None:
            selection = selection._replace(nms_threshold=_share(nms_threshold, "nms_threshold"))
        if max_detections is not None:
            if isinstance(max_detections, bool) or not isinstance(max_detections, Integral) or max_detections < 1:
                raise OptionError(
                    "a detector gives at least one detection", asked=f"max_detections={max_detections!r}", fix="100"
                )
            selection = selection._replace(max_detections=int(max_detections))
        if classes is not None:
            selection = selection._replace(classes=self._outputs_of(classes))
        sizes = torch.tensor([frame.input_size for frame in frames], device=images.device)
        outputs: dict[str, Any] = self(images, sizes=sizes, selection=selection, output_embeddings=embeddings)
        return outputs

    def postprocess(self, outputs: dict[str, Any], frames: Sequence[Frame]) -> list[Result]:
        """One `zoo.Detections` an image: original pixels, class ids, names; outputs that are no class are left out."""
        from zoo.models.detections import Detections

        table = None if self.label_space is None else torch.tensor(self.label_space.class_table)
        rows = {name: value.cpu() for name, value in outputs.items() if isinstance(value, Tensor)}
        return [
            Detections.from_outputs({name: value[i] for name, value in rows.items()}, frame, self.label_space, table)
            for i, frame in enumerate(frames)
        ]

    def _outputs_of(self, classes: Any) -> tuple[int, ...]:
        """Outputs of the head for classes by name or class id: one, or several in anything that can be gone through."""
        if isinstance(classes, Tensor | np.ndarray):
            classes = classes.tolist()  # ids as plain numbers
        single = isinstance(classes, str) or not isinstance(classes, Iterable)
        wanted: list[str | int] = [classes] if single else list(classes)
        if not wanted:
            raise OptionError("`classes` names at least one class", asked="classes=[]", fix="classes=None for all")
        space = self.label_space
        outputs = []
        for one in wanted:
            if not isinstance(one, str | Integral) or isinstance(one, bool):
                raise OptionError("`classes` are names or class ids", asked=repr(one), fix="classes=['person']")
            if space is not None:
                outputs.append(space.output_of(space.id_of(one) if isinstance(one, str) else int(one)))
            elif isinstance(one, str):
                raise LabelError("the model's classes have no names", asked=one, fix="classes=[0], by number")
            elif 0 <= one < self.num_classes:
                outputs.append(int(one))
            else:
                raise LabelError(f"the model has no class {one}", found=f"0 to {self.num_classes - 1}")
        return tuple(dict.fromkeys(outputs))


class InstanceSegmenter(Detector):
    """Interface of detectors that also say which pixels are the object's.

    `forward` adds `masks` (B, K, M, M): on a grid of M x M cells over each box, the probability that a cell is the
    object's. Targets have `masks` (N, H, W), bool or uint8, over the padded input.
    """

    task: ClassVar[str] = "instance_segmentation"


class KeypointDetector(Detector):
    """Interface of detectors that also place named points on the object.

    `forward` adds `keypoints` (B, K, P, 3): x and y in input pixels, and the network's score. Targets have `keypoints`
    (N, P, 3): x and y in input pixels, and a visibility of 0 where the point is not annotated.
    """

    task: ClassVar[str] = "keypoints"


def whole_sizes(images: Tensor, sizes: Tensor | None) -> Tensor:
    """(B, 2) int64, (height, width) of each image of a batch (B, C, H, W): as given, or all of it.

    Raises:
        InputError: no such batch, or sizes that are none of it.
    """
    if not isinstance(images, Tensor):
        raise InputError(
            "a detector takes a float batch (B, C, H, W)",
            found=type(images).__name__,
            fix="torch.stack(images) where they have one size; model.predict(images) for any",
        )
    if images.ndim != 4 or not images.is_floating_point():
        raise InputError(
            "a detector takes a float batch (B, C, H, W)",
            found=f"{_dtype_of(images)} of shape {tuple(images.shape)}",
            fix="model.predict(…) for photos; images[None] for one",
        )
    eager = not (torch.compiler.is_compiling() or torch.compiler.is_exporting() or _is_traced())
    if eager and 0 in images.shape:
        raise InputError(
            "a batch has at least one image, and an image at least one pixel",
            found=f"shape {tuple(images.shape)}",
            fix="torch.rand(1, 3, 480, 640), or leave the batch out",
        )
    if sizes is None:
        return torch.tensor([images.shape[2:]], device=images.device).expand(images.shape[0], 2)
    _check_sizes(images, sizes, values=eager and not images.is_meta)
    return sizes


def _check_sizes(images: Tensor, sizes: Any, *, values: bool) -> None:
    """Refuse sizes that no images of the batch can have. values: whether there are any to look at."""
    if not isinstance(sizes, Tensor):
        raise InputError(
            "sizes are a tensor, (height, width) of each image",
            found=type(sizes).__name__,
            fix=f"sizes=torch.tensor({sizes!r})"[:200],
        )
    if sizes.shape != (images.shape[0], 2) or sizes.dtype not in (torch.int64, torch.int32):
        raise InputError(
            f"sizes are (height, width) of each image, int64 of shape ({images.shape[0]}, 2)",
            found=f"{_dtype_of(sizes)} of shape {tuple(sizes.shape)}",
            fix=f"sizes=torch.tensor([[{images.shape[2]}, {images.shape[3]}], …]), or none where images fill the batch",
        )
    for number, (height, width) in enumerate(sizes.tolist() if values and not sizes.is_meta else ()):
        if not (1 <= height <= images.shape[2] and 1 <= width <= images.shape[3]):
            raise InputError(
                f"sizes[{number}] is no part of a batch of {images.shape[2]} x {images.shape[3]} pixels",
                found=f"(height, width) = ({height}, {width})",
                fix="sizes=None where images fill the batch; of photos, those of zoo.Preprocessor's frames",
            )


def _is_traced() -> bool:
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]  # torch does not type it


def _dtype_of(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _share(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise OptionError(f"`{name}` is a number from 0 to 1", asked=f"{name}={value!r}", fix=f"{name}=0.5")
    return float(value)
