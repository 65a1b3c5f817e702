"""HiViT: a hierarchy inside every 16-pixel unit, attention between units. Zhang et al. 2022, arXiv:2205.14949.

images (B, C, H, W) -> units of 4 x 4 patches (B, N, 4, 4, D / 4) -> layers per patch -> merged (B, N, 2, 2, D / 2)
    -> layers per patch -> merged (B, N, D), positions added -> attention with relative position bias, over all units
    -> average, norm: embeddings (B, D) -> logits (B, K)

Until units are merged nothing looks across their borders, so masked pre-training can leave hidden ones out from the
first layer on: `Encoder.forward(images, visible)`.

B batch   C channels   H W the image's sides   N units of 16 x 16 pixels (h rows, w columns)   D width   K classes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from timm.layers import DropPath, Mlp, trunc_normal_
from torch import Tensor, nn

from zoo.checkpoints.keymap import StateMap
from zoo.errors import InputError, OptionError, UnsupportedError
from zoo.models.attention import with_attentions
from zoo.models.classifier import Classifier, classification_losses
from zoo.models.config import ModelConfig
from zoo.models.model import Backbone, evaluating
from zoo.specs import InputSpec
from zoo_timm.encoders import check_images
from zoo_timm.maps import MapInfo, choose_maps
from zoo_vit.hivit_keys import NATIVE_KEYS, ORIGINAL_KEYS, HiViTFormat

UNIT = 16
"""Pixels of a unit's side: 4 x 4 patches of 4 x 4 pixels."""

Pixels = Annotated[int, Field(ge=UNIT, le=16384)]
Depth = Annotated[int, Field(ge=1, le=1000)]


class EncoderConfig(ModelConfig):
    """What every HiViT may be told."""

    width: int = Field(384, ge=4, le=65536, multiple_of=4, description="values a unit in the last stage")
    depths: tuple[Depth, Depth, Depth] = Field(
        (1, 1, 10), description="of the three stages; those of the first two are pairs of blocks"
    )
    heads: int = Field(6, ge=1, le=1024, description="attention heads a block of the last stage")
    stem_mlp_ratio: float = Field(3.0, gt=0, le=64, description="hidden width in widths, first two stages")
    mlp_ratio: float = Field(4.0, gt=0, le=64, description="hidden width in widths, last stage")
    norm_eps: float = Field(1e-5, gt=0, lt=1, description="of every norm; the authors' masked pre-training has 1e-6")
    image_size: Pixels | tuple[Pixels, Pixels] = Field(
        224, description="pixels, one side or (height, width), multiples of 16"
    )
    in_chans: int = Field(3, ge=1, le=4096, description="channels of the image")
    drop_path_rate: float = Field(0.0, ge=0, lt=1, description="stochastic depth of the last block while training")


class HiViTConfig(EncoderConfig):
    """Config of `HiViT`."""

    num_classes: int = Field(1000, ge=0, le=10_000_000, description="outputs of the classifier; 0: no classifier")


