"""Computes a node of a TensorFlow graph with numpy, slowly and by the operations' definitions: an oracle for weights
that come inside a frozen graph. Only what SSD's network, its anchors and its decoding use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

Array = Any
TYPES = {1: np.float32, 3: np.int32, 9: np.int64, 10: np.bool_}


class Interpreter:
    """`Interpreter(path, {"Preprocessor/sub": images})("BoxPredictor_0/ClassPredictor/BiasAdd")`."""

    def __init__(self, path: Path, given: Mapping[str, Array]) -> None:
        from tensorboard.compat.proto.graph_pb2 import GraphDef

        self.nodes = {node.name: node for node in GraphDef.FromString(path.read_bytes()).node}
        self.values: dict[str, Any] = dict(given)

    def __call__(self, name: str) -> Array:
        base, _, output = name.partition(":")
        if base not in self.values:
            node = self.nodes[base]
            inputs = [self(i) for i in node.input if not i.startswith("^")]
            self.values[base] = constant(node) if node.op == "Const" else OPERATIONS[node.op](node, *inputs)
        value = self.values[base]
        return value[int(output or 0)] if isinstance(value, list) else value


def constant(node: Any) -> Array:
    proto = node.attr["value"].tensor
    shape = [d.size for d in proto.tensor_shape.dim]
    values = {1: proto.float_val, 3: proto.int_val, 9: proto.int64_val, 10: proto.bool_val}[proto.dtype]
    if proto.tensor_content:
        return np.frombuffer(proto.tensor_content, TYPES[proto.dtype]).reshape(shape)
    return (
        np.broadcast_to(np.array(list(values), TYPES[proto.dtype]), shape or ())
        if shape
        else TYPES[proto.dtype](values[0])
    )


def same(x: Array, kernel: int, stride: int) -> torch.Tensor:
    """(B, H, W, C) → (B, C, H', W'), with the zeros that `SAME` puts around."""
    pads = []
    for side in (x.shape[2], x.shape[1]):
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2), pads)


def convolution(node: Any, x: Array, weight: Array) -> Array:
    assert node.attr["padding"].s == b"SAME"
    stride = node.attr["strides"].list.i[1]
    kernel = torch.from_numpy(np.array(weight)).permute(3, 2, 0, 1)
    return F.conv2d(same(x, weight.shape[0], stride), kernel, stride=stride).permute(0, 2, 3, 1).numpy()


def depthwise(node: Any, x: Array, weight: Array) -> Array:
    assert node.attr["padding"].s == b"SAME"
    stride, channels = node.attr["strides"].list.i[1], weight.shape[2]
    kernel = torch.from_numpy(np.array(weight)).permute(2, 3, 0, 1).reshape(-1, 1, *weight.shape[:2])
    return (
        F.conv2d(same(x, weight.shape[0], stride), kernel, stride=stride, groups=channels).permute(0, 2, 3, 1).numpy()
    )


def strided_slice(node: Any, x: Array, begin: Array, end: Array, strides: Array) -> Array:
    starts, ends, drops = (node.attr[f"{word}_mask"].i for word in ("begin", "end", "shrink_axis"))
    assert not node.attr["ellipsis_mask"].i
    assert not node.attr["new_axis_mask"].i
    index: list[Any] = []
    for i, (first, last, step) in enumerate(zip(begin, end, strides, strict=True)):
        if drops >> i & 1:
            index.append(int(first))
        else:
            index.append(slice(None if starts >> i & 1 else first, None if ends >> i & 1 else last, step))
    return np.asarray(x)[tuple(index)]


def cut(node: Any, x: Array, begin: Array, size: Array) -> Array:
    return x[tuple(slice(b, None if s < 0 else b + s) for b, s in zip(begin, size, strict=True))]


def unpack(node: Any, x: Array) -> list[Array]:
    axis = node.attr["axis"].i
    return [np.take(x, i, axis) for i in range(x.shape[axis])]


def squeeze(node: Any, x: Array) -> Array:
    return np.squeeze(x, tuple(node.attr["squeeze_dims"].list.i) or None)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "Add": lambda node, a, b: a + b,
    "BiasAdd": lambda node, x, bias: x + bias,
    "Cast": lambda node, x: np.asarray(x).astype(TYPES[node.attr["DstT"].type]),
    "ConcatV2": lambda node, *xs: np.concatenate([np.atleast_1d(x) for x in xs[:-1]], int(xs[-1])),
    "Conv2D": convolution,
    "DepthwiseConv2dNative": depthwise,
    "Exp": lambda node, x: np.exp(x),
    "ExpandDims": lambda node, x, axis: np.expand_dims(x, int(axis)),
    "Fill": lambda node, shape, value: np.full(shape, value),
    "Identity": lambda node, x: x,
    "Minimum": lambda node, a, b: np.minimum(a, b),
    "Mul": lambda node, a, b: a * b,
    "Pack": lambda node, *xs: np.stack(xs, node.attr["axis"].i),
    "Range": lambda node, start, limit, step: np.arange(start, limit, step),
    "Rank": lambda node, x: np.int32(np.ndim(x)),
    "RealDiv": lambda node, a, b: a / b,
    "Relu6": lambda node, x: np.clip(x, 0, 6),
    "Reshape": lambda node, x, shape: np.reshape(x, shape),
    "Rsqrt": lambda node, x: 1 / np.sqrt(x),
    "Shape": lambda node, x: np.array(np.shape(x), np.int32),
    "Sigmoid": lambda node, x: 1 / (1 + np.exp(-x)),
    "Slice": cut,
    "Sqrt": lambda node, x: np.sqrt(x),
    "Squeeze": squeeze,
    "StridedSlice": strided_slice,
    "Sub": lambda node, a, b: a - b,
    "Tile": lambda node, x, times: np.tile(x, times),
    "Transpose": lambda node, x, order: np.transpose(x, order),
    "Unpack": unpack,
}
