"""What CLIP's, SigLIP's and InternVL's image towers do beyond their numbers: heads, maps, attention, inputs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import zoo
from zoo.errors import InputError, OptionError, UnsupportedError
from zoo_timm.adapter import TimmClassifier
from zoo_vit import CLIPImageEncoder, InternViT, SigLIPImageEncoder

TINY = {"width": 32, "depth": 3, "heads": 4, "patch_size": 8, "image_size": 32}
FAMILIES = (CLIPImageEncoder, SigLIPImageEncoder, InternViT)


@pytest.fixture(params=FAMILIES, ids=lambda family: family.__name__)
def tower(request: pytest.FixtureRequest) -> TimmClassifier:
    torch.manual_seed(0)
    model: TimmClassifier = request.param(TINY).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # timm's own start gives SigLIP's pooling nothing to choose by
            parameter.normal_(0, 0.2)
    return model


def test_published_towers_have_logits_only_where_there_is_a_projection() -> None:
    images = torch.randn(2, 3, 32, 32)
    outputs = CLIPImageEncoder(TINY)(images)
    assert outputs["embeddings"].shape == (2, 32)
    assert outputs["logits"].shape == (2, 512)
    for family in (SigLIPImageEncoder, InternViT):
        outputs = family(TINY)(images)
        assert outputs["embeddings"].shape == (2, 32)
        assert "logits" not in outputs


def test_every_patch_moves_the_embedding(tower: TimmClassifier) -> None:
    images = torch.zeros(17, 3, 32, 32)
    for patch in range(16):
        row, column = divmod(patch, 4)
        images[patch, :, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = 1.0
    with torch.inference_mode():
        embeddings = tower.embed(images)
        assert torch.equal(tower(images)["embeddings"], embeddings)
    assert (embeddings[:16] - embeddings[16]).norm(dim=1).min() > 1e-4
    assert torch.pdist(embeddings).min() > 1e-5  # and no two of them alike


def test_an_assigned_head_decides_the_classes_and_trains_alone(tower: TimmClassifier) -> None:
    for parameter in tower.parameters():
        parameter.requires_grad_(False)
    tower.head = nn.Linear(32, 7)
    outputs = tower(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 6]))
    assert outputs["logits"].shape == (4, 7)
    assert tower.num_classes == tower.config.num_classes == 7
    outputs["loss"].backward()
    assert {name for name, p in tower.named_parameters() if p.grad is not None} == {
        "encoder.head.weight",
        "encoder.head.bias",
    }
    with pytest.raises(InputError, match="32 values"):
        tower.head = nn.Linear(31, 7)
    tower.reset_head(0)
    assert "logits" not in tower(torch.randn(1, 3, 32, 32))


def test_attention_is_that_of_the_blocks_alone(tower: TimmClassifier) -> None:
    """SigLIP's pooling attends too, but over other queries."""
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        outputs = tower(images, output_attentions=True, output_features=True)
        plain = tower(images)
    tokens = 16 + (not isinstance(tower, SigLIPImageEncoder))
    assert [tuple(weights.shape) for weights in outputs["attentions"]] == [(2, 4, tokens, tokens)] * 3
    for weights in outputs["attentions"]:
        assert torch.allclose(weights.sum(-1), torch.ones(2, 4, tokens), atol=1e-5)
    assert [tuple(m.shape) for m in outputs["features"]] == [(2, 32, 4, 4)] * 3
    assert tower.layout is not None
    assert tower.layout.prefix_tokens == tokens - 16
    assert torch.allclose(outputs["embeddings"], plain["embeddings"], atol=1e-5)


def test_a_backbone_has_the_towers_weights_maps_and_embeddings(tower: TimmClassifier) -> None:
    backbone = type(tower).as_backbone(tower.config, out_indices=(0, 2)).eval()
    own = tower.state_dict()
    backbone.load_state_dict({name: own[name] for name in backbone.state_dict()})
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        maps, features = backbone(images), tower(images, output_features=True)["features"]
        assert torch.allclose(backbone.embed(images), tower.embed(images), atol=1e-6)
    assert (backbone.channels, backbone.strides) == ((32, 32), (8, 8))
    assert torch.equal(maps[0], features[0])
    assert torch.equal(maps[1], features[2])
    assert backbone.input_spec == tower.input_spec


def test_a_tower_without_logits_predicts_no_classes() -> None:
    with pytest.raises(UnsupportedError, match="no classification head"):
        SigLIPImageEncoder(TINY).predict(torch.rand(3, 32, 32))


def test_only_internvit_takes_images_of_other_sizes() -> None:
    larger = torch.randn(1, 3, 48, 40)
    assert InternViT(TINY).embed(larger).shape == (1, 32)
    with pytest.raises(InputError, match="multiples of 8"):
        InternViT(TINY).embed(torch.randn(1, 3, 36, 32))
    for family in (CLIPImageEncoder, SigLIPImageEncoder):
        with pytest.raises(InputError, match="32 x 32"):
            family(TINY).embed(larger)


def test_images_are_prepared_as_the_publishers_do_it() -> None:
    clip, siglip, intern = (family(TINY).input_spec for family in FAMILIES)
    assert (clip.resize, clip.crop_pct, clip.mean[0], clip.std[0]) == ("shortest", 1.0, 0.48145466, 0.26862954)
    assert (siglip.resize, siglip.crop_pct, siglip.mean, siglip.std) == ("stretch", 1.0, (0.5,) * 3, (0.5,) * 3)
    assert (intern.crop_pct, intern.mean) == (1.0, (0.485, 0.456, 0.406))
    assert {spec.interpolation for spec in (clip, siglip, intern)} == {"bicubic"}


def test_a_misspelt_activation_is_refused() -> None:
    with pytest.raises(OptionError, match="quick_gelu"):
        CLIPImageEncoder(activation="quickgelu")
    with pytest.raises(OptionError, match="gelu_tanh"):
        SigLIPImageEncoder(activation="quick_gelu")


def test_another_number_of_channels_and_classes_by_name() -> None:
    model = zoo.create("clip_b_32", in_chans=1, num_classes=3, depth=1, width=64, heads=2)
    assert model(torch.randn(1, 1, 224, 224))["logits"].shape == (1, 3)
