"""The rows of zoo-cnn against what timm and torchvision say of the same weights, and against the compiled manifest."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from zoo.specs import CheckpointSpec, InputSpec, ModelSpec
from zoo_cnn.catalog import PLUGIN
from zoo_cnn.published import TIMM, TORCHVISION

CHECKPOINTS = [(model, checkpoint) for model in PLUGIN.models for checkpoint in model.checkpoints]
LICENSES = {"apache-2.0": "Apache-2.0", "bsd-3-clause": "BSD-3-Clause", "cc-by-nc-4.0": "CC-BY-NC-4.0"}


def with_sources(scheme: str) -> list[tuple[ModelSpec, CheckpointSpec]]:
    return [(model, c) for model, c in CHECKPOINTS if any(source.startswith(scheme) for source in c.sources)]


def test_the_manifest_is_what_the_catalogue_compiles_to() -> None:
    from zoo.plugin.compile import compile_plugin

    assert not compile_plugin("zoo_cnn.catalog").changed, "run: zoo plugin compile zoo_cnn.catalog"


def test_reading_the_catalogue_and_the_package_imports_no_torch() -> None:
    code = "import sys, zoo_cnn, zoo_cnn.catalog; print(*{'torch', 'timm', 'pydantic', 'numpy'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_every_row_of_published_weights_belongs_to_a_model() -> None:
    sources = {source for _, checkpoint in CHECKPOINTS for source in checkpoint.sources}
    for row in TIMM:
        assert f"hf://timm/{row.architecture}.{row.tag}/model.safetensors" in sources
    for row in TORCHVISION:
        assert f"https://download.pytorch.org/models/{row.file}" in sources


def test_timms_weights_have_timms_own_facts() -> None:
    from timm.models import get_pretrained_cfg

    from zoo_timm.inputs import input_spec

    assert len(with_sources("hf://timm/")) == len(TIMM)
    for _, checkpoint in with_sources("hf://timm/"):
        published = checkpoint.sources[0].split("/")[3]
        cfg = get_pretrained_cfg(published)
        assert (cfg.hf_hub_id, cfg.num_classes) == (f"timm/{published}", checkpoint.num_classes), published
        assert checkpoint.license == LICENSES[cfg.license], published
        expected = input_spec(cfg.to_dict())
        if published.endswith(".tv2_in1k"):  # their figures are of the test size
            expected = InputSpec(size=cfg.test_input_size[1:], crop_pct=cfg.test_crop_pct, interpolation="bilinear")
        assert checkpoint.input == expected, published


def test_the_name_of_a_timm_architecture_means_the_weights_timm_loads_for_it() -> None:
    from timm.models import get_pretrained_cfg

    names = {model.name: model.checkpoints[0] for model in PLUGIN.models if model.checkpoints}
    names |= {alias: checkpoint for _, checkpoint in CHECKPOINTS for alias in checkpoint.aliases}
    # Our default for this name is at hand without a hub.
    for architecture in {row.architecture for row in TIMM} - {"efficientnet_lite0"}:
        assert names[architecture].name == get_pretrained_cfg(architecture).tag, architecture


def test_torchvisions_weights_have_torchvisions_own_facts() -> None:
    from torchvision.models import get_weight

    for model, checkpoint in with_sources("https://download.pytorch.org/"):
        (alias,) = checkpoint.aliases
        weights = get_weight(alias)
        transform = weights.transforms()
        assert weights.url == checkpoint.sources[-1]
        assert weights.meta["num_params"] == compiled(model.name)["params"], alias
        assert [*checkpoint.input.size] == transform.crop_size * 2, alias
        assert [*checkpoint.input.resize_to] == transform.resize_size * 2, alias
        assert checkpoint.input.interpolation == transform.interpolation.value, alias
        assert ([*checkpoint.input.mean], [*checkpoint.input.std]) == (transform.mean, transform.std), alias
        published = weights.meta["_metrics"]["ImageNet-1K"]
        assert {m.name: m.value for m in checkpoint.metrics} == {"top1": published["acc@1"], "top5": published["acc@5"]}


def test_torchvisions_digest_prefix_is_in_its_file_name() -> None:
    for _, checkpoint in with_sources("https://download.pytorch.org/"):
        prefix = checkpoint.sources[-1].rpartition("-")[2].removesuffix(".pth")
        assert len(prefix) == 8
        assert checkpoint.sha256 is None or checkpoint.sha256.startswith(prefix)


@pytest.mark.parametrize("name", sorted({row.name for row in TORCHVISION}))
def test_a_torchvision_checkpoint_knows_its_networks_epsilon(name: str) -> None:
    """With another one the logits would differ a little, and nobody would notice."""
    import torch
    from torch import nn
    from torchvision.models import get_model

    model, checkpoint = next((m, c) for m, c in CHECKPOINTS if f"{name}_Weights.IMAGENET1K_V1" in c.aliases)
    module, _, family = model.factory.partition(":")
    with torch.device("meta"):
        theirs = get_model(name.lower())
        ours = getattr(import_module(module), family)({**model.config, **checkpoint.config})
    found, expected = (
        [module.eps for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.LayerNorm)]
        for network in (ours, theirs)
    )
    assert found == expected


def test_a_tensorflow_checkpoint_pads_as_tensorflow() -> None:
    for _, checkpoint in with_sources("hf://timm/tf_"):
        assert checkpoint.config == {"padding": "same", "bn_eps": 1e-3}


def test_labels_have_as_many_names_as_the_head_has_outputs() -> None:
    from zoo.models.labels import label_space

    for model, checkpoint in CHECKPOINTS:
        if checkpoint.labels is not None:
            assert len(label_space(checkpoint.labels)) == checkpoint.num_classes, f"{model.name}.{checkpoint.name}"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet50", "cnn/resnet50.a1_in1k@1"),
        ("resnet50.tv2_in1k", "cnn/resnet50.tv2_in1k@1"),
        ("ResNet50_Weights.IMAGENET1K_V2", "cnn/resnet50.tv2_in1k@1"),
        ("mobilenetv2", "cnn/mobilenetv2.imagenet1k_v1@1"),
        ("mobilenet_v2", "cnn/mobilenetv2.imagenet1k_v1@1"),
        ("mobilenetv2_100", "cnn/mobilenetv2.ra_in1k@1"),
        ("convnext_tiny", "cnn/convnext_t.in12k_ft_in1k@1"),
        ("convnext_tiny.fb_in1k", "cnn/convnext_t.fb_in1k@1"),
        ("tf_efficientnet_b0", "cnn/efficientnet_b0.ns_jft_in1k@1"),
        ("tf_efficientnet_b7.ra_in1k", "cnn/efficientnet_b7.ra_in1k@1"),
        ("efficientnet-lite0", "cnn/efficientnet_lite0.lite_pytorch_in1k@1"),
        ("VGG16_BN_Weights.IMAGENET1K_V1", "cnn/vgg16_bn.imagenet1k_v1@1"),
    ],
)
def test_published_names_are_understood(name: str, expected: str) -> None:
    from zoo.catalog import open_catalog

    assert open_catalog().resolve(name).ref == expected


def compiled(name: str) -> dict[str, object]:
    manifest = json.loads(Path(str(import_module("zoo_cnn").__file__)).with_name("zoo.json").read_text())
    return next(model for model in manifest["models"] if model["name"] == name)
