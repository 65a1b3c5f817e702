"""Blocks that models are composed of.

    PatchEmbedding        images (B, C, H, W) -> tokens (B, N, D)
    ConvBlock             maps (B, C, H, W) -> maps (B, D, H / s, W / s)
    AttentionBlock        maps (B, D, H, W) -> maps (B, D, H, W)
    ClassificationHead    maps of a backbone, the last (B, D, H, W) -> embeddings (B, D), logits (B, K)

B batch   C channels   H W height and width   N patches   D width   K classes   s stride
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from zoo.errors import InputError, OptionError, UnsupportedError
from zoo.models.config import ModelConfig
from zoo.models.model import Component, Head


class PatchEmbeddingConfig(ModelConfig):
    """What a patch embedding may be told."""

    image_size: int | tuple[int, int] | None = Field(
        224, description="pixels, one side or (height, width); None: any whole number of patches"
    )
    patch_size: int = Field(16, ge=1, description="pixels of a patch's side")
    in_chans: int = Field(3, ge=1, description="channels of the image")
    width: int = Field(768, ge=1, description="values a token")


class PatchEmbedding(Component):
    """Every patch of an image as a token: images (B, C, H, W) → tokens (B, N, D), row by row.

    Dosovitskiy et al. 2020, arXiv:2010.11929. The layer is the convolution `proj`, whose stride is its kernel.

    Attributes:
        num_patches: N; None where any image size is taken.
    """

    Config = PatchEmbeddingConfig

    def __init__(self, config: PatchEmbeddingConfig) -> None:
        super().__init__(config)
        size, patch = config.image_size, config.patch_size
        self.size = (size, size) if isinstance(size, int) else size
        if self.size is not None and (min(self.size) < 1 or self.size[0] % patch or self.size[1] % patch):
            raise OptionError(
                f"an image of {self.size[0]} x {self.size[1]} pixels is no whole number of {patch}-pixel patches",
                fix=f"image_size={patch * max(1, self.size[0] // patch)}",
            )
        self.num_patches = None if self.size is None else (self.size[0] // patch) * (self.size[1] // patch)
        self.proj = nn.Conv2d(config.in_chans, config.width, kernel_size=patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        _check_maps(images, self.proj.in_channels)
        patch, size = self.proj.stride[0], (images.shape[2], images.shape[3])
        if self.size is not None and size != self.size:
            raise InputError(
                f"expected images of {self.size[0]} x {self.size[1]} pixels",
                found=f"{size[0]} x {size[1]}",
                fix="image_size=None takes any whole number of patches",
            )
        if size[0] % patch or size[1] % patch:
            raise InputError(f"expected sides that are multiples of {patch} pixels", found=f"{size[0]} x {size[1]}")
        tokens: Tensor = self.proj(images).flatten(2).transpose(1, 2)  # (B, N, D)
        return tokens


class BlockConfig(ModelConfig):
    """One config for a chain of blocks: `ConvBlock.from_config(config)`, `AttentionBlock.from_config(config)`."""

    in_chans: int = Field(3, ge=1, description="channels that come in")
    width: int = Field(64, ge=1, description="channels that go out")
    kernel_size: int = Field(3, ge=1, description="of the convolution")
    stride: int = Field(1, ge=1, description="of the convolution")
    activation: Literal["relu", "silu", "gelu"] = Field("relu", description="after the convolution's norm")
    heads: int = Field(8, ge=1, description="of the attention")
    mlp_ratio: float = Field(4.0, gt=0, description="width of the layer behind the attention, in widths")


_ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}


class ConvBlock(nn.Module):
    """Convolution, batch norm, activation: `ConvBlock(3, 64)`; maps (B, in_chans, H, W) → (B, width, H / s, W / s).

    Sides that the stride does not divide are rounded up. Kernels are odd: an even one has no middle.
    """

    def __init__(
        self,
        in_chans: int,
        width: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        activation: Literal["relu", "silu", "gelu"] = "relu",
    ) -> None:
        super().__init__()
        given = {"in_chans": in_chans, "width": width, "kernel_size": kernel_size, "stride": stride}
        chosen = BlockConfig.of({**given, "activation": activation}, {})
        if chosen.kernel_size % 2 == 0:
            raise OptionError(
                "the kernel has a middle: its size is odd",
                asked=f"kernel_size={kernel_size}",
                fix=f"kernel_size={kernel_size + 1}",
            )
        size, width = chosen.kernel_size, chosen.width
        self.conv = nn.Conv2d(chosen.in_chans, width, size, chosen.stride, padding=size // 2, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.activation = _ACTIVATIONS[chosen.activation]()

    @classmethod
    def from_config(cls, config: BlockConfig | Mapping[str, Any]) -> Self:
        """What of a config concerns it."""
        chosen = BlockConfig.of(config, {})
        return cls(
            chosen.in_chans,
            chosen.width,
            kernel_size=chosen.kernel_size,
            stride=chosen.stride,
            activation=chosen.activation,
        )

    def forward(self, maps: Tensor) -> Tensor:
        _check_maps(maps, self.conv.in_channels)
        activated: Tensor = self.activation(self.norm(self.conv(maps)))
        return activated


class AttentionBlock(nn.Module):
    """Self-attention of every pixel of a map with every other, then two layers: `AttentionBlock(64)`.

    Maps (B, width, H, W) → maps of that shape; both parts are pre-normed and residual, as in Vaswani et al. 2017,
    arXiv:1706.03762, with the norm in front (Xiong et al. 2020, arXiv:2002.04745).
    """

    def __init__(self, width: int, *, heads: int = 8, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        chosen = BlockConfig.of({"width": width, "heads": heads, "mlp_ratio": mlp_ratio}, {})
        width, heads, mlp_ratio = chosen.width, chosen.heads, chosen.mlp_ratio
        if width % heads:
            raise OptionError(f"{width} channels are not divided among {heads} heads", fix="heads=1")
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        hidden = round(width * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    @classmethod
    def from_config(cls, config: BlockConfig | Mapping[str, Any]) -> Self:
        """What of a config concerns it."""
        chosen = BlockConfig.of(config, {})
        return cls(chosen.width, heads=chosen.heads, mlp_ratio=chosen.mlp_ratio)

    def forward(self, maps: Tensor) -> Tensor:
        _check_maps(maps, self.proj.in_features)
        tokens: Tensor = maps.flatten(2).transpose(1, 2)  # (B, N, D)
        tokens = tokens + self._attend(self.norm1(tokens))
        tokens = tokens + self.mlp(self.norm2(tokens))
        return tokens.transpose(1, 2).reshape(maps.shape)

    def _attend(self, tokens: Tensor) -> Tensor:
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, D / heads)
        attended: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return attended


def _check_maps(maps: Tensor, channels: int) -> None:
    if maps.ndim != 4 or maps.shape[1] != channels or 0 in maps.shape[2:]:
        raise InputError(f"expected maps (B, {channels}, H, W)", found=f"{tuple(maps.shape)}")


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
            self.config = self.config.replace(in_features=channels[-1])  # by which a saved one is built again
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
        if not isinstance(maps, Tensor) and not maps:
            raise InputError("expected a backbone's maps, at least one", found="none")
        last, width = maps if isinstance(maps, Tensor) else maps[-1], self.classifier.in_features
        if last.ndim not in (2, 4) or last.shape[1] != width or 0 in last.shape[1:]:
            raise InputError(
                f"expected maps (B, {width}, H, W) or embeddings (B, {width})", found=f"{tuple(last.shape)}"
            )
        embeddings = last.mean(dim=(2, 3)) if last.ndim == 4 else last  # (B, C)
        return {"embeddings": embeddings, "logits": self.classifier(embeddings)}
