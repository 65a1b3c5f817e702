"""Swin, Swin V2, Hiera, SAM's encoders and TinyViT seen from inside: attention, maps, layouts, sizes. Tiny networks."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo.errors import InputError, OptionError
from zoo.models.config import SpellingWarning
from zoo.models.model import Layout
from zoo_timm.encoders import build_encoder
from zoo_vit import Hiera, SAM2Hiera, SAMEncoder, Swin, SwinV2, TinyViT

STAGES = {"width": 16, "depths": (2, 2, 2, 2), "heads": (1, 2, 2, 4), "num_classes": 7}
SAM2 = {"width": 16, "depths": (1, 2, 3, 1), "window_sizes": (8, 4, 6, 3), "global_blocks": (4,)}
TINY: dict[str, Callable[[], Any]] = {
    "swin": lambda: Swin(**STAGES, image_size=96, window_size=3),
    "swin_v2": lambda: SwinV2(**STAGES, image_size=128, window_size=4),
    "hiera": lambda: Hiera(width=16, depths=(1, 2, 2, 1), num_classes=7, image_size=96),
    "sam2": lambda: SAM2Hiera(**SAM2, image_size=96),
    "sam": lambda: SAMEncoder(width=32, depth=3, heads=2, window_size=3, global_blocks=(1,), positions=4),
    "tiny_vit": lambda: TinyViT(widths=(16, 32, 32, 64), heads=(1, 2, 2, 4), window_sizes=(7, 7, 6, 3), num_classes=7),
}
SIDES = {"swin": 96, "swin_v2": 128, "hiera": 96, "sam2": 96, "sam": 112, "tiny_vit": 112}
PYRAMIDS = ["swin", "swin_v2", "hiera", "sam2", "tiny_vit"]


def build(name: str) -> Any:
    torch.manual_seed(0)
    model = TINY[name]()
    for parameter in model.parameters():  # no zero may hide a missing term
        with torch.no_grad():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model.eval()


def swin_output(layer: Any, tokens: Tensor, weights: Tensor) -> Tensor:
    windows, count, _ = tokens.shape
    value = layer.qkv(tokens).view(windows, count, 3, layer.num_heads, -1)[:, :, 2].transpose(1, 2)
    return layer.proj((weights @ value).transpose(1, 2).reshape(windows, count, -1))


def swin_v2_output(layer: Any, tokens: Tensor, weights: Tensor) -> Tensor:
    windows, count, width = tokens.shape
    value = nn.functional.linear(tokens, layer.qkv.weight[2 * width :], layer.v_bias)
    value = value.view(windows, count, layer.num_heads, -1).transpose(1, 2)
    return layer.proj((weights @ value).transpose(1, 2).reshape(windows, count, width))


def hiera_output(layer: Any, tokens: Tensor, weights: Tensor) -> Tensor:
    batch, count, _ = tokens.shape
    if weights.ndim == 4:  # the whole map
        value = layer.qkv(tokens).view(batch, count, 3, layer.heads, -1)[:, :, 2].transpose(1, 2)
        return layer.proj((weights @ value).transpose(1, 2).reshape(batch, -1, layer.dim_out))
    value = layer.qkv(tokens).view(batch, -1, weights.shape[2], 3, layer.heads, layer.head_dim)[:, :, :, 2]
    attended = weights @ value.permute(0, 3, 2, 1, 4)  # (B, heads, windows, queries, head width)
    return layer.proj(attended.permute(0, 3, 2, 1, 4).reshape(batch, -1, layer.dim_out))


def sam2_output(layer: Any, tokens: Tensor, weights: Tensor) -> Tensor:
    windows, height, width, _ = tokens.shape
    value = layer.qkv(tokens).view(windows, height * width, 3, layer.num_heads, -1)[:, :, 2].transpose(1, 2)
    side = height // 2 if layer.q_pool is not None else height
    return layer.proj((weights @ value).transpose(1, 2).reshape(windows, side, -1, layer.dim_out))


def sam_output(layer: Any, tokens: Tensor, weights: Tensor) -> Tensor:
    windows, height, width, channels = tokens.shape
    value = layer.qkv(tokens).view(windows, height * width, 3, layer.num_heads, -1)[:, :, 2].transpose(1, 2)
    attended = weights.unflatten(0, (windows, layer.num_heads)) @ value
    return layer.proj(attended.transpose(1, 2).reshape(windows, height, width, channels))


def tiny_vit_output(layer: Any, tokens: Tensor, weights: Tensor) -> Tensor:
    windows, count, _ = tokens.shape
    fused = layer.qkv(layer.norm(tokens)).view(windows, count, layer.num_heads, -1)
    value = fused[..., 2 * layer.key_dim :].transpose(1, 2)
    return layer.proj((weights @ value).transpose(1, 2).reshape(windows, count, -1))


OUTPUTS = {
    "swin": swin_output,
    "swin_v2": swin_v2_output,
    "hiera": hiera_output,
    "sam2": sam2_output,
    "sam": sam_output,
    "tiny_vit": tiny_vit_output,
}


@pytest.mark.parametrize("name", list(TINY))
def test_attention_times_values_is_what_the_layer_gives(name: str) -> None:
    model = build(name)
    layers = [module for path, module in model.named_modules() if path.endswith(".attn")]
    seen: list[tuple[Tensor, Tensor]] = []
    for layer in layers:
        layer.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    with torch.inference_mode():
        images = torch.randn(2, 3, SIDES[name], SIDES[name])
        outputs = model(images, output_attentions=True)
        attentions = outputs["attentions"]
        assert len(attentions) == len(seen) == len(layers) > 2
        for layer, weights, (tokens, output) in zip(layers, attentions, seen, strict=True):
            assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-5)
            assert torch.allclose(OUTPUTS[name](layer, tokens, weights), output, atol=1e-5)
        assert torch.allclose(model(images)["embeddings"], outputs["embeddings"], atol=1e-5)


@pytest.mark.parametrize("name", PYRAMIDS)
def test_features_are_one_map_a_stage(name: str) -> None:
    model, side = build(name), SIDES[name]
    with torch.inference_mode():
        features = model(torch.randn(1, 3, side, side), output_features=True)["features"]
    widths = (16, 32, 32, 64) if name == "tiny_vit" else (16, 32, 64, 128)
    expected = [
        (1, width, -(-side // stride), -(-side // stride)) for width, stride in zip(widths, (4, 8, 16, 32), strict=True)
    ]
    assert [tuple(m.shape) for m in features] == expected


def test_hieras_maps_are_in_the_images_order_though_its_tokens_are_not() -> None:
    """A bright patch shows at its own place in the first map."""
    model = build("hiera")
    images = torch.zeros(2, 3, 96, 96)
    images[1, :, 8:12, 40:44] = 3.0
    with torch.inference_mode():
        first = model(images, output_features=True)["features"][0]
    row, column = divmod(int((first[1] - first[0]).abs().sum(0).argmax()), first.shape[-1])
    assert (row, column) == (2, 10)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("swin", Layout(channels_last=True)),
        ("swin_v2", Layout(channels_last=True)),
        ("sam", Layout(channels_last=True)),
        ("sam2", Layout(channels_last=True)),
        ("hiera", None),
    ],
)
def test_hidden_layers_say_how_they_hold_the_image(name: str, layout: Layout | None) -> None:
    model = build(name)
    assert model.layout == layout
    block = next(module for path, module in model.named_modules() if path.endswith(".norm1"))
    held: list[Tensor] = []
    block.register_forward_hook(lambda _, inputs, output: held.append(inputs[0]))
    side = SIDES[name]
    model(torch.randn(1, 3, side, side))
    cells = side // (16 if name == "sam" else 4)
    assert held[0].shape[:-1] == ((1, cells, cells) if layout else (1, cells * cells))


@pytest.mark.parametrize(
    ("name", "size", "message", "fix"),
    [
        ("swin", (96, 128), "96 x 96 pixels only", "image_size=(96, 128)"),
        ("hiera", (64, 64), "96 x 96 pixels only", "image_size=(64, 64)"),
        ("sam", (112, 120), "multiples of 16", "112 x 128"),
        ("sam2", (96, 100), "multiples of 32", "96 x 128"),
    ],
)
def test_an_image_it_cannot_take_is_refused_with_what_to_do(
    name: str, size: tuple[int, int], message: str, fix: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        build(name)(torch.randn(1, 3, *size))
    assert fix in str(error.value.fix)


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        (Swin, {"image_size": 98}, "whole patches of 4 pixels"),
        (Swin, {"heads": (5, 6, 12, 24)}, "96 values of stage 0 are not divided among 5 heads"),
        (SwinV2, {"image_size": (96, 98)}, r"image_size=\(96, 96\)"),
        (Swin, {"depths": (2, 2, 6)}, "depths"),
        (Swin, {"window_size": 0}, "window_size"),
        (SwinV2, {"pretrained_window_sizes": (12, 12, 12)}, "pretrained_window_sizes"),
        (Hiera, {"image_size": 100}, "image_size"),
        (SAMEncoder, {"image_size": 500}, "image_size=496"),
        (SAMEncoder, {"depth": 2, "global_blocks": (99,)}, "there is no block 99"),
        (SAM2Hiera, {"global_blocks": (5, 12)}, "counted from 0 to 11: there is no block 12"),
        (SAM2Hiera, {"windows": (8, 4, 14, 7)}, "did you mean"),
        (TinyViT, {"heads": (2, 4, 5)}, "heads"),
    ],
)
def test_a_config_that_makes_no_network_is_refused(family: Any, options: dict[str, Any], message: str) -> None:
    with torch.device("meta"), pytest.raises(OptionError, match=message):
        family(**options)


def test_swin_takes_rectangles_and_maps_that_windows_do_not_fill() -> None:
    model = Swin(**STAGES, image_size=(64, 100), window_size=3).eval()
    outputs = model(torch.randn(1, 3, 64, 100), output_features=True)
    assert [tuple(m.shape[2:]) for m in outputs["features"]] == [(16, 25), (8, 13), (4, 7), (2, 4)]


def test_sams_encoder_takes_any_whole_patches_and_keeps_its_state_dict() -> None:
    """Positions follow the image in the forward pass, so that one file serves every size."""
    small, large = build("sam"), SAMEncoder(**{**build("sam").config.to_dict(), "image_size": 160})
    assert small.input_spec.size == (64, 64)
    assert large.input_spec.size == (160, 160)
    large.load_state_dict(small.state_dict())
    images = torch.randn(1, 3, 160, 96)
    with torch.inference_mode():
        assert torch.equal(small(images)["embeddings"], large.eval()(images)["embeddings"])


def test_published_words_are_understood() -> None:
    with torch.device("meta"), warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        swin = Swin(embed_dim=16, num_heads=(1, 2, 2, 4), depths=(2, 2, 2, 2), img_size=224)
        hiera = Hiera(embed_dim=16, stages=(1, 1, 1, 1))
        sam = SAMEncoder(global_attn_indexes=(2, 5))
    assert (swin.config.width, hiera.config.depths, sam.config.global_blocks) == (16, (1, 1, 1, 1), (2, 5))
    assert {w.category for w in heard} == {SpellingWarning}
    assert len(heard) == 6


def test_a_saved_model_comes_back(tmp_path: Any) -> None:
    model = build("swin")
    model.save_pretrained(tmp_path / "swin")
    again = Swin.from_pretrained(tmp_path / "swin")
    images = torch.randn(1, 3, 96, 96)
    assert again.config == model.config
    with torch.inference_mode():
        assert torch.allclose(again.eval()(images)["logits"], model(images)["logits"], atol=1e-6)


def test_only_shifted_windows_are_padded_before_they_are_shifted() -> None:
    with pytest.raises(OptionError, match="no shifted windows"):
        build_encoder("resnet18", {"pad_before_shift": True})


@pytest.mark.parametrize("name", ["swin_t", "swin_b"])
def test_a_backbone_by_name_gives_four_maps(name: str) -> None:
    with torch.device("meta"):
        backbone = zoo.create(name, features_only=True, out_indices=[0, 1, 2, 3], img_size=256)
        maps = backbone(torch.empty(2, 3, 256, 256))
    assert backbone.strides == (4, 8, 16, 32)
    assert [tuple(m.shape) for m in maps] == [
        (2, channels, 256 // stride, 256 // stride)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]


def test_a_window_of_12_at_384_is_one_checkpoint_of_the_same_name() -> None:
    spec = zoo.info("swin_b").model.checkpoint("ms_in22k_ft_in1k_384")
    assert spec is not None
    assert (spec.input.size, dict(spec.config)) == ((384, 384), {"window_size": 12, "image_size": 384})
    with torch.device("meta"):
        model = zoo.create("swin_b", window_size=12, img_size=384)
    assert model.encoder.layers[0].blocks[0].attn.window_size == (12, 12)
    assert sum(p.numel() for p in model.parameters()) == 87_903_584