class HiViT(Classifier):
    """HiViT tiny, small and base, for images of one size.

    Attributes:
        encoder: everything but the classifier. head: `nn.Linear`; `nn.Identity` without classes.
    """

    Config = HiViTConfig
    config: HiViTConfig

    def __init__(self, config: HiViTConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(config)
        self.head = _classifier(config.width, config.num_classes)
        self.input_spec = self._takes = self.encoder.takes

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "head" and "head" in self._modules:
            classes = _classes_of(value, self.config.width, self.encoder.absolute_pos_embed.dtype)
            self.config = self.config.replace(num_classes=classes)
            self.label_space = None  # the new outputs are other classes
        super().__setattr__(name, value)

    @property
    def num_classes(self) -> int:
        return self.config.num_classes

    def forward(
        self,
        images: Tensor,
        targets: Tensor | None = None,
        *,
        output_features: bool = False,
        output_attentions: bool = False,
    ) -> dict[str, Any]:
        check_images(images, self._takes, self.encoder.absolute_pos_embed)
        outputs: dict[str, Any] = {}
        if output_attentions:
            maps, outputs["attentions"] = with_attentions(self.encoder, images)
        else:
            maps = self.encoder(images)
        if output_features:
            outputs["features"] = self.encoder.as_images(maps)
        outputs["embeddings"] = self.encoder.pool(maps[-1])
        if self.config.num_classes:
            outputs["logits"] = self.head(outputs["embeddings"])
        if targets is not None:
            if "logits" not in outputs:
                raise UnsupportedError("a model without a classifier has no loss", fix="num_classes=…, reset_head(n)")
            outputs |= classification_losses(outputs["logits"], targets)
        return outputs

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) → one vector an image (B, D): the normed average that the classifier sees."""
        check_images(images, self._takes, self.encoder.absolute_pos_embed)
        return self.encoder.pool(self.encoder(images)[-1])

    def reset_head(self, num_classes: int) -> None:
        """A freshly initialised classifier for that many classes; 0 takes it away."""
        like, num_classes = self.encoder.absolute_pos_embed, self.config.replace(num_classes=num_classes).num_classes
        self.head = _classifier(self.config.width, num_classes).to(like.device, like.dtype)

    @classmethod
    def as_backbone(cls, config: HiViTConfig, out_indices: Sequence[int] | None = None) -> HiViTBackbone:
        """Its maps of strides 4, 8 and 16, under the same state-dict names less the classifier's."""
        values = {name: getattr(config, name) for name in EncoderConfig.model_fields}
        indices = {} if out_indices is None else {"out_indices": tuple(out_indices)}
        backbone: HiViTBackbone = HiViTBackbone({**values, **indices})
        return backbone

    def key_maps(self) -> Mapping[str, StateMap]:
        return _key_maps(self.encoder, has_head=self.config.num_classes > 0)


class HiViTBackboneConfig(EncoderConfig):
    """Config of `HiViTBackbone`."""

    out_indices: tuple[int, ...] = Field((0, 1, 2), description="which of the maps of strides 4, 8, 16, ascending")


