"""Grad-CAM: the cells of a layer that speak for a class. Selvaraju et al. 2017, arXiv:1610.02391.

map (B, D, r, c) of a layer -> weights (B, D) = mean over cells of d score / d map -> ReLU(sum over D of weights * map)

The weights and the sum are captum's `LayerGradCam`; here layers become maps, and maps heat on the original picture.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from zoo.errors import InputError, LabelError, UnsupportedError
from zoo.models.images import ImageInput
from zoo.models.model import Model, evaluating
from zoo_explain.batches import batches
from zoo_explain.heat import HeatMap
from zoo_explain.layers import default_layer, find_layer, never_called, tapped


class GradCAM:
    """Where in a picture a layer of a classifier sees a class.

        GradCAM(model, target_layer="blocks.11")("cat.jpg", target_class=281).plot("seen.png")

    Layers may give maps, maps with the channels last, or tokens behind a class token and registers. Where nothing of
    what a layer gives for the patches reaches the class, as behind the last block of a transformer that reads its
    answer off the class token, the map is of what the layer is given; the result's `at_input` says so.

    Args:
        model: a classifier with a head.
        target_layer: its path, the end of a path that only one has (`blocks.11` for `encoder.blocks.11`), or the
            module; None: the last stage or block, by `zoo_explain.layers.default_layer`.

    Raises:
        OptionError: no such layer, or several.
    """

    def __init__(self, model: Model, target_layer: str | nn.Module | None = None) -> None:
        if not isinstance(model, Model):
            raise UnsupportedError(f"a {type(model).__name__} is no zoo model", fix='zoo.create("resnet50")')
        self.model = model
        self.target_layer = None if target_layer is None else find_layer(model, target_layer)[0]

    def __call__(
        self,
        image: ImageInput,
        target_class: int | str | None = None,
        *,
        channels: str = "rgb",
        preprocessed: bool | None = None,
    ) -> HeatMap:
        """The heat of one picture.

        Args:
            image: what `model.predict` takes, or a preprocessed tensor (1, C, H, W).
            target_class: a class id, or its name; None: the one the model finds most probable.
            channels: `rgb` or `bgr`, of an array or a tensor.
            preprocessed: whether a tensor (1, C, H, W) is; None: it is if any value is outside [0, 1].

        Raises:
            InputError: an image that cannot be used, or several. LabelError: no such class.
            UnsupportedError: the model has no classes, or the layer gives no map or has no part in the answer.
        """
        results = self.each(image, target_class, channels=channels, preprocessed=preprocessed)
        if len(results) != 1:
            raise InputError("one image at a time", found=f"{len(results)} images", fix="GradCAM(model).each(images)")
        return results[0]

    def each(
        self,
        images: ImageInput | Iterable[ImageInput],
        target_class: int | str | None = None,
        *,
        channels: str = "rgb",
        preprocessed: bool | None = None,
        batch_size: int = 8,
    ) -> list[HeatMap]:
        """The heat of every picture of a list or a batch; as a call otherwise."""
        results: list[HeatMap] = []
        found = batches(self.model, images, channels=channels, preprocessed=preprocessed, batch_size=batch_size)
        # A model may be asked within somebody's inference mode; Grad-CAM is a gradient.
        with torch.inference_mode(False), torch.enable_grad(), evaluating(self.model):
            for batch, frames in found:
                seen = self._attribute(batch, target_class)
                for cells, output, probability, frame in zip(
                    seen.cells, seen.outputs, seen.probabilities, frames, strict=True
                ):
                    heat = HeatMap.from_cells(cells, frame, method="gradcam")
                    class_id = int(output) - _classes(self.model, seen.num_outputs).start
                    results.append(
                        replace(
                            heat,
                            layer=seen.layer,
                            at_input=seen.at_input,
                            class_id=class_id,
                            class_name=_name(self.model, class_id),
                            probability=float(probability),
                        )
                    )
        return results

    def _attribute(self, images: Tensor, target_class: int | str | None) -> _Seen:
        """Cells of a batch at the layer, or at its input where the layer's own are without influence."""
        layer = self.target_layer or default_layer(self.model, images)[0]
        for at_input in (False, True):
            seen = _seen(self.model, layer, images, target_class, at_input=at_input)
            if seen is not None and seen.cells.any():
                return seen._replace(cells=seen.cells.relu())
        raise UnsupportedError(
            f"nothing of what {layer} gives for the image reaches the class",
            asked=layer,
            fix="an earlier layer; and a head that is trained",
        )


