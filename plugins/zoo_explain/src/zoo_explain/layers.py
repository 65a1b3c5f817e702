"""Layers of a model by name, and the one to look at where none is named."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import OptionError, UnsupportedError
from zoo.models.model import Model
from zoo_explain.placing import Placing, placing

_PASSING = (nn.Identity, nn.Dropout, nn.LayerNorm, nn.RMSNorm)  # they end a trunk, and are no stage of it
_SHOWN = 8


def find_layer(model: nn.Module, layer: str | nn.Module) -> tuple[str, nn.Module]:
    """A layer's full path and itself, by its path, the end of its path if only one has it, or the module.

    Raises:
        OptionError: no such layer, with near paths; or several, with all of them.
    """
    modules = {path: module for path, module in model.named_modules(remove_duplicate=False) if path}
    if isinstance(layer, nn.Module):
        found = [path for path, module in modules.items() if module is layer][:1]
    else:
        found = [layer] if layer in modules else [path for path in modules if path.endswith(f".{layer}")]
    if len(found) == 1:
        return found[0], modules[found[0]]
    name = layer if isinstance(layer, str) else f"this {type(layer).__name__}"
    if found:
        shown = ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
        raise OptionError(f"{name!r} is the end of {len(found)} layers", asked=name, found=shown, fix=repr(found[-1]))
    near = _near(name, modules)
    raise OptionError(
        f"{type(model).__name__} has no layer {name!r}",
        asked=name,
        found="near: " + ", ".join(near) if near else None,
        fix=repr(near[0]) if near else "model.named_modules() has all of them",
    )


def _near(name: str, paths: Iterable[str]) -> list[str]:
    """The nearest paths; one may leave out where its parts are held, such as `encoder.`."""
    whole = difflib.get_close_matches(name, list(paths), n=3)
    ends = {path.partition(".")[2]: path for path in paths if "." in path}
    return list(dict.fromkeys([*(ends[end] for end in difflib.get_close_matches(name, list(ends), n=3)), *whole]))[:3]


def default_layer(model: Model, images: Tensor) -> tuple[str, nn.Module]:
    """The last stage or block: of the layers whose output holds the image in more than one cell, the one that ends
    last. Identities, dropouts and layer norms are not counted, nor is what runs inside of a layer that gives no cells,
    such as a pooling by attention; a sequence of stages may end in a single one, as for a small image. Of the layers
    of a sequence it is the last.

    Args:
        images: (B, C, H, W), preprocessed: the model runs once.

    Raises:
        UnsupportedError: the model's layers do not hold an image, or not in its order.
    """
    ended = _ended(model, images) if model.layout is not None else []
    pooled = tuple(f"{path}." for path, _, pools in ended if pools)
    maps = [path for path, is_map, _ in ended if is_map]
    stages = [path for path in maps if not path.startswith(pooled)] or maps  # the whole model may be one sequence
    if not stages:
        raise UnsupportedError(
            f"{type(model).__name__} has no last layer that holds the image in its order",
            fix="target_layer=…, one that gives maps (B, C, H, W)",
        )
    path, module = stages[-1], model.get_submodule(stages[-1])
    while isinstance(module, nn.Sequential) and len(module):
        name, module = list(module.named_children())[-1]
        path = f"{path}.{name}"
    return path, module


def _ended(model: Model, images: Tensor) -> list[tuple[str, bool, bool]]:
    """The layers that give a tensor, in the order in which they end; whether it is a map of the images, and whether the
    layer makes something else of its maps."""
    ended: list[tuple[str, bool, bool]] = []
    size = (images.shape[0], images.shape[2], images.shape[3])

    def noting(path: str) -> Callable[..., None]:
        def note(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                is_map = placing(output, model.layout, size) is not None
                ended.append((path, is_map, not is_map and not _is_stages(module, output)))

        return note

    watched = [(path, m) for path, m in model.named_modules() if path and not isinstance(m, _PASSING)]
    hooks = [module.register_forward_hook(noting(path)) for path, module in watched]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return ended


def _is_stages(module: nn.Module, output: Tensor) -> bool:
    """Whether it is a sequence of stages that has come down to a single cell; a pooling has no weights at its end."""
    if not isinstance(module, nn.Sequential) or not len(module) or output.ndim < 3:
        return False
    return next(module[-1].parameters(), None) is not None


@contextmanager
def tapped(
    model: Model, path: str, size: tuple[int, int, int], *, at_input: bool = False
) -> Iterator[tuple[nn.Identity, list[Placing]]]:
    """A module through which everything a layer gives passes as maps (B, D, r, c), and where they were placed.

    The model goes on with what the tap gives back: what is attributed to the tap is attributed to the layer. The list
    stays empty where the layer does not run.

    Args:
        size: (B, H, W) of the images. at_input: tap what the layer is given instead.

    Raises:
        UnsupportedError: from the forward pass, where the layer does not give maps.
    """
    tap, placings = nn.Identity(), list[Placing]()

    def passed(value: Any) -> Any:
        place = placing(value, model.layout, size)
        if place is None:
            raise _gives_no_map(model, path, value, size[0])
        placings.append(place)
        return place.from_map(tap(place.to_map(value)), value)

    def before(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (passed(args[0]), *args[1:])

    def after(module: nn.Module, args: Any, output: Any) -> Any:
        return passed(output)

    layer = model.get_submodule(path)
    hook = layer.register_forward_pre_hook(before) if at_input else layer.register_forward_hook(after)
    try:
        yield tap, placings
    finally:
        hook.remove()


def never_called(model: Model, path: str) -> UnsupportedError:
    """What to say of a layer that did not run, which may be because only its parts do."""
    parts = [
        f"{path}.{name}" for name, part in model.get_submodule(path).named_children() if len(list(part.children()))
    ]
    if parts:
        shown = ", ".join(parts[-_SHOWN:])
        return UnsupportedError(
            f"{path} is never called itself; one of its parts: {shown}", asked=path, fix=f"{parts[-1]!r}"
        )
    return UnsupportedError(f"{path} has no part in the answer: it does not run", asked=path, fix="the block it is in")


def _gives_no_map(model: Model, path: str, value: Any, batch: int) -> UnsupportedError:
    found = f"{tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
    if isinstance(value, Tensor) and model.layout is None:
        why = f"{type(model).__name__} keeps its tokens in another order than the image's"
        return UnsupportedError(f"{path} gives no map: {why}", found=found, fix="a layer that gives (B, C, H, W)")
    if isinstance(value, Tensor) and value.ndim > 2 and value.shape[0] != batch:
        why = f"its output holds {value.shape[0]} pieces of {batch} image{'s' if batch > 1 else ''}"
        return UnsupportedError(f"{path} gives no map: {why}", found=found, fix="the block it is part of")
    return UnsupportedError(
        f"{path} gives no map of the image with more than one cell", found=found, fix="an earlier layer, or its block"
    )
