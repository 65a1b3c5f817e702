"""The rows of Swin, Swin V2, Hiera, SAM's encoders and TinyViT against papers, timm and torchvision."""

from __future__ import annotations

import json
from importlib.resources import files

import numpy as np
import pytest

import zoo
from zoo.models.images import load_images
from zoo.models.preprocessing import Preprocessor
from zoo.specs import CheckpointSpec, ModelSpec
from zoo_timm.catalog import ARCHITECTURES
from zoo_vit.catalog import PLUGIN
from zoo_vit.rows.hierarchical import FAMILIES
from zoo_vit.rows.row import Timm

NAMES = [size.name for family in FAMILIES for size in family.sizes]
MODELS: dict[str, ModelSpec] = {model.name: model for model in PLUGIN.models if model.name in NAMES}
MANIFEST = json.loads(files("zoo_vit").joinpath("zoo.json").read_text(encoding="utf-8"))
COMPILED = {row["name"]: ModelSpec.from_dict(row) for row in MANIFEST["models"] if row["name"] in NAMES}
CHECKPOINTS = [(model, checkpoint) for model in MODELS.values() for checkpoint in model.checkpoints]


def checkpoint(name: str, tag: str) -> CheckpointSpec:
    found = MODELS[name].checkpoint(tag)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "millions", "channels"),
    [
        ("swin_t", 28, (96, 192, 384, 768)),
        ("swin_s", 50, (96, 192, 384, 768)),
        ("swin_b", 88, (128, 256, 512, 1024)),
        ("swin_l", 197, (192, 384, 768, 1536)),
        ("swinv2_t", 28, (96, 192, 384, 768)),
        ("swinv2_s", 50, (96, 192, 384, 768)),
        ("swinv2_b", 88, (128, 256, 512, 1024)),
        ("swinv2_l", 197, (192, 384, 768, 1536)),
        ("hiera_t", 28, (96, 192, 384, 768)),
        ("hiera_s", 35, (96, 192, 384, 768)),
        ("hiera_b", 52, (96, 192, 384, 768)),
        ("hiera_bp", 70, (112, 224, 448, 896)),
        ("hiera_l", 214, (144, 288, 576, 1152)),
        ("hiera_h", 673, (256, 512, 1024, 2048)),
        ("sam2_hiera_t", 27, (96, 192, 384, 768)),
        ("sam2_hiera_s", 34, (96, 192, 384, 768)),
        ("sam2_hiera_bp", 69, (112, 224, 448, 896)),
        ("sam2_hiera_l", 212, (144, 288, 576, 1152)),
        ("sam_encoder_b", 90, (768,)),
        ("sam_encoder_l", 308, (1024,)),
        ("sam_encoder_h", 637, (1280,)),
        ("tinyvit_5m", 5, (64, 128, 160, 320)),
        ("tinyvit_11m", 11, (64, 128, 256, 448)),
        ("tinyvit_21m", 21, (96, 192, 384, 576)),
    ],
)
def test_sizes_are_the_papers(name: str, millions: int, channels: tuple[int, ...]) -> None:
    model = COMPILED[name]
    assert model.params is not None
    assert round(model.params / 1e6) == millions
    assert model.channels == channels
    assert model.strides == ((4, 8, 16, 32) if len(channels) == 4 else (16,))


def test_every_weight_timm_has_of_these_architectures_has_a_name_here() -> None:
    families = ("swin_", "swinv2_", "hiera_", "sam2_hiera_", "samvit_", "tiny_vit_")
    left_out = ("swin_s3_", "swinv2_cr_", "hiera_small_abswin_256", "hiera_base_abswin_256")  # other networks
    published = {
        f"{name}.{row.name}"
        for name, about in ARCHITECTURES.items()
        if name.startswith(families) and not name.startswith(left_out)
        for row in about.checkpoints
    }
    assert published == {
        alias for _, row in CHECKPOINTS if row.format == "timm" for alias in row.aliases if "." in alias
    }
    assert len(published) > 40


def test_names_are_unique_and_say_what_differs() -> None:
    for model in MODELS.values():
        names = [row.name for row in model.checkpoints]
        assert len(names) == len(set(names)), model.name
    assert checkpoint("swinv2_t", "ms_in1k_window16").config == {"window_size": 16}
    assert checkpoint("swinv2_b", "ms_in22k").config == {"window_size": 12, "image_size": 192}


