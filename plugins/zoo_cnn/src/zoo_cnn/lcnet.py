"""PP-LCNet: depthwise separable convolutions for CPUs. Cui et al. 2021, arXiv:2109.15099.

images (B, 3, H, W) -> stem -> 6 stages of blocks, strides up to 32 -> pooled -> 1x1 convolution -> embeddings -> logits
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import Field

from zoo.checkpoints.keymap import Drop, KeyMap, Rename, Reshape, Rule, Scale, StateMap, Transpose
from zoo_timm.adapter import TimmClassifier, TimmClassifierConfig


class LCNetConfig(TimmClassifierConfig):
    """Config of `LCNet`."""

    width: Literal[0.35, 0.5, 0.75, 1.0, 1.5] = Field(1.0, description="factor on the channels of every layer")
    head_bias: bool = Field(True, description="a bias in the last convolution, as timm has it and Paddle does not")


class LCNet(TimmClassifier):
    """PP-LCNet in its published widths."""

    Config = LCNetConfig

    @classmethod
    def architecture(cls, config: LCNetConfig) -> str:
        return f"lcnet_{round(100 * config.width):03d}"

    @classmethod
    def arguments(cls, config: LCNetConfig) -> Mapping[str, bool]:
        return {"head_bias": config.head_bias}

    @classmethod
    def published(cls, config: LCNetConfig) -> Mapping[str, StateMap]:
        return {"paddle_onnx": PADDLE_ONNX_KEYS}


DEPTHS = (1, 2, 2, 2, 4, 2)
"""Blocks of each stage. Those of the last have squeeze-and-excitation."""


class PaddleNames:
    """Paddle's names in an exported ONNX file. It numbers convolutions, normalisations and biases as the network has
    them, and every parameter once more in the suffix of its name."""

    def __init__(self) -> None:
        self.parameters = self.convolutions = self.norms = self.biases = 0

    def convolution(self, native: str) -> Iterator[Rule]:
        """A convolution without bias."""
        yield Rename(f"conv2d_{self.convolutions}.w_0{self._suffix()}", f"{native}.weight")
        self.convolutions += 1

    def convolution_with_bias(self, native: str) -> Iterator[Rule]:
        """The export keeps the bias apart, as the constant (1, C, 1, 1) that it adds."""
        yield from self.convolution(native)
        self._suffix()
        yield Rename(f"p2o.pd_op.reshape.{self.biases}.0", f"{native}.bias")
        self.biases += 1

    def norm(self, native: str) -> Iterator[Rule]:
        """A batch normalisation."""
        for published, name in (("w_0", "weight"), ("b_0", "bias"), ("w_1", "running_mean"), ("w_2", "running_var")):
            yield Rename(f"batch_norm2d_{self.norms}.{published}{self._suffix()}", f"{native}.{name}")
        self.norms += 1

    def linear(self, native: str) -> Iterator[Rule]:
        """The only linear layer."""
        for published, name in (("w_0", "weight"), ("b_0", "bias")):
            yield Rename(f"linear_0.{published}{self._suffix()}", f"{native}.{name}")

    def _suffix(self) -> str:
        self.parameters += 1
        return f"_deepcopy_{self.parameters - 1}"


def _paddle_onnx() -> Iterator[Rule]:
    names = PaddleNames()
    yield from names.convolution("conv_stem")
    yield from names.norm("bn1")
    for stage, depth in enumerate(DEPTHS):
        for block in (f"blocks.{stage}.{i}" for i in range(depth)):
            yield from names.convolution(f"{block}.conv_dw")
            yield from names.norm(f"{block}.bn1")
            if stage == len(DEPTHS) - 1:
                yield from names.convolution_with_bias(f"{block}.se.conv_reduce")
                yield from names.convolution_with_bias(f"{block}.se.conv_expand")
            yield from names.convolution(f"{block}.conv_pw")
            yield from names.norm(f"{block}.bn2")
    yield from names.convolution("conv_head")
    yield from names.linear("classifier")


PADDLE_ONNX_KEYS = KeyMap(
    Drop(r"helper\.constant\.\d+", "a constant of the exported graph"),
    *_paddle_onnx(),
    Reshape(r"blocks\.5\.\d\.se\.conv_(reduce|expand)\.bias", (1, -1, 1, 1), (-1,)),
    Transpose(r"classifier\.weight"),
    # Paddle's dropout scales by 1 - 0.2 at inference, not while training.
    Scale(r"classifier\.weight", 0.8),
)
