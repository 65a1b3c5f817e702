"""Published layouts of ViT and DeiT: the references' outputs at two image sizes, every key used, the way back exact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

import zoo
from zoo.build.weights import load_weights
from zoo.errors import FormatError, LoadError
from zoo_vit import DeiT, DeiT3, VisionTransformer

TOLERANCE = 1e-5
SIZES = [(64, 64), (48, 80)]

# What stands in the published files, a layer's names once. N is the layer.
LAYER = (
    "attention.attention.query",
    "attention.attention.key",
    "attention.attention.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
    "layernorm_before",
    "layernorm_after",
)
VIT_NAMES = [
    "vit.embeddings.cls_token",
    "vit.embeddings.position_embeddings",
    "vit.embeddings.patch_embeddings.projection.weight",
    "vit.embeddings.patch_embeddings.projection.bias",
    "vit.layernorm.weight",
    "vit.layernorm.bias",
    "classifier.weight",
    "classifier.bias",
]
DEIT_NAMES = [
    *(name.replace("vit.", "deit.") for name in VIT_NAMES if not name.startswith("classifier")),
    "deit.embeddings.distillation_token",
    *(f"{head}_classifier.{part}" for head in ("cls", "distillation") for part in ("weight", "bias")),
]


@pytest.fixture(autouse=True)
def one_seed() -> None:
    torch.manual_seed(0)


def randomised(model: nn.Module) -> nn.Module:
    """Random scales, biases and tokens too: at ones and zeros a swapped one would not show."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.ndim > 1:
                tensor.normal_(0, 0.2)
            elif name.endswith("weight") or "lambda" in name or "gamma" in name:
                tensor.uniform_(0.5, 1.5)
            else:
                tensor.uniform_(-0.2, 0.2)
    return model.eval()


def small(size: tuple[int, int], **options: Any) -> dict[str, Any]:
    return {"width": 32, "depth": 2, "heads": 4, "num_classes": 7, "image_size": size, **options}


def transformers_model(kind: str, size: tuple[int, int], **options: Any) -> nn.Module:
    import transformers

    config = getattr(transformers, "ViTConfig" if kind.startswith("ViT") else "DeiTConfig")(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=options.pop("intermediate_size", 128),
        image_size=size,
        patch_size=16,
        num_labels=7,
        attn_implementation="eager",
    )
    return randomised(getattr(transformers, kind)(config, **options))


def as_published(model: nn.Module) -> dict[str, Tensor]:
    """In the layout of the files on the Hub, which transformers 5 no longer has in memory."""
    from transformers.core_model_loading import revert_weight_conversion

    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return {name: tensor.contiguous() for name, tensor in revert_weight_conversion(model, state).items()}


def named(top: list[str], trunk: str, layers: int) -> set[str]:
    return {
        *top,
        *(f"{trunk}.encoder.layer.{n}.{x}.{part}" for n in range(layers) for x in LAYER for part in ("weight", "bias")),
    }


def difference(ours: Tensor, theirs: Tensor) -> float:
    assert theirs.std() > 0.1
    return float((ours - theirs).abs().max() / max(1.0, float(theirs.abs().max())))


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def epsilons(model: nn.Module) -> set[float]:
    return {module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)}


@pytest.mark.parametrize("size", SIZES)
def test_a_transformers_vit_gives_its_logits(size: tuple[int, int]) -> None:
    theirs = transformers_model("ViTForImageClassification", size, intermediate_size=64)
    ours = VisionTransformer(small(size, mlp_ratio=2.0, norm_eps=1e-12))
    published = as_published(theirs)
    assert published.keys() == named(VIT_NAMES, "vit", 2)
    report = load_weights(ours, published, format="transformers", source="transformers")
    assert not report.skipped
    assert epsilons(ours) == epsilons(theirs) == {1e-12}
    images = torch.randn(2, 3, *size)
    with torch.inference_mode():
        assert difference(ours.eval()(images)["logits"], theirs(images).logits) <= TOLERANCE
    assert_same(ours.key_maps()["transformers"].save(ours.state_dict()), published)


