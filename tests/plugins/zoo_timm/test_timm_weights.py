"""The `timm` format: today's files pass untouched, older ones are converted, and all is accounted for."""

from __future__ import annotations

import re
from functools import partial
from unittest import mock

import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from zoo.build.fast_init import without_initialisation
from zoo.checkpoints.keymap import KeyMap, Prefix
from zoo.errors import FormatError
from zoo_timm.adapter import TimmBackbone, TimmClassifier, TimmClassifierConfig, TimmModel
from zoo_timm.catalog import PLUGIN
from zoo_timm.weights import conversion

SWIN = "swin_s3_tiny_224"


def published(architecture: str, **options: object) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return timm.create_model(architecture, **options).state_dict()


def loaded_by_timm(architecture: str, tensors: dict[str, Tensor], **options: object) -> nn.Module:
    """What timm itself makes of a published file."""
    overlay = {"state_dict": dict(tensors)}
    return timm.create_model(architecture, pretrained=True, pretrained_cfg_overlay=overlay, **options).eval()


def microsofts(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A Swin file as Microsoft published it: downsampling ends a stage, and index tables and masks are inside."""
    old: dict[str, Tensor] = {"layers.0.blocks.1.attn_mask": torch.zeros(4, 49, 49)}
    for name, tensor in tensors.items():
        name = re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name)
        old[name.replace("head.fc.", "head.")] = tensor
    old["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
    return old


def torchvisions_vgg(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    old = {}
    for name, tensor in tensors.items():
        name = name.replace("pre_logits.fc1", "classifier.0").replace("pre_logits.fc2", "classifier.3")
        flat = tensor.flatten(1) if name.startswith("classifier") and tensor.ndim == 4 else tensor
        old[name.replace("head.fc", "classifier.6")] = flat
    return old


def facebooks_convnext(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    old = {}
    for name, tensor in tensors.items():
        name = re.sub(r"^stem\.", "downsample_layers.0.", name)
        name = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", name)
        name = re.sub(r"^stages\.(\d)\.blocks\.", r"stages.\1.", name)
        name = name.replace("conv_dw", "dwconv").replace("mlp.fc1", "pwconv1").replace("mlp.fc2", "pwconv2")
        old[name.replace("head.norm", "norm").replace("head.fc", "head")] = tensor
    return old


@pytest.mark.parametrize("architecture", ["test_resnet", "test_vit", SWIN])
def test_a_file_of_todays_layout_passes_untouched(architecture: str) -> None:
    with torch.device("meta"):
        tensors = published(architecture)
        state = TimmModel(architecture=architecture).key_maps()["timm"].load(tensors)
    assert {name.removeprefix("encoder."): id(tensor) for name, tensor in state.tensors.items()} == {
        name: id(tensor) for name, tensor in tensors.items()
    }
    assert (state.skipped, state.adapted) == ({}, {})


@pytest.mark.parametrize(
    ("architecture", "older"),
    [(SWIN, microsofts), ("vgg11", torchvisions_vgg), ("test_convnext", facebooks_convnext)],
)
def test_an_older_layout_is_converted_also_without_data(architecture: str, older: object) -> None:
    with torch.device("meta"):
        model = TimmModel(architecture=architecture)
        state = model.key_maps()["timm"].load(older(published(architecture)))
    own = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert {name: tensor.shape for name, tensor in state.tensors.items()} == own
    assert all(name.endswith(("attn_mask", "relative_position_index")) for name in state.skipped)


def timms_conversion(architecture: str) -> object:
    """The function timm runs over this architecture's files, and with what, caught on its way to the loader."""
    with torch.device("meta"), without_initialisation(), mock.patch("timm.models._builder.load_pretrained") as loader:
        encoder = timm.create_model(architecture, pretrained=True)
    return encoder, loader.call_args.kwargs["filter_fn"]


def unfolded(function: object) -> tuple[object, dict[str, object]]:
    options: dict[str, object] = {}
    while isinstance(function, partial):
        options = {**function.keywords, **options}
        function = function.func
    return function, {name: value for name, value in options.items() if name != "model" and value not in (None, "")}


def one_of_each_kind() -> list[str]:
    """An architecture for every timm module and class, and those that timm treats by name."""
    found: dict[tuple[str, str], str] = {}
    for row in sorted(PLUGIN.models, key=lambda m: (m.params or 0, m.name)):
        module = timm.model_entrypoint(row.name).__module__
        by_name = next((word for word in ("flexi", "radio", "siglip", "deit3") if word in row.name), "")
        found.setdefault((module, f"{row.kind} {row.task} {by_name}"), row.name)
    return [*found.values(), "vit_base_patch16_radio_v3"]


def test_the_conversions_are_those_timm_uses() -> None:
    for architecture in one_of_each_kind():
        encoder, theirs = timms_conversion(architecture)
        ours = conversion(encoder, architecture)
        if architecture.startswith("crossvit"):  # timm's is defined inside a function: compared by what it does
            assert ours({"pos_embed.0": 1, "head.0.bias": 2}) == theirs({"pos_embed.0": 1, "head.0.bias": 2})
        else:
            assert unfolded(ours) == unfolded(theirs), architecture


def test_a_converted_file_has_the_values_timm_loads() -> None:
    tensors = published("test_convnext")
    model = TimmModel(architecture="test_convnext")
    model.load_state_dict(model.key_maps()["timm"].load(facebooks_convnext(tensors)).tensors)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.encoder.state_dict().items())


