"""Published timm files as an encoder's state dict, and back.

A file on the hub keeps the layout its model had when it was published. Where names and shapes are today's, nothing
is done but adding `encoder.`; otherwise the family's own conversion in timm is run over it.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Mapping
from functools import partial

import timm
from timm.layers import resample_abs_pos_embed
from timm.models import get_model_input_config
from timm.models._manipulate import adapt_input_conv
from torch import Tensor, nn

from zoo.checkpoints.keymap import MappedState, StateMap
from zoo.errors import FormatError
from zoo_timm.encoders import head_prefixes

PREFIX = "encoder."

Conversion = Callable[[dict[str, Tensor]], dict[str, Tensor]]


# Where a family's conversion in timm has another name than `checkpoint_filter_fn`.
_CONVERSIONS: Mapping[str, str] = {
    "DeepseekVitClassifier": "checkpoint_filter_fn_classifier",
    "DeepseekVitEncoder": "checkpoint_filter_fn_encoder",
    "DenseNet": "_filter_torchvision_pretrained",
    "Gemma4VitClassifier": "checkpoint_filter_fn_classifier",
    "Gemma4VitEncoder": "checkpoint_filter_fn_encoder",
    "Qwen3VitClassifier": "checkpoint_filter_fn_classifier",
    "Qwen3VitEncoder": "checkpoint_filter_fn_encoder",
    "RegNet": "_filter_fn",
    "VGG": "_filter_fn",
}


class TimmFormat:
    """The published files of one timm architecture ↔ a component that holds it as `encoder`."""

    def __init__(self, encoder: nn.Module, architecture: str) -> None:
        self.encoder, self.architecture = encoder, architecture

    def load(self, tensors: Mapping[str, Tensor]) -> MappedState:
        """Published → native. Raises `FormatError` where timm's own conversion fails on the file."""
        state = MappedState(dict(tensors), {}, {}, {name: name for name in tensors})
        if not in_todays_layout(self.encoder, tensors):
            convert = conversion(self.encoder, self.architecture)
            state = state if convert is None else _converted(self.encoder, convert, tensors, self.architecture)
        return fit(self.encoder, regridded(self.encoder, self.architecture, state))

    def save(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Native → the names timm's model has in memory, which timm loads as they are."""
        return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


class EncoderFormat:
    """A family's own table, from published names to timm's ↔ a component that holds the timm model as `encoder`."""

    def __init__(self, encoder: nn.Module, architecture: str, keys: StateMap) -> None:
        self.encoder, self.architecture, self.keys = encoder, architecture, keys

    def load(self, tensors: Mapping[str, Tensor]) -> MappedState:
        """Published → native."""
        state = resized(self.encoder, self.architecture, self.keys.load(tensors))
        return fit(self.encoder, regridded(self.encoder, self.architecture, state))

    def save(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Native → published."""
        return self.keys.save({name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()})


class NativeFormat:
    """A component's own state dict ↔ itself: less a classifier it does not have, for other channels and sizes.

    A file does not say which grid its positions are. As many as the component has are taken to be the component's: it
    may have been saved at this very image size, also where that is oblong. Another number is taken to be a square.
    """

    def __init__(self, encoder: nn.Module, architecture: str) -> None:
        self.encoder, self.architecture = encoder, architecture

    def load(self, tensors: Mapping[str, Tensor]) -> MappedState:
        """Names that do not begin with `encoder.` are none of ours, and stay as they are for the report to name."""
        mine = {n.removeprefix(PREFIX): tensor for n, tensor in tensors.items() if n.startswith(PREFIX)}
        state = MappedState(mine, {}, {}, {n: PREFIX + n for n in mine})
        state = fit(self.encoder, resized(self.encoder, self.architecture, state))
        foreign = {n: tensor for n, tensor in tensors.items() if not n.startswith(PREFIX)}
        return state._replace(tensors={**state.tensors, **foreign})

    def save(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state dict as it is."""
        return dict(tensors)


def resized(encoder: nn.Module, architecture: str, state: MappedState) -> MappedState:
    """Tensors by timm's names, of an encoder for another image or patch size → this one's: timm interpolates its
    position tables and patch kernels."""
    own, heads, first = encoder.state_dict(), head_prefixes(encoder), _first_weights(encoder)
    trunk = {name: tensor for name, tensor in state.tensors.items() if not name.startswith(heads)}
    other = any(name in own and tensor.shape != own[name].shape for name, tensor in trunk.items() if name not in first)
    kernels = any(
        name in own and name in first and tensor.shape[2:] != own[name].shape[2:] for name, tensor in trunk.items()
    )
    convert = conversion(encoder, architecture)
    if not (other or kernels) or not trunk.keys() <= own.keys() or convert is None:
        return state
    # timm tells an older layout by a classifier that has another name, or none.
    placeholders = {n: tensor for n, tensor in own.items() if n.startswith(heads) and n not in state.tensors}
    converted = _converted(encoder, convert, {**state.tensors, **placeholders}, architecture)
    return MappedState(
        {name: tensor for name, tensor in converted.tensors.items() if name not in placeholders},
        {**state.skipped, **{state.origins.get(name, name): why for name, why in converted.skipped.items()}},
        {**state.adapted, **converted.adapted},
        {name: state.origins.get(origin, origin) for name, origin in converted.origins.items()},
    )


def regridded(encoder: nn.Module, architecture: str, state: MappedState) -> MappedState:
    """Published positions of another grid that has as many cells as the encoder's (14 x 14 and 7 x 28) → this grid's.
    Numbers are all that `resized` and timm's conversions see."""
    name, grid, prefix = _position_table(encoder)
    table = state.tensors.get(name)
    if table is None or name in state.adapted or table.shape != encoder.get_parameter(name).shape:
        return state
    published = _published_grid(encoder, table.shape[1] - prefix)
    if published in (None, grid):
        return state
    options = getattr(conversion(encoder, architecture), "keywords", {})
    how = {word: options[word] for word in ("interpolation", "antialias", "align_corners") if word in options}
    table = resample_abs_pos_embed(table, list(grid), list(published), num_prefix_tokens=prefix, **how)
    was = " x ".join(map(str, published))
    return state._replace(
        tensors={**state.tensors, name: table},
        adapted={**state.adapted, name: f"positions of a {was} grid to {grid[0]} x {grid[1]}"},
    )


def _position_table(encoder: nn.Module) -> tuple[str, tuple[int, int], int]:
    """Name of the table (1, prefix + rows * columns, D) of absolute positions, its (rows, columns) and the number of
    prefix tokens in it; no name where there is no such table."""
    for name, patches in (("pos_embed", "patch_embed"), ("patch_pos", "pixel_embed")):
        table, grid = getattr(encoder, name, None), getattr(getattr(encoder, patches, None), "grid_size", None)
        if isinstance(table, nn.Parameter) and table.ndim == 3 and grid is not None:
            prefix = table.shape[1] - grid[0] * grid[1]
            if 0 <= prefix <= getattr(encoder, "num_prefix_tokens", 1):
                return name, tuple(grid), prefix
    return "", (0, 0), 0


def _published_grid(encoder: nn.Module, cells: int) -> tuple[int, int] | None:
    """The grid of a published table: the architecture's own, else a square; None where it can be neither."""
    size = encoder.pretrained_cfg["input_size"][1:]
    patch = getattr(getattr(encoder, "patch_embed", None), "patch_size", (1, 1))
    own = (size[0] // patch[0], size[1] // patch[1])
    if own[0] * own[1] == cells:
        return own
    side = math.isqrt(cells)
    return (side, side) if side * side == cells else None


def fit(encoder: nn.Module, state: MappedState) -> MappedState:
    """Tensors by timm's names → native ones: the first layer for the encoder's channels, no classifier where the
    encoder has none, and `encoder.` before every name."""
    own = encoder.state_dict()
    heads = head_prefixes(encoder)
    tensors: dict[str, Tensor] = {}
    skipped, adapted = dict(state.skipped), {PREFIX + name: how for name, how in state.adapted.items()}
    origins = {PREFIX + name: origin for name, origin in state.origins.items()}
    first = _first_weights(encoder)
    for name, tensor in state.tensors.items():
        if name not in own and name.startswith(heads):
            skipped[state.origins.get(name, name)] = "the published classifier; this model has none"
            continue
        channels = _channels(encoder, own[name], tensor) if name in first and name in own else None
        if channels not in (None, encoder.in_chans):
            adapted[PREFIX + name] = f"{channels} input channels to {encoder.in_chans}"
            tensor = _for_channels(name, tensor, channels, encoder.in_chans)
        tensors[PREFIX + name] = tensor
    return MappedState(tensors, skipped, adapted, origins)


def in_todays_layout(encoder: nn.Module, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file has the names and shapes the encoder has in memory, classifier and first layer aside."""
    built = get_model_input_config(encoder)["input_size"][1:]
    if tuple(built) != tuple(encoder.pretrained_cfg["input_size"][1:]):
        return False  # the same number of positions can be another grid
    own, heads, first = encoder.state_dict(), head_prefixes(encoder), _first_weights(encoder)
    parameters = {name for name, _ in encoder.named_parameters()}
    return all(
        name in own and tensor.shape == own[name].shape
        for name, tensor in tensors.items()
        if not (name.startswith(heads) or name in first)
    ) and not any(name not in tensors and not name.startswith(heads) for name in parameters)


def conversion(encoder: nn.Module, architecture: str) -> Conversion | None:
    """timm's function from the family's older or foreign layouts to today's; None where it has none."""
    if type(encoder).__name__ == "CrossVit":
        return _crossvit_conversion
    module = sys.modules[timm.model_entrypoint(architecture).__module__]
    function = getattr(module, _CONVERSIONS.get(type(encoder).__name__, "checkpoint_filter_fn"), None)
    if function is None:
        return None
    options: dict[str, object] = {}
    if module.__name__.endswith(".deit"):
        options = {"adapt_layer_scale": True}
    elif module.__name__.endswith(".vision_transformer") and "flexi" in architecture:
        options = {"interpolation": "bilinear", "antialias": False}
    elif module.__name__.endswith(".vision_transformer") and "radio" in architecture:
        corners = any(name in architecture for name in module._RADIO_ALIGN_CORNERS)
        options = {"interpolation": "bilinear", "antialias": False, "align_corners": corners}
    if "model" in inspect.signature(function).parameters:
        options["model"] = encoder
    return partial(function, **options)


def _crossvit_conversion(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """What timm does inside the function that builds a CrossViT."""
    moved = ("pos_embed", "cls_token")
    return {name.replace(".", "_") if any(m in name for m in moved) else name: t for name, t in tensors.items()}


def _converted(
    encoder: nn.Module, convert: Conversion, tensors: Mapping[str, Tensor], architecture: str
) -> MappedState:
    try:
        state = convert(dict(tensors))
    except (AttributeError, KeyError, IndexError, RuntimeError, ValueError, AssertionError) as error:
        _refuse_oblong(encoder, tensors, error)
        raise FormatError(
            f"timm's conversion of {architecture} weights fails on this file: {type(error).__name__}: {error}",
            fix="check that the file belongs to this architecture, or name its format",
        ) from error
    published = {id(tensor): name for name, tensor in tensors.items()}
    origins = {name: published[id(tensor)] for name, tensor in state.items() if id(tensor) in published}
    changed = {name: state[name] for name in state if name not in origins}
    # A tensor that was rebuilt is traced by its name, else by its number of values.
    gone = {name: tensor for name, tensor in tensors.items() if name not in set(origins.values())}
    for name, tensor in changed.items():
        source = name if name in gone else next((n for n, t in gone.items() if t.numel() == tensor.numel()), None)
        if source is not None:
            origins[name] = source
            del gone[source]
    return MappedState(
        dict(state),
        dict.fromkeys(gone, "left out by timm's conversion"),
        dict.fromkeys(changed, "rebuilt by timm's conversion"),
        origins,
    )


def _refuse_oblong(encoder: nn.Module, tensors: Mapping[str, Tensor], error: Exception) -> None:
    """Say it where a conversion failed because it took positions of an unknown oblong grid for a square."""
    name, grid, prefix = _position_table(encoder)
    cells = tensors[name].shape[1] - prefix if name in tensors and tensors[name].ndim == 3 else 0
    if cells and _published_grid(encoder, cells) is None:
        raise FormatError(
            f"the file's positions ({name}) are no square grid, and it does not say which: they cannot be resized",
            asked=f"{grid[0]} x {grid[1]} positions",
            found=f"{cells} positions",
            fix="image_size=(height, width), as the file was saved with",
        ) from error


def _first_weights(encoder: nn.Module) -> frozenset[str]:
    """Names of the weights that meet the image's channels."""
    paths = get_model_input_config(encoder)["first_conv"] or ()
    return frozenset(f"{path}.weight" for path in ((paths,) if isinstance(paths, str) else paths))


def _channels(encoder: nn.Module, own: Tensor, weight: Tensor) -> int | None:
    """The image channels of a file's first layer (D, C * n, …), n values of each as in the encoder's own; None where
    it is none of that kind."""
    each = own.shape[1] // encoder.in_chans  # more than one where pixels are moved into channels
    return weight.shape[1] // each if weight.ndim == own.ndim and weight.shape[1] % each == 0 else None


def _for_channels(name: str, weight: Tensor, published: int, channels: int) -> Tensor:
    """A first layer's weight for another number of channels."""
    try:
        return adapt_input_conv(channels, weight, base_chans=published)
    except (NotImplementedError, AssertionError) as error:
        raise FormatError(
            f"the first layer ({name}) cannot be adapted to {channels} channels: {error}",
            found=f"{published} channels in the file",
            fix=f"in_chans={published}",
        ) from error
