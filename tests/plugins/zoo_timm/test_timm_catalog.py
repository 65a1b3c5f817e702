"""The rows of zoo_timm: they are timm's own, they follow it, and the manifest follows them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import timm
from timm.data import resolve_data_config
from timm.models import PretrainedCfg, get_arch_pretrained_cfgs

import zoo_timm
from zoo.plugin import manifest
from zoo.plugin.compile import compile_plugin
from zoo.specs import CheckpointSpec, InputSpec, ModelSpec
from zoo_timm.adapter import TimmBackbone, TimmModel
from zoo_timm.catalog import PLUGIN
from zoo_timm.harvest import NOT_WEIGHTS, harvest

REGISTRY = json.loads(Path(zoo_timm.__file__).with_name("registry.json").read_text(encoding="utf-8"))
MODELS = {model.name: model for model in PLUGIN.models}
CHECKPOINTS = [(model, checkpoint) for model in PLUGIN.models for checkpoint in model.checkpoints]


def cfg_of(model: ModelSpec, checkpoint: CheckpointSpec) -> PretrainedCfg:
    return timm.get_pretrained_cfg(f"{model.name}.{checkpoint.name}", allow_unregistered=False)


def test_the_rows_are_those_of_the_installed_timm() -> None:
    assert REGISTRY["timm"] == timm.__version__, "run python -m zoo_timm.harvest"
    assert sorted(MODELS) == sorted(timm.list_models())


def test_every_published_tag_is_a_checkpoint_but_the_training_states() -> None:
    left_out = {
        full
        for name in timm.list_models()
        for full, cfg in get_arch_pretrained_cfgs(name).items()
        if not cfg.hf_hub_id and cfg.url and cfg.url.endswith(tuple(NOT_WEIGHTS))
    }
    assert len(left_out) == 4
    assert {f"{m.name}.{c.name}" for m, c in CHECKPOINTS} == set(timm.list_pretrained()) - left_out


def test_timms_default_tag_is_the_default_checkpoint() -> None:
    for model in PLUGIN.models:
        default = timm.get_pretrained_cfg(model.name)
        if default.has_weights and model.checkpoints and "ijepa" not in (default.tag or ""):
            assert model.checkpoint(None).name == default.tag


def test_the_manifest_is_compiled_from_the_rows() -> None:
    assert not compile_plugin("zoo_timm.catalog").changed, "run zoo plugin compile plugins/zoo_timm"


def test_harvesting_again_finds_the_same() -> None:
    names = random.Random(7).sample(sorted(REGISTRY["architectures"]), 12)
    again = json.loads(json.dumps(harvest(names)))
    for name, row in again.items():
        tags = row.pop("tags")
        assert (name, row) == (name, REGISTRY["architectures"][name]["about"])
        assert tags == REGISTRY["architectures"][name]["tags"]


def test_inputs_are_what_timm_evaluates_with() -> None:
    modes = {"center": "shortest", "squash": "stretch", "border": "letterbox"}
    for model, checkpoint in CHECKPOINTS:
        theirs = resolve_data_config({}, pretrained_cfg=cfg_of(model, checkpoint).to_dict())
        ours: InputSpec = checkpoint.input
        assert (ours.channels, *ours.size) == tuple(theirs["input_size"])
        assert ours.resize == modes[theirs["crop_mode"]]
        assert (ours.crop_pct, ours.interpolation) == (theirs["crop_pct"], theirs["interpolation"])
        assert (ours.mean, ours.std) == (tuple(theirs["mean"]), tuple(theirs["std"]))


def test_sources_name_the_published_files() -> None:
    for model, checkpoint in CHECKPOINTS:
        cfg = cfg_of(model, checkpoint)
        expected = f"hf://{cfg.hf_hub_id}@main/model.safetensors" if cfg.hf_hub_id else cfg.url
        assert checkpoint.sources[0] == expected
        assert (checkpoint.format, checkpoint.sha256, checkpoint.size) == ("timm", None, None)
    assert MODELS["resnet50"].checkpoint("a1_in1k").sources == ("hf://timm/resnet50.a1_in1k@main/model.safetensors",)


def test_licences_are_spdx_or_timms_own_word_and_unknown_stays_unknown() -> None:
    for model, checkpoint in CHECKPOINTS:
        said = cfg_of(model, checkpoint).license
        assert checkpoint.license.lower() == (said or "unknown")
    assert MODELS["resnet50"].checkpoint("a1_in1k").license == "Apache-2.0"
    assert MODELS["resnet50"].checkpoint("fb_ssl_yfcc100m_ft_in1k").license == "CC-BY-NC-4.0"


def test_labels_stand_where_there_are_imagenets_thousand() -> None:
    for model, checkpoint in CHECKPOINTS:
        assert checkpoint.num_classes == cfg_of(model, checkpoint).num_classes
        trained = checkpoint.num_classes == 1000 and "in1k" in checkpoint.name
        assert checkpoint.labels == ("imagenet_1k" if trained else None)
    assert MODELS["resmlp_12_224"].checkpoint("fb_dino").labels is None  # pretrained without labels


def test_metrics_carry_their_conditions() -> None:
    metrics = MODELS["resnet50"].checkpoint("a1_in1k").metrics
    assert {(m.name, m.conditions["image_size"]) for m in metrics} == {
        ("top1", 224),
        ("top5", 224),
        ("top1", 288),
        ("top5", 288),
    }
    for model, checkpoint in CHECKPOINTS:
        for metric in checkpoint.metrics:
            assert set(metric.conditions) == {"image_size", "crop_pct", "interpolation"}
            assert 0 < metric.value <= 100, model.name


@pytest.mark.parametrize(
    ("name", "kind", "task", "tag"),
    [
        ("resnet50", "model", "classification", "pyramid"),
        ("vit_base_patch16_224", "model", "classification", "single-stride"),
        ("vit_base_patch14_dinov2", "model", "features", "single-stride"),
        ("crossvit_tiny_240", "model", "classification", "irregular"),
        ("qwen3_vit_88m_enc", "backbone", "features", "single-stride"),
    ],
)
def test_kind_task_and_the_shape_of_maps_are_told(name: str, kind: str, task: str, tag: str) -> None:
    model = MODELS[name]
    assert (model.kind, model.task, model.tags) == (kind, task, (tag,))


def test_rows_build_what_they_declare() -> None:
    import torch

    for name in random.Random(3).sample(sorted(n for n, m in MODELS.items() if m.kind == "model"), 12):
        model = MODELS[name]
        with torch.device("meta"):
            component = TimmModel(model.config)
            backbone = TimmModel.as_backbone(component.config)
        assert sum(p.numel() for p in component.parameters()) == model.params
        assert (backbone.channels, backbone.strides) == (model.channels, model.strides)
        assert component.input_spec == model.input
    assert TimmBackbone.Config.of(MODELS["qwen3_vit_88m_enc"].config, {}).architecture == "qwen3_vit_88m_enc"


def test_the_manifest_reads_back_and_stays_compact() -> None:
    path = Path(zoo_timm.__file__).with_name("zoo.json")
    assert manifest.read(str(path)).models == PLUGIN.models
    assert path.stat().st_size < 3_000_000