class _Seen(NamedTuple):
    """cells (B, r, c); outputs (B,) the logits they are about; probabilities (B,)."""

    cells: Tensor
    outputs: Tensor
    probabilities: Tensor
    num_outputs: int
    layer: str
    at_input: bool


def _seen(model: Model, layer: str, images: Tensor, target_class: int | str | None, *, at_input: bool) -> _Seen | None:
    """Grad-CAM before its ReLU; None where the answer does not depend on the layer at all."""
    chosen: list[tuple[Tensor, Tensor]] = []

    def score(images: Tensor) -> Tensor:
        outputs = model(images)
        if not isinstance(outputs, Mapping) or "logits" not in outputs:
            raise UnsupportedError(f"{type(model).__name__} has no classes to explain", fix="num_classes=…, trained")
        logits: Tensor = outputs["logits"]
        index = _outputs(model, logits, target_class)
        chosen.append((index, logits.detach()))
        return logits.gather(1, index[:, None])[:, 0]

    size = (images.shape[0], images.shape[2], images.shape[3])
    with tapped(model, layer, size, at_input=at_input) as (tap, placings):
        try:
            cells = LayerGradCam(score, tap).attribute(images, relu_attributions=False)
        except (AssertionError, RuntimeError) as error:  # captum's and autograd's ways of saying it
            if chosen and not placings:
                raise never_called(model, layer) from error
            if "not have been used in the graph" in str(error):
                return None
            raise
    index, logits = chosen[-1]
    probabilities = logits.float().softmax(-1)  # as `predict` gives them: a background has its share
    probabilities = probabilities.gather(1, index[:, None])[:, 0]
    return _Seen(cells[:, 0].detach().float(), index, probabilities, logits.shape[1], layer, at_input)


def _classes(model: Model, num_outputs: int) -> range:
    """The outputs that are classes, in order of class id."""
    labels = model.label_space
    if labels is None:
        return range(num_outputs)
    labels.check(num_outputs)
    return range(num_outputs)[labels.classes_of_outputs]


def _outputs(model: Model, logits: Tensor, target_class: int | str | None) -> Tensor:
    """(B,) int64: the outputs to explain. Raises `LabelError` for a class there is not."""
    classes = _classes(model, logits.shape[1])
    if target_class is None:
        return logits.detach()[:, classes.start : classes.stop].argmax(-1) + classes.start
    if isinstance(target_class, str):
        if model.label_space is None:
            raise LabelError("this model's classes have no names", asked=target_class, fix="target_class=0")
        class_id = model.label_space.id_of(target_class)
    else:
        try:
            class_id = operator.index(target_class)
        except (TypeError, ValueError) as error:
            raise _no_class(target_class) from error
        if isinstance(target_class, bool):
            raise _no_class(target_class)
    if not 0 <= class_id < len(classes):
        raise LabelError(f"there is no class {class_id}", asked=str(class_id), found=f"0 to {len(classes) - 1}")
    return logits.new_full((len(logits),), classes[class_id], dtype=torch.int64)


def _no_class(target_class: object) -> LabelError:
    return LabelError("a class is a whole number or a name", asked=repr(target_class)[:80], fix="target_class=0")


def _name(model: Model, class_id: int) -> str:
    return model.label_space.name_of(class_id) if model.label_space is not None else f"class {class_id}"
