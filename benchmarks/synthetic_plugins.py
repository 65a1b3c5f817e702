"""Many installed plugins that nobody wrote: a folder to put on `sys.path`.

    python benchmarks/synthetic_plugins.py FOLDER [--plugins 300] [--models 100000]

Each is a distribution `zoo-synthetic-NNN` with metadata, a package and a manifest, as pip would leave it; the models
have plausible names, sizes, licences, tags, aliases and checkpoints, the same on every run.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

FAMILIES = ("resnet", "convnext", "swin", "vit", "deit", "efficientnet", "regnet", "mobilenet", "cait", "maxvit")
SIZES = ("nano", "tiny", "small", "base", "large", "huge")
TAGS = ("in1k_ft", "in22k", "laion", "coco")
LICENSES = ("Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-NC-4.0", "unknown")
TASKS = ("classification", "classification", "classification", "detection", "semantic-segmentation", "features")


def write_plugins(folder: Path, plugins: int = 300, models: int = 100_000) -> None:
    """Install `plugins` plugins with `models` models altogether into a folder."""
    for number in range(plugins):
        share = models * (number + 1) // plugins - models * number // plugins
        write_plugin(folder, f"synthetic_{number:03}", share)


def write_plugin(folder: Path, namespace: str, models: int) -> Path:
    """Install one plugin into a folder; returns the path of its manifest."""
    chance = random.Random(namespace)
    distribution = "zoo-" + namespace.replace("_", "-")
    metadata = folder / f"zoo_{namespace}-1.0.0.dist-info"
    package = folder / f"zoo_{namespace}"
    metadata.mkdir(parents=True)
    package.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0.0\n")
    (metadata / "entry_points.txt").write_text(f"[zoo.plugins]\n{namespace} = zoo_{namespace}:zoo.json\n")
    (package / "__init__.py").write_text("")
    rows = [_model(chance, namespace, i) for i in range(models)]
    factories = sorted({row["factory"] for row in rows})
    field = {"type": "integer", "minimum": 1, "description": "a number of the architecture"}
    properties = dict.fromkeys(("depth", "width", "heads", "patch_size", "num_classes", "in_chans"), field)
    schema = {"type": "object", "additionalProperties": False, "properties": properties}
    manifest = {
        "schema": 1,
        "namespace": namespace,
        "distribution": distribution,
        "summary": "A plugin that nobody wrote",
        "models": rows,
        "schemas": dict.fromkeys(factories, schema),
    }
    path = package / "zoo.json"
    path.write_text(json.dumps(manifest, sort_keys=True, indent=1) + "\n")
    return path


def _model(chance: random.Random, namespace: str, number: int) -> dict[str, object]:
    family, size = chance.choice(FAMILIES), chance.choice(SIZES)
    name = f"{family}_{size}_patch{chance.choice((4, 8, 14, 16, 32))}_{chance.choice((192, 224, 384))}_v{number}"
    params = chance.randrange(1_000_000, 900_000_000)
    return {
        "name": name,
        "factory": f"zoo_{namespace}.{family}:{family.capitalize()}",
        "task": chance.choice(TASKS),
        "config": {"depth": chance.randrange(6, 48), "width": chance.randrange(64, 2048)},
        "family": family,
        "summary": f"{family.capitalize()} of the {size} size",
        "aliases": [f"{namespace}_published_{family}_{number}"],
        "tags": chance.sample(TAGS, 2),
        "params": params,
        "checkpoints": [_checkpoint(chance, name, tag) for tag in chance.sample(TAGS, chance.randrange(3))],
    }


def _checkpoint(chance: random.Random, name: str, tag: str) -> dict[str, object]:
    top1 = round(chance.uniform(60, 90), 3)
    return {
        "name": tag,
        "sources": [f"hf://synthetic/{name}.{tag}@main/model.safetensors"],
        "sha256": f"{chance.getrandbits(256):064x}",
        "size": chance.randrange(10**7, 10**9),
        "license": chance.choice(LICENSES),
        "labels": "imagenet_1k",
        "num_classes": 1000,
        "input": {"crop_pct": 0.95, "interpolation": "bicubic"},
        "metrics": [{"name": "top1", "value": top1, "dataset": "imagenet-1k/val", "source": "nobody measured it"}],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--plugins", type=int, default=300)
    parser.add_argument("--models", type=int, default=100_000)
    arguments = parser.parse_args()
    write_plugins(arguments.folder, arguments.plugins, arguments.models)


if __name__ == "__main__":
    main()
