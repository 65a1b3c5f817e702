"""What zoo-explain offers: commands, and no models."""

from __future__ import annotations

from zoo.specs import PluginSpec

PLUGIN = PluginSpec(
    namespace="explain",
    distribution="zoo-explain",
    summary="Attention, Grad-CAM, feature maps, summaries and probes of any model",
    requires=("torch",),
    hooks=("cli_commands",),
)
