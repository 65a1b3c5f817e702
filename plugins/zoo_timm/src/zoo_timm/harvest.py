"""Write `registry.json` from the installed timm: `python -m zoo_timm.harvest`, run and reviewed when timm is updated.

Facts come from timm's own configurations, from its models built on the meta device (parameters, computation, maps),
and from its published ImageNet results in `data/imagenet_results.csv`. What timm does not say is not there: nothing is
guessed.
"""

from __future__ import annotations

import csv
import json
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg, get_arch_pretrained_cfgs, get_model_input_config
from torch import nn

from zoo.errors import ZooError
from zoo.models.counting import multiply_accumulates
from zoo_timm.encoders import build_encoder, encoder_input, gives_maps_only, size_divisor
from zoo_timm.maps import choose_maps, map_table

REGISTRY = Path(__file__).with_name("registry.json")
RESULTS = Path(__file__).parents[2] / "data" / "imagenet_results.csv"

# Training states of I-JEPA: optimiser, predictor and two encoders in one file, which is not a checkpoint of a model.
NOT_WEIGHTS = frozenset({".pth.tar"})

_INPUT_FIELDS = ("input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std")


def harvest(architectures: Iterable[str]) -> dict[str, Any]:
    """The registry's rows for these architectures."""
    results = _results()
    return {name: _architecture(name, results) for name in architectures}


def write(rows: Mapping[str, Any], path: Path = REGISTRY) -> None:
    """One line an architecture and one a tag, so that a difference reads well."""
    lines = [f'{{"timm": {json.dumps(timm.__version__)}, "architectures": {{']
    for i, (name, row) in enumerate(rows.items()):
        tags = [f"    {json.dumps(tag)}: {_compact(facts)}" for tag, facts in row["tags"].items()]
        about = _compact({key: value for key, value in row.items() if key != "tags"})
        lines.append(f'{json.dumps(name)}: {{"about": {about}, "tags": {{')
        lines += [line + "," for line in tags[:-1]] + tags[-1:]
        lines.append("}}" + ("," if i < len(rows) - 1 else ""))
    path.write_text("\n".join(lines) + "\n}}\n", encoding="utf-8")


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _architecture(name: str, results: Mapping[str, list[list[Any]]]) -> dict[str, Any]:
    cfgs = get_arch_pretrained_cfgs(name)
    default = timm.get_pretrained_cfg(name)
    with torch.device("meta"):
        encoder = build_encoder(name, {})
    table = map_table(encoder)
    maps = [table[i] for i in choose_maps(table, None, name)]
    ordered = sorted(cfgs, key=lambda full: (cfgs[full].tag != default.tag, full))
    return {
        "family": timm.model_entrypoint(name).__module__.rpartition(".")[2],
        "params": sum(p.numel() for p in encoder.parameters()),
        "macs": _macs(encoder),
        "channels": [info.channels for info in maps],
        "strides": [info.stride for info in maps],
        "fixed_size": get_model_input_config(encoder)["fixed_input_size"],
        "divisor": size_divisor(encoder),
        "maps_only": gives_maps_only(encoder),
        "classes": default.num_classes,
        "input": _input(default),
        "tags": {cfgs[full].tag: _tag(cfgs[full], results.get(full, [])) for full in ordered if _sources(cfgs[full])},
    }


def _macs(encoder: nn.Module) -> int | None:
    """None where a forward pass needs values that the meta device does not have."""
    try:
        return multiply_accumulates(encoder, encoder_input(encoder, None))
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return None


def _tag(cfg: PretrainedCfg, results: list[list[Any]]) -> dict[str, Any]:
    facts = {
        "sources": _sources(cfg),
        "classes": cfg.num_classes,
        "license": cfg.license,
        "input": _input(cfg),
        "paper": cfg.paper_ids if isinstance(cfg.paper_ids, str) else None,
        "notes": " ".join(cfg.notes) if cfg.notes else None,
        "results": results,
    }
    return {key: value for key, value in facts.items() if value or value == 0}


def _sources(cfg: PretrainedCfg) -> list[str]:
    """Where the weights are, by timm's word. Other people's repositories may hold either file."""
    if cfg.hf_hub_id:
        files = (
            ["model.safetensors"] if cfg.hf_hub_id.startswith("timm/") else ["model.safetensors", "pytorch_model.bin"]
        )
        return [f"hf://{cfg.hf_hub_id}@main/{cfg.hf_hub_filename or file}" for file in files]
    url = cfg.url or ""
    return [url] if url and not any(url.endswith(suffix) for suffix in NOT_WEIGHTS) else []


def _input(cfg: PretrainedCfg) -> dict[str, Any]:
    """Only what differs from timm's own defaults."""
    usual = PretrainedCfg()
    return {name: getattr(cfg, name) for name in _INPUT_FIELDS if getattr(cfg, name) != getattr(usual, name)}


def _results() -> dict[str, list[list[Any]]]:
    """Full name → rows of image size, crop, interpolation, top-1, top-5."""
    found: dict[str, list[list[Any]]] = {}
    with RESULTS.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            facts = [int(row["image_size"]), float(row["crop_pct"]), row["interpolation"]]
            found.setdefault(row["model"], []).append([*facts, float(row["top1"]), float(row["top5"])])
    return found


def main() -> int:
    """Harvest everything; the exit status."""
    warnings.filterwarnings("ignore", module="timm")
    try:
        rows = harvest(timm.list_models())
    except ZooError as error:
        print(error, file=sys.stderr)
        return 1
    write(rows)
    print(f"{len(rows)} architectures, {sum(len(row['tags']) for row in rows.values())} checkpoints -> {REGISTRY.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
