"""DINOv2 and EVA-02 against the implementations whose weights they read."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm_reference import largest_difference, reference
from torch import Tensor, nn

from zoo.build.fast_init import without_initialisation
from zoo.build.weights import load_weights
from zoo.models.classifier import Classifier
from zoo_vit import EVA02, DINOv2
from zoo_vit.catalog import FAMILIES

TOLERANCE = 1e-5
CONFIGS = {size.name: size.config for family in FAMILIES for size in family.sizes}
SMALL = {"width": 48, "depth": 2, "heads": 3}
REGISTERS = {"registers": 4, "interpolate_antialias": True, "interpolate_offset": 0.0}


def long(*values: object) -> Any:
    return pytest.param(*values, marks=pytest.mark.long)


@pytest.mark.parametrize(
    ("name", "architecture", "family", "side"),
    [
        ("dinov2_vits14", "vit_small_patch14_dinov2", DINOv2, 518),
        long("dinov2_vits14_reg", "vit_small_patch14_reg4_dinov2", DINOv2, 518),
        long("dinov2_vitb14", "vit_base_patch14_dinov2", DINOv2, 518),
        long("dinov2_vitl14", "vit_large_patch14_dinov2", DINOv2, 518),
        long("dinov2_vitg14", "vit_giant_patch14_dinov2", DINOv2, 518),
        long("dinov2_vitg14_reg", "vit_giant_patch14_reg4_dinov2", DINOv2, 518),
        ("eva02_ti", "eva02_tiny_patch14_336", EVA02, 336),
        long("eva02_s", "eva02_small_patch14_336", EVA02, 336),
        long("eva02_b", "eva02_base_patch14_448", EVA02, 448),
        long("eva02_l", "eva02_large_patch14_448", EVA02, 448),
    ],
)
def test_timms_weights_give_timms_tokens(name: str, architecture: str, family: type[Classifier], side: int) -> None:
    """The giants have two blocks here: whole they differ from that in the number of blocks alone. Registers are the
    same in every size."""
    depth = {"depth": 2} if "giant" in architecture else {}
    theirs = reference(architecture, **depth)
    options = depth if family is DINOv2 else {"num_classes": theirs.num_classes, "image_size": side}
    with without_initialisation():
        ours = family({**CONFIGS[name], **options}).eval()
    report = load_weights(ours, theirs.state_dict(), format="timm", source="timm")
    assert not report.skipped
    images = torch.randn(1, 3, side, side)
    with torch.inference_mode():
        outputs = ours(images)
        tokens = theirs.forward_features(images)
        expected = {"embeddings": theirs.forward_head(tokens, pre_logits=True)}
        if theirs.num_classes:
            expected["logits"] = theirs.forward_head(tokens)
    assert outputs.keys() == expected.keys()
    for output in expected:
        assert expected[output].std() > 0.01
        assert largest_difference(outputs[output], expected[output]) <= TOLERANCE


# The names inside the published files.
PUBLISHED = {
    *(f"embeddings.{name}" for name in ("cls_token", "mask_token", "position_embeddings")),
    *(f"embeddings.patch_embeddings.projection.{part}" for part in ("weight", "bias")),
    *(f"layernorm.{part}" for part in ("weight", "bias")),
}
LAYER = {
    "layer_scale1.lambda1",
    "layer_scale2.lambda1",
    *(f"attention.attention.{name}.{part}" for name in ("query", "key", "value") for part in ("weight", "bias")),
    *(f"{name}.{part}" for name in ("attention.output.dense", "norm1", "norm2") for part in ("weight", "bias")),
}
MLP = {f"mlp.{name}.{part}" for name in ("fc1", "fc2") for part in ("weight", "bias")}
GATED = {f"mlp.{name}.{part}" for name in ("weights_in", "weights_out") for part in ("weight", "bias")}


def transformers_reference(registers: int, swiglu: bool) -> tuple[nn.Module, dict[str, Tensor]]:
    """A small model of transformers with random values everywhere, and its weights under the published names."""
    import transformers
    from transformers.core_model_loading import revert_weight_conversion

    sizes = {"hidden_size": SMALL["width"], "num_hidden_layers": SMALL["depth"], "num_attention_heads": SMALL["heads"]}
    options = {**sizes, "image_size": 518, "patch_size": 14, "use_swiglu_ffn": swiglu, "attn_implementation": "sdpa"}
    torch.manual_seed(0)
    if registers:
        config = transformers.Dinov2WithRegistersConfig(num_register_tokens=registers, **options)
        model = transformers.Dinov2WithRegistersModel(config).eval()
    else:
        model = transformers.Dinov2Model(transformers.Dinov2Config(**options)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "lambda" in name:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(0, 0.5 if parameter.ndim < 2 or "embeddings" in name else SMALL["width"] ** -0.5)
    published = revert_weight_conversion(model, {name: t.clone() for name, t in model.state_dict().items()})
    return model, published


@pytest.mark.parametrize("size", [(518, 518), (70, 98)])
@pytest.mark.parametrize("swiglu", [False, True])
@pytest.mark.parametrize("registers", [0, 4])
def test_transformers_weights_give_its_tokens(registers: int, swiglu: bool, size: tuple[int, int]) -> None:
    theirs, published = transformers_reference(registers, swiglu)
    names = {f"encoder.layer.{i}.{name}" for i in range(2) for name in LAYER | (GATED if swiglu else MLP)}
    assert published.keys() == {*PUBLISHED, *names, *(("embeddings.register_tokens",) if registers else ())}
    positions = REGISTERS if registers else {"interpolate_offset": 0.0}
    ours = DINOv2({**SMALL, **positions, "swiglu": swiglu}).eval()
    report = load_weights(ours, published, format="transformers", source="transformers")
    assert set(report.skipped) == {"embeddings.mask_token"}
    images = torch.randn(2, 3, *size)
    with torch.inference_mode():
        expected = theirs(images)
        tokens, embeddings = ours.encoder.forward_features(images), ours(images)["embeddings"]
    assert expected.pooler_output.std() > 0.1
    assert largest_difference(tokens, expected.last_hidden_state) <= TOLERANCE
    assert largest_difference(embeddings, expected.pooler_output) <= TOLERANCE


@pytest.mark.parametrize("swiglu", [False, True])
@pytest.mark.parametrize("registers", [0, 4])
def test_transformers_names_come_back_on_saving(registers: int, swiglu: bool) -> None:
    _, published = transformers_reference(registers, swiglu)
    ours = DINOv2({**SMALL, "registers": registers, "swiglu": swiglu})
    load_weights(ours, published, format="transformers", source="transformers")
    saved = ours.key_maps()["transformers"].save(ours.state_dict())
    assert saved.keys() == published.keys() - {"embeddings.mask_token"}
    token, positions = "embeddings.cls_token", "embeddings.position_embeddings"
    summed = {token, positions} if registers else set()  # with registers, timm keeps only the class token's sum
    assert {name for name in saved if not torch.equal(saved[name], published[name])} == summed
    assert torch.equal(saved[token] + saved[positions][:, :1], published[token] + published[positions][:, :1])


def meta_reference(weights: dict[str, Tensor], images: Tensor, heads: int, offset: float, antialias: bool) -> Tensor:
    """DINOv2 from its paper and its own keys, step by step: normed tokens (B, N, D)."""
    patch = F.conv2d(images, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=14)
    rows, columns = patch.shape[2:]
    tokens = torch.cat([weights["cls_token"].expand(len(images), -1, -1), patch.flatten(2).transpose(1, 2)], dim=1)
    own, grid = weights["pos_embed"][:, :1], weights["pos_embed"][:, 1:]
    side, width = math.isqrt(grid.shape[1]), grid.shape[2]
    grid = grid.reshape(1, side, side, width).permute(0, 3, 1, 2)
    if (rows, columns) != (side, side):
        how: dict[str, Any] = {"mode": "bicubic", "antialias": antialias}
        if offset:
            grid = F.interpolate(grid, scale_factor=((rows + offset) / side, (columns + offset) / side), **how)
        else:
            grid = F.interpolate(grid, size=(rows, columns), **how)
    tokens = tokens + torch.cat([own, grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
    if "register_tokens" in weights:
        registers = weights["register_tokens"].expand(len(images), -1, -1)
        tokens = torch.cat([tokens[:, :1], registers, tokens[:, 1:]], dim=1)
    depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    for i in range(depth):
        tokens = _meta_block({n.removeprefix(f"blocks.{i}."): t for n, t in weights.items()}, tokens, heads)
    return F.layer_norm(tokens, (width,), weights["norm.weight"], weights["norm.bias"], 1e-6)


def _meta_block(block: dict[str, Tensor], tokens: Tensor, heads: int) -> Tensor:
    batch, number, width = tokens.shape

    def linear(name: str, values: Tensor) -> Tensor:
        return F.linear(values, block[f"{name}.weight"], block[f"{name}.bias"])

    def norm(name: str) -> Tensor:
        return F.layer_norm(tokens, (width,), block[f"{name}.weight"], block[f"{name}.bias"], 1e-6)

    q, k, v = linear("attn.qkv", norm("norm1")).reshape(batch, number, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    attended = (q @ k.transpose(-2, -1) / math.sqrt(width // heads)).softmax(-1) @ v
    tokens = tokens + block["ls1.gamma"] * linear("attn.proj", attended.transpose(1, 2).flatten(2))
    if "mlp.w12.weight" in block:
        gate, value = linear("mlp.w12", norm("norm2")).chunk(2, dim=-1)
        hidden = linear("mlp.w3", F.silu(gate) * value)
    else:
        hidden = linear("mlp.fc2", F.gelu(linear("mlp.fc1", norm("norm2"))))
    return tokens + block["ls2.gamma"] * hidden


def meta_weights(registers: int, swiglu: bool) -> dict[str, Tensor]:
    """Random weights under the names of Meta's files."""
    torch.manual_seed(0)
    width, inside = SMALL["width"], 128 if swiglu else 4 * SMALL["width"]
    first, second = ("mlp.w12", "mlp.w3") if swiglu else ("mlp.fc1", "mlp.fc2")
    linears = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    linears |= {first: (2 * inside if swiglu else inside, width), second: (width, inside)}
    weights = {"cls_token": (1, 1, width), "mask_token": (1, width), "pos_embed": (1, 1 + 37 * 37, width)}
    weights |= {"patch_embed.proj.weight": (width, 3, 14, 14), "patch_embed.proj.bias": (width,)}
    weights |= {"norm.weight": (width,), "norm.bias": (width,)}
    if registers:
        weights["register_tokens"] = (1, registers, width)
    for i in range(SMALL["depth"]):
        weights |= {f"blocks.{i}.{name}.weight": shape for name, shape in linears.items()}
        weights |= {f"blocks.{i}.{name}.bias": shape[:1] for name, shape in linears.items()}
        weights |= {f"blocks.{i}.{name}": (width,) for name in ("ls1.gamma", "ls2.gamma")}
        weights |= {f"blocks.{i}.{n}.{part}": (width,) for n in ("norm1", "norm2") for part in ("weight", "bias")}
    scale = {
        name: (math.prod(shape[1:]) ** -0.5 if "." in name and len(shape) > 1 else 0.5)
        for name, shape in weights.items()
    }
    return {name: torch.randn(shape) * scale[name] for name, shape in weights.items()}


