"""What is set on a built encoder: normalisation epsilons, positions that follow the image, files of another size."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys
from importlib import import_module

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from zoo.build.weights import load_weights
from zoo.errors import InputError, OptionError
from zoo_timm.adapter import TimmBackbone, TimmModel
from zoo_timm.adjustments import ComputedBiases
from zoo_timm.encoders import build_encoder

DINO = "vit_small_patch14_reg4_dinov2"
SMALL = {"depth": 1, "embed_dim": 32, "num_heads": 2, "img_size": 56}


def test_every_layer_norm_gets_the_epsilon():
    encoder = build_encoder("vit_tiny_patch16_224", {"norm_eps": 1e-12, "depth": 2})
    found = {module.eps for module in encoder.modules() if isinstance(module, nn.LayerNorm)}
    assert found == {1e-12}
    with pytest.raises(OptionError, match="no LayerNorm"):
        build_encoder("resnet18", {"norm_eps": 1e-12})


@pytest.mark.parametrize("architecture", ["vit_small_patch14_dinov2", DINO])
def test_with_antialiasing_and_no_offset_positions_are_timms(architecture):
    options = {**SMALL, "dynamic_img_size": True}
    theirs = build_encoder(architecture, options).eval()
    nn.init.normal_(theirs.pos_embed)
    ours = build_encoder(architecture, {**options, "position_antialias": True, "position_offset": 0.0}).eval()
    ours.load_state_dict(theirs.state_dict())
    for size in ((56, 56), (42, 84), (112, 70)):
        images = torch.randn(2, 3, *size)
        with torch.inference_mode():
            assert torch.allclose(ours.forward_features(images), theirs.forward_features(images), atol=1e-5), size


@pytest.mark.parametrize(("antialias", "offset"), [(False, 0.1), (True, 0.1), (False, 0.0)])
def test_positions_are_interpolated_by_the_offset_and_filter_asked_for(antialias, offset):
    """Against the published rule: a grid of M x M scaled by (side + offset) / M."""
    asked = {"position_antialias": antialias, "position_offset": offset, "dynamic_img_size": True}
    encoder = build_encoder("vit_small_patch14_dinov2", {**SMALL, **asked}).eval()
    nn.init.normal_(encoder.pos_embed)
    tokens = torch.zeros(1, 3, 6, 32)
    grid = encoder.pos_embed[:, 1:].reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
    where = {"scale_factor": ((3 + offset) / 4, (6 + offset) / 4)} if offset else {"size": (3, 6)}
    expected = F.interpolate(grid, mode="bicubic", antialias=antialias, **where).permute(0, 2, 3, 1).reshape(1, 18, 32)
    embedded = encoder._pos_embed(tokens)
    assert torch.allclose(embedded[:, 1:], expected, atol=1e-6)
    assert torch.allclose(embedded[:, :1], encoder.cls_token + encoder.pos_embed[:, :1])


def test_positions_follow_only_where_a_plain_vit_lets_them():
    with pytest.raises(OptionError, match="do not follow") as error:
        build_encoder("vit_tiny_patch16_224", {"position_offset": 0.1})
    assert "dynamic_img_size" in str(error.value.fix)
    with pytest.raises(OptionError, match="SwinTransformer"):
        build_encoder("swin_tiny_patch4_window7_224", {"position_antialias": True})


def test_an_adjusted_backbone_comes_back_from_its_config(tmp_path):
    arguments = {"dynamic_img_size": True, "position_offset": 0.1, "norm_eps": 1e-5, "depth": 1}
    backbone = TimmBackbone(architecture="vit_small_patch14_dinov2", arguments=arguments).eval()
    again = TimmBackbone(backbone.config.to_dict()).eval()
    again.load_state_dict(backbone.state_dict())
    images = torch.randn(1, 3, 28, 70)
    assert torch.equal(again(images)[0], backbone(images)[0])
    assert backbone(images)[0].shape == (1, 384, 2, 5)
    with pytest.raises(InputError, match="multiples of 14"):
        backbone(torch.randn(1, 3, 28, 71))


@pytest.mark.parametrize("architecture", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_a_native_file_opens_at_another_image_size_as_timm_resizes_it(architecture):
    small = TimmModel(architecture=architecture, image_size=64, num_classes=3)
    for classes in (3, 0):
        large = TimmModel(architecture=architecture, image_size=96, num_classes=classes)
        report = load_weights(large, small.state_dict(), format="native", source="test")
        assert report.adapted  # positions, or tables of relative ones
        theirs = build_encoder(architecture, {"img_size": 96, "num_classes": 3})
        resize = import_module(type(theirs).__module__).checkpoint_filter_fn
        theirs.load_state_dict(resize(small.encoder.state_dict(), theirs))
        images = torch.randn(1, 3, 96, 96)
        theirs.eval(), large.eval()
        with torch.inference_mode():
            expected = theirs.forward_head(theirs.forward_features(images), pre_logits=True)
            assert torch.allclose(large(images)["embeddings"], expected, atol=1e-5)


def test_hidden_layers_say_how_they_hold_an_image():
    layouts = {
        "vit_tiny_patch16_224": (1, False),
        "deit_tiny_distilled_patch16_224": (2, False),
        "swin_tiny_patch4_window7_224": (0, True),
        "resnet18": (0, False),
        "hiera_tiny_224": None,
    }
    for architecture, expected in layouts.items():
        assert TimmModel(architecture=architecture).layout == expected, architecture


BIASED = ["tiny_vit_5m_224", "levit_128s"]


@pytest.mark.parametrize("architecture", BIASED)
def test_attention_biases_are_those_of_the_weights_in_every_pass(architecture):
    model = TimmModel(architecture=architecture, num_classes=3).eval()
    images = torch.randn(1, 3, 224, 224)
    reference = timm.create_model(architecture, num_classes=3).eval()
    for name, tensor in reference.named_parameters():
        if name.endswith("attention_biases"):
            nn.init.normal_(tensor)
    model(images)["logits"].sum().backward()
    model(images)["logits"].sum().backward()  # the graph of the first pass is gone by now
    model.encoder.load_state_dict(reference.state_dict())
    assert torch.allclose(model(images)["logits"], reference(images), atol=1e-5)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(copied(images)["logits"], model(images)["logits"])


def test_no_attention_of_timm_keeps_its_biases():
    """Every timm class that has such a cache is found in some model, and exchanged."""
    small = ["efficientvit_m0", "efficientformer_l1", "efficientformerv2_s0", *BIASED]
    with torch.device("meta"):
        encoders = [build_encoder(architecture, {}) for architecture in small]
    modules = [m for encoder in encoders for m in encoder.modules() if hasattr(m, "attention_bias_cache")]
    assert all(isinstance(module, ComputedBiases) for module in modules)
    sources = {m.__name__: inspect.getsource(m) for m in list(sys.modules.values()) if "timm.models." in m.__name__}
    keeping = sum(source.count("attention_bias_cache: ") for source in sources.values())
    assert len({type(module) for module in modules}) == keeping
