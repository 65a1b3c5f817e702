"""Reads the weights inside TensorFlow's frozen graphs. Nothing of the graph is run.

file.pb, a GraphDef -> the variables frozen into it -> tensors by TensorFlow's names, in TensorFlow's layouts

Freezing turns a variable into a `Const` that an `Identity` reads, `NAME` and `NAME/read`; every other constant belongs
to the program. The messages are those that the package tensorboard brings; TensorFlow itself is not needed.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from zoo.errors import FormatError, MissingDependencyError

if TYPE_CHECKING:
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.tensor_pb2 import TensorProto

LARGEST_FILE = 2**31 - 1
"""Bytes a protocol buffer may have."""

LARGEST_FILL = 2**26
"""Values of a tensor that is one value over and over: a file of a few bytes may not ask for more."""

# TensorFlow's number of each type of weight: its torch type, numpy's type of a value, and the field of the values.
_TYPES = {
    1: (torch.float32, "<f4", "float_val"),
    2: (torch.float64, "<f8", "double_val"),
    14: (torch.bfloat16, "<u2", "half_val"),
    19: (torch.float16, "<u2", "half_val"),
}
_SIGNATURE = re.compile(rb"[\w.][\w.\\/>-]*")


def is_frozen_graph(path: str) -> bool:
    """Whether a file begins as a GraphDef does: with a node that has a name and an operation."""
    with open(path, "rb") as file:
        start = file.read(4096)
    try:
        node = _field(start, 0, 0x0A)[0]
        name_at, name_end = _field(start, node, 0x0A)
        op_at, op_end = _field(start, name_end, 0x12)
    except (IndexError, ValueError):
        return False
    return all(_SIGNATURE.fullmatch(start[at:end]) for at, end in ((name_at, name_end), (op_at, op_end)))


def read_frozen_graph(path: str) -> dict[str, Tensor]:
    """The variables frozen into a graph, by name: convolutions as (H, W, in, out), depthwise ones (H, W, channels, M).

    Raises:
        MissingDependencyError: tensorboard is not installed.
        FormatError: damaged, or a graph without weights.
    """
    graph = _parsed(path)
    variables = set(_variables(graph, path))
    tensors = {
        node.name: _tensor(node.attr["value"].tensor, node.name) for node in graph.node if node.name in variables
    }
    if not tensors:
        raise FormatError(
            f"{path}: a TensorFlow graph without weights",
            found=f"{len(graph.node)} operations, no variable frozen to a constant",
            fix="freeze it first: tf.compat.v1.graph_util.convert_variables_to_constants",
        )
    return tensors


def _parsed(path: str) -> GraphDef:
    if find_spec("tensorboard") is None:
        raise MissingDependencyError(
            "these weights are in a TensorFlow graph", asked=path, fix='pip install "zoo-detection[tensorflow]"'
        )
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    if os.path.getsize(path) > LARGEST_FILE:
        raise FormatError(f"{path}: larger than a TensorFlow graph can be", found=f"{os.path.getsize(path)} bytes")
    try:
        with open(path, "rb") as file:
            return GraphDef.FromString(file.read())
    except (DecodeError, ValueError) as error:
        raise FormatError(
            f"{path}: not a TensorFlow graph that can be read: {error}", fix="fetch the file again: it may be cut short"
        ) from error


def _variables(graph: GraphDef, path: str) -> Iterator[str]:
    """The names of the floating-point constants that an `Identity` reads."""
    constants = {node.name for node in graph.node if node.op == "Const" and node.attr["dtype"].type in _TYPES}
    if len({node.name for node in graph.node}) != len(graph.node):
        raise FormatError(f"{path}: two operations of the TensorFlow graph have one name")
    return (read for n in graph.node if n.op == "Identity" for read in n.input[:1] if read in constants)


def _tensor(proto: TensorProto, name: str) -> Tensor:
    if proto.dtype not in _TYPES or proto.tensor_shape.unknown_rank:
        raise FormatError(f"{name}: a TensorFlow constant without a type or a shape", found=f"type {proto.dtype}")
    dtype, values_as, values_in = _TYPES[proto.dtype]
    shape = [dim.size for dim in proto.tensor_shape.dim]
    content = proto.tensor_content or _packed(getattr(proto, values_in), values_as)
    count = math.prod(shape) if min(shape, default=0) >= 0 else -1
    if content and len(content) == dtype.itemsize and 1 <= count <= LARGEST_FILL:  # one value for all
        return torch.frombuffer(bytearray(content), dtype=dtype).expand(count).reshape(shape)
    if len(content) != count * dtype.itemsize:
        raise FormatError(
            f"{name}: its shape and its values disagree",
            found=f"shape {shape}, {len(content) // dtype.itemsize} values",
            fix="fetch the file again: it is damaged",
        )
    return (
        torch.frombuffer(bytearray(content), dtype=dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)
    )


def _packed(values: Any, values_as: str) -> bytes:
    return np.fromiter(values, dtype=values_as).tobytes()


def _field(data: bytes, at: int, tag: int) -> tuple[int, int]:
    """Where the length-delimited field that begins at `at` has its value: (first, end). ValueError for another tag."""
    if data[at] != tag:
        raise ValueError(f"field {data[at]}")
    length, shift, at = 0, 0, at + 1
    while data[at] & 0x80:
        length, shift, at = length | (data[at] & 0x7F) << shift, shift + 7, at + 1
    length |= data[at] << shift
    return at + 1, at + 1 + length
