"""The rows of ViT and DeiT against what timm, torchvision and transformers say of the same weights."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from zoo.specs import CheckpointSpec, InputSpec, ModelSpec
from zoo_vit.catalog import PLUGIN
from zoo_vit.rows.plain import FAMILIES

NAMES = {size.name for family in FAMILIES for size in family.sizes}
MODELS = {model.name: model for model in PLUGIN.models if model.name in NAMES}
CHECKPOINTS = [(model, checkpoint) for model in MODELS.values() for checkpoint in model.checkpoints]
LICENSES = {"apache-2.0": "Apache-2.0", "cc-by-nc-4.0": "CC-BY-NC-4.0", None: "unknown"}
HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def with_sources(scheme: str) -> list[tuple[ModelSpec, CheckpointSpec]]:
    return [(model, c) for model, c in CHECKPOINTS if c.sources[0].startswith(scheme)]


def family_of(model: ModelSpec) -> Any:
    module, _, name = model.factory.partition(":")
    return getattr(import_module(module), name)


def checkpoint(model: str, name: str) -> CheckpointSpec:
    found = MODELS[model].checkpoint(name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("vit_ti_16", 5.72),
        ("vit_s_16", 22.05),
        ("vit_s_32", 22.88),
        ("vit_b_8", 86.58),
        ("vit_b_16", 86.57),
        ("vit_b_32", 88.22),
        ("vit_l_14", 304.20),
        ("vit_l_16", 304.33),
        ("vit_l_32", 306.54),
        ("vit_h_14", 632.05),
        ("vit_h_16", 632.20),
        ("deit_ti", 5.72),
        ("deit_ti_distilled", 5.91),
        ("deit_s", 22.05),
        ("deit_s_distilled", 22.44),
        ("deit_b", 86.57),
        ("deit_b_distilled", 87.34),
        ("deit3_s", 22.06),
        ("deit3_m", 38.85),
        ("deit3_b", 86.59),
        ("deit3_l", 304.37),
        ("deit3_h", 632.13),
    ],
)
def test_a_size_has_its_published_number_of_parameters(name: str, millions: float) -> None:
    import torch

    with torch.device("meta"):
        model = family_of(MODELS[name])(MODELS[name].config)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions


def test_no_published_name_means_two_models() -> None:
    owners: dict[str, str] = {}
    for model in PLUGIN.models:
        for name in (model.name, *model.aliases, *(alias for c in model.checkpoints for alias in c.aliases)):
            assert name not in owners, f"{name}: {owners[name]} and {model.name}"
            owners[name] = model.name


def test_a_checkpoint_has_a_format_of_its_model_and_a_name_of_its_own() -> None:
    for model in MODELS.values():
        names = [c.name for c in model.checkpoints]
        assert len(set(names)) == len(names), model.name
        assert {c.format for c in model.checkpoints} <= set(model.formats), model.name


def test_timms_weights_have_timms_own_facts() -> None:
    from timm.models import get_pretrained_cfg

    from zoo_timm.inputs import input_spec

    assert len(with_sources("hf://timm/")) > 60
    for _, row in with_sources("hf://timm/"):
        published = row.sources[0].split("/")[3].partition("@")[0]
        cfg = get_pretrained_cfg(published)
        assert (cfg.hf_hub_id, cfg.num_classes) == (f"timm/{published}", row.num_classes), published
        assert row.license == LICENSES[cfg.license], published
        expected = input_spec(cfg.to_dict())
        found = (row.input.size, row.input.crop_pct, row.input.interpolation, row.input.mean, row.input.std)
        assert found == (expected.size, expected.crop_pct, expected.interpolation, expected.mean, expected.std)
        assert row.config.get("image_size", 224) == cfg.input_size[1], published


def test_every_weight_timm_has_of_these_architectures_is_here() -> None:
    """The rows name architectures once; a tag that timm adds comes by itself."""
    import timm

    here = {row.sources[0].split("/")[3].partition("@")[0] for _, row in with_sources("hf://timm/")}
    plain = [name for name in timm.list_models(pretrained=True) if name.startswith(("deit_", "deit3_"))]
    for width in ("tiny", "small", "base", "large", "huge"):
        for patch in (8, 14, 16, 32):
            plain += timm.list_pretrained(f"vit_{width}_patch{patch}_224.*")
            plain += timm.list_pretrained(f"vit_{width}_patch{patch}_384.*")
    assert {name.partition(".")[0] for name in plain} >= {"vit_base_patch16_384", "deit3_huge_patch14_224"}
    published = {tag for name in plain for tag in timm.list_pretrained(name if "." in name else f"{name}.*")}
    assert published <= here


def test_weights_with_a_norm_before_the_blocks_say_so_and_no_others() -> None:
    for model, row in CHECKPOINTS:
        config = {**model.config, **row.config}
        clip = "_clip_" in row.sources[0]
        assert config.get("pre_norm", False) is clip, f"{model.name}.{row.name}"
        assert config.get("norm_eps", 1e-6) == (1e-5 if clip else 1e-12 if row.format == "transformers" else 1e-6)


def test_torchvisions_weights_have_torchvisions_own_facts() -> None:
    import torch
    from torchvision.models import get_weight

    rows = with_sources("https://download.pytorch.org/")
    assert len(rows) == 10
    for model, row in rows:
        (alias,) = row.aliases
        weights = get_weight(alias)
        transform = weights.transforms()
        assert weights.url == row.sources[0]
        assert [*row.input.size] == transform.crop_size * 2, alias
        assert [*row.input.resize_to] == transform.resize_size * 2, alias
        assert row.input.interpolation == transform.interpolation.value, alias
        assert ([*row.input.mean], [*row.input.std]) == (transform.mean, transform.std), alias
        published = weights.meta["_metrics"]["ImageNet-1K"]
        assert {m.name: m.value for m in row.metrics} == {"top1": published["acc@1"], "top5": published["acc@5"]}
        own = "SWAG/blob/main/LICENSE" in weights.meta.get("license", "")
        assert row.license == ("CC-BY-NC-4.0" if own else "BSD-3-Clause"), alias
        assert row.config.get("image_size", 224) == weights.meta["min_size"][0], alias
        with torch.device("meta"):
            built = family_of(model)({**model.config, **row.config})
        assert sum(p.numel() for p in built.parameters()) == weights.meta["num_params"], alias


def test_transformers_weights_have_the_preprocessing_of_their_class() -> None:
    from transformers.models.vit.image_processing_vit import ViTImageProcessor

    google = with_sources("hf://google/")
    assert len(google) == 11
    for _, row in google:
        assert row.input == InputSpec(
            size=row.input.size, resize="stretch", crop_pct=1.0, interpolation="bilinear", **HALF
        )
        assert (list(row.input.mean), list(row.input.std)) == (
            list(ViTImageProcessor.image_mean),
            list(ViTImageProcessor.image_std),
        )
        assert ViTImageProcessor.resample == 2  # PIL's bilinear
        assert row.sources[0] == f"hf://{row.aliases[0]}/model.safetensors"
        assert (row.num_classes, row.labels) in ((0, None), (1000, "imagenet_1k"))
        assert ("in21k" in row.aliases[0]) is (row.num_classes == 0)


def test_metas_own_files_keep_metas_evaluation() -> None:
    """Its figures are of a crop of 0.875, timm's of the same weights of 0.9 and 1.0."""
    rows = with_sources("https://dl.fbaipublicfiles.com/deit/")
    assert len(rows) == 8
    assert {m.conditions["crop_pct"] for _, row in rows for m in row.metrics} == {0.875}
    assert checkpoint("deit_b", "original_in1k_384").input.resize_to == (438, 438)
    assert checkpoint("deit_b_distilled", "original_in1k").metrics[0].value == 83.4


