"""Published names of Swin, Swin V2, SAM and SAM 2 against the implementations that use them: equal outputs, every key
used, the way back exact. Tiny networks with the published layouts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zoo.build.weights import load_weights
from zoo.models.load_report import LoadReport
from zoo.models.model import Component
from zoo_vit import SAM2Hiera, SAMEncoder, Swin, SwinV2

TOLERANCE = 1e-5
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


def randomised(model: nn.Module) -> nn.Module:
    """Random scales, biases and tables too: at ones and zeros a swapped name would not show."""
    torch.manual_seed(0)
    for name, tensor in model.named_parameters():
        with torch.no_grad():
            if tensor.ndim > 1:
                tensor.normal_(0, tensor[0].numel() ** -0.5)
            elif name.endswith("weight"):
                tensor.uniform_(0.5, 1.5)
            else:
                tensor.uniform_(-0.2, 0.2)
    return model.eval()


def published_by_transformers(model: Any) -> dict[str, Tensor]:
    from transformers.core_model_loading import revert_weight_conversion

    return {name: tensor.clone() for name, tensor in revert_weight_conversion(model, model.state_dict()).items()}


def opened(ours: Component, published: Mapping[str, Tensor], format: str) -> LoadReport:
    report = load_weights(ours, published, format=format, source="the reference")
    ours.eval()
    return report


def assert_back(ours: Component, format: str, published: Mapping[str, Tensor]) -> None:
    found = ours.key_maps()[format].save(ours.state_dict())
    assert found.keys() == published.keys()
    assert [name for name in published if not torch.equal(found[name], published[name])] == []


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert expected.std() > 0.01
    assert (found - expected).abs().max() <= TOLERANCE * max(1.0, float(expected.abs().max()))


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


def tiny_sam(side: int) -> nn.Module:
    from transformers import SamConfig, SamMaskDecoderConfig, SamModel, SamPromptEncoderConfig, SamVisionConfig

    vision = SamVisionConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=side,
        window_size=3,
        global_attn_indexes=[1],
        output_channels=256,
    )
    config = SamConfig(
        vision_config=vision,
        prompt_encoder_config=SamPromptEncoderConfig(image_size=side, image_embedding_size=side // 16),
        mask_decoder_config=SamMaskDecoderConfig(num_hidden_layers=1),
    )
    return randomised(SamModel(config))


def sam_encoder(side: int) -> SAMEncoder:
    return SAMEncoder(
        width=32, depth=3, heads=2, window_size=3, global_blocks=(1,), positions=side // 16, norm_eps=1e-6
    )


def metas(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names of SAM → Meta's, of what concerns the encoder; a few of the rest."""
    table = {
        r"^vision_encoder\.": "image_encoder.",
        r"\.layers\.": ".blocks.",
        r"\.layer_norm([12])\.(?=\w+$)": r".norm\1.",
        r"projection": "proj",
    }
    neck = {"conv1": 0, "layer_norm1": 1, "conv2": 2, "layer_norm2": 3}
    names: dict[str, Tensor] = {}
    for name, tensor in published.items():
        if not name.startswith("vision_encoder."):
            continue
        part = re.fullmatch(r"vision_encoder\.neck\.(\w+)\.(\w+)", name)
        if part:
            name = f"image_encoder.neck.{neck[part[1]]}.{part[2]}"
        for old, new in table.items():
            name = re.sub(old, new, name)
        names[name] = tensor
    return names


@pytest.mark.parametrize("side", [64, 112])
def test_sams_encoder_weights_give_transformers_map(side: int) -> None:
    theirs = tiny_sam(side)
    published = published_by_transformers(theirs)
    mine = {name for name in published if name.startswith("vision_encoder.")}
    ours = sam_encoder(side)
    report = opened(ours, published, "transformers")
    assert set(report.skipped) == published.keys() - mine
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        expected = theirs.get_image_embeddings(images)
        assert_close(ours.encoder.forward_features(images), expected)
        assert_close(ours(images)["embeddings"], expected.mean((2, 3)))
    assert_back(ours, "transformers", {name: published[name] for name in mine})


def test_sams_encoder_opens_metas_file_of_the_whole_model() -> None:
    theirs = tiny_sam(64)
    published = metas(published_by_transformers(theirs))
    assert {"image_encoder.neck.3.weight", "image_encoder.blocks.2.mlp.lin1.weight"} <= published.keys()
    rest = {
        "prompt_encoder.point_embeddings.0.weight": torch.ones(1, 256),
        "mask_decoder.iou_token.weight": torch.ones(1),
    }
    ours = sam_encoder(64)
    report = opened(ours, {**published, **rest}, "original")
    assert report.skipped == dict.fromkeys(rest, "not of the image encoder")
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert_close(ours.encoder.forward_features(images), theirs.get_image_embeddings(images))
    assert_back(ours, "original", published)


SAM2 = {"width": 16, "depths": (1, 2, 3, 1), "heads": 1, "window_sizes": (8, 4, 6, 3), "global_blocks": (4,)}


def tiny_sam2(side: int) -> nn.Module:
    from transformers import Sam2HieraDetConfig
    from transformers.models.sam2.modeling_sam2 import Sam2HieraDetModel

    config = Sam2HieraDetConfig(
        hidden_size=16,
        image_size=[side, side],
        blocks_per_stage=[1, 2, 3, 1],
        embed_dim_per_stage=[16, 32, 64, 128],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        window_size_per_stage=[8, 4, 6, 3],
        global_attention_blocks=[4],
    )
    return randomised(Sam2HieraDetModel(config))


@pytest.mark.parametrize("format", ["transformers", "original"])
@pytest.mark.parametrize("side", [64, 96])
def test_sam2s_trunk_weights_give_transformers_maps(side: int, format: str) -> None:
    theirs = tiny_sam2(side)
    published = {f"vision_encoder.backbone.{name}": tensor.clone() for name, tensor in theirs.state_dict().items()}
    if format == "original":
        table = {
            "vision_encoder.backbone": "image_encoder.trunk",
            "projection": "proj",
            "layer_norm": "norm",
            "mlp.proj_in": "mlp.layers.0",
            "mlp.proj_out": "mlp.layers.1",
        }
        for old, new in table.items():
            published = {name.replace(old, new): tensor for name, tensor in published.items()}
    ours = SAM2Hiera(**SAM2)
    rest = {"no_memory_embedding": torch.ones(1), "memory_attention.norm.weight": torch.ones(1)}
    report = opened(ours, {**published, **rest}, format)
    assert set(report.skipped) == set(rest)
    assert set(report.adapted) == {"encoder.head.norm.weight", "encoder.head.norm.bias"}
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        expected = theirs(images).intermediate_hidden_states
        maps = ours(images, output_features=True)["features"]
    assert len(maps) == len(expected) == 4
    for found, wanted in zip(maps, expected, strict=True):
        assert_close(found, wanted.permute(0, 3, 1, 2))
    assert_back(ours, format, published)


def test_maps_run_on_tensors_without_data() -> None:
    with torch.device("meta"):
        published = torchvision_swin(2).state_dict()
        ours = SwinV2(**SWIN)
    state = ours.key_maps()["torchvision"].load(published)
    own = ours.state_dict()
    assert {name: tensor.shape for name, tensor in state.tensors.items()} == {n: t.shape for n, t in own.items()}