def test_an_encoder_published_alone_opens_without_its_pooler() -> None:
    """As `google/vit-base-patch16-224-in21k`: no `vit.` before the names, and a pooler that ours does not have."""
    theirs = transformers_model("ViTModel", (64, 64))
    published = as_published(theirs)
    published = {name.removeprefix("vit."): tensor for name, tensor in published.items()}
    assert {"pooler.dense.weight", "pooler.dense.bias", "layernorm.weight"} <= published.keys()
    ours = VisionTransformer(small((64, 64), norm_eps=1e-12, num_classes=0))
    report = load_weights(ours, published, format="transformers", source="transformers")
    assert set(report.skipped) == {"pooler.dense.weight", "pooler.dense.bias"}
    assert "pooler" in report.skipped["pooler.dense.weight"]
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        tokens = theirs(images).last_hidden_state
        assert difference(ours.eval()(images)["embeddings"], tokens[:, 0]) <= TOLERANCE


@pytest.mark.parametrize("size", SIZES)
def test_a_distilled_deit_of_transformers_gives_both_of_its_logits(size: tuple[int, int]) -> None:
    theirs = transformers_model("DeiTForImageClassificationWithTeacher", size)
    ours = DeiT(small(size, norm_eps=1e-12, distilled=True))
    published = as_published(theirs)
    assert published.keys() == named(DEIT_NAMES, "deit", 2)
    report = load_weights(ours, published, format="transformers", source="transformers")
    assert not report.skipped
    images = torch.randn(2, 3, *size)
    with torch.inference_mode():
        found, expected = ours.eval()(images), theirs(images)
    assert difference(found["logits"], expected.logits) <= TOLERANCE
    assert difference(found["logits_class"], expected.cls_logits) <= TOLERANCE
    assert difference(found["logits_distillation"], expected.distillation_logits) <= TOLERANCE
    assert_same(ours.key_maps()["transformers"].save(ours.state_dict()), published)


def test_a_deit_without_a_teacher_was_published_as_a_vit() -> None:
    theirs = transformers_model("ViTForImageClassification", (64, 64))
    ours = DeiT(small((64, 64), norm_eps=1e-12))
    load_weights(ours, as_published(theirs), format="transformers", source="transformers")
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert difference(ours.eval()(images)["logits"], theirs(images).logits) <= TOLERANCE


@pytest.mark.parametrize("side", [64, 96])
@pytest.mark.parametrize("older", [False, True], ids=["todays", "older"])
def test_a_torchvision_vit_gives_its_logits(side: int, older: bool) -> None:
    from torchvision.models import VisionTransformer as Torchvisions

    theirs = randomised(
        Torchvisions(
            image_size=side, patch_size=16, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=96, num_classes=7
        )
    )
    todays = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    # Files from before torchvision 0.14; theirs are read by torchvision as these are.
    words = {".mlp.0.": ".mlp.linear_1.", ".mlp.3.": ".mlp.linear_2."} if older else {}
    published = {_with(name, words): tensor for name, tensor in todays.items()}
    assert any("linear_1" in name for name in published) is older
    ours = VisionTransformer(small((side, side), mlp_ratio=3.0))
    report = load_weights(ours, published, format="torchvision", source="torchvision")
    assert not report.skipped
    assert not report.adapted
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        assert difference(ours.eval()(images)["logits"], theirs(images)) <= TOLERANCE
    assert_same(ours.key_maps()["torchvision"].save(ours.state_dict()), todays)


def _with(name: str, words: Mapping[str, str]) -> str:
    for word, other in words.items():
        name = name.replace(word, other)
    return name


def test_metas_deit_files_have_todays_names_and_deit3s_older_ones() -> None:
    plain = randomised(DeiT(small((64, 64), distilled=True)))
    published = {name.removeprefix("encoder."): tensor.clone() for name, tensor in plain.state_dict().items()}
    copy = DeiT(small((64, 64), distilled=True))
    load_weights(copy, published, format="original", source="test")
    assert_same(copy.state_dict(), plain.state_dict())
    third = randomised(DeiT3(small((64, 64))))
    published = {
        name.removeprefix("encoder.").replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): tensor.clone()
        for name, tensor in third.state_dict().items()
    }
    assert "blocks.1.gamma_2" in published
    copy = DeiT3(small((64, 64)))
    load_weights(copy, published, format="original", source="test")
    assert_same(copy.state_dict(), third.state_dict())
    assert_same(copy.key_maps()["original"].save(copy.state_dict()), published)


def test_a_wrong_layout_is_refused() -> None:
    from torchvision.models import VisionTransformer as Torchvisions

    theirs = Torchvisions(image_size=64, patch_size=16, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=128)
    with pytest.raises(LoadError):
        load_weights(
            VisionTransformer(small((64, 64))), theirs.state_dict(), format="transformers", source="torchvision"
        )


