"""Creating pretrained models from local files, against timm, transformers and reading the file; and their memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.measuring import Table, in_turns, shown_ratio, shown_seconds


class Size(NamedTuple):
    """One size that all sides have.

    ref: here, with a checkpoint that is on the Hub. timm: there; `timm/<timm>.<tag>` is its repository.
    transformers: the family and the configuration that make it the same size. side: of the image, in pixels.
    """

    title: str
    ref: str
    timm: str
    transformers: tuple[str, dict[str, Any]]
    budget: str
    side: int = 224


_SWIN_B = {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32]}
_VIT_L = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
# fmt: off
SIZES = (
    Size("MobileNetV2, 3.5M", "mobilenetv2.ra_in1k", "mobilenetv2_100", ("MobileNetV2", {}), ""),
    Size("ViT-B/16, 86M", "vit_b_16.augreg_in1k", "vit_base_patch16_224", ("ViT", {}), "≥ 10 x"),
    Size("Swin-B, 88M", "swin_b.ms_in1k", "swin_base_patch4_window7_224", ("Swin", _SWIN_B), "≥ 10 x"),
    Size("DINOv2-B/14, 86M", "dinov2_vitb14.lvd142m", "vit_base_patch14_dinov2", ("Dinov2", {"image_size": 518}),
         "≥ 10 x", side=518),
    Size("ViT-L/16, 304M", "vit_l_16.augreg_in21k_ft_in1k", "vit_large_patch16_224", ("ViT", _VIT_L), "≥ 40 x"),
)
# fmt: on
SMALLEST = {"zoo": "timm/test_vit", "timm": "test_vit"}
Figures = dict[str, float]


def creating(quick: bool) -> list[Table]:
    """Two tables: time and peak memory."""
    seconds: list[tuple[str, ...]] = []
    memory: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            figures = _measure(size, Path(folder), rounds=2 if quick else 5)
            seconds += _time_rows(size, figures)
            memory += _memory_rows(size, figures, os.path.getsize(_timm_file(size, Path(folder))))
    return [
        Table(
            "Creating a pretrained model",
            "Random weights in each library's own published format, local files, warm page cache; fresh processes in "
            "turns, imports and first uses not counted; median. The zoo opens the very bytes that timm opens, from its "
            "store, as after a first download. transformers 5 maps its file and initialises nothing, too; older ones "
            "do not.",
            ("model, by whom", "create", "÷ zoo", "budget", "create and first forward", "÷ zoo"),
            seconds,
        ),
        Table(
            "Peak memory of a pretrained create",
            "Highest resident memory, mapped pages of the file included, above what it was before the call, as a share "
            "of the file's size.",
            ("model, by whom", "after create", "÷ file", "budget", "after the first forward", "÷ file"),
            memory,
        ),
    ]


def _measure(size: Size, folder: Path, rounds: int) -> dict[str, list[Figures]]:
    """Every subject in fresh processes, in turns."""
    _write_files(size, folder)
    figures: dict[str, list[Figures]] = {}

    def once(subject: str) -> Callable[[], float]:
        file = _transformers_folder(size, folder) if subject == "transformers" else _timm_file(size, folder)
        warm = str(_transformers_folder(SIZES[0], folder)) if subject == "transformers" else SMALLEST.get(subject, "")
        ref = size.ref if subject == "zoo" else size.timm
        request = {"subject": subject, "warm": warm, "ref": ref, "file": str(file), "side": size.side}

        def run() -> float:
            command = [sys.executable, "-m", "benchmarks.one_create", json.dumps(request)]
            environment = {**os.environ, "ZOO_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
            environment |= {"HF_HOME": str(folder / "hub"), "TQDM_DISABLE": "1"}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            figures.setdefault(subject, []).append(json.loads(done.stdout))
            return figures[subject][-1]["create"]

        return run

    in_turns({subject: once(subject) for subject in ("zoo", "timm", "transformers", "reading")}, rounds)
    return {subject: found[1:] for subject, found in figures.items()}  # the first only filled the page cache


def _write_files(size: Size, folder: Path) -> None:
    """Random weights, as timm and as transformers publish them, timm's also as the zoo has them once it has fetched
    them: from a hub on this machine. In a process of its own: this one stays small."""
    family, options = size.transformers
    tag = size.ref.partition(".")[2]
    code = f"""
import timm, transformers
from safetensors.torch import save_model
save_model(timm.create_model({size.timm!r}), {str(_timm_file(size, folder))!r})
config = transformers.{family}Config(**{options!r}, num_labels=1000)
transformers.{family}ForImageClassification(config).save_pretrained({str(_transformers_folder(size, folder))!r})

import os, pathlib, loopback_hub
with loopback_hub.running_hub() as hub:
    os.environ["HF_ENDPOINT"] = hub.endpoint
    weights = pathlib.Path({str(_timm_file(size, folder))!r}).read_bytes()
    hub.add("timm/{size.timm}.{tag}", "model.safetensors", weights)
    import zoo
    zoo.create({size.ref!r}, pretrained=True)
"""
    environment = {**os.environ, "ZOO_HOME": str(folder / "home"), "HF_HOME": str(folder / "hub")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[1] / "tests"), "TQDM_DISABLE": "1"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def _timm_file(size: Size, folder: Path) -> Path:
    return folder / f"{size.timm}.safetensors"


def _transformers_folder(size: Size, folder: Path) -> Path:
    return folder / f"{size.timm}-transformers"


def _time_rows(size: Size, figures: Mapping[str, Sequence[Figures]]) -> list[tuple[str, ...]]:
    middle = {
        subject: {key: median(figure[key] for figure in found) for key in found[0]}
        for subject, found in figures.items()
    }
    zoo = middle["zoo"]
    rows = []
    for subject, found in middle.items():
        budget = {"timm": size.budget, "transformers": size.budget}.get(subject, "")
        if subject == "reading":
            budget = "≥ 1 x" if size.title.startswith("ViT-L") else ""
        create, both = found["create"], found["create_and_forward"]
        forward = (
            ("", "") if subject == "reading" else (shown_seconds(both), shown_ratio(both / zoo["create_and_forward"]))
        )
        title = f"{size.title}: {subject if subject != 'reading' else 'reading the file'}"
        rows.append((title, shown_seconds(create), shown_ratio(create / zoo["create"]), budget, *forward))
    return rows


def _memory_rows(size: Size, figures: Mapping[str, Sequence[Figures]], bytes: int) -> list[tuple[str, ...]]:
    rows = []
    for subject, found in figures.items():
        if subject == "reading":
            continue
        create, both = (median(figure[key] for figure in found) for key in ("peak", "peak_with_forward"))
        budget = "≤ 1.15 x" if subject == "zoo" else ""
        shown = [f"{value / 2**20:.0f} MiB" for value in (create, both)]
        rows.append(
            (
                f"{size.title}: {subject}",
                shown[0],
                shown_ratio(create / bytes),
                budget,
                shown[1],
                shown_ratio(both / bytes),
            )
        )
    return rows
