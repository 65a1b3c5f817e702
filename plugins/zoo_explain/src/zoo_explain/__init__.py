"""What a vision model looks at, and what its embeddings know.

from zoo_explain import GradCAM

GradCAM(model, target_layer="blocks.11")("cat.jpg", target_class=281).plot("seen.png")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo_explain.attention import attention_rollout as attention_rollout
    from zoo_explain.attention_maps import plot_attention_maps as plot_attention_maps
    from zoo_explain.feature_maps import visualize_feature_maps as visualize_feature_maps
    from zoo_explain.gradcam import GradCAM as GradCAM
    from zoo_explain.probe_measurement import probe as probe
    from zoo_explain.summary import summarize as summarize

_HOMES = {
    "GradCAM": "gradcam",
    "attention_rollout": "attention",
    "plot_attention_maps": "attention_maps",
    "probe": "probe_measurement",
    "summarize": "summary",
    "visualize_feature_maps": "feature_maps",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
