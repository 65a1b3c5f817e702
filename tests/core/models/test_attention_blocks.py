"""Patch embedding, convolution and attention blocks: shapes, what reaches what, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo.errors import InputError, OptionError
from zoo.models.attention import recorded_attention
from zoo.models.blocks import AttentionBlock, BlockConfig, ConvBlock, PatchEmbedding
from zoo.models.config import SpellingWarning


def test_a_patch_embedding_is_one_linear_layer_over_every_patch():
    embed = PatchEmbedding(image_size=(8, 12), patch_size=4, in_chans=3, width=5)
    images = torch.randn(2, 3, 8, 12)
    tokens = embed(images)
    assert tokens.shape == (2, 6, 5)
    assert embed.num_patches == 6
    patch = images[1, :, 4:8, 8:12].flatten()  # row 1, column 2: the last of 2 x 3
    expected = embed.proj.weight.flatten(1) @ patch + embed.proj.bias
    assert torch.allclose(tokens[1, 5], expected, atol=1e-6)


def test_the_published_spelling_of_a_patch_embedding_is_understood():
    with pytest.warns(SpellingWarning):
        embed = PatchEmbedding(img_size=224, patch_size=16, in_chans=3, embed_dim=768)
    assert embed(torch.randn(1, 3, 224, 224)).shape == (1, 196, 768)


def test_patches_are_whole_and_sizes_are_kept():
    with pytest.raises(OptionError, match="no whole number of 16-pixel patches") as error:
        PatchEmbedding(image_size=100, patch_size=16)
    assert "image_size=96" in str(error.value.fix)
    with pytest.raises(InputError, match="64 x 64"):
        PatchEmbedding(image_size=64, patch_size=16)(torch.randn(1, 3, 64, 80))
    anywhere = PatchEmbedding(image_size=None, patch_size=16, width=4)
    assert anywhere(torch.randn(1, 3, 32, 80)).shape == (1, 10, 4)
    with pytest.raises(InputError, match="multiples of 16"):
        anywhere(torch.randn(1, 3, 32, 81))
    with pytest.raises(InputError, match=r"\(B, 3, H, W\)"):
        anywhere(torch.randn(3, 32, 32))


def test_blocks_chain_on_feature_maps_and_train():
    chain = nn.Sequential(ConvBlock(3, 64, stride=2), AttentionBlock(64))
    maps = chain(torch.randn(2, 3, 16, 24))
    assert maps.shape == (2, 64, 8, 12)
    maps.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for name, p in chain.named_parameters())


def test_both_blocks_come_from_one_config():
    config = {"in_chans": 3, "width": 32, "kernel_size": 5, "activation": "silu", "heads": 4, "mlp_ratio": 2.0}
    conv, attention = ConvBlock.from_config(config), AttentionBlock.from_config(BlockConfig(**config))
    assert conv.conv.kernel_size == (5, 5)
    assert isinstance(conv.activation, nn.SiLU)
    assert (attention.heads, attention.mlp[0].out_features) == (4, 64)
    assert attention(conv(torch.randn(1, 3, 6, 6))).shape == (1, 32, 6, 6)
    with pytest.raises(OptionError, match="did you mean `width`"):
        ConvBlock.from_config({"widht": 3})


def test_a_convolution_block_is_its_parts_in_order():
    block = ConvBlock(3, 4).eval()
    maps = torch.randn(1, 3, 5, 5)
    assert torch.equal(block(maps), block.norm(block.conv(maps)).relu())


def test_attention_carries_every_pixel_to_every_other():
    block = AttentionBlock(16, heads=4).eval()
    maps = torch.randn(1, 16, 4, 4, requires_grad=True)
    block(maps)[0, :, 0, 0].sum().backward()
    assert (maps.grad[0].abs().sum(0) > 0).all()


def test_recorded_attention_times_values_is_what_the_layer_goes_on_with():
    block = AttentionBlock(16, heads=4).eval()
    maps = torch.randn(2, 16, 3, 3)
    with recorded_attention() as attentions:
        recorded = block(maps)
    assert torch.allclose(recorded, block(maps), atol=1e-6)
    tokens = block.norm1(maps.flatten(2).transpose(1, 2))
    values = block.qkv(tokens)[..., 32:].unflatten(2, (4, 4)).transpose(1, 2)
    attended = block.proj((attentions[0] @ values).transpose(1, 2).flatten(2))
    assert len(attentions) == 1
    assert torch.allclose(attended, block._attend(tokens), atol=1e-6)


def test_channels_that_do_not_divide_are_refused():
    with pytest.raises(OptionError, match="30 channels are not divided among 8 heads"):
        AttentionBlock(30)
    with pytest.raises(InputError, match=r"\(B, 16, H, W\)"):
        AttentionBlock(16)(torch.randn(1, 8, 4, 4))


@pytest.mark.parametrize(
    "build",
    [
        lambda: ConvBlock(3, 64, activation="swish"),
        lambda: ConvBlock(3, 64, kernel_size=2),
        lambda: ConvBlock(3, 0),
        lambda: AttentionBlock(64, heads=0),
        lambda: PatchEmbedding(img_size=0),
        lambda: PatchEmbedding(image_size=(16, -16)),
    ],
)
@pytest.mark.filterwarnings("ignore::zoo.models.config.SpellingWarning")
def test_impossible_blocks_are_refused(build):
    with pytest.raises(OptionError):
        build()


def test_an_image_without_pixels_is_refused():
    with pytest.raises(InputError, match="expected maps"):
        PatchEmbedding(image_size=None, width=8)(torch.rand(1, 3, 0, 48))


@pytest.mark.parametrize(("kernel", "stride", "side"), [(1, 1, 16), (3, 2, 17), (5, 1, 16)])
def test_a_convolution_block_keeps_the_side_over_the_stride(kernel, stride, side):
    maps = ConvBlock(3, 8, kernel_size=kernel, stride=stride)(torch.rand(2, 3, side, side))
    assert maps.shape == (2, 8, -(-side // stride), -(-side // stride))
