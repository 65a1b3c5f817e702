"""timm's word on an image as the zoo's `InputSpec`. Free of torch and timm, for the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from zoo.specs import InputSpec

# timm's crop modes: scale the shorter side and crop; scale both sides; fit the whole image and pad.
_RESIZE: Mapping[str, Literal["shortest", "stretch", "letterbox"]] = {
    "center": "shortest",
    "squash": "stretch",
    "border": "letterbox",
}


def input_spec(cfg: Mapping[str, Any]) -> InputSpec:
    """The evaluation preprocessing of a timm pretrained configuration: what `resolve_data_config` makes of it."""
    channels, height, width = cfg["input_size"]
    return InputSpec(
        size=(height, width),
        resize=_RESIZE[cfg["crop_mode"]],
        crop_pct=cfg["crop_pct"],
        interpolation=cfg["interpolation"],
        channels=channels,
        mean=tuple(cfg["mean"]),
        std=tuple(cfg["std"]),
    )
