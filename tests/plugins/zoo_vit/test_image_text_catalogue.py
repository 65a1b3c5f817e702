"""What the catalogue says of CLIP, SigLIP and InternVL."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch

import zoo
from zoo.build.fast_init import without_initialisation
from zoo.specs import CheckpointSpec, ModelSpec
from zoo_vit.catalog import PLUGIN
from zoo_vit.rows.image_text import FAMILIES

NAMES = [size.name for family in FAMILIES for size in family.sizes]
ROWS = {row.name: row for row in PLUGIN.models if row.name in NAMES}
TOWERS = {name: row for name, row in ROWS.items() if row.task == "features"}
CHECKPOINTS = [(row, checkpoint) for row in ROWS.values() for checkpoint in row.checkpoints]

CLIP_MEAN, HALF, IMAGENET = 0.48145466, 0.5, 0.485

# Millions of parameters; projections with timm's bias.
PARAMS = {
    "clip_b_32": 87.85,
    "clip_b_16": 86.19,
    "clip_b_16_plus": 117.21,
    "clip_l_14": 303.97,
    "clip_h_14": 632.08,
    "clip_g_14": 1012.65,
    "clip_bigg_14": 1844.91,
    "siglip_b_16": 92.88,
    "siglip_l_16": 315.96,
    "siglip_so400m_14": 428.23,
    "siglip2_b_32": 94.55,
    "siglip2_b_16": 92.88,
    "siglip2_giantopt_16": 1163.17,
    "internvit_300m": 304.01,
}


@pytest.mark.parametrize(("name", "millions"), PARAMS.items())
def test_a_tower_has_its_published_number_of_parameters(name: str, millions: float) -> None:
    row = ROWS[name]
    module, _, family = row.factory.partition(":")
    with torch.device("meta"), without_initialisation():
        model = getattr(import_module(module), family)(dict(row.config))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize(("row", "checkpoint"), CHECKPOINTS, ids=[f"{row.name}.{c.name}" for row, c in CHECKPOINTS])
def test_every_checkpoint_says_what_may_be_done_with_it_and_how_images_go_in(
    row: ModelSpec, checkpoint: CheckpointSpec
) -> None:
    assert checkpoint.license != "unknown" or checkpoint.name == "ogvl_2pt5_original"
    config = {**row.config, **checkpoint.config}
    side = config.get("image_size") or {"internvit_300m": 448}.get(row.name, 224)
    assert checkpoint.input.size == (side, side)
    assert checkpoint.input.interpolation == "bicubic"
    if row.name in TOWERS:
        assert checkpoint.input.crop_pct == 1.0
        assert checkpoint.labels is None
    if row.name in TOWERS and row.name.startswith("siglip"):
        assert checkpoint.input.resize == "stretch"
        assert checkpoint.num_classes == 0
    if row.name in TOWERS and row.name.startswith("clip"):
        assert checkpoint.num_classes == {"clip_b_16_plus": 640, "clip_l_14": 768}.get(
            row.name, {"b": 512, "h": 1024, "g": 1024, "bigg": 1280}.get(row.name.split("_")[1])
        )
    means = {"clip": (CLIP_MEAN, HALF), "siglip": (HALF,), "siglip2": (HALF,), "internvit": (IMAGENET,)}
    assert checkpoint.input.mean[0] in means[row.name.split("_")[0]]


def test_only_laions_large_clip_was_trained_on_other_means() -> None:
    halves = {f"{row.name}.{c.name}" for row, c in CHECKPOINTS if row.name in TOWERS and c.input.mean[0] == HALF}
    assert {name for name in halves if name.startswith("clip")} == {"clip_l_14.laion2b"}


@pytest.mark.parametrize("name", ["clip_b_32", "clip_b_16", "clip_l_14"])
def test_the_default_is_openais_and_may_be_used_freely(name: str) -> None:
    default = ROWS[name].checkpoints[0]
    assert (default.name, default.license, default.config["activation"]) == ("openai", "Apache-2.0", "quick_gelu")
    assert default.sources[0].startswith("hf://timm/vit_")


def test_licences_are_those_of_the_weights() -> None:
    licences = {f"{row.name}.{c.name}": c.license for row, c in CHECKPOINTS}
    assert licences["clip_b_32.metaclip_400m"] == "CC-BY-NC-4.0"
    assert licences["clip_h_14.dfn5b"] == "apple-ascl"
    assert licences["clip_b_32.laion2b_open_clip"] == "MIT"
    assert licences["siglip_b_16.webli"] == licences["siglip2_so400m_14.v2_webli_transformers"] == "Apache-2.0"
    assert licences["internvit_300m.ogvl_dist"] == "MIT"


def test_known_digests_and_sizes_are_there() -> None:
    found = {f"{row.name}.{c.name}": (c.sha256, c.size) for row, c in CHECKPOINTS if c.sha256}
    assert found == {
        "clip_b_32.openai_transformers": (
            "a63082132ba4f97a80bea76823f544493bffa8082296d62d71581a4feff1576f",
            605_247_071,
        ),
        "clip_l_14.openai_transformers": (
            "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
            1_710_540_580,
        ),
    }


def test_zero_shot_figures_say_where_they_come_from() -> None:
    figures = {f"{row.name}.{c.name}": m for row, c in CHECKPOINTS for m in c.metrics if m.name == "zero_shot_top1"}
    expected = {
        "clip_b_32.openai": 63.32,
        "clip_b_16.openai_transformers": 68.34,
        "clip_l_14.openai": 75.54,
        "siglip_b_16.webli": 76.04,
        "siglip_l_16.webli": 80.45,
        "siglip_so400m_14.webli_transformers": 83.08,
        "siglip2_b_16.v2_webli": 78.2,
        "siglip2_l_16.v2_webli": 82.5,
        "siglip2_so400m_14.v2_webli_transformers": 84.1,
    }
    assert {name: figures[name].value for name in expected} == expected
    for name, metric in figures.items():
        assert metric.dataset == "imagenet-1k/val"
        project = "big_vision" if name.startswith("siglip2") else "open_clip"
        assert project in metric.source
        assert metric.conditions.keys() == {"image_size", "text"}


def test_every_file_of_timms_is_known_by_its_own_name() -> None:
    """OpenAI's are published under the plain architectures' names, and computed by those with QuickGELU."""
    names: dict[str, list[str]] = {}
    files = {}
    for model in PLUGIN.models:
        for published in model.checkpoints:
            row = f"{model.name}.{published.name}"
            for alias in published.aliases:
                names.setdefault(alias, []).append(row)
            for source in published.sources:
                if source.startswith("hf://timm/"):
                    files[source.removeprefix("hf://timm/").partition("@")[0]] = row
    assert files["vit_base_patch16_clip_224.openai"] == "clip_b_16.openai"
    assert {file: names.get(file) for file in files} == {file: [row] for file, row in files.items()}
    # Without a tag it is what timm loads by default.
    assert names["vit_base_patch16_clip_224"] == ["clip_b_16_classifier.laion2b_ft_in12k_in1k"]
    assert names["vit_base_patch16_clip_quickgelu_224"] == ["clip_b_16.metaclip_2pt5b"]


def test_no_row_asks_for_the_activation_it_has() -> None:
    asking = {f"{row.name}.{c.name}" for row, c in CHECKPOINTS if "use quickgelu" in c.notes}
    assert asking == set()


def test_every_published_name_leads_to_its_weights() -> None:
    """In one test: each gets a home of its own, and a catalogue read anew."""
    expected = {alias: f"vit/{row.name}.{c.name}@1" for row, c in CHECKPOINTS for alias in c.aliases} | {
        "ViT-B/32": "vit/clip_b_32.openai@1",
        "ViT-L/14": "vit/clip_l_14.openai@1",
        "ViT-B-16-SigLIP": "vit/siglip_b_16.webli@1",
        "openai/clip-vit-base-patch32": "vit/clip_b_32.openai_transformers@1",
        "google/siglip2-so400m-patch14-384": "vit/siglip2_so400m_14.v2_webli_transformers@1",
        "OpenGVLab/InternViT-300M-448px": "vit/internvit_300m.ogvl_dist_original@1",
        "vit_large_patch14_clip_quickgelu_336": "vit/clip_l_14.openai_336@1",
    }
    assert {alias: zoo.info(alias).ref for alias in expected} == expected


def test_openais_torchscript_files_are_explained_where_they_would_be_looked_for() -> None:
    for name in ("clip_b_32", "clip_b_16", "clip_l_14"):
        row = ROWS[name].checkpoint("openai_transformers")
        assert row is not None
        assert 'format="original"' in row.notes
