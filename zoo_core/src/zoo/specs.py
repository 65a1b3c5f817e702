"""What a plugin declares, as plain frozen data: no torch, no pydantic, nothing to run.

A plugin's `catalog.py` builds one `PluginSpec`; `zoo plugin compile` writes it as the canonical `zoo.json`, which
is all that listing, searching and resolving ever read. Every record turns into JSON and back without loss
(`to_dict`, `from_dict`); an unknown field, a missing field or a wrong type raises `ManifestError` naming its place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from types import UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from zoo.errors import ManifestError

PLUGIN_API = 1
"""The plugin contract this core speaks. Bumped when a contract breaks."""

MANIFEST_SCHEMA = 1
"""The layout of `zoo.json`."""

Kind = Literal["model", "backbone", "neck", "head"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]

LARGEST_SIDE = 2**14
"""Pixels an `InputSpec` may ask for along a side, before and after its crop: far more than any network takes, and
little enough that a manifest cannot ask for more memory than machines have."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Record:
    """Base of the records: JSON without loss, in a canonical order, defaults left out."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; fields at their default value are left out."""
        out: dict[str, Any] = {}
        for f in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            value = getattr(self, f.name)
            default = f.default_factory() if f.default_factory is not MISSING else f.default
            if value != default:
                out[f.name] = _plain(value)
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "") -> Self:
        """Inverse of `to_dict`. Raises `ManifestError` naming the path of the field at fault."""
        where = where or cls.__name__
        if not isinstance(data, Mapping):
            raise ManifestError(f"{where}: expected an object, found {type(data).__name__}")
        hints = _hints(cls)
        if not data.keys() <= hints.keys():
            unknown = sorted(set(map(str, data)) - set(hints))
            raise ManifestError(f"{where}: unknown field {unknown[0]!r}", found=", ".join(sorted(hints)))
        values = {name: _typed(data[name], hints[name], f"{where}.{name}") for name in hints if name in data}
        try:
            return cls(**values)
        except TypeError as error:  # a field without default is missing
            raise ManifestError(f"{where}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class InputSpec(Record):
    """How an image becomes a model's input: data that is executed, inverted and exported.

    size: (H, W) the model is given, in pixels, each up to `LARGEST_SIDE`, as is `resize_to`.
    resize: `shortest` scales the shorter side to `size / crop_pct`; `stretch` scales both; `letterbox` fits the
        whole image into `size / crop_pct` and pads. `fit` scales the shorter side to the smaller number of `size`, or
        less where the longer side would pass the larger one, and crops nothing: images keep sizes of their own, and a
        batch of them is padded, after normalisation, with zeros at the right and at the bottom to whole `divisor`s.
    crop_pct: the share of the resized image that the centre crop keeps; 1.0 crops nothing from a square.
    interpolation, antialias: of the resize; without antialiasing it is torch's, on float pixels.
    channels, channel_order: what the network's first layer expects.
    mean, std: per channel, in the network's order, on values in [0, 1].
    pad_value: grey level in [0, 255] of letterbox padding (None: the mean); pad_side: `center` or `end`. The other
        modes pad with black where the crop is larger than the resized image.
    fixed_size: the network takes no other size. divisor: other sizes are multiples of it.
    """

    size: tuple[int, int] = (224, 224)
    resize: Literal["shortest", "stretch", "letterbox", "fit"] = "shortest"
    crop_pct: float = 0.875
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    channels: int = 3
    channel_order: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    pad_value: float | None = None
    pad_side: Literal["center", "end"] = "center"
    fixed_size: bool = False
    divisor: int = 1

    def __post_init__(self) -> None:
        sound = min(self.size) >= 1 and max(self.size) <= LARGEST_SIDE and 0.01 <= self.crop_pct <= 4
        if not sound or not 1 <= min(self.resize_to) <= max(self.resize_to) <= LARGEST_SIDE:
            raise ManifestError(
                f"InputSpec: size {self.size} and crop_pct {self.crop_pct} make no image of 1 to {LARGEST_SIDE} pixels "
                "a side"
            )
        if self.resize == "fit" and (self.crop_pct != 1 or self.fixed_size):
            raise ManifestError("InputSpec: `fit` crops nothing and has no fixed size", fix="crop_pct=1.0")
        if self.channels < 1 or self.divisor < 1:
            raise ManifestError(f"InputSpec: channels {self.channels} and divisor {self.divisor} are at least 1")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ManifestError(f"InputSpec: mean and std need {self.channels} values, one a channel")
        if min(self.std) <= 0:
            raise ManifestError(f"InputSpec: std {self.std} must be positive")

    @property
    def resize_to(self) -> tuple[int, int]:
        """(H, W) that the resize aims at, before the crop."""
        # Plain floating point, as timm computes it: 468 / 0.936 is 499 there, and so it is here.
        return math.floor(self.size[0] / self.crop_pct), math.floor(self.size[1] / self.crop_pct)

    def with_size(self, height: int, width: int) -> InputSpec:
        """The same preprocessing for another input size."""
        return replace(self, size=(height, width))

    def with_channels(self, channels: int) -> InputSpec:
        """The same preprocessing for another number of channels: a single one gets the average mean and standard
        deviation; more or fewer take theirs in order, and over again. Raises `ManifestError` below 1."""
        if channels == self.channels:
            return self

        def spread(values: tuple[float, ...]) -> tuple[float, ...]:
            if channels == 1:
                return (sum(values) / len(values),)
            return tuple(values[i % len(values)] for i in range(channels))

        return replace(self, channels=channels, mean=spread(self.mean), std=spread(self.std))


@dataclass(frozen=True, kw_only=True)
class Metric(Record):
    """One published figure with the conditions it was measured under."""

    name: str  # "top1", "top5", "box_ap" …
    value: float
    dataset: str  # "imagenet-1k/val" …
    unit: str = "%"
    conditions: Mapping[str, Any] = field(default_factory=dict)  # {"image_size": 288, "crop_pct": 1.0}
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class CheckpointSpec(Record):
    """One set of published weights: bytes, what they were trained for, and what may be done with them.

    name: the part after the dot in a reference.
    sources: tried in order, the digest decides: `pkg://distribution/path`, `hf://org/repo@revision/file`, `file://…`.
    sha256, size: of the source file, in hex and in bytes; None where not known (pinned on first use).
    format: the name of the key map, one of the model's formats.
    license: SPDX id of the weights, `unknown` if nobody says. gated: the host asks for acceptance.
    labels: a label space by name; None where the outputs are not named classes. num_classes: outputs of the head.
    config: config values this checkpoint needs beside the model's own.
    trained_on: data sets, in order of training.
    """

    name: str
    sources: tuple[str, ...]
    sha256: str | None = None
    size: int | None = None
    format: str = "native"
    license: str = "unknown"
    gated: bool = False
    labels: str | None = None
    num_classes: int | None = None
    input: InputSpec = InputSpec()
    config: Mapping[str, Any] = field(default_factory=dict)
    trained_on: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    aliases: tuple[str, ...] = ()
    paper: str = ""
    notes: str = ""


@dataclass(frozen=True, kw_only=True)
class ModelSpec(Record):
    """One named size of one family: a class, its config values, its published weights.

    name: the part of a reference before the dot. version: bumped when state-dict keys, the outputs' structure or
        numerics under fixed weights change.
    factory: `package.module:Class`, imported only when the model is built. config: values for its `Config`.
    task: `classification`, `features`, `detection` …
    checkpoints: the first is the default.
    channels, strides: of the feature maps, where the model serves as a backbone.
    params, macs, structure_sha256: computed by `zoo plugin compile`; params counts every parameter at the default
        config, macs the multiply-accumulates of one image of that config's input size.
    """

    name: str
    factory: str
    kind: Kind = "model"
    task: str = "classification"
    config: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1
    summary: str = ""
    family: str = ""
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    paper: str = ""
    license: str = "Apache-2.0"
    input: InputSpec = InputSpec()
    formats: tuple[str, ...] = ("native",)
    checkpoints: tuple[CheckpointSpec, ...] = ()
    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    params: int | None = None
    macs: int | None = None
    structure_sha256: str | None = None

    def checkpoint(self, name: str | None) -> CheckpointSpec | None:
        """The checkpoint of that name, the default for None, None where there is no such one."""
        if name is None:
            return self.checkpoints[0] if self.checkpoints else None
        return next((c for c in self.checkpoints if c.name == name), None)


@dataclass(frozen=True, kw_only=True)
class PluginSpec(Record):
    """A plugin: the whole of what one distribution adds to the catalogue.

    namespace: `detection` for the distribution `zoo-detection`. api: lowest and highest plugin API it works with.
    requires: import names that must be present before a factory is imported. hooks: names of the hooks it
        implements, through the entry-point group `zoo.hooks`. schemas: JSON Schema of every factory's config,
        computed by `zoo plugin compile`.
    """

    namespace: str
    distribution: str
    summary: str = ""
    api: tuple[int, int] = (PLUGIN_API, PLUGIN_API)
    license: str = "Apache-2.0"
    homepage: str = ""
    requires: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    models: tuple[ModelSpec, ...] = ()
    schemas: Mapping[str, Any] = field(default_factory=dict)


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return value


_HINTS: dict[type, dict[str, Any]] = {}


def _hints(cls: type) -> dict[str, Any]:
    if cls not in _HINTS:  # resolving annotations costs more than the parsing itself
        _HINTS[cls] = get_type_hints(cls)
    return _HINTS[cls]


@cache
def _parts(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(hint), get_args(hint)


def _typed(value: Any, hint: Any, where: str) -> Any:
    """The JSON value as the annotated type, or a `ManifestError` that names the place."""
    if type(value) is hint and hint is not float:  # nearly all of a manifest is text
        return value
    origin, args = _parts(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):
        if value is None and type(None) in args:
            return None
        return _typed(value, next(a for a in args if a is not type(None)), where)
    if origin is Literal:
        if value in args:
            return value
        raise ManifestError(f"{where}: {value!r} is not one of {', '.join(map(repr, args))}")
    if origin is tuple:
        return _typed_tuple(value, args, where)
    if isinstance(hint, type) and issubclass(hint, Record):
        return hint.from_dict(value, where)
    if origin is not None:  # Mapping[str, Any]
        hint = Mapping
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**1023 else math.inf  # JSON knows larger integers than floats
    if not isinstance(value, hint) or (hint in (int, float) and isinstance(value, bool)):
        raise ManifestError(f"{where}: expected {hint.__name__}, found {type(value).__name__}")
    if hint is float and not math.isfinite(value):
        raise ManifestError(f"{where}: {value} is not a finite number")
    return value


def _typed_tuple(value: Any, args: tuple[Any, ...], where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ManifestError(f"{where}: expected a list, found {type(value).__name__}")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_typed(v, args[0], f"{where}[{i}]") for i, v in enumerate(value))
    if len(value) != len(args):
        raise ManifestError(f"{where}: expected {len(args)} values, found {len(value)}")
    return tuple(_typed(v, a, f"{where}[{i}]") for i, (v, a) in enumerate(zip(value, args, strict=True)))