def test_a_rebuilt_tensor_is_reported_with_its_published_name() -> None:
    with torch.device("meta"):
        state = TimmModel(architecture="vgg11").key_maps()["timm"].load(torchvisions_vgg(published("vgg11")))
    assert "encoder.pre_logits.fc1.weight" in state.adapted
    assert state.origins["encoder.pre_logits.fc1.weight"] == "classifier.0.weight"
    assert state.origins["encoder.features.0.weight"] == "features.0.weight"
    assert state.skipped == {}


def test_openclips_tower_is_found_and_its_text_side_is_skipped() -> None:
    tower = published("test_vit3", num_classes=0)
    tensors = {f"visual.trunk.{name}": tensor for name, tensor in tower.items()}
    tensors["text.token_embedding.weight"] = torch.zeros(11, 7)
    model = TimmModel(architecture="test_vit3", num_classes=0)
    state = model.key_maps()["timm"].load(tensors)
    model.load_state_dict(state.tensors)
    assert state.skipped == {"text.token_embedding.weight": "left out by timm's conversion"}
    assert state.origins["encoder.pos_embed"] == "visual.trunk.pos_embed"


@pytest.mark.parametrize("channels", [1, 4])
def test_the_first_layer_is_adapted_to_other_channels_as_timm_does(channels: int) -> None:
    for architecture in ("test_resnet", "test_vit"):
        tensors = published(architecture)
        model = TimmModel(architecture=architecture, in_chans=channels)
        state = model.key_maps()["timm"].load(tensors)
        first = {"test_resnet": "encoder.conv1.0.weight", "test_vit": "encoder.patch_embed.proj.weight"}[architecture]
        assert state.adapted == {first: f"3 input channels to {channels}"}
        model.load_state_dict(state.tensors)
        theirs = loaded_by_timm(architecture, tensors, in_chans=channels).state_dict()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in model.encoder.state_dict().items())


def test_positions_are_resized_to_another_image_size_as_timm_does() -> None:
    tensors = published("vit_tiny_patch16_224")
    model = TimmModel(architecture="vit_tiny_patch16_224", image_size=(96, 160))
    state = model.key_maps()["timm"].load(tensors)
    assert list(state.adapted) == ["encoder.pos_embed"]
    model.load_state_dict(state.tensors)
    theirs = loaded_by_timm("vit_tiny_patch16_224", tensors, img_size=(96, 160)).state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in model.encoder.state_dict().items())


