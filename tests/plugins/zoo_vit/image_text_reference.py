"""Small models of transformers with random weights, their published files, and what is compared with them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo.build.weights import load_weights
from zoo.models.load_report import LoadReport
from zoo.models.model import Component

transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5
WIDTH, DEPTH, HEADS, PATCH, PROJECTED = 32, 3, 4, 8, 20
OURS = {"width": WIDTH, "depth": DEPTH, "heads": HEADS, "patch_size": PATCH}
SIDES = (32, 48)


def both(*layers: str) -> set[str]:
    return {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}


# Names of published image towers, with N for the number of a block.
_LAYERS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj")
_LAYERS = (*_LAYERS, "layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2")
_BLOCKS = both(*(f"encoder.layers.N.{layer}" for layer in _LAYERS))
_PATCHES = {"embeddings.patch_embedding.weight", "embeddings.position_embedding.weight"}
CLIP_TOWER = _BLOCKS | _PATCHES | {"embeddings.class_embedding"} | both("pre_layrnorm", "post_layernorm")
SIGLIP_TOWER = (
    (_BLOCKS | _PATCHES | {"embeddings.patch_embedding.bias", "head.probe"})
    | {"head.attention.in_proj_weight", "head.attention.in_proj_bias"}
    | both("post_layernorm", "head.attention.out_proj", "head.layernorm", "head.mlp.fc1", "head.mlp.fc2")
)
_LAYERS = ("attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.projection_layer")
_LAYERS = (*_LAYERS, "layernorm_before", "layernorm_after", "mlp.fc1", "mlp.fc2")
INTERN_TOWER = (
    {"embeddings.cls_token", "embeddings.position_embeddings", "encoder.layer.N.lambda_1", "encoder.layer.N.lambda_2"}
    | both("embeddings.patch_embeddings.projection")
    | both(*(f"encoder.layer.N.{layer}" for layer in _LAYERS))
)


def template(names: Mapping[str, Tensor], prefix: str) -> set[str]:
    return {re.sub(r"\.\d+\.", ".N.", name[len(prefix) :]) for name in names if name.startswith(prefix)}


def randomised(model: nn.Module) -> nn.Module:
    """Random scales and biases too: at ones and zeros, swapped normalisations would not show."""
    torch.manual_seed(0)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim > 1:
            tensor.normal_(0, 0.3)
        elif tensor.is_floating_point():
            scale = name.endswith("weight") or "lambda" in name
            tensor.uniform_(0.5, 1.5) if scale else tensor.uniform_(-0.1, 0.1)
    return model.eval()


def tower(side: int) -> dict[str, Any]:
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
        "image_size": side,
        "patch_size": PATCH,
    }


def text() -> dict[str, Any]:
    sizes = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    return {**sizes, "vocab_size": 50, "max_position_embeddings": 9, "bos_token_id": 1, "eos_token_id": 2}


def clip(side: int, activation: str = "quick_gelu") -> nn.Module:
    vision = {**tower(side), "hidden_act": activation}
    config = transformers.CLIPConfig(vision_config=vision, text_config=text(), projection_dim=PROJECTED)
    return randomised(transformers.CLIPModel._from_config(config, attn_implementation="eager"))


def siglip(side: int) -> nn.Module:
    config = transformers.SiglipConfig(vision_config=tower(side), text_config=text())
    return randomised(transformers.SiglipModel._from_config(config, attn_implementation="eager"))


def internvl(side: int) -> nn.Module:
    vision = {**tower(side), "image_size": [side, side], "patch_size": [PATCH, PATCH], "attention_bias": True}
    language = {**text(), "model_type": "qwen2", "num_key_value_heads": 2}
    config = transformers.InternVLConfig(vision_config=vision, text_config=language, image_token_id=3)
    return randomised(transformers.InternVLForConditionalGeneration._from_config(config, attn_implementation="sdpa"))


def published(model: nn.Module) -> dict[str, Tensor]:
    """As files have it: transformers 5 has other names in memory for some models."""
    from transformers.core_model_loading import revert_weight_conversion

    return {name: t.clone() for name, t in revert_weight_conversion(model, model.state_dict()).items()}


def load(model: Component, tensors: Mapping[str, Tensor], format: str) -> LoadReport:
    report = load_weights(model, tensors, format=format, source="the reference")
    model.eval()
    return report


def epsilons(model: nn.Module) -> set[float]:
    """Of its norms: with variances near one they hardly show in the numbers."""
    return {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)}


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert expected.std() > 0.01
    assert (found - expected).abs().max() <= TOLERANCE * max(1.0, float(expected.abs().max()))


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
