"""Masked autoencoder: hide most patches of an image and paint them from the rest. He et al. 2021, arXiv:2111.06377.

images (B, C, H, W) -> patches (B, N, D), positions added -> the n visible ones, class token in front
    -> encoder, a plain ViT (B, 1 + n, D) -> mask tokens in the places of the hidden, positions added
    -> decoder, a small ViT -> pixels of every patch (B, N, p * p * C) -> squared error over the hidden ones

B batch   C channels   H W the image's sides   p a patch's side   N patches   n visible ones   D width
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from zoo.checkpoints.keymap import StateMap
from zoo.errors import InputError, OptionError
from zoo.models.config import ModelConfig
from zoo.models.model import Model
from zoo.specs import InputSpec
from zoo_timm.encoders import build_encoder, check_images
from zoo_vit.mae_keys import NATIVE_KEYS, ORIGINAL_KEYS, TRANSFORMERS_KEYS, MaskedAutoencoderFormat
from zoo_vit.patches import check_whole_patches

Pixels = Annotated[int, Field(ge=1, le=16384)]


class MaskedAutoencoderConfig(ModelConfig):
    """Config of `MaskedAutoencoder`."""

    image_size: Pixels | tuple[Pixels, Pixels] = Field(
        224, description="pixels, one side or (height, width), whole patches"
    )
    in_chans: int = Field(3, ge=1, le=4096, description="channels of the image")
    patch_size: int = Field(16, ge=1, le=1024, description="pixels of a patch's side")
    width: int = Field(768, ge=4, le=65536, multiple_of=4, description="values a token in the encoder")
    depth: int = Field(12, ge=1, le=1000, description="blocks of the encoder")
    heads: int = Field(12, ge=1, le=1024, description="attention heads a block of the encoder")
    decoder_width: int = Field(512, ge=4, le=65536, multiple_of=4, description="values a token in the decoder")
    decoder_depth: int = Field(8, ge=1, le=1000, description="blocks of the decoder")
    decoder_heads: int = Field(16, ge=1, le=1024, description="attention heads a block of the decoder")
    norm_eps: float = Field(1e-6, gt=0, lt=1, description="of every norm; transformers' files have 1e-12")
    mask_ratio: float = Field(0.75, ge=0.01, le=0.99, description="share of the patches that is hidden")
    norm_pixel_loss: bool = Field(
        False, description="patches to be painted are first brought to mean 0 and deviation 1, each by itself"
    )


class MaskedAutoencoder(Model):
    """MAE: encoder, decoder and loss, for images of one size.

    `forward` returns `reconstruction` (B, N, p * p * C), pixels row by row with their channels together (of
    normalised patches with `norm_pixel_loss`); `mask` (B, N), 1 where a patch was hidden; `loss_reconstruction` and
    `loss`, their mean squared error where hidden. The image is its own target.

    Attributes:
        encoder: timm's ViT; its names are those of `zoo_vit.VisionTransformer`.
    """

    Config = MaskedAutoencoderConfig
    config: MaskedAutoencoderConfig
    task = "masked_autoencoding"
    layout = None  # blocks see the visible patches only, in random order

    def __init__(self, config: MaskedAutoencoderConfig) -> None:
        super().__init__(config)
        side, patch = config.image_size, config.patch_size
        height, width = (side, side) if isinstance(side, int) else side
        check_whole_patches(side, patch)
        if config.decoder_width % config.decoder_heads:
            raise OptionError(
                f"{config.decoder_width} values are not divided among {config.decoder_heads} heads",
                fix="decoder_heads=1",
            )
        self.grid = (height // patch, width // patch)
        patches = self.grid[0] * self.grid[1]
        if not _visible(patches, config.mask_ratio):
            raise OptionError(
                f"no patch of {patches} stays visible",
                asked=f"mask_ratio={config.mask_ratio}",
                fix="mask_ratio=0.75, or a larger image_size" if _visible(patches, 0.75) else "a larger image_size",
            )
        self.encoder = build_encoder("vit_base_patch16_224", _encoder_options(config))
        self.decoder = Decoder(
            self.grid,
            incoming=config.width,
            width=config.decoder_width,
            depth=config.decoder_depth,
            heads=config.decoder_heads,
            norm_eps=config.norm_eps,
            outgoing=patch * patch * config.in_chans,
        )
        # As the authors show reconstructions: both sides scaled, nothing cropped.
        spec = InputSpec(size=(height, width), resize="stretch", crop_pct=1.0, interpolation="bicubic", fixed_size=True)
        self.input_spec = self._takes = spec.with_channels(config.in_chans)
        self._initialise()

    def forward(self, images: Tensor, targets: Tensor | None = None, *, noise: Tensor | None = None) -> dict[str, Any]:
        """
        Args:
            images: (B, C, H, W), preprocessed.
            targets: (B, C, H, W), another image to paint than the one that is seen; None: the same.
            noise: (B, N), any numbers: the patches with the smallest stay visible. None: at random.
        """
        pixels = patchify(self._checked(images, targets), self.config.patch_size)
        masking = mask_patches(self._noise(images, noise), self.config.mask_ratio)
        tokens = self.encode(images, masking.visible)
        reconstruction = self.decoder(tokens, masking.restore)
        mask = masking.hidden.to(pixels.dtype)
        if self.config.norm_pixel_loss:
            mean, deviation = _statistics(pixels)
            pixels = (pixels - mean) / deviation
        loss = reconstruction_loss(reconstruction, pixels, mask)
        return {"reconstruction": reconstruction, "mask": mask, "loss_reconstruction": loss, "loss": loss}

    def encode(self, images: Tensor, visible: Tensor) -> Tensor:
        """Images (B, C, H, W) and patches to look at, int64 (B, n) → class token and these (B, 1 + n, D), normed."""
        encoder, positions = self.encoder, self.encoder.pos_embed
        patches = encoder.patch_embed(images) + positions[:, 1:]
        patches = patches.gather(1, visible[:, :, None].expand(-1, -1, patches.shape[2]))
        start = (encoder.cls_token + positions[:, :1]).expand(len(images), -1, -1)
        tokens: Tensor = encoder.norm(encoder.blocks(torch.cat([start, patches], dim=1)))
        return tokens

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) → the class token (B, D) after the encoder has seen every patch."""
        self._checked(images, None)
        embeddings: Tensor = self.encoder.forward_head(self.encoder.forward_features(images), pre_logits=True)
        return embeddings

    def reconstruct(self, images: Tensor, *, noise: Tensor | None = None) -> Tensor:
        """Images → images (B, C, H, W) whose hidden patches are painted and whose visible ones are kept.

        With `norm_pixel_loss` a painted patch gets the mean and the deviation of the true one: the model does not
        predict them.
        """
        outputs = self(images, noise=noise)
        pixels, painted = patchify(images, self.config.patch_size), outputs["reconstruction"]
        if self.config.norm_pixel_loss:
            mean, deviation = _statistics(pixels)
            painted = painted * deviation + mean
        return unpatchify(torch.where(outputs["mask"][:, :, None] > 0, painted, pixels), self.grid, images.shape[1])

    def encoder_state_dict(self) -> dict[str, Tensor]:
        """The encoder in `VisionTransformer`'s native format, without a classifier.

        save_file(mae.encoder_state_dict(), "my_mae.safetensors")
        zoo.create("vit_b_16", checkpoint="file://my_mae.safetensors", num_classes=0)
        """
        return {f"encoder.{name}": tensor for name, tensor in self.encoder.state_dict().items()}

    def key_maps(self) -> Mapping[str, StateMap]:
        return {
            "native": MaskedAutoencoderFormat(NATIVE_KEYS, self.grid, square=False),
            "original": MaskedAutoencoderFormat(ORIGINAL_KEYS, self.grid, square=True),
            "transformers": MaskedAutoencoderFormat(TRANSFORMERS_KEYS, self.grid, square=True),
        }

    def _checked(self, images: Tensor, targets: Tensor | None) -> Tensor:
        """What is to be painted."""
        check_images(images, self._takes, self.encoder.cls_token)
        if targets is None:
            return images
        if targets.shape != images.shape:
            raise InputError("targets are images like the input", found=f"{tuple(targets.shape)}", fix="targets=None")
        return targets

    def _noise(self, images: Tensor, noise: Tensor | None) -> Tensor:
        shape = (len(images), self.grid[0] * self.grid[1])
        if noise is None:
            return torch.rand(shape, device=images.device)
        if noise.shape != shape:
            raise InputError(f"expected noise (B, N) = {shape}, one number a patch", found=f"{tuple(noise.shape)}")
        return noise

    def _initialise(self) -> None:
        """Positions are those of a plane and are not trained; layers begin as in Google's ViT."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.encoder.patch_embed.proj.weight.flatten(1))
        nn.init.normal_(self.encoder.cls_token, std=0.02)
        nn.init.normal_(self.decoder.mask_token, std=0.02)
        for positions in (self.encoder.pos_embed, self.decoder.pos_embed):
            positions.requires_grad_(False)
            positions.copy_(sincos_positions(self.grid, positions.shape[2]))


class Decoder(nn.Module):
    """Tokens of the visible patches (B, 1 + n, incoming), and where each patch is → pixels (B, N, outgoing).

    Args:
        grid: rows and columns of patches.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        *,
        incoming: int,
        width: int,
        depth: int,
        heads: int,
        norm_eps: float,
        outgoing: int,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(incoming, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid[0] * grid[1], width))
        blocks = [Block(width, heads, qkv_bias=True) for _ in range(depth)]
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(width)
        self.pred = nn.Linear(width, outgoing)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = norm_eps

    def forward(self, tokens: Tensor, restore: Tensor) -> Tensor:
        """restore: int64 (B, N), where each patch is among the visible ones with the hidden behind them."""
        tokens = self.embed(tokens)
        hidden = restore.shape[1] + 1 - tokens.shape[1]
        patches = torch.cat([tokens[:, 1:], self.mask_token.expand(len(tokens), hidden, -1)], dim=1)
        patches = patches.gather(1, restore[:, :, None].expand(-1, -1, tokens.shape[2]))
        tokens = torch.cat([tokens[:, :1], patches], dim=1) + self.pos_embed
        pixels: Tensor = self.pred(self.norm(self.blocks(tokens)))[:, 1:]
        return pixels


