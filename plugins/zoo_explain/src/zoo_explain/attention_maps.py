"""Attention weights as pictures: what the class token of the last layers looks at."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

from matplotlib.figure import Figure
from torch import Tensor

from zoo.errors import InputError, OptionError
from zoo_explain.attention import HeadFusion, Read, check_one_grid, class_attention
from zoo_explain.figures import map_figure, save_figure


def plot_attention_maps(
    attentions: Sequence[Tensor],
    num_layers: int = 4,
    *,
    images: Tensor | None = None,
    grid: tuple[int, int] | None = None,
    head_fusion: HeadFusion = "mean",
    read: Read | None = None,
    path: str | PathLike[str] | None = None,
) -> Figure:
    """A row an image, a column a layer: the class token's attention over the patches in the last `num_layers` layers.

    Where there is no class token, or `read` is `mean`, it is the mean over all patches: how much each is attended to.

    Args:
        attentions: `model(images, output_attentions=True)["attentions"]`: (B, heads, N, N) each; layers that attend
            within windows give (windows * B, heads, n, n) and are shown only where one window is the whole map.
        num_layers: how many, from the last; more than there are means all.
        images: (B, 3, H, W) in [0, 1], shown before the maps.
        grid, head_fusion, read: as of `attention_rollout`.
        path: where to write the figure; its ending is the format.

    Raises:
        UnsupportedError: one of these layers attends within windows. OptionError: no layer is asked for.
        InputError: not as many images as the attentions are of.
    """
    if type(num_layers) is not int or num_layers < 1:
        raise OptionError("there is nothing to plot", asked=f"num_layers={num_layers}", fix="num_layers=4")
    last = list(enumerate(attentions))[-num_layers:]
    check_one_grid([attention for _, attention in last])
    count = last[0][1].shape[0]
    if images is not None and (images.ndim != 4 or len(images) != count):
        raise InputError(f"the attentions are of {count} images", found=f"images {tuple(images.shape)}")
    by_layer = [
        (f"layer {number}", class_attention(a, grid=grid, head_fusion=head_fusion, read=read)) for number, a in last
    ]
    maps: list[Tensor] = []
    titles: list[str] = []
    for index in range(count):
        if images is not None:
            maps.append(_shown(images[index]))
            titles.append("image")
        maps += [shares[index] for _, shares in by_layer]
        titles += [name for name, _ in by_layer]
    figure = map_figure(maps, titles, columns=len(last) + (images is not None))
    save_figure(figure, path)
    return figure


def _shown(image: Tensor) -> Tensor:
    """(C, H, W) → (H, W, 3)."""
    return image.expand(3, -1, -1)[:3].permute(1, 2, 0).clamp(0, 1)
