"""DeiT: a ViT trained without more images, taught by a distillation token. Touvron et al. 2020, arXiv:2012.12877.
DeiT III: a plain ViT with layer scale and a simpler recipe. Touvron et al. 2022, arXiv:2204.07118.

images (B, C, H, W) -> patches (B, N, D) -> class and distillation token in front, positions added -> blocks -> norm
    -> class token        -> logits_class        (B, K)
    -> distillation token -> logits_distillation (B, K)     logits: the mean of both
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from torch import Tensor

from zoo.checkpoints.keymap import KeyMap, Rename, StateMap
from zoo_timm.adapter import TimmClassifier
from zoo_vit.vision_transformer import PlainTransformerConfig, transformers_keys


class DeiTConfig(PlainTransformerConfig):
    """Config of `DeiT`."""

    distilled: bool = Field(False, description="a second token and classifier, which learn from a teacher")


class DeiT(TimmClassifier):
    """DeiT, and with `distilled` its distilled form.

    A distilled model's `embeddings` are the mean of its two tokens, and beside `logits` (B, K), the mean of both
    classifiers while training too, it gives `logits_class` and `logits_distillation` (B, K) for a distillation loss.
    """

    Config = DeiTConfig
    config: DeiTConfig

    @classmethod
    def architecture(cls, config: DeiTConfig) -> str:
        return "deit_base_distilled_patch16_224" if config.distilled else "deit_base_patch16_224"

    @classmethod
    def arguments(cls, config: DeiTConfig) -> Mapping[str, bool | int | float | str]:
        return config.trunk()

    @classmethod
    def published(cls, config: DeiTConfig) -> Mapping[str, StateMap]:
        # Without a teacher it is a ViT, and transformers publishes it as one.
        keys = transformers_keys("deit", _TWO_HEADS) if config.distilled else transformers_keys("vit", _ONE_HEAD)
        return {"original": KeyMap(), "transformers": keys}

    def classify(self, tokens: Any, embeddings: Tensor) -> dict[str, Tensor]:
        """`logits`, and of a distilled model what each of the two classifiers says."""
        if not self.config.distilled:
            return super().classify(tokens, embeddings)
        classifier, student = self.encoder.get_classifier()
        logits_class = classifier(self.encoder.head_drop(tokens[:, 0]))
        logits_distillation = student(self.encoder.head_drop(tokens[:, 1]))
        return {
            "logits": (logits_class + logits_distillation) / 2,
            "logits_class": logits_class,
            "logits_distillation": logits_distillation,
        }


class DeiT3Config(PlainTransformerConfig):
    """Config of `DeiT3`."""


class DeiT3(TimmClassifier):
    """DeiT III: layer scale behind attention and MLP, and a class token without a position."""

    Config = DeiT3Config

    @classmethod
    def architecture(cls, config: DeiT3Config) -> str:
        return "deit3_base_patch16_224"

    @classmethod
    def arguments(cls, config: DeiT3Config) -> Mapping[str, bool | int | float | str]:
        return config.trunk()

    @classmethod
    def published(cls, config: DeiT3Config) -> Mapping[str, StateMap]:
        return {"original": DEIT3_KEYS}


_ONE_HEAD = {"classifier.": "head."}
_TWO_HEADS = {"cls_classifier.": "head.", "distillation_classifier.": "head_dist."}

DEIT3_KEYS = KeyMap(Rename(r"blocks.(\d+).gamma_(1|2)", r"blocks.\1.ls\2.gamma"))
