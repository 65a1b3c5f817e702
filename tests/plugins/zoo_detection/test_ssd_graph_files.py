"""Reading weights out of TensorFlow's frozen graphs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from zoo.errors import FormatError, MissingDependencyError
from zoo.plugin.hooks import ReadWeights
from zoo_detection import tensorflow_graphs
from zoo_detection.hooks import read_weights

graph_pb2 = pytest.importorskip("tensorboard.compat.proto.graph_pb2")
FLOAT, DOUBLE, INT32, BFLOAT16, HALF = 1, 2, 3, 14, 19


def variable(graph: Any, name: str, shape: tuple[int, ...], content: bytes, dtype: int = FLOAT) -> Any:
    """A variable as freezing leaves it: a constant and what reads it. Gives the constant's tensor."""
    node = graph.node.add(name=name, op="Const")
    node.attr["dtype"].type = dtype
    tensor = node.attr["value"].tensor
    tensor.dtype, tensor.tensor_content = dtype, content
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    graph.node.add(name=f"{name}/read", op="Identity", input=[name])
    return tensor


def saved(graph: Any, folder: Path) -> str:
    path = folder / "graph.pb"
    path.write_bytes(graph.SerializeToString())
    return str(path)


def read(graph: Any, folder: Path) -> dict[str, torch.Tensor]:
    tensors = read_weights(ReadWeights(saved(graph, folder)))
    assert tensors is not None
    return dict(tensors)


def values(*numbers: float, dtype: str = "<f4") -> bytes:
    return np.array(numbers, dtype=dtype).tobytes()


@pytest.mark.filterwarnings("error")
def test_variables_are_read_by_name_into_memory_that_can_be_written(tmp_path: Path) -> None:
    graph = graph_pb2.GraphDef()
    variable(graph, "Conv/weights", (1, 2), values(1.0, -2.0))
    variable(graph, "scalar", (), values(3.0, dtype="<f8"), DOUBLE)
    tensors = read(graph, tmp_path)
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {"Conv/weights": [[1.0, -2.0]], "scalar": 3.0}
    assert tensors["scalar"].dtype == torch.float64
    tensors["Conv/weights"].add_(1)


def test_constants_of_the_program_are_no_weights(tmp_path: Path) -> None:
    graph = graph_pb2.GraphDef()
    variable(graph, "weights", (1,), values(1.0))
    variable(graph, "counter", (1,), np.array([7], "<i4").tobytes(), INT32)
    variable(graph, "epsilon", (), values(0.001))
    graph.node[-1].op = "Add"  # nothing reads it as a variable is read
    assert list(read(graph, tmp_path)) == ["weights"]


@pytest.mark.parametrize("dtype", [HALF, BFLOAT16])
def test_half_precision_keeps_its_bits(tmp_path: Path, dtype: int) -> None:
    graph = graph_pb2.GraphDef()
    kind = torch.float16 if dtype == HALF else torch.bfloat16
    numbers = torch.tensor([1.5, -0.25], dtype=kind)
    variable(graph, "content", (2,), numbers.view(torch.int16).numpy().tobytes(), dtype)
    listed = variable(graph, "listed", (2,), b"", dtype)
    listed.half_val.extend(numbers.view(torch.uint16).tolist())
    tensors = read(graph, tmp_path)
    assert torch.equal(tensors["content"], numbers)
    assert torch.equal(tensors["listed"], numbers)


def test_a_value_written_once_fills_its_tensor(tmp_path: Path) -> None:
    graph = graph_pb2.GraphDef()
    variable(graph, "gamma", (2, 3), b"").float_val.append(0.5)
    assert read(graph, tmp_path)["gamma"].tolist() == [[0.5] * 3] * 2


@pytest.mark.parametrize(
    ("shape", "content"),
    [
        pytest.param((3,), values(1.0, 2.0), id="too few values"),
        pytest.param((1,), values(1.0, 2.0), id="too many values"),
        pytest.param((2,), values(1.0, 2.0)[:-1], id="half a value"),
        pytest.param((-1,), values(1.0), id="a negative side"),
        pytest.param((-1, -2), values(1.0, 2.0), id="two negative sides"),
        pytest.param((1 << 40,), values(1.0), id="a terabyte of one value"),
        pytest.param((1 << 62, 1 << 62), b"", id="no values for many"),
    ],
)
def test_a_tensor_whose_shape_and_values_disagree_is_refused(
    tmp_path: Path, shape: tuple[int, ...], content: bytes
) -> None:
    graph = graph_pb2.GraphDef()
    variable(graph, "w", shape, content)
    with pytest.raises(FormatError, match="shape and its values disagree"):
        read(graph, tmp_path)


def test_a_tensor_without_a_shape_is_refused(tmp_path: Path) -> None:
    graph = graph_pb2.GraphDef()
    variable(graph, "w", (), values(1.0)).tensor_shape.unknown_rank = True
    with pytest.raises(FormatError, match="without a type or a shape"):
        read(graph, tmp_path)


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    graph = graph_pb2.GraphDef()
    variable(graph, "w", (1,), values(1.0))
    variable(graph, "w", (1,), values(2.0))
    with pytest.raises(FormatError, match="one name"):
        read(graph, tmp_path)


def test_a_graph_that_was_not_frozen_says_so(tmp_path: Path) -> None:
    graph = graph_pb2.GraphDef()
    graph.node.add(name="w", op="VariableV2")
    with pytest.raises(FormatError, match="without weights"):
        read(graph, tmp_path)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    graph = graph_pb2.GraphDef()
    variable(graph, "w", (1,), values(1.0))
    path = Path(saved(graph, tmp_path))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(FormatError, match="not a TensorFlow graph"):
        read_weights(ReadWeights(str(path)))


def test_a_larger_file_than_a_graph_can_be_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_pb2.GraphDef()
    variable(graph, "w", (1,), values(1.0))
    monkeypatch.setattr(tensorflow_graphs, "LARGEST_FILE", 10)
    with pytest.raises(FormatError, match="larger than"):
        read(graph, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"PK\x03\x04", id="torch's archive"),
        pytest.param(b"\x80\x02}q\x00.", id="a pickle"),
        pytest.param(b"\x08\x07\x12\x07pytorch", id="ONNX"),
        pytest.param(b"\x0a\x00\x00\x00\x00\x00\x00\x00{}        ", id="safetensors of ten bytes"),
        pytest.param(b"\nversion https://example.org\n", id="text"),
        pytest.param(b"\n\x08\n\x04\x00\x01\x02\x03\x12\x00", id="a node without words"),
        pytest.param(b"\n" + b"\xff" * 5000, id="a length without end"),
    ],
)
def test_files_of_other_kinds_are_left_to_others(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights"
    path.write_bytes(content)
    assert read_weights(ReadWeights(str(path))) is None


def test_without_the_package_that_knows_the_format_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = graph_pb2.GraphDef()
    variable(graph, "w", (1,), values(1.0))
    path = saved(graph, tmp_path)
    known = importlib.util.find_spec
    monkeypatch.setattr(tensorflow_graphs, "find_spec", lambda name: None if name == "tensorboard" else known(name))
    with pytest.raises(MissingDependencyError, match=r"zoo-detection\[tensorflow\]"):
        read_weights(ReadWeights(path))
