"""Classifier: the task base of everything that gives one label an image.

images (B, C, H, W) -> embeddings (B, D) -> logits (B, K)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from zoo.errors import UnsupportedError
from zoo.models.model import Model

if TYPE_CHECKING:
    from zoo.models.preprocessing import Frame
    from zoo.models.results import Result


class Classifier(Model):
    """Interface of classifiers.

    `forward` returns `logits` (B, K), absent without a head, and `embeddings` (B, D); with `output_features=True` also
    `features`, every feature map (B, C, H, W) in order of depth; with `output_attentions=True` `attentions`, the
    weights (B, heads, queries, keys) of every attention layer in order (layers that attend within windows have these
    in the batch, and some keep the heads there); with targets `loss_classification` and `loss`. Targets are class ids
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
    """Cross-entropy of logits (B, K) with class ids (B,) or class probabilities (B, K)."""
    loss = F.cross_entropy(logits, targets)
    return {"loss_classification": loss, "loss": loss}
