"""The core's own catalogue: components every model may use by name."""

from __future__ import annotations

from zoo.specs import ModelSpec, PluginSpec

PLUGIN = PluginSpec(
    namespace="core",
    distribution="zoo-core",
    summary="Components that come with the core",
    models=(
        ModelSpec(
            name="classifier",
            factory="zoo.build.composed:ComposedClassifier",
            summary="An image classifier from any registered backbone and head",
            tags=("composed",),
        ),
        ModelSpec(
            name="classifier",
            kind="head",
            factory="zoo.models.blocks:ClassificationHead",
            summary="Global average pooling and a linear layer",
        ),
    ),
)
