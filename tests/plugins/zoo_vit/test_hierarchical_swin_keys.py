"""Published names of Swin and Swin V2 against transformers and torchvision: equal outputs, every key used, the way back
exact. Tiny networks with the published layouts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hierarchical_reference import assert_back, assert_close, opened, published_by_transformers, randomised
from safetensors.torch import load_file
from torch import Tensor, nn

from zoo.models.model import Component
from zoo_vit import Swin, SwinV2

SWIN = {"width": 16, "depths": (2, 2, 2, 2), "heads": (1, 2, 2, 4), "num_classes": 7}
SHARED_BUFFERS = re.compile(r".*\.(relative_position_index|relative_coords_table|attn_mask)")

# The names of files on the Hub, with N for numbers.
SWIN_PUBLISHED = {
    "classifier.bias",
    "classifier.weight",
    "swin.embeddings.norm.bias",
    "swin.embeddings.norm.weight",
    "swin.embeddings.patch_embeddings.projection.bias",
    "swin.embeddings.patch_embeddings.projection.weight",
    "swin.encoder.layers.N.downsample.norm.bias",
    "swin.encoder.layers.N.downsample.norm.weight",
    "swin.encoder.layers.N.downsample.reduction.weight",
    "swin.layernorm.bias",
    "swin.layernorm.weight",
    *(
        f"swin.encoder.layers.N.blocks.N.{name}"
        for name in (
            "attention.self.key.bias",
            "attention.self.key.weight",
            "attention.output.dense.bias",
            "attention.output.dense.weight",
            "attention.self.query.bias",
            "attention.self.query.weight",
            "attention.self.relative_position_bias_table",
            "attention.self.value.bias",
            "attention.self.value.weight",
            "layernorm_after.bias",
            "layernorm_after.weight",
            "layernorm_before.bias",
            "layernorm_before.weight",
            "intermediate.dense.bias",
            "intermediate.dense.weight",
            "output.dense.bias",
            "output.dense.weight",
        )
    ),
}


@pytest.mark.parametrize("side", [224, 256])  # 256: windows of 7 do not fill the maps
def test_transformers_swin_weights_give_its_logits(side: int) -> None:
    from transformers import SwinConfig, SwinForImageClassification

    config = SwinConfig(
        image_size=side, embed_dim=16, depths=[2, 2, 2, 2], num_heads=[1, 2, 2, 4], window_size=7, num_labels=7
    )
    theirs = randomised(SwinForImageClassification(config))
    published = published_by_transformers(theirs)
    assert {re.sub(r"\.\d+", ".N", name) for name in published} == SWIN_PUBLISHED
    ours = Swin(**SWIN, image_size=side, pad_before_shift=True)
    assert not opened(ours, published, "transformers").skipped
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        expected = theirs(images)
        outputs = ours(images)
        assert_close(outputs["logits"], expected.logits)
        assert_close(outputs["embeddings"], theirs.swin(images).pooler_output)
    assert_back(ours, "transformers", published)


def test_transformers_and_timm_differ_where_windows_do_not_fill_a_map() -> None:
    """The fact is on the checkpoints of both, and it matters."""
    ours, theirs = Swin(**SWIN, image_size=256, pad_before_shift=True), Swin(**SWIN, image_size=256)
    theirs.load_state_dict(randomised(ours).state_dict())
    images = torch.randn(1, 3, 256, 256)
    with torch.inference_mode():
        difference = ours(images)["logits"] - theirs.eval()(images)["logits"]
    assert difference.abs().max() > 1e-3


def test_a_file_of_transformers_with_its_old_buffers_is_opened() -> None:
    published = Swin(**SWIN).key_maps()["transformers"].save(Swin(**SWIN).state_dict())
    buffer = "swin.encoder.layers.0.blocks.0.attention.self.relative_position_index"
    report = opened(Swin(**SWIN), {**published, buffer: torch.zeros(49, 49, dtype=torch.long)}, "transformers")
    assert set(report.skipped) == {buffer}


@pytest.mark.parametrize("side", [256, 320])  # 320: windows of 8 do not fill the maps
def test_transformers_swin_v2_weights_give_its_logits(side: int) -> None:
    from transformers import Swinv2Config, Swinv2ForImageClassification

    config = Swinv2Config(
        image_size=side,
        embed_dim=16,
        depths=[2, 2, 2, 2],
        num_heads=[1, 2, 2, 4],
        window_size=8,
        num_labels=7,
        pretrained_window_sizes=[6, 6, 6, 3],
    )
    theirs = randomised(Swinv2ForImageClassification(config))
    published = published_by_transformers(theirs)
    ours = SwinV2(**SWIN, image_size=side, pretrained_window_sizes=(6, 6, 6, 3), pad_before_shift=True)
    assert not opened(ours, published, "transformers").skipped
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        assert_close(ours(images)["logits"], theirs(images).logits)
    assert_back(ours, "transformers", published)


def torchvision_swin(version: int) -> nn.Module:
    from torchvision.models import swin_transformer as module

    second = {"block": module.SwinTransformerBlockV2, "downsample_layer": module.PatchMergingV2}
    window = [7, 7] if version == 1 else [8, 8]
    return module.SwinTransformer(
        [4, 4], 16, [2, 2, 2, 2], [1, 2, 2, 4], window, num_classes=7, **(second if version == 2 else {})
    )


@pytest.mark.parametrize(("version", "side"), [(1, 224), (1, 256), (2, 256), (2, 320)])
def test_torchvision_swin_weights_give_its_logits(version: int, side: int) -> None:
    theirs = randomised(torchvision_swin(version))
    for name, tensor in theirs.named_parameters():
        if version == 2 and name.endswith("attn.qkv.bias"):
            tensor.data.chunk(3)[1].zero_()  # as its forward pass does
    published = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    ours = (Swin if version == 1 else SwinV2)(**SWIN, image_size=side, pad_before_shift=True)
    report = opened(ours, published, "torchvision")
    assert set(report.skipped) == {name for name in published if SHARED_BUFFERS.fullmatch(name)} != set()
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        assert_close(ours(images)["logits"], theirs(images))
    assert_back(ours, "torchvision", {n: t for n, t in published.items() if not SHARED_BUFFERS.fullmatch(n)})


@pytest.mark.long
@pytest.mark.parametrize(("name", "family"), [("swin_t", Swin), ("swin_v2_t", SwinV2)])
def test_torchvisions_own_sizes_give_its_logits(name: str, family: type[Component]) -> None:
    from torchvision.models import get_model

    theirs = randomised(get_model(name))
    ours = family(pad_before_shift=True)
    opened(ours, theirs.state_dict(), "torchvision")
    side = ours.input_spec.size[0]  # type: ignore[attr-defined]  # every model has one
    images = torch.randn(1, 3, side, side)
    with torch.inference_mode():
        assert_close(ours(images)["logits"], theirs(images))


def microsofts(ours: Component, buffers: bool = True) -> dict[str, Tensor]:
    """timm's names → the authors': patches merged at the end of a stage, a plain head, buffers kept."""
    names: dict[str, Tensor] = {}
    for name, tensor in ours.state_dict().items():
        name = name.removeprefix("encoder.").replace("head.fc.", "head.")
        name = re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name)
        names[name] = tensor.clone()
    if buffers:
        names["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
        names["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    return names


@pytest.mark.parametrize("format", ["original", "timm"])
@pytest.mark.parametrize("family", [Swin, SwinV2])
def test_the_authors_layout_is_opened_under_both_names(family: type[Component], format: str) -> None:
    """Files of `timm/swin*` on the Hub keep the authors' layout: stages and head of them are one off."""
    theirs = randomised(family(**SWIN))
    ours = family(**SWIN)
    report = opened(ours, microsofts(theirs), format)
    assert set(report.skipped) == {
        "layers.0.blocks.0.attn.relative_position_index",
        "layers.0.blocks.1.attn_mask",
    }
    images = torch.randn(1, 3, *ours.input_spec.size)  # type: ignore[attr-defined]  # every model has one
    with torch.inference_mode():
        assert torch.equal(ours(images)["logits"], theirs(images)["logits"])
    if format == "original":
        assert_back(ours, format, microsofts(theirs, buffers=False))