class Masking(NamedTuple):
    """visible: (B, n) int64, which patches are seen. restore: (B, N) int64, where each patch is among these with the
    hidden ones behind them. hidden: (B, N) bool."""

    visible: Tensor
    restore: Tensor
    hidden: Tensor


def mask_patches(noise: Tensor, mask_ratio: float) -> Masking:
    """Noise (B, N) → each image keeps its patches with the smallest, and the share `mask_ratio` is hidden."""
    kept = _visible(noise.shape[1], mask_ratio)
    order = noise.argsort(dim=1)
    restore = order.argsort(dim=1)
    return Masking(order[:, :kept], restore, restore >= kept)


def _visible(patches: int, mask_ratio: float) -> int:
    return int(patches * (1 - mask_ratio))


def reconstruction_loss(reconstruction: Tensor, pixels: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of the patches (B, N, P) whose mask (B, N) is 1."""
    error = (reconstruction - pixels).square().mean(dim=2)
    return (error * mask).sum() / mask.sum()


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Images (B, C, H, W) → patches (B, N, p * p * C) row by row, pixels row by row, channels together."""
    cut = images.unflatten(3, (-1, patch_size)).unflatten(2, (-1, patch_size))  # (B, C, h, p, w, p)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, grid: tuple[int, int], channels: int) -> Tensor:
    """Patches (B, N, p * p * C) of `grid` rows and columns → images (B, C, H, W)."""
    side = round((patches.shape[2] // channels) ** 0.5)
    cut = patches.unflatten(1, grid).unflatten(3, (side, side, channels))  # (B, h, w, p, p, C)
    return cut.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def sincos_positions(grid: tuple[int, int], width: int) -> Tensor:
    """Positions (1, 1 + N, D) of a plane: sines and cosines of the column, then of the row; none for the class token.

    Args:
        grid: rows and columns. width: D, a multiple of 4.
    """
    rate = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    rows, columns = torch.arange(grid[0]).repeat_interleave(grid[1]), torch.arange(grid[1]).repeat(grid[0])
    parts = [wave(place[:, None] * rate) for place in (columns, rows) for wave in (torch.sin, torch.cos)]
    plane = torch.cat(parts, dim=1).float()  # (N, D)
    return torch.cat([torch.zeros_like(plane[:1]), plane])[None]


def _statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every patch (B, N, 1)."""
    variance, mean = torch.var_mean(pixels, dim=2, keepdim=True)
    return mean, (variance + 1e-6).sqrt()


def _encoder_options(config: MaskedAutoencoderConfig) -> dict[str, Any]:
    return {
        "img_size": config.image_size,
        "in_chans": config.in_chans,
        "patch_size": config.patch_size,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "norm_eps": config.norm_eps,
        "num_classes": 0,
        "weight_init": "skip",
    }