def test_masked_autoencoders_are_for_research_only() -> None:
    for name, top1 in (("vit_b_16", 83.664), ("vit_l_16", 85.952), ("vit_h_14", 86.928)):
        encoder, classifier = checkpoint(name, "mae"), checkpoint(name, "mae_ft_in1k")
        assert encoder.license == classifier.license == "CC-BY-NC-4.0"
        assert (encoder.num_classes, classifier.num_classes) == (0, 1000)
        assert classifier.config["pool"] == "avg"
        assert classifier.metrics[0].value == top1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vit_b_16", "vit/vit_b_16.augreg2_in21k_ft_in1k@1"),
        ("vit_b_16.mae", "vit/vit_b_16.mae@1"),
        ("vit_l_16.mae", "vit/vit_l_16.mae@1"),
        ("vit_h_14.mae", "vit/vit_h_14.mae@1"),
        ("vit_base_patch16_224", "vit/vit_b_16.augreg2_in21k_ft_in1k@1"),
        ("vit_base_patch16_224.augreg_in1k", "vit/vit_b_16.augreg_in1k@1"),
        ("vit_base_patch16_384", "vit/vit_b_16.augreg_in21k_ft_in1k_384@1"),
        ("google/vit-base-patch16-224", "vit/vit_b_16.transformers_in21k_ft_in1k@1"),
        ("google/vit-huge-patch14-224-in21k", "vit/vit_h_14.transformers_in21k@1"),
        ("ViT_B_16_Weights.IMAGENET1K_V1", "vit/vit_b_16.imagenet1k_v1@1"),
        ("ViT_H_14_Weights.IMAGENET1K_SWAG_E2E_V1", "vit/vit_h_14.imagenet1k_swag_e2e_v1@1"),
        ("vit_huge_patch14_clip_224.laion2b_ft_in12k_in1k", "vit/vit_h_14.laion2b_ft_in12k_in1k@1"),
        ("vit_l_32", "vit/vit_l_32.imagenet1k_v1@1"),
        ("deit_b_distilled", "vit/deit_b_distilled.fb_in1k@1"),
        ("deit_base_distilled_patch16_384", "vit/deit_b_distilled.fb_in1k_384@1"),
        ("facebook/deit-base-distilled-patch16-224", "vit/deit_b_distilled.transformers_in1k@1"),
        ("deit3_small_patch16_224.fb_in22k_ft_in1k", "vit/deit3_s.fb_in22k_ft_in1k@1"),
    ],
)
def test_published_names_are_understood(name: str, expected: str) -> None:
    from zoo.catalog import open_catalog

    assert open_catalog().resolve(name).ref == expected


def test_labels_have_as_many_names_as_the_head_has_outputs() -> None:
    from zoo.models.labels import label_space

    for model, row in CHECKPOINTS:
        if row.labels is not None:
            assert len(label_space(row.labels)) == row.num_classes, f"{model.name}.{row.name}"
