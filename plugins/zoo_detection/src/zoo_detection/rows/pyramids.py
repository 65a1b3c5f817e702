"""Backbones with a feature pyramid on them, under names of their own."""

from __future__ import annotations

from zoo.specs import ModelSpec
from zoo_detection.rows.published import FITTED

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
        formats=("native", "torchvision"),
    ),
)