def test_positions_are_resized_too_where_another_grid_has_as_many() -> None:
    tensors = published("vit_tiny_patch16_224")
    model = TimmModel(architecture="vit_tiny_patch16_224", image_size=(112, 448))
    assert list(model.key_maps()["timm"].load(tensors).adapted) == ["encoder.pos_embed"]


class TheirViT(TimmClassifier):
    Config = TimmClassifierConfig

    @classmethod
    def architecture(cls, config: TimmClassifierConfig) -> str:
        return "vit_tiny_patch16_384"

    @classmethod
    def arguments(cls, config: TimmClassifierConfig) -> dict[str, int]:
        return {"depth": 1}

    @classmethod
    def published(cls, config: TimmClassifierConfig) -> dict[str, KeyMap]:
        return {"theirs": KeyMap(Prefix("net.", ""))}


@pytest.mark.parametrize("layout", ["theirs", "timm"])
def test_as_many_positions_of_a_square_grid_are_interpolated_whatever_the_architectures_own_size(layout: str) -> None:
    # The architecture's own size is 384 here, so the file's 14 x 14 is known from its number alone.
    tensors = published("vit_tiny_patch16_384", img_size=224, depth=1)
    prefix = "net." if layout == "theirs" else ""
    model = TheirViT(image_size=(112, 448))
    state = model.key_maps()[layout].load({prefix + name: tensor for name, tensor in tensors.items()})
    assert list(state.adapted) == ["encoder.pos_embed"]
    assert state.origins["encoder.pos_embed"] == f"{prefix}pos_embed"
    expected = resample_abs_pos_embed(tensors["pos_embed"], [7, 28], [14, 14], num_prefix_tokens=1)
    assert torch.allclose(state.tensors["encoder.pos_embed"], expected, atol=1e-6)
    square = TheirViT(image_size=224).key_maps()[layout]
    unchanged = square.load({prefix + name: tensor for name, tensor in tensors.items()})
    assert torch.equal(unchanged.tensors["encoder.pos_embed"], tensors["pos_embed"])


def test_a_native_file_keeps_the_positions_of_the_oblong_size_it_was_saved_at() -> None:
    saved = TheirViT(image_size=(112, 448)).state_dict()
    state = TheirViT(image_size=(112, 448)).key_maps()["native"].load(saved)
    assert state.adapted == {}
    assert torch.equal(state.tensors["encoder.pos_embed"], saved["encoder.pos_embed"])


def test_oblong_positions_that_cannot_be_resized_are_called_that() -> None:
    saved = TheirViT(image_size=(160, 224)).state_dict()
    with pytest.raises(FormatError, match="no square grid") as caught:
        TheirViT(image_size=224).key_maps()["native"].load(saved)
    assert caught.value.found == "140 positions"
    assert "image_size=(height, width)" in str(caught.value.fix)


def test_the_files_own_channels_are_reported_and_suggested() -> None:
    grey = TimmModel(architecture="test_resnet", in_chans=1).state_dict()
    for channels in (2, 3):
        state = TimmModel(architecture="test_resnet", in_chans=channels).key_maps()["native"].load(grey)
        assert state.adapted == {"encoder.conv1.0.weight": f"1 input channels to {channels}"}
    with torch.device("meta"):
        moved = TimmModel(architecture="tresnet_m").state_dict()  # 16 pixels of each channel: (D, 48, h, w)
        state = TimmModel(architecture="tresnet_m", in_chans=1).key_maps()["native"].load(moved)
        assert list(state.adapted.values()) == ["3 input channels to 1"]
        flat = TimmModel(architecture="naflexvit_base_patch16_gap", in_chans=2)
        with pytest.raises(FormatError, match="to 3 channels") as caught:
            TimmModel(architecture="naflexvit_base_patch16_gap").key_maps()["native"].load(flat.state_dict())
    assert (caught.value.found, caught.value.fix) == ("2 channels in the file", "in_chans=2")


