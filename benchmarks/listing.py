"""Whole processes: importing and listing, against the bare interpreter and against other model zoos."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.measuring import Table, process_seconds, processes, shown_ratio, shown_seconds
from benchmarks.synthetic_plugins import write_plugins

BARE = [sys.executable, "-I", "-c", "pass"]
ZOO = [os.path.join(os.path.dirname(sys.executable), "zoo")]


def python(code: str) -> list[str]:
    """A command that runs some code and ends."""
    return [sys.executable, "-I", "-c", code]


PEERS = {
    "zoo: import": (python("import zoo"), "≤ 2 x"),
    "timm: import": (python("import timm"), ""),
    "torchvision: import": (python("import torchvision"), ""),
    "transformers: import": (python("import transformers"), ""),
    "zoo: `zoo list`": ([*ZOO, "list"], "≤ 4 x"),
    "zoo: `zoo.list_models()`": (python("import zoo; zoo.list_models()"), ""),
    "timm: `list_models(pretrained=True)`": (python("import timm; timm.list_models(pretrained=True)"), ""),
    "torchvision: `list_models()`": (python("from torchvision.models import list_models; list_models()"), ""),
    "transformers: image classifiers": (
        python(
            "from transformers.models.auto import modeling_auto\n"
            "list(modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES)"
        ),
        "",
    ),
}

AT_SCALE = {
    "zoo list": (["list"], "≤ 4 x"),
    "zoo list '*_large_patch14_224_*'": (["list", "*_large_patch14_224_*"], "≤ 4 x"),
    "zoo list --license permissive --max-params 30M": (["list", "--license", "permissive", "--max-params", "30M"], ""),
    "zoo plugins": (["plugins"], ""),
    "zoo info resnet50": (["info", "resnet50"], ""),
}


def against_peers(quick: bool) -> Table:
    """Import and list with the plugins of this environment."""
    with tempfile.TemporaryDirectory() as home:
        commands = {"bare interpreter": BARE} | {name: command for name, (command, _) in PEERS.items()}
        seconds = processes(commands, 2 if quick else 7, {"ZOO_HOME": home})
    budgets = {name: budget for name, (_, budget) in PEERS.items()}
    return Table(
        "Import and list",
        "Whole processes, output thrown away; the file system is warm, the zoo's catalogue too. The minimum: what else "
        "the machine does only ever adds.",
        ("process", "seconds", "of a bare interpreter", "budget"),
        _rows(seconds, "bare interpreter", budgets),
    )


def at_scale(quick: bool) -> Table:
    """300 plugins with 100,000 models beside the installed ones; warm and cold."""
    plugins, models = 300, 100_000
    with tempfile.TemporaryDirectory() as folder:
        site, home = Path(folder) / "site", Path(folder) / "home"
        write_plugins(site, plugins=plugins, models=models)
        environment = {"PYTHONPATH": str(site), "ZOO_HOME": str(home)}
        cold = [_cold(home, environment) for _ in range(1 if quick else 3)]
        commands = {"bare interpreter": BARE} | {name: [*ZOO, *words] for name, (words, _) in AT_SCALE.items()}
        commands["resolve, in Python"] = [sys.executable, "-c", "import zoo; zoo.info('resnet50')"]
        seconds = processes(commands, 5 if quick else 25, environment)
    seconds["zoo list, no catalogue yet"] = cold
    budgets = {name: budget for name, (_, budget) in AT_SCALE.items()}
    return Table(
        f"{plugins} plugins, {models:,} models",
        "The same, with synthetic plugins installed beside the real ones. The last row is the first call after an "
        "installation, which reads every manifest and writes the catalogue.",
        ("process", "seconds", "of a bare interpreter", "budget"),
        _rows(seconds, "bare interpreter", budgets),
    )


def _cold(home: Path, environment: Mapping[str, str]) -> float:
    for file in home.glob("catalog*"):
        file.unlink()
    return process_seconds([*ZOO, "list", "resnet50"], environment)


def _rows(seconds: Mapping[str, Sequence[float]], baseline: str, budgets: Mapping[str, str]) -> list[tuple[str, ...]]:
    bare = min(seconds[baseline])
    return [
        (name, shown_seconds(min(figures)), shown_ratio(min(figures) / bare), budgets.get(name, ""))
        for name, figures in seconds.items()
    ]
