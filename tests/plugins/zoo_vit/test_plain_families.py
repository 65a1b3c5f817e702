"""VisionTransformer, DeiT and DeiT3 as a user meets them: options, heads, attention, features, saving, training."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
import zoo_vit
from zoo.errors import InputError, OptionError, UnsupportedError
from zoo.models.config import SpellingWarning
from zoo_vit import DeiT, DeiT3, VisionTransformer

SMALL = {"width": 32, "depth": 2, "heads": 4, "num_classes": 7, "image_size": 64}
FAMILIES = [
    pytest.param(VisionTransformer, {}, id="vit"),
    pytest.param(VisionTransformer, {"pool": "avg", "pre_norm": True}, id="vit-avg-pre_norm"),
    pytest.param(DeiT, {}, id="deit"),
    pytest.param(DeiT, {"distilled": True}, id="deit-distilled"),
    pytest.param(DeiT3, {}, id="deit3"),
]


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_vit_b_16_is_built_from_the_words_people_bring() -> None:
    words = {"image_size": 224, "patch_size": 16, "num_classes": 1000}
    with torch.device("meta"):
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            theirs = VisionTransformer({**words, "embed_dim": 768, "num_layers": 12, "num_heads": 12})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ours = VisionTransformer({**words, "width": 768, "depth": 12, "heads": 12})
    assert [w.category for w in heard] == [SpellingWarning] * 3
    assert parameters(theirs) == parameters(ours) == 86_567_656
    assert theirs.config == ours.config


def test_the_families_are_there_under_the_package() -> None:
    assert {"VisionTransformer", "DeiT", "DeiT3"} <= set(zoo_vit.__all__)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"width": 30}, "divisible"),
        ({"heads": 0}, "greater than or equal to 1"),
        ({"patch_size": 0}, "greater than or equal to 1"),
        ({"pool": "map"}, "'token' or 'avg'"),
        ({"norm_eps": 0.0}, "greater than 0"),
        ({"image_size": 100}, r"whole patches of 16 pixels(.|\n)*image_size=96"),
        ({"image_size": (64, 100), "patch_size": 8}, r"image_size=\(64, 96\)"),
        ({"image_size": None, "patch_size": 15}, "image_size=225"),
        ({"mlp_ration": 4.0}, "did you mean `mlp_ratio`"),
        ({"distilled": True}, "has no option `distilled`"),
    ],
)
def test_what_cannot_be_built_is_refused_with_the_reason(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(OptionError, match=expected):
        VisionTransformer({**SMALL, **options})


@pytest.mark.parametrize(
    "family", [DeiT, DeiT3, zoo_vit.CLIPImageEncoder, zoo_vit.SigLIPImageEncoder, zoo_vit.EVA02, zoo_vit.InternViT]
)
def test_pixels_that_no_patch_covers_are_refused(family: type[zoo.Classifier]) -> None:
    with pytest.raises(OptionError, match="whole patches of 16 pixels") as caught:
        family(image_size=100, patch_size=16)
    assert caught.value.fix == "image_size=96"


def test_siglip_so400m_takes_the_size_it_was_published_at() -> None:
    """384 pixels are 27 patches of 14 and six more pixels."""
    config = zoo_vit.SigLIPImageEncoder.Config(image_size=384, patch_size=14)
    assert config.image_size == 384


@pytest.mark.parametrize(("family", "options"), FAMILIES)
def test_a_config_survives_its_plain_form(family: type[zoo.Classifier], options: dict[str, Any]) -> None:
    config = family.Config.of({**SMALL, **options, "image_size": (48, 80), "norm_eps": 1e-5, "drop_path_rate": 0.1}, {})
    assert family.Config.of(config.to_dict(), {}) == config
    assert family(config).config == config


@pytest.mark.parametrize(("family", "options"), FAMILIES)
@pytest.mark.parametrize("size", [64, (48, 80), (32, 128)])
def test_any_image_size_and_patch_size(
    family: type[zoo.Classifier], options: dict[str, Any], size: int | tuple[int, int]
) -> None:
    for patch in (8, 16):
        model = family({**SMALL, **options, "image_size": size, "patch_size": patch}).eval()
        height, width = (size, size) if isinstance(size, int) else size
        outputs = model(torch.randn(2, 3, height, width), output_features=True)
        assert outputs["logits"].shape == (2, 7)
        assert outputs["embeddings"].shape == (2, 32)
        assert [tuple(m.shape) for m in outputs["features"]] == [(2, 32, height // patch, width // patch)] * 2


def test_an_image_of_another_size_is_refused_with_the_option_that_takes_it() -> None:
    with pytest.raises(InputError, match=r"64 x 64") as caught:
        VisionTransformer(SMALL)(torch.randn(1, 3, 96, 64))
    assert "image_size=(96, 64)" in str(caught.value)


@pytest.mark.parametrize(("family", "options"), FAMILIES)
def test_every_patch_moves_the_logits(family: type[zoo.Classifier], options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = family({**SMALL, **options}).eval()
    image = torch.randn(1, 3, 64, 64, requires_grad=True)
    model(image)["logits"].square().sum().backward()
    assert (image.grad.unfold(2, 16, 16).unfold(3, 16, 16).abs().sum(dim=(0, 1, 4, 5)) > 0).all()


@pytest.mark.parametrize(("family", "options"), FAMILIES)
def test_attention_times_values_is_what_the_layer_goes_on_with(
    family: type[zoo.Classifier], options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    model = family({**SMALL, **options}).eval()
    projections: list[Tensor] = []
    outputs: list[Tensor] = []
    for block in model.encoder.blocks:
        block.attn.qkv.register_forward_hook(lambda _m, _i, out: projections.append(out))
        block.attn.register_forward_hook(lambda _m, _i, out: outputs.append(out))
    with torch.inference_mode():
        attentions = model(torch.randn(2, 3, 64, 64), output_attentions=True)["attentions"]
    tokens = 16 + model.layout.prefix_tokens
    assert [tuple(a.shape) for a in attentions] == [(2, 4, tokens, tokens)] * 2
    assert len(projections) == len(outputs) == 2
    for block, weights, projected, attended in zip(model.encoder.blocks, attentions, projections, outputs, strict=True):
        assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-6)
        values = projected.unflatten(-1, (3, 4, 8))[:, :, 2].transpose(1, 2)  # (B, heads, N, D / heads)
        mixed = (weights @ values).transpose(1, 2).flatten(2)
        assert torch.allclose(block.attn.proj(mixed), attended, atol=1e-6)


@pytest.mark.parametrize(("family", "options"), FAMILIES)
def test_attentions_leave_the_logits_as_they_are(family: type[zoo.Classifier], options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = family({**SMALL, **options}).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        plain, seen = model(images), model(images, output_attentions=True, output_features=True)
    assert torch.allclose(plain["logits"], seen["logits"], atol=1e-6)


def test_a_head_of_ones_own_is_assigned() -> None:
    model = VisionTransformer(SMALL)
    model.head = nn.Linear(32, 3)
    assert model(torch.randn(2, 3, 64, 64))["logits"].shape == (2, 3)
    assert (model.num_classes, model.config.num_classes, model.label_space) == (3, 3, None)
    with pytest.raises(InputError, match=r"nn\.Linear"):
        model.head = nn.Linear(31, 3)


def test_the_head_of_vit_b_16_takes_768_values() -> None:
    with torch.device("meta"):
        model = VisionTransformer()
        model.head = nn.Linear(768, 3)
    assert model.num_classes == 3


def test_two_heads_give_their_logits_apart_and_their_mean() -> None:
    torch.manual_seed(0)
    model = DeiT(SMALL, distilled=True)
    images = torch.randn(2, 3, 64, 64)
    for mode in (True, False):
        outputs = model.train(mode)(images)
        assert torch.equal(outputs["logits"], (outputs["logits_class"] + outputs["logits_distillation"]) / 2)
        assert not torch.allclose(outputs["logits_class"], outputs["logits_distillation"])
    with torch.inference_mode():
        tokens = model.encoder.forward_features(images)
        assert torch.allclose(outputs["logits_class"], model.encoder.head(tokens[:, 0]), atol=1e-6)
        assert torch.allclose(outputs["logits_distillation"], model.encoder.head_dist(tokens[:, 1]), atol=1e-6)
        assert torch.allclose(outputs["logits"], model.encoder(images), atol=1e-6)


def test_a_deit_without_a_teacher_has_one_answer() -> None:
    outputs = DeiT(SMALL).eval()(torch.randn(1, 3, 64, 64))
    assert outputs.keys() == {"embeddings", "logits"}


def test_both_heads_are_replaced_together() -> None:
    model = DeiT(SMALL, distilled=True)
    model.reset_head(3)
    outputs = model(torch.randn(2, 3, 64, 64), targets=torch.tensor([0, 2]))
    assert {outputs[name].shape for name in ("logits", "logits_class", "logits_distillation")} == {(2, 3)}
    assert outputs["loss"].isfinite()
    with pytest.raises(UnsupportedError, match="reset_head"):
        model.head = nn.Linear(32, 3)
    model.reset_head(0)
    assert model(torch.randn(2, 3, 64, 64)).keys() == {"embeddings"}


@pytest.mark.parametrize(
    ("family", "options"), [FAMILIES[3], pytest.param(*FAMILIES[1].values, marks=pytest.mark.long)]
)
def test_a_model_is_exported_whole(family: type[zoo.Classifier], options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = family({**SMALL, **options}).eval()
    images = torch.randn(2, 3, 64, 64)
    exported = torch.export.export(model, (images,)).module()
    found, expected = exported(images), model(images)
    assert found.keys() == expected.keys()
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)


@pytest.mark.long
def test_a_distilled_model_compiles_in_one_graph() -> None:
    torch.manual_seed(0)
    model = DeiT(SMALL, distilled=True).eval()
    images = torch.randn(2, 3, 64, 64)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with torch.inference_mode():
        found, expected = compiled(images), model(images)
    assert found.keys() == expected.keys() == {"embeddings", "logits", "logits_class", "logits_distillation"}
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)


@pytest.mark.parametrize(("family", "options"), FAMILIES)
def test_a_saved_model_comes_back_as_it_was(
    family: type[zoo.Classifier], options: dict[str, Any], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = family({**SMALL, **options, "image_size": (32, 128)}).eval()
    model.save_pretrained(tmp_path)
    back = family.from_pretrained(tmp_path)
    images = torch.randn(1, 3, 32, 128)
    with torch.inference_mode():
        assert torch.allclose(model(images)["logits"], back(images)["logits"], atol=1e-6)
    assert back.config == model.config
    own, loaded = model.state_dict(), back.state_dict()
    assert own.keys() == loaded.keys()
    assert all(torch.equal(own[name], loaded[name]) for name in own)


@pytest.mark.parametrize(("family", "options"), FAMILIES)
def test_a_backbone_takes_the_classifiers_weights(family: type[zoo.Classifier], options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = family({**SMALL, **options}).eval()
    backbone = family.as_backbone(model.config, out_indices=(0, 1))
    zoo.build.weights.load_weights(backbone, model.state_dict(), format="native", source="test")
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        maps, expected = backbone.eval()(images), model(images, output_features=True)["features"]
        assert torch.allclose(backbone.embed(images), model.embed(images), atol=1e-6)
    assert [m.shape for m in maps] == [m.shape for m in expected]
    assert all(torch.equal(m, e) for m, e in zip(maps, expected, strict=True))
    assert (backbone.channels, backbone.strides) == ((32, 32), (16, 16))


@pytest.mark.parametrize(("family", "options"), FAMILIES)
def test_a_few_steps_lower_the_loss(family: type[zoo.Classifier], options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = family({**SMALL, **options, "image_size": 32, "num_classes": 2})
    images, targets = torch.randn(4, 3, 32, 32), torch.arange(4) % 2
    parameters = list(model.parameters())
    losses = []
    for _ in range(6):
        loss = model(images, targets)["loss"]
        gradients = torch.autograd.grad(loss, parameters)  # raises for a parameter that the loss does not depend on
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= 3e-3 * gradient.sign()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