def test_windows_of_another_size_get_interpolated_tables() -> None:
    small = randomised(Swin(**SWIN))
    published = small.key_maps()["transformers"].save(small.state_dict())
    report = opened(Swin(**SWIN, window_size=12, image_size=384), published, "transformers")
    tables = {name for name in report.adapted if name.endswith("relative_position_bias_table")}
    assert len(tables) == 8


def test_maps_run_on_tensors_without_data() -> None:
    with torch.device("meta"):
        published = torchvision_swin(2).state_dict()
        ours = SwinV2(**SWIN)
    state = ours.key_maps()["torchvision"].load(published)
    own = ours.state_dict()
    assert {name: tensor.shape for name, tensor in state.tensors.items()} == {n: t.shape for n, t in own.items()}


def test_a_folder_saved_in_published_names_comes_back(tmp_path: Path) -> None:
    theirs = randomised(Swin(**SWIN))
    theirs.save_pretrained(tmp_path / "swin", format="transformers")
    names = load_file(tmp_path / "swin" / "model.safetensors").keys()
    assert {re.sub(r"\.\d+", ".N", name) for name in names} == SWIN_PUBLISHED
    ours = Swin.from_pretrained(tmp_path / "swin").eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert_close(ours(images)["logits"], theirs(images)["logits"])
