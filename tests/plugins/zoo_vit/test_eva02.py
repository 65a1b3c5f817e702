"""EVA-02: its authors' files, and what its class promises."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models.eva import checkpoint_filter_fn
from torch import Tensor

import zoo
from zoo.build.fast_init import without_initialisation
from zoo.build.weights import load_weights
from zoo.errors import InputError, OptionError
from zoo_vit import EVA02

# What a block's parameters are called in the authors' code, and the names timm has for the same.
FUSED = {"mlp.fc1": "mlp.w12", "mlp.fc2": "mlp.w3"}
SEPARATE = {
    "attn.q_proj.bias": "attn.q_bias",
    "attn.v_proj.bias": "attn.v_bias",
    "mlp.fc1_g": "mlp.w1",
    "mlp.fc1_x": "mlp.w2",
    "mlp.norm": "mlp.ffn_ln",
    "mlp.fc2": "mlp.w3",
}


def original(architecture: str, side: int, names: dict[str, str]) -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """timm's model filled from random weights under the authors' names, by timm's own conversion; and these."""
    with without_initialisation():
        theirs = timm.create_model(architecture, img_size=side).eval()
    torch.manual_seed(0)
    published = {}
    for name, tensor in theirs.state_dict().items():
        for ours, authors in names.items():
            name = name.replace(ours, authors) if name.startswith("blocks.") else name
        scale = tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.2
        published[name] = torch.randn(tensor.shape) * scale + (tensor.ndim == 1 and name.endswith("weight"))
    for owner in ("", "blocks.0.attn.", "blocks.1.attn."):  # one table, held by the network and by every block
        published |= {f"{owner}rope.freqs_{part}": torch.zeros(4, 4) for part in ("cos", "sin")}
    theirs.load_state_dict(checkpoint_filter_fn(dict(published), theirs), strict=True, assign=True)
    return theirs, published


@pytest.mark.parametrize(
    ("size", "architecture", "names"),
    [
        ("ti", "eva02_tiny_patch14_336", FUSED),
        pytest.param("s", "eva02_small_patch14_336", FUSED, marks=pytest.mark.long),
        ("b", "eva02_base_patch14_448", SEPARATE),
        pytest.param("l", "eva02_large_patch14_448", SEPARATE, marks=pytest.mark.long),
    ],
)
def test_the_authors_files_give_what_timm_makes_of_them(size: str, architecture: str, names: dict[str, str]) -> None:
    theirs, published = original(architecture, 112, names)
    assert {"blocks.0.mlp.w3.weight", "blocks.0.attn.q_bias"} <= published.keys()
    with without_initialisation():
        ours = EVA02(size=size, image_size=112).eval()
    report = load_weights(ours, published, format="original", source="the authors")
    assert set(report.skipped) == {name for name in published if "rope." in name}
    images = torch.randn(1, 3, 112, 112)
    with torch.inference_mode():
        expected = theirs(images)
        assert expected.std() > 0.01
        difference = (ours(images)["logits"] - expected).abs().max()
    assert difference <= 1e-5 * max(1.0, float(expected.abs().max()))
    saved = ours.key_maps()["original"].save(ours.state_dict())
    assert saved.keys() == published.keys() - report.skipped.keys()
    assert [name for name in saved if not torch.equal(saved[name], published[name])] == []


def test_a_file_for_336_pixels_serves_at_another_size() -> None:
    _, published = original("eva02_tiny_patch14_336", 336, FUSED)
    ours = EVA02(image_size=(112, 168), size="ti")
    report = load_weights(ours, published, format="original", source="the authors")
    assert "encoder.pos_embed" in report.adapted
    assert ours.encoder.pos_embed.shape == (1, 1 + 8 * 12, 192)
    with torch.inference_mode():
        assert ours(torch.randn(1, 3, 112, 168))["logits"].shape == (1, 1000)


def test_sizes_are_as_published() -> None:
    rows = {size: zoo.info(f"eva02_{size}").model for size in ("ti", "s", "b", "l")}
    millions = {size: round(row.params / 1e6, 2) for size, row in rows.items()}
    assert millions == {"ti": 5.76, "s": 22.13, "b": 87.12, "l": 305.08}
    assert {size: row.input.size[0] for size, row in rows.items()} == {"ti": 336, "s": 336, "b": 448, "l": 448}


def test_another_image_size_is_refused_with_the_way_to_it() -> None:
    model = EVA02(size="ti", image_size=112)
    with pytest.raises(InputError, match=r"image_size=\(126, 126\)"):
        model(torch.randn(1, 3, 126, 126))


def test_a_misspelt_option_gets_a_suggestion() -> None:
    with pytest.raises(OptionError, match="did you mean `size`"):
        EVA02(sise="ti")


def test_every_block_can_show_its_attention() -> None:
    model = EVA02(size="ti", image_size=56).eval()
    with torch.inference_mode():
        attentions = model(torch.randn(1, 3, 56, 56), output_attentions=True)["attentions"]
    assert [tuple(a.shape) for a in attentions] == [(1, 3, 17, 17)] * 12
    assert torch.allclose(attentions[0].sum(-1), torch.ones(1, 3, 17), atol=1e-5)
