"""Blocks that models are composed of: heads any plugin may use.

maps of a backbone -> the last (B, C, H, W) -> average over its pixels: embeddings (B, C) -> logits (B, K)
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor, nn

from zoo.errors import OptionError, UnsupportedError
from zoo.models.config import ModelConfig
from zoo.models.model import Head


class ClassificationHeadConfig(ModelConfig):
    """What a classification head may be told."""

    num_classes: int = Field(1000, ge=1, description="outputs")
    in_features: int | None = Field(None, ge=1, description="width of the embedding; None: the backbone's, once bound")


class ClassificationHead(Head):
    """Average pooling and one linear layer: `ClassificationHead(num_classes=10)`.

    The layer is built when the head is bound to a backbone, or at once where `in_features` is given. `forward` takes
    the backbone's maps, or a single map (B, C, H, W) or embedding (B, C), and returns `embeddings` and `logits`.
    """

    Config = ClassificationHeadConfig

    def __init__(self, config: ClassificationHeadConfig) -> None:
        super().__init__(config)
        self.num_classes = config.num_classes
        self.classifier: nn.Linear | None = None
        if config.in_features is not None:
            self.classifier = nn.Linear(config.in_features, config.num_classes)

    def bind(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        """Build the layer for the last map; a layer of that width is kept, weights and all."""
        if self.classifier is None:
            self.classifier = nn.Linear(channels[-1], self.num_classes)
        elif self.classifier.in_features != channels[-1]:
            raise OptionError(
                f"the head takes {self.classifier.in_features} features, the backbone's last map has {channels[-1]}",
                asked=f"in_features={self.classifier.in_features}",
                fix=f"ClassificationHead(num_classes={self.num_classes})",
            )

    def forward(self, maps: list[Tensor] | Tensor) -> dict[str, Tensor]:
        if self.classifier is None:
            raise UnsupportedError(
                "the head does not know its input yet", fix="head.bind(channels, strides), or give it in_features=…"
            )
        last = maps if isinstance(maps, Tensor) else maps[-1]
        embeddings = last.mean(dim=(2, 3)) if last.ndim == 4 else last  # (B, C)
        return {"embeddings": embeddings, "logits": self.classifier(embeddings)}