@pytest.mark.long
def test_a_checkpoints_config_is_its_architectures() -> None:
    """What a row says of a window is what timm builds: the state dicts have the same names and shapes."""
    import torch
    from timm import create_model

    from zoo_vit import SwinV2

    for architecture in ("swinv2_base_window12to24_192to384", "swinv2_large_window12_192"):
        row = next(row for _, row in CHECKPOINTS if architecture in row.aliases)
        name = "swinv2_b" if "base" in architecture else "swinv2_l"
        with torch.device("meta"):
            theirs = create_model(architecture, num_classes=1000)
            ours = SwinV2({**MODELS[name].config, **row.config})
        for mine, other in zip(ours.encoder.layers, theirs.layers, strict=True):
            found, expected = mine.blocks[0].attn, other.blocks[0].attn
            assert (found.window_size, found.pretrained_window_size) == (
                expected.window_size,
                expected.pretrained_window_size,
            )


def test_licences_are_the_publishers() -> None:
    said = {
        "Swin": {"MIT", "BSD-3-Clause", "Apache-2.0"},
        "SwinV2": {"MIT", "BSD-3-Clause", "Apache-2.0"},
        "Hiera": {"CC-BY-NC-4.0"},
        "SAM2Hiera": {"Apache-2.0"},
        "SAMEncoder": {"Apache-2.0"},
        "TinyViT": {"Apache-2.0"},
    }
    found: dict[str, set[str]] = {}
    for model, row in CHECKPOINTS:
        found.setdefault(model.family, set()).add(row.license)
    assert found == said


def test_torchvisions_weights_have_torchvisions_own_facts() -> None:
    from torchvision.models import get_weight

    rows = [(model, row) for model, row in CHECKPOINTS if row.format == "torchvision"]
    assert len(rows) == 6
    for model, row in rows:
        (alias,) = row.aliases
        weights = get_weight(alias)
        transform = weights.transforms()
        assert row.sources == (weights.url,)
        assert weights.meta["categories"][0] == "tench"
        assert row.input.size == tuple(transform.crop_size * 2)
        assert row.input.resize_to == tuple(transform.resize_size * 2)
        assert row.input.interpolation == transform.interpolation.value
        assert (row.input.mean, row.input.std) == (tuple(transform.mean), tuple(transform.std))
        figures = {"acc@1": row.metrics[0].value, "acc@5": row.metrics[1].value}
        assert weights.meta["_metrics"] == {"ImageNet-1K": figures}
        params = COMPILED[model.name].params or 0
        widths = [model.config["width"] * 2**stage for stage in range(4)]
        keys = sum(depth * width for depth, width in zip(model.config["depths"], widths, strict=True))
        # torchvision counts V2's bias for the keys, which is always zero.
        assert weights.meta["num_params"] - params == (keys if model.family == "SwinV2" else 0)


@pytest.mark.parametrize(
    ("name", "sha256", "size"),
    [
        ("sam_encoder_b", "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912", 375_042_383),
        ("sam_encoder_l", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622", None),
        ("sam_encoder_h", "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e", 2_564_550_879),
    ],
)
def test_sams_own_files_are_the_default_and_pinned(name: str, sha256: str, size: int | None) -> None:
    row = MODELS[name].checkpoints[0]
    assert (row.format, row.sha256, row.size) == ("original", sha256, size)
    assert row.config == {"norm_eps": 1e-6}
    assert f"sam_vit_{name[-1]}" not in MODELS  # the whole model's name


def test_an_image_for_sam_is_padded_with_zeros_after_normalisation() -> None:
    spec = MODELS["sam_encoder_b"].checkpoints[0].input
    white = np.full((60, 120, 3), 255, dtype=np.uint8)
    images, _ = Preprocessor(spec)(load_images(white, "rgb"))
    assert tuple(images.shape) == (1, 3, 1024, 1024)
    assert images[0, :, :511].min() > 2
    assert images[0, :, 512:].abs().max() < 0.01


def test_published_names_are_understood() -> None:
    for alias, name, tag in [
        ("swin_base_patch4_window7_224.ms_in1k", "swin_b", "ms_in1k"),
        ("microsoft/swin-tiny-patch4-window7-224", "swin_t", "microsoft"),
        ("Swin_T_Weights.IMAGENET1K_V1", "swin_t", "imagenet1k_v1"),
        ("Swin_V2_B_Weights.IMAGENET1K_V1", "swinv2_b", "imagenet1k_v1"),
        ("samvit_base_patch16", "sam_encoder_b", "sa1b"),
    ]:
        assert alias in checkpoint(name, tag).aliases
    for alias in ("microsoft/swin-tiny-patch4-window7-224", "Swin_T_Weights.IMAGENET1K_V1"):
        assert zoo.info(alias).model.name == "swin_t"


def test_a_size_names_the_architecture_its_config_describes() -> None:
    for family in FAMILIES:
        for size in family.sizes:
            first = size.timm[0]
            about = ARCHITECTURES[first.architecture if isinstance(first, Timm) else first]
            config = first.config if isinstance(first, Timm) else {}
            assert not config, size.name
            assert COMPILED[size.name].channels == about.channels
