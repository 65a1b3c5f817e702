"""Classifier: the task base of everything that gives one label an image.

images (B, C, H, W) -> embeddings (B, D) -> logits (B, K)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.errors import InputError, UnsupportedError
from zoo.models.model import Model

if TYPE_CHECKING:
    from zoo.models.preprocessing import Frame
    from zoo.models.results import Result


class Classifier(Model):
    """Interface of classifiers.

    `forward` returns `logits` (B, K), absent without a head, and `embeddings` (B, D); with `output_features=True` also
    `features`, every feature map (B, C, H, W) in order of depth; with `output_attentions=True` `attentions`, the
    weights (B, heads, queries, keys) of every attention layer of its blocks in order, not those of an attention
    pooling behind them (layers that attend within windows have these in the batch, and some keep the heads there);
    with targets `loss_classification` and `loss`. Targets are class ids
    (B,) int64 or probabilities (B, K) float.
    """

    task: ClassVar[str] = "classification"

    @property
    def num_classes(self) -> int:
        """Outputs of the head; 0 without one."""
        raise NotImplementedError(f"{type(self).__name__} does not say its number of classes")

    def forward(
        self,
        images: Tensor,
        targets: Tensor | None = None,
        *,
        output_features: bool = False,
        output_attentions: bool = False,
    ) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} does not say how it computes: define forward()")

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) → one vector an image (B, D): what the head sees."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it embeds: define embed()")

    def postprocess(self, outputs: dict[str, Any], frames: Sequence[Frame], *, topk: int = 5) -> list[Result]:
        """Softmax over the logits; `topk` classes an image (0: all), with names where the label space has them."""
        from zoo.models.results import Classification

        if "logits" not in outputs:
            raise UnsupportedError(
                f"{type(self).__name__} has no classification head", fix="num_classes=…, or model.embed(images)"
            )
        probabilities = outputs["logits"].float().softmax(dim=-1).cpu()
        return [
            Classification.from_probabilities(row, frame, labels=self.label_space, topk=topk)
            for row, frame in zip(probabilities, frames, strict=True)
        ]


def classification_losses(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """`checked_cross_entropy` under the names that models return it by."""
    loss = checked_cross_entropy(logits, targets)
    return {"loss_classification": loss, "loss": loss}


def checked_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of logits (B, K) with class ids (B,) int64 or class probabilities (B, K) float, as a scalar.

    An id of -100 is left out of the mean. Ids out of range are found on the CPU only: elsewhere the check would wait
    for the device, which has an assertion of its own.

    Raises:
        InputError: targets that are no such tensor.
    """
    _check_targets(logits, targets)
    if torch.compiler.is_compiling():
        return F.cross_entropy(logits, targets)
    try:
        return F.cross_entropy(logits, targets)
    except IndexError as error:
        count = logits.shape[1]
        raise InputError(
            f"class ids go from 0 to {count - 1}, for the model has {count} classes", found=str(error)
        ) from None


def _check_targets(logits: Tensor, targets: Tensor) -> None:
    """Refuse what is wrong by its type, shape or place; no value is read, so that no device is waited for."""
    expected = "targets are class ids (B,) int64 or probabilities (B, K) float"
    if not isinstance(targets, Tensor):
        raise InputError(expected, found=type(targets).__name__, fix="torch.tensor(targets)")
    if targets.dtype != torch.int64 and not targets.is_floating_point():
        raise InputError(expected, found=str(targets.dtype), fix="targets.long()")
    wanted = logits.shape if targets.is_floating_point() else logits.shape[:1]
    if targets.shape != wanted:
        raise InputError(
            f"{expected}, here of shape {tuple(wanted)}",
            found=f"{targets.dtype} of shape {tuple(targets.shape)}",
            fix="as many targets as images; class ids without a second axis, one-hot rows as floats",
        )
    if targets.device != logits.device:
        raise InputError(
            f"the model is on {logits.device}", found=f"targets on {targets.device}", fix="targets.to(images.device)"
        )