@pytest.mark.parametrize("format", ["torchvision", "transformers"])
@pytest.mark.parametrize("option", [{"pool": "avg"}, {"pre_norm": True}])
def test_what_a_library_cannot_hold_is_not_written_in_its_format(format: str, option: dict[str, Any]) -> None:
    model = VisionTransformer(small((64, 64), **option))
    with pytest.raises(FormatError, match=f"{format} has no ViT with these"):
        model.key_maps()[format].save(model.state_dict())


def interpolated(positions: Tensor, own: int, grid: tuple[int, int]) -> Tensor:
    """Bicubic, antialiased, from a square: (1, own + side², D) → (1, own + h * w, D)."""
    side = round((positions.shape[1] - own) ** 0.5)
    maps = positions[:, own:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    maps = F.interpolate(maps, size=grid, mode="bicubic", antialias=True)
    return torch.cat([positions[:, :own], maps.flatten(2).transpose(1, 2)], dim=1)


@pytest.mark.parametrize("size", [(384, 384), (160, 256)])
@pytest.mark.parametrize(
    ("family", "options", "own"), [(VisionTransformer, {}, 1), (DeiT, {"distilled": True}, 2), (DeiT3, {}, 0)]
)
@pytest.mark.parametrize("format", ["native", "timm"])
def test_weights_of_224_pixels_open_at_other_sizes_with_interpolated_positions(
    family: type[zoo.Classifier], options: dict[str, Any], own: int, size: tuple[int, int], format: str
) -> None:
    source = randomised(family(small((224, 224), depth=1, **options)))
    model = family(small(size, depth=1, **options))
    published = source.key_maps()[format].save(source.state_dict())
    report = load_weights(model, published, format=format, source="test")
    assert list(report.adapted) == ["encoder.pos_embed"]
    expected = interpolated(source.encoder.pos_embed, own, (size[0] // 16, size[1] // 16))
    assert torch.allclose(model.encoder.pos_embed, expected, atol=1e-6)
    assert model.eval()(torch.randn(1, 3, *size))["logits"].shape == (1, 7)


def test_positions_of_another_format_are_interpolated_too() -> None:
    source = randomised(VisionTransformer(small((224, 224), depth=1)))
    published = source.key_maps()["transformers"].save(source.state_dict())
    model = VisionTransformer(small((160, 256), depth=1))
    report = load_weights(model, published, format="transformers", source="test")
    assert "encoder.pos_embed" in report.adapted
    assert torch.allclose(model.encoder.pos_embed, interpolated(source.encoder.pos_embed, 1, (10, 16)), atol=1e-6)


def test_another_patch_size_resamples_the_kernel() -> None:
    from timm.layers import resample_patch_embed

    source = randomised(VisionTransformer(small((224, 224), depth=1)))
    model = VisionTransformer(small((112, 112), depth=1, patch_size=8))
    report = load_weights(model, source.state_dict(), format="native", source="test")
    assert list(report.adapted) == ["encoder.patch_embed.proj.weight"]
    expected = resample_patch_embed(source.encoder.patch_embed.proj.weight, [8, 8])
    assert torch.allclose(model.encoder.patch_embed.proj.weight, expected, atol=1e-6)


def test_a_file_of_ones_own_opens_through_the_front_door_at_another_size(tmp_path: Path) -> None:
    source = randomised(VisionTransformer(width=192, heads=3, num_classes=5))
    save_file(source.key_maps()["transformers"].save(source.state_dict()), tmp_path / "model.safetensors")
    model = zoo.create(
        "vit_ti_16",
        checkpoint=tmp_path / "model.safetensors",
        format="transformers",
        num_classes=5,
        img_size=(160, 256),
        norm_eps=1e-12,
    )
    assert "encoder.pos_embed" in model.load_report.adapted
    assert model.input_spec.size == (160, 256)
    assert model(torch.randn(1, 3, 160, 256))["logits"].shape == (1, 5)
    assert epsilons(model) == {1e-12}


def test_metas_file_is_unwrapped(tmp_path: Path) -> None:
    source = randomised(DeiT(width=192, heads=3, distilled=True, num_classes=1000))
    names = {name.removeprefix("encoder."): tensor for name, tensor in source.state_dict().items()}
    torch.save({"model": names}, tmp_path / "deit_tiny_distilled.pth")
    model = zoo.create("deit_ti_distilled", checkpoint=tmp_path / "deit_tiny_distilled.pth", format="original")
    assert_same(model.state_dict(), source.state_dict())
