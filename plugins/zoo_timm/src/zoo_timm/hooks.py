"""Reads the weights inside ONNX files: the initialisers of the graph, by name. Needs the package onnx."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

import torch
from torch import Tensor

from zoo.errors import FormatError, MissingDependencyError
from zoo.plugin.hooks import ReadWeights, hookimpl

_IR_VERSION = b"\x08"  # field 1 of the message, which every exporter writes first


@hookimpl
def read_weights(event: ReadWeights) -> Mapping[str, Tensor] | None:
    """The initialisers of an ONNX file; None for other files.

    Raises:
        MissingDependencyError: onnx is not installed.
        FormatError: damaged, or its tensors are kept in other files.
    """
    with open(event.path, "rb") as file:
        if file.read(1) != _IR_VERSION:
            return None
    if find_spec("onnx") is None:
        raise MissingDependencyError(
            "these weights are in an ONNX file", asked=event.path, fix='pip install "zoo-timm[onnx]"'
        )
    return _initializers(event.path)


def _initializers(path: str) -> dict[str, Tensor] | None:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(path, load_external_data=False).graph
        outside = [t.name for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
        if outside:  # another file's path in a downloaded file is not to be followed
            raise FormatError(f"{path}: keeps its tensors in other files", found=outside[0])
        arrays = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()} or None
    except (DecodeError, TypeError, ValueError) as error:
        raise FormatError(f"{path}: not an ONNX file that can be read: {error}") from error
