"""What rows of published detectors share: torchvision's checkpoints, and COCO's input size. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.specs import CheckpointSpec, InputSpec, Metric

FITTED = InputSpec(size=(800, 1333), resize="fit", crop_pct=1.0, antialias=False, divisor=32)
"""What detectors are compared at on COCO: the shorter side 800 pixels, the longer one at most 1333."""

FROZEN = {"freeze_norm": True, "norm_eps": 0.0}
"""Trained with frozen norms, to whose variance torchvision adds nothing for these files."""

_LICENSE = "The licence is that of torchvision's code; the weights are published without one of their own."


def torchvision_checkpoint(
    file: str,
    enumeration: str,
    metrics: Mapping[str, float],
    config: Mapping[str, Any],
    *,
    labels: str,
    num_classes: int,
    input: InputSpec = FITTED,
    sha256: str | None = None,
    starts_from: tuple[str, ...] = ("imagenet-1k",),
    notes: str = "",
) -> CheckpointSpec:
    """A detector that torchvision publishes.

    Args:
        file: at download.pytorch.org; the eight digits at its end begin its SHA-256.
        enumeration: its name in torchvision: `RetinaNet_ResNet50_FPN_Weights.COCO_V1`.
        metrics: on COCO's val2017, in per cent.
        config: what these weights need beside the model's own config.
        starts_from: what its backbone was trained on before.
    """
    return CheckpointSpec(
        name=enumeration.rpartition(".")[2].lower(),
        sources=(f"https://download.pytorch.org/models/{file}",),
        sha256=sha256,
        format="torchvision",
        license="BSD-3-Clause",
        labels=labels,
        num_classes=num_classes,
        input=input,
        config=config,
        trained_on=(*starts_from, "coco/train2017"),
        metrics=tuple(on_coco(name, value, input, TORCHVISION) for name, value in metrics.items()),
        aliases=(enumeration,),
        notes=f"{notes} {_LICENSE}".strip(),
    )


TORCHVISION = "https://docs.pytorch.org/vision/stable/models.html"


def on_coco(name: str, value: float, input: InputSpec, source: str) -> Metric:
    """A figure on COCO's val2017 at a published input size."""
    return Metric(
        name=name,
        value=value,
        dataset="coco/val2017",
        conditions={"image_size": list(input.size), "max_detections": 100},
        source=source,
    )