class HiViTBackbone(Backbone):
    """What each stage of a HiViT ends with, as maps (B, D / 4, H / 4, W / 4), (B, D / 2, …), (B, D, H / 16, W / 16)."""

    Config = HiViTBackboneConfig
    config: HiViTBackboneConfig

    def __init__(self, config: HiViTBackboneConfig) -> None:
        super().__init__(config)
        widths = (config.width // 4, config.width // 2, config.width)
        table = [MapInfo(channels, stride) for channels, stride in zip(widths, (4, 8, 16), strict=True)]
        self.indices = choose_maps(table, config.out_indices, "HiViT")
        self.encoder = Encoder(config)
        self.input_spec = self._takes = self.encoder.takes
        self.channels = tuple(table[i].channels for i in self.indices)
        self.strides = tuple(table[i].stride for i in self.indices)

    def forward(self, images: Tensor) -> list[Tensor]:
        check_images(images, self._takes, self.encoder.absolute_pos_embed)
        maps = self.encoder.as_images(self.encoder(images))
        return [maps[i] for i in self.indices]

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) → one vector an image (B, D): what the classifier of the whole model sees."""
        check_images(images, self._takes, self.encoder.absolute_pos_embed)
        return self.encoder.pool(self.encoder(images)[-1])

    def key_maps(self) -> Mapping[str, StateMap]:
        return _key_maps(self.encoder, has_head=False)


class Encoder(nn.Module):
    """Images → what each of the three stages ends with. Submodules bear the published names."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        side = config.image_size
        height, width = (side, side) if isinstance(side, int) else side
        if height % UNIT or width % UNIT:
            raise OptionError(
                f"an image of {height} x {width} pixels is no whole number of {UNIT}-pixel units",
                fix=f"image_size=({-(-height // UNIT) * UNIT}, {-(-width // UNIT) * UNIT})",
            )
        if config.width % config.heads:
            raise OptionError(f"{config.width} values are not divided among {config.heads} heads", fix="heads=1")
        self.grid = (height // UNIT, width // UNIT)
        self.takes = InputSpec(size=(height, width), interpolation="bicubic", fixed_size=True).with_channels(
            config.in_chans
        )
        self.patch_embed = PatchEmbed(config.in_chans, config.width // 4, config.norm_eps)
        self.absolute_pos_embed = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1], config.width))
        self.register_buffer("relative_position_index", relative_position_index(*self.grid))
        self.blocks, self.merges = _blocks(config, self.grid)
        self.fc_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        trunc_normal_(self.absolute_pos_embed, std=0.02)
        self.apply(_initialise)

    def forward(self, images: Tensor, visible: Tensor | None = None) -> list[Tensor]:
        """
        Args:
            images: (B, C, H, W) of the model's size.
            visible: (B, n) int64, the units to look at, counted row by row; None: all N of them.

        Returns:
            (B, n, 4, 4, D / 4), (B, n, 2, 2, D / 2) and (B, n, D), in the order of `visible`.
        """
        units, positions, index = self.patch_embed(images), self.absolute_pos_embed, self.relative_position_index
        if visible is not None:
            units = units.gather(1, visible[:, :, None, None, None].expand(-1, -1, *units.shape[2:]))
            positions = positions[0, visible]  # (B, n, D)
            index = index[visible[:, :, None], visible[:, None, :]]  # (B, n, n)
        first, second = self.merges
        for block in self.blocks[:first]:
            units = block(units)
        quarters = units
        for block in self.blocks[first:second]:
            units = block(units)
        tokens = self.blocks[second](units)[:, :, 0, 0] + positions
        for block in self.blocks[second + 1 :]:
            tokens = block(tokens, index)
        return [quarters, units, tokens]

    def as_images(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """All units of each stage → maps (B, D / 4, H / 4, W / 4), (B, D / 2, H / 8, W / 8), (B, D, H / 16, W / 16)."""
        tokens = maps[-1]
        squares = [*maps[:-1], tokens[:, :, None, None]]  # (B, N, s, s, D)
        rows = (units.unflatten(1, self.grid).permute(0, 5, 1, 3, 2, 4) for units in squares)  # (B, D, h, s, w, s)
        return [row.flatten(4, 5).flatten(2, 3) for row in rows]

    def pool(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, D) → embeddings (B, D)."""
        embeddings: Tensor = self.fc_norm(tokens.mean(dim=1))
        return embeddings


class PatchEmbed(nn.Module):
    """Every 4-pixel patch as a token, the sixteen of a unit together: images (B, C, H, W) → (B, N, 4, 4, D / 4)."""

    def __init__(self, in_chans: int, width: int, norm_eps: float) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_chans, width, kernel_size=4, stride=4)
        self.norm = nn.LayerNorm(width, eps=norm_eps)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.proj(images).unflatten(3, (-1, 4)).unflatten(2, (-1, 4))  # (B, D / 4, h, 4, w, 4)
        units: Tensor = self.norm(patches.permute(0, 2, 4, 3, 5, 1).flatten(1, 2))
        return units


class MlpBlock(nn.Module):
    """Two layers over every token by itself, pre-normed and residual: all that the first two stages do."""

    def __init__(self, width: int, mlp_ratio: float, norm_eps: float, drop_path: float) -> None:
        super().__init__()
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))


class PatchMerge(nn.Module):
    """Four neighbours become one, half as many values: units (B, N, s, s, D) → (B, N, s / 2, s / 2, 2 D)."""

    def __init__(self, width: int, norm_eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width, eps=norm_eps)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, units: Tensor) -> Tensor:
        pairs = units.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # (B, N, rows, 2, columns, 2, D)
        fours = pairs.permute(0, 1, 2, 4, 5, 3, 6).flatten(4)  # the published order goes down before it goes right
        merged: Tensor = self.reduction(self.norm(fours))
        return merged


class AttentionBlock(nn.Module):
    """Attention over all units, then two layers; both pre-normed and residual."""

    def __init__(
        self, width: int, heads: int, offsets: int, mlp_ratio: float, norm_eps: float, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attn = Attention(width, heads, offsets)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, index: Tensor) -> Tensor:
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), index))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))


class Attention(nn.Module):
    """Self-attention with a bias for every offset between two units.

    Tokens (B, N, D) and the offsets between them, int64 (N, N), or (B, N, N) where images differ → (B, N, D).
    """

    def __init__(self, width: int, heads: int, offsets: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros(offsets, heads))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, tokens: Tensor, index: Tensor) -> Tensor:
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, D / heads)
        bias = self.relative_position_bias_table[index].movedim(-1, -3)  # (heads, N, N) or (B, heads, N, N)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        projected: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return projected


def relative_position_index(rows: int, columns: int) -> Tensor:
    """Which row of a bias table each pair of units has: int64 (N, N), 0 where the second is last and the first not."""
    row, column = torch.arange(rows).repeat_interleave(columns), torch.arange(columns).repeat(rows)  # (N,) each
    down, right = row[:, None] - row[None], column[:, None] - column[None]
    return (down + rows - 1) * (2 * columns - 1) + right + columns - 1


def _blocks(config: EncoderConfig, grid: tuple[int, int]) -> tuple[nn.ModuleList, tuple[int, int]]:
    """Blocks and merges in one list, as published, and where the two merges are in it."""
    first, second, main = config.depths
    width, eps = config.width, config.norm_eps
    rates = torch.linspace(0, config.drop_path_rate, 2 * first + 2 * second + main, device="cpu").tolist()
    fine = [MlpBlock(width // 4, config.stem_mlp_ratio, eps, rates.pop(0)) for _ in range(2 * first)]
    middle = [MlpBlock(width // 2, config.stem_mlp_ratio, eps, rates.pop(0)) for _ in range(2 * second)]
    offsets = (2 * grid[0] - 1) * (2 * grid[1] - 1)
    last = [AttentionBlock(width, config.heads, offsets, config.mlp_ratio, eps, rate) for rate in rates]
    blocks = [*fine, PatchMerge(width // 4, eps), *middle, PatchMerge(width // 2, eps), *last]
    return nn.ModuleList(blocks), (len(fine), len(fine) + 1 + len(middle))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _classifier(width: int, num_classes: int) -> nn.Module:
    if not num_classes:
        return nn.Identity()
    classifier = nn.Linear(width, num_classes)
    _initialise(classifier)
    return classifier


def _classes_of(head: object, width: int, dtype: torch.dtype) -> int:
    """Outputs of a module that is to be the classifier; 0 of `nn.Identity`. Raises `InputError` if it cannot be."""
    if isinstance(head, nn.Identity):
        return 0
    if not isinstance(head, nn.Module):
        raise InputError(
            "a head is a module", found=type(head).__name__, fix=f"nn.Linear({width}, num_classes); nn.Identity(): none"
        )
    device = next(head.parameters(), torch.empty(0)).device
    with evaluating(head), torch.no_grad():
        try:
            return int(head(torch.zeros(1, width, device=device, dtype=dtype)).shape[-1])
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"the new head does not take the {width} values of {dtype} an image that this HiViT gives",
                found=str(error).splitlines()[0],
                fix=f"nn.Linear({width}, num_classes, dtype={dtype})",
            ) from error


def _key_maps(encoder: Encoder, *, has_head: bool) -> dict[str, StateMap]:
    return {
        "native": HiViTFormat(encoder, encoder.grid, NATIVE_KEYS, has_head=has_head),
        "original": HiViTFormat(encoder, encoder.grid, ORIGINAL_KEYS, has_head=has_head),
    }
