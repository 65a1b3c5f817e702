"""Backbones with a feature pyramid on them, under names of their own."""

from __future__ import annotations

from zoo.specs import InputSpec, ModelSpec

FITTED = InputSpec(size=(800, 1333), resize="fit", crop_pct=1.0, antialias=False, divisor=32)
"""What detectors are compared at on COCO: the shorter side 800 pixels, the longer one at most 1333."""

PYRAMIDS = (
    ModelSpec(
        name="resnet50_fpn",
        factory="zoo_detection.pyramid:Pyramid",
        kind="backbone",
        task="features",
        config={"backbone": "resnet50", "neck": "fpn"},
        summary="ResNet-50 with a feature pyramid: five maps of 256 channels, strides 4 to 64",
        family="Pyramid",
        paper="https://arxiv.org/abs/1612.03144",
        input=FITTED,
    ),
)
