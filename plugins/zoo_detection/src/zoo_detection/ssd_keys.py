"""How others name and lay out the parts of an SSD: torchvision's files, and TensorFlow's with TF-slim's MobileNetV2."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from zoo.checkpoints.keymap import KeyMap, Piece, Pieces, Rename, Renumber, StateMap
from zoo.errors import FormatError
from zoo.models.model import Backbone
from zoo_detection.ssd_backbones import SSDVGG16, SSDMobileNet
from zoo_detection.torchvision_keys import PUBLISHED, OnlyPublished

_HEAD = (
    OnlyPublished(PUBLISHED),
    Rename(r"head.classification_head.module_list.(\d+).(.+)", r"head.logits.\1.\2"),
    Rename(r"head.regression_head.module_list.(\d+).(.+)", r"head.boxes.\1.\2"),
)

TORCHVISION_VGG16 = KeyMap(
    *_HEAD,
    Rename("backbone.scale_weight", "backbone.scale"),
    Rename(r"backbone.features.(\d+).(weight|bias)", r"backbone.features.0.\1.\2"),
    Rename(r"backbone.extra.0.(.+)", r"backbone.features.1.\1"),
    Rename(r"backbone.extra.(\d+).(.+)", r"neck.blocks.\1.\2"),
    Renumber(r"neck.blocks.(\d+).(.+)", -1),
)

TORCHVISION_MOBILENETV3 = KeyMap(*_HEAD, Rename(r"backbone.extra.(\d+).(.+)", r"neck.blocks.\1.\2"))


class _Place(NamedTuple):
    """Where a tensor goes, and how its layout changes on the way there and back."""

    name: str
    load: Callable[[Tensor], Tensor] | None = None
    save: Callable[[Tensor], Tensor] | None = None
    how: str = ""


class Table:
    """A row of a key map that lists every name: what it does not list is left alone. Native counters stay behind."""

    def __init__(self, places: Mapping[str, _Place]) -> None:
        self.places = dict(places)
        self.published = {place.name: published for published, place in places.items()}

    def load(self, pieces: Pieces, skipped: dict[str, str]) -> Pieces:
        """Published → native. Raises `FormatError` for a tensor whose layout cannot be what its name says."""
        loaded: Pieces = {}
        for name, piece in pieces.items():
            place = self.places.get(name, _Place(name))
            if place.load is not None:
                try:
                    piece = piece.changed(place.load(piece.tensor), place.how)
                except RuntimeError as error:
                    raise _misfit(piece, error) from error
            if place.name in loaded:
                raise FormatError(f"two tensors of the file would both be {place.name!r}", found=piece.origin)
            loaded[place.name] = piece
        return loaded

    def save(self, pieces: Pieces) -> Pieces:
        """Native → published."""
        saved: Pieces = {}
        for name, piece in pieces.items():
            if name.endswith(".num_batches_tracked"):
                continue
            published = self.published.get(name, name)
            place = self.places.get(published, _Place(name))
            saved[published] = piece if place.save is None else piece.changed(place.save(piece.tensor), place.how)
        return saved


def _misfit(piece: Piece, error: RuntimeError) -> FormatError:
    return FormatError(
        f"{piece.origin!r} has another layout than its name says: {error}",
        found=str(tuple(piece.tensor.shape)),
        fix="check that the file has the format that was named: format=…",
    )


def _dense(tensor: Tensor) -> Tensor:
    return tensor.permute(3, 2, 0, 1).contiguous()  # (H, W, in, out) -> (out, in, H, W)


def _dense_back(tensor: Tensor) -> Tensor:
    return tensor.permute(2, 3, 1, 0).contiguous()


def _depthwise(tensor: Tensor) -> Tensor:
    return tensor.permute(2, 3, 0, 1).contiguous()  # (H, W, C, 1) <-> (C, 1, H, W): its own inverse


def _xy(codes: Tensor) -> Tensor:
    """(A * 4, …): y, x, h, w of each anchor <-> x, y, w, h: its own inverse."""
    return codes.unflatten(0, (-1, 4))[:, [1, 0, 3, 2]].flatten(0, 1)


_CONV = (_dense, _dense_back, "transposed")
_DEPTHWISE = (_depthwise, _depthwise, "transposed")


def _layer(published: str, conv: str, norm: str) -> Iterator[tuple[str, _Place]]:
    """A convolution with batch normalisation behind it."""
    if published.endswith("depthwise"):
        yield f"{published}/depthwise_weights", _Place(f"{conv}.weight", *_DEPTHWISE)
    else:
        yield f"{published}/weights", _Place(f"{conv}.weight", *_CONV)
    parts = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    for theirs, ours in parts.items():
        yield f"{published}/BatchNorm/{theirs}", _Place(f"{norm}.{ours}")


def _block(published: str, native: str, first: int, parts: tuple[str, ...]) -> Iterator[tuple[str, _Place]]:
    """An inverted residual, or the rest of one. The last part, which projects, stands without a wrapper."""
    for number, part in enumerate(parts, first):
        if part == "project":
            yield from _layer(f"{published}/{part}", f"{native}.{number}", f"{native}.{number + 1}")
        else:
            yield from _layer(f"{published}/{part}", f"{native}.{number}.0", f"{native}.{number}.1")


def _mobilenetv2() -> Iterator[tuple[str, _Place]]:
    theirs, whole = "FeatureExtractor/MobilenetV2", ("expand", "depthwise", "project")
    start, rest = "backbone.features.0", "backbone.features.1"
    yield from _layer(f"{theirs}/Conv", f"{start}.0.0", f"{start}.0.1")
    yield from _block(f"{theirs}/expanded_conv", f"{start}.1.conv", 0, whole[1:])
    for i in range(1, 13):
        yield from _block(f"{theirs}/expanded_conv_{i}", f"{start}.{i + 1}.conv", 0, whole)
    yield from _layer(f"{theirs}/expanded_conv_13/expand", f"{start}.14.0", f"{start}.14.1")
    yield from _block(f"{theirs}/expanded_conv_13", f"{rest}.0", 1, whole[1:])
    for i in range(14, 17):
        yield from _block(f"{theirs}/expanded_conv_{i}", f"{rest}.{i - 13}.conv", 0, whole)
    yield from _layer(f"{theirs}/Conv_1", f"{rest}.4.0", f"{rest}.4.1")
    for i, width in enumerate((512, 256, 256, 128)):
        layer, block = f"{theirs}/layer_19", f"neck.blocks.{i}"
        yield from _layer(f"{layer}_1_Conv2d_{i + 2}_1x1_{width // 2}", f"{block}.0.0", f"{block}.0.1")
        yield from _layer(f"{layer}_2_Conv2d_{i + 2}_3x3_s2_{width}_depthwise", f"{block}.1.0", f"{block}.1.1")
        yield from _layer(f"{layer}_2_Conv2d_{i + 2}_3x3_s2_{width}", f"{block}.2.0", f"{block}.2.1")


def _predictors() -> Iterator[tuple[str, _Place]]:
    for i in range(6):
        classes, boxes = f"BoxPredictor_{i}/ClassPredictor", f"BoxPredictor_{i}/BoxEncodingPredictor"
        yield f"{classes}/weights", _Place(f"head.logits.{i}.weight", *_CONV)
        yield f"{classes}/biases", _Place(f"head.logits.{i}.bias")
        yield (
            f"{boxes}/weights",
            _Place(f"head.boxes.{i}.weight", lambda t: _xy(_dense(t)), lambda t: _dense_back(_xy(t)), "transposed"),
        )
        yield f"{boxes}/biases", _Place(f"head.boxes.{i}.bias", _xy, _xy, "in another order")


TENSORFLOW_MOBILENETV2 = KeyMap(
    OnlyPublished(("FeatureExtractor/", "BoxPredictor_")), Table(dict([*_mobilenetv2(), *_predictors()]))
)
"""The frozen graph of TensorFlow's object detection API, `ssd_mobilenet_v2_coco`. Its boxes say y before x."""


def published_keys(backbone: Backbone) -> Mapping[str, StateMap]:
    """The formats in which an SSD on that backbone is published."""
    if isinstance(backbone, SSDVGG16):
        return {"torchvision": TORCHVISION_VGG16}
    if isinstance(backbone, SSDMobileNet) and backbone.config.body == "v2":
        return {"tensorflow": TENSORFLOW_MOBILENETV2}
    return {"torchvision": TORCHVISION_MOBILENETV3} if isinstance(backbone, SSDMobileNet) else {}
