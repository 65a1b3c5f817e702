"""The snapshot: what first-party plugins offer, as slim manifests inside core, so that a miss names what to install.

    python -m zoo.index.snapshot plugins/zoo_cnn/src/zoo_cnn/zoo.json …

A slim manifest is a manifest in the same layout, without what only building a model needs (configs, schemas, inputs,
digests, further sources): of the inputs the size alone is kept, of the metrics the first, of its conditions the image
size. Each model is one line, so that a change shows as one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

from zoo.plugin import manifest
from zoo.specs import MANIFEST_SCHEMA, CheckpointSpec, InputSpec, Metric, ModelSpec, PluginSpec

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "snapshot")
"""One file a namespace."""


def snapshot_files() -> dict[str, str]:
    """Namespace → path of its slim manifest, by namespace."""
    try:
        names = sorted(os.listdir(FOLDER))
    except OSError:
        return {}
    return {name.removesuffix(".json"): os.path.join(FOLDER, name) for name in names if name.endswith(".json")}


def slim(spec: PluginSpec) -> PluginSpec:
    """The plugin without what only building its models needs."""
    return replace(spec, requires=(), hooks=(), schemas={}, models=tuple(map(_slim_model, spec.models)))


def text(spec: PluginSpec) -> str:
    """The slim manifest's file: canonical JSON, a model a line."""
    slimmed = slim(spec)
    head = {"schema": MANIFEST_SCHEMA, **replace(slimmed, models=()).to_dict()}
    rows = ",\n".join(_json(model.to_dict()) for model in slimmed.models)
    return f'{_json(head)[:-1]},"models":[\n{rows}\n]}}\n'


def main(paths: Sequence[str]) -> None:
    """Write the slim manifest of every manifest named."""
    os.makedirs(FOLDER, exist_ok=True)
    for path in paths:
        spec = manifest.read(path)
        with open(os.path.join(FOLDER, f"{spec.namespace}.json"), "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text(spec))
        print(f"{spec.namespace}: {len(spec.models)} models")


def _slim_model(model: ModelSpec) -> ModelSpec:
    return replace(
        model,
        config={},
        input=InputSpec(size=model.input.size),
        structure_sha256=None,
        checkpoints=tuple(map(_slim_checkpoint, model.checkpoints)),
    )


def _slim_checkpoint(checkpoint: CheckpointSpec) -> CheckpointSpec:
    return replace(
        checkpoint,
        sources=checkpoint.sources[:1],  # no checkpoint is without; the first says where the weights are published
        metrics=tuple(map(_slim_metric, checkpoint.metrics[:1])),
        sha256=None,
        size=None,
        input=InputSpec(size=checkpoint.input.size),
        config={},
        notes="",
    )


def _slim_metric(metric: Metric) -> Metric:
    kept = {name: value for name, value in metric.conditions.items() if name == "image_size"}
    return replace(metric, conditions=kept, source="")


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


if __name__ == "__main__":
    main(sys.argv[1:])
