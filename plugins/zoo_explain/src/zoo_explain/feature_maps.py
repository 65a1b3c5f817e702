"""Feature maps as pictures: the channels of a layer that answer most to an image."""

from __future__ import annotations

import math
from os import PathLike

from matplotlib.figure import Figure
from torch import Tensor

from zoo.errors import InputError, OptionError
from zoo_explain.figures import map_figure, save_figure


def visualize_feature_maps(
    features: Tensor, num_channels: int = 16, *, index: int = 0, path: str | PathLike[str] | None = None
) -> Figure:
    """The strongest channels of one image's feature map in a square of pictures, the strongest first.

    Args:
        features: (B, C, H, W), one of `model(images, output_features=True)["features"]`, or (C, H, W).
        num_channels: how many; more than there are means all.
        index: of the image in the batch.
        path: where to write the figure; its ending is the format.

    Raises:
        InputError: no feature map, or no such image. OptionError: no channel is asked for.
    """
    if num_channels < 1:
        raise OptionError("there is nothing to show", asked=f"num_channels={num_channels}", fix="num_channels=16")
    if not isinstance(features, Tensor) or features.ndim not in (3, 4) or not features.numel():
        found = f"{tuple(features.shape)}" if isinstance(features, Tensor) else f"a {type(features).__name__}"
        raise InputError("a feature map is (B, C, H, W)", found=found, fix="visualize_feature_maps(features[-1])")
    maps = features if features.ndim == 4 else features[None]
    if not -len(maps) <= index < len(maps):
        raise InputError(f"there is no image {index} in a batch of {len(maps)}", fix="index=0")
    strongest = strongest_channels(maps[index], num_channels)
    chosen = [maps[index][channel] for channel in strongest]
    titles = [f"channel {channel}" for channel in strongest]
    figure = map_figure(chosen, titles, columns=math.ceil(math.sqrt(len(chosen))))
    save_figure(figure, path)
    return figure


def strongest_channels(features: Tensor, count: int) -> list[int]:
    """The channels of (C, H, W) whose values are largest in the mean, signs left aside; the strongest first."""
    strength = features.detach().float().abs().mean((1, 2))
    return strength.topk(min(count, len(strength))).indices.tolist()
