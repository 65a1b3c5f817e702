"""One picture asked in one way: what `zoo explain` shows, as functions of a model and a batch of one."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from zoo.errors import InputError, UnsupportedError
from zoo.models.model import Model, evaluating
from zoo.models.preprocessing import Frame
from zoo_explain.attention import Read, attention_rollout
from zoo_explain.attention_maps import plot_attention_maps
from zoo_explain.batches import pixels_of
from zoo_explain.feature_maps import strongest_channels, visualize_feature_maps
from zoo_explain.heat import HeatMap
from zoo_explain.layers import default_layer, find_layer, never_called, tapped
from zoo_explain.placing import grid_of


def rollout_heat(model: Model, images: Tensor, frame: Frame) -> HeatMap:
    """The attention rollout of one preprocessed image (1, C, H, W) on the original picture."""
    attentions = attentions_of(model, images)
    grid = attention_grid(model, attentions[-1], images)
    cells = attention_rollout(attentions, grid=grid, read=reading_of(model, images))
    return HeatMap.from_cells(cells[0], frame, method="rollout")


def attention_figure(model: Model, images: Tensor, layers: int) -> tuple[Figure, dict[str, Any]]:
    """The attention of the last layers over one preprocessed image (1, C, H, W), and the shapes of all."""
    attentions = attentions_of(model, images)
    grid = attention_grid(model, attentions[-1], images)
    shown = pixels_of(images[0], model.input_spec)[None] if images.shape[1] == 3 else None
    figure = plot_attention_maps(attentions, layers, images=shown, grid=grid, read=reading_of(model, images))
    return figure, {"layers": [list(attention.shape) for attention in attentions]}


def feature_figure(model: Model, images: Tensor, layer: str | None) -> tuple[Figure, dict[str, Any]]:
    """The strongest channels of a layer for one preprocessed image (1, C, H, W); None: of the last stage or block."""
    path = default_layer(model, images)[0] if layer is None else find_layer(model, layer)[0]
    cells = layer_map(model, path, images)
    facts = {"layer": path, "shape": list(cells.shape), "channels": strongest_channels(cells[0], 16)}
    return visualize_feature_maps(cells), facts


def layer_map(model: Model, path: str, images: Tensor) -> Tensor:
    """What a layer gives for preprocessed images, as maps (B, D, r, c). Raises `UnsupportedError` if it gives none."""
    found: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        found.append(output.clone())  # what follows may work in place

    size = (images.shape[0], images.shape[2], images.shape[3])
    with torch.no_grad(), evaluating(model), tapped(model, path, size) as (tap, _):
        tap.register_forward_hook(keep)
        model(images)
    if not found:
        raise never_called(model, path)
    return found[-1]


def attentions_of(model: Model, images: Tensor) -> list[Tensor]:
    """The attention weights of every layer. Raises `UnsupportedError` where there are none."""
    if "output_attentions" not in inspect.signature(model.forward).parameters:
        raise UnsupportedError(f"{type(model).__name__} does not say what it attends to", fix="--method gradcam")
    try:
        with torch.no_grad(), evaluating(model):
            attentions: list[Tensor] = model(images, output_attentions=True)["attentions"]
    except UnsupportedError as error:
        raise UnsupportedError(error.message, found=error.found, fix="GradCAM, or --method gradcam") from error
    return attentions


def reading_of(model: Model, images: Tensor) -> Read:
    """Where a model reads its answer off: `class`; or `mean`, where its prefix tokens have no part in it or are none.

    Asked of the gradient of its embedding, or of its classes, at what the last block gives.
    """
    prefix = model.layout.prefix_tokens if model.layout is not None else 0
    if prefix == 0:
        return "mean"
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        kept.append(output.clone())  # what follows may work in place
        return kept[-1]

    with torch.inference_mode(False), torch.enable_grad(), evaluating(model):
        given = images.detach().clone().requires_grad_()
        hook = default_layer(model, given)[1].register_forward_hook(keep)
        try:
            outputs = model(given)
        finally:
            hook.remove()
        answer = outputs.get("embeddings", outputs.get("logits"))
        if not kept or kept[-1].ndim != 3 or answer is None:
            return "class"
        # No plain sum: that of a layer norm's outputs is constant.
        mixed = (answer.float() * torch.linspace(-1, 2, answer.shape[-1], device=answer.device) ** 2).sum()
        (gradient,) = torch.autograd.grad(mixed, kept[-1], allow_unused=True)
    reaches = gradient is not None and bool(gradient.any())
    return "mean" if reaches and not gradient[:, :prefix].any() else "class"


def attention_grid(model: Model, attention: Tensor, images: Tensor) -> tuple[int, int]:
    """The rows and columns of the patches that a layer (B, heads, N, N) attends over."""
    if model.layout is None:
        raise UnsupportedError(f"{type(model).__name__} keeps its tokens in another order than the image's")
    patches = attention.shape[-1] - model.layout.prefix_tokens
    grid = grid_of(patches, (images.shape[2], images.shape[3]))
    if grid is None:
        raise InputError("there is no patch to attend to", found=f"{tuple(attention.shape)}", fix="a larger image")
    return grid