def test_a_first_layer_of_another_width_is_not_called_a_matter_of_channels() -> None:
    tensors = TimmModel(architecture="test_resnet").state_dict()
    tensors["encoder.conv1.0.weight"] = torch.zeros(5, 3, 3, 3)
    state = TimmModel(architecture="test_resnet").key_maps()["native"].load(tensors)
    assert state.adapted == {}


@pytest.mark.parametrize(
    "architecture", ["test_resnet", "levit_128s", "shvit_s1", "repvit_m0_9", "caformer_s18", "crossvit_tiny_240"]
)
def test_a_backbone_skips_the_published_classifier_whole(architecture: str) -> None:
    with torch.device("meta"):
        tensors = published(architecture)
        for component in (TimmBackbone(architecture=architecture), TimmModel(architecture=architecture, num_classes=0)):
            state = component.key_maps()["timm"].load(tensors)
            assert set(state.tensors) == set(component.state_dict())
            assert set(state.skipped) == {n for n in tensors if f"encoder.{n}" not in state.tensors}
            assert set(state.skipped.values()) == {"the published classifier; this model has none"}


def test_what_belongs_to_another_model_is_left_to_be_reported() -> None:
    with torch.device("meta"):
        state = TimmModel(architecture="test_resnet").key_maps()["timm"].load(published("resnet18"))
    assert "encoder.layer1.0.bn1.running_mean" in state.tensors


def test_a_file_the_conversion_chokes_on_is_a_format_error() -> None:
    with pytest.raises(FormatError, match="swin"):
        TimmModel(architecture=SWIN).key_maps()["timm"].load(
            {"layers.0.blocks.0.attn.relative_position_bias_table": torch.zeros(3)}
        )


@pytest.mark.parametrize("architecture", ["test_resnet", SWIN])
def test_saving_gives_names_that_timm_loads(architecture: str) -> None:
    with torch.device("meta"):
        model = TimmModel(architecture=architecture)
        saved = model.key_maps()["timm"].save(model.state_dict())
        timm.create_model(architecture).load_state_dict(saved, assign=True)
    assert not any(name.startswith("encoder.") for name in saved)


class Tiny(TimmClassifier):
    Config = TimmClassifierConfig

    @classmethod
    def architecture(cls, config: TimmClassifierConfig) -> str:
        return "test_resnet"

    @classmethod
    def published(cls, config: TimmClassifierConfig) -> dict[str, KeyMap]:
        return {"theirs": KeyMap(Prefix("net.", ""))}


def test_a_familys_own_format_serves_its_model_and_its_backbone() -> None:
    tensors = {f"net.{name}": tensor for name, tensor in published("test_resnet").items()}
    model = Tiny(in_chans=1)
    state = model.key_maps()["theirs"].load(tensors)
    model.load_state_dict(state.tensors)
    assert list(state.adapted) == ["encoder.conv1.0.weight"]
    assert set(model.key_maps()["theirs"].save(model.state_dict())) == set(tensors)
    backbone = Tiny.as_backbone(model.config)
    state = backbone.key_maps()["theirs"].load(tensors)
    backbone.load_state_dict(state.tensors)
    assert set(state.skipped) == {"net.fc.weight", "net.fc.bias"}


@pytest.mark.parametrize("architecture", ["test_vit", SWIN, "test_nfnet", "levit_128s"])
def test_built_without_initialisation_and_filled_it_computes_the_same(architecture: str) -> None:
    plain = TimmModel(architecture=architecture, num_classes=5).eval()
    with without_initialisation():
        quick = TimmModel(architecture=architecture, num_classes=5).eval()
    quick.load_state_dict({name: tensor.clone() for name, tensor in plain.state_dict().items()}, assign=True)
    images = torch.rand(1, 3, *plain.input_spec.size)
    with torch.inference_mode():
        assert torch.equal(quick(images)["logits"], plain(images)["logits"])