@pytest.mark.parametrize("size", [(518, 518), (224, 224), (98, 154)])
@pytest.mark.parametrize(("swiglu", "registers"), [(False, 0), (True, 0), (False, 4), (True, 4)])
def test_metas_weights_give_what_metas_code_computes(swiglu: bool, registers: int, size: tuple[int, int]) -> None:
    weights = meta_weights(registers, swiglu)
    ours = DINOv2({**SMALL, "swiglu": swiglu, **(REGISTERS if registers else {})}).eval()
    report = load_weights(ours, weights, format="original", source="Meta")
    assert set(report.skipped) == {"mask_token"}
    images = torch.randn(2, 3, *size)
    offset, antialias = (0.0, True) if registers else (0.1, False)
    with torch.inference_mode():
        expected = meta_reference(weights, images, SMALL["heads"], offset, antialias)
        found = ours.encoder.forward_features(images)
        assert expected.std() > 0.1
        assert largest_difference(found, expected) <= TOLERANCE
        if size != (518, 518):  # the trap: the other way to interpolate is another function
            other = meta_reference(weights, images, SMALL["heads"], 0.1 - offset, not antialias)
            assert largest_difference(found, other) > 100 * TOLERANCE


@pytest.mark.parametrize(("swiglu", "registers"), [(False, 0), (True, 4)])
def test_metas_names_come_back_on_saving(swiglu: bool, registers: int) -> None:
    weights = meta_weights(registers, swiglu)
    ours = DINOv2({**SMALL, "swiglu": swiglu, "registers": registers})
    load_weights(ours, weights, format="original", source="Meta")
    saved = ours.key_maps()["original"].save(ours.state_dict())
    assert saved.keys() == weights.keys() - {"mask_token"}
    summed = {"cls_token", "pos_embed"} if registers else set()
    assert {name for name in saved if not torch.equal(saved[name], weights[name])} == summed
