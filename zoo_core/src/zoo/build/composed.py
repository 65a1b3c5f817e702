"""A classifier from any registered backbone and head.

images (B, C, H, W) -> backbone's last map (B, D, h, w) -> head -> embeddings (B, D), logits (B, K)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field
from torch import Tensor

from zoo.models.attention import with_attentions
from zoo.models.classifier import Classifier, classification_losses
from zoo.models.config import ModelConfig
from zoo.models.load_report import report_of_parts
from zoo.models.model import Backbone, Head
from zoo.models.parts import Part, build_backbone, build_head


class ComposedClassifierConfig(ModelConfig):
    """What a composed classifier may be told."""

    backbone: Part = Field(
        "resnet50", description="a registered backbone's name, a mapping with its options, or a module"
    )
    head: Part = Field("classifier", description="a registered head's name, a mapping with its options, or a module")
    num_classes: int = Field(1000, ge=1, description="outputs of a head given by name")
    in_chans: int = Field(3, ge=1, description="channels of the image, for a backbone given by name")


class ComposedClassifier(Classifier):
    """backbone + head, each a name, a config or a module (`zoo.create_model(backbone="resnet50", num_classes=10)`)."""

    Config = ComposedClassifierConfig

    def __init__(self, config: ComposedClassifierConfig) -> None:
        super().__init__(config)
        self.backbone: Backbone = build_backbone(config.backbone, in_chans=config.in_chans)
        self.head: Head = build_head(config.head, num_classes=config.num_classes)
        self.head.bind(self.backbone.channels, self.backbone.strides)
        self.input_spec = self.backbone.input_spec
        self.provenance = self.backbone.provenance
        self.load_report = report_of_parts(self.state_dict(), {"backbone": self.backbone, "head": self.head})

    @property
    def num_classes(self) -> int:
        classes: int = self.head.config.num_classes  # type: ignore[attr-defined]  # a classification head's config
        return classes

    def forward(
        self,
        images: Tensor,
        targets: Tensor | None = None,
        *,
        output_features: bool = False,
        output_attentions: bool = False,
    ) -> dict[str, Any]:
        attentions: list[Tensor] | None = None
        if output_attentions:
            maps, attentions = with_attentions(self.backbone, images)
        else:
            maps = self.backbone(images)
        outputs: dict[str, Any] = self.head(maps)
        if attentions is not None:
            outputs["attentions"] = attentions
        if output_features:
            outputs["features"] = maps
        if targets is not None:
            outputs |= classification_losses(outputs["logits"], targets)
        return outputs

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) → the head's pooled vector (B, D)."""
        embeddings: Tensor = self.head(self.backbone(images))["embeddings"]
        return embeddings

    def reset_head(self, num_classes: int) -> None:
        """A fresh head of the same kind for another number of classes."""
        self.config = self.config.replace(num_classes=num_classes)
        self.label_space = None
        self.head = type(self.head)(self.head.config.replace(num_classes=num_classes))
        self.head.bind(self.backbone.channels, self.backbone.strides)

    @classmethod
    def as_backbone(cls, config: ComposedClassifierConfig, out_indices: Sequence[int] | None = None) -> Backbone:
        """The backbone part on its own."""
        indices = {} if out_indices is None else {"out_indices": out_indices}
        return build_backbone(config.backbone, in_chans=config.in_chans, **indices)
