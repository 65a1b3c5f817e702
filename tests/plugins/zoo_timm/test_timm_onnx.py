"""Reading weights out of ONNX files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from zoo.errors import FormatError, MissingDependencyError
from zoo.plugin.hooks import ReadWeights
from zoo_timm.hooks import read_weights

onnx = pytest.importorskip("onnx")


def one_weight(path: Path, **fields: object) -> Path:
    """An ONNX file with one initialiser `w` of two values."""
    weight = onnx.numpy_helper.from_array(np.array([1.0, -2.0], dtype=np.float32), "w")
    for name, value in fields.items():
        setattr(weight, name, value)
    output = onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [2])
    graph = onnx.helper.make_graph([], "g", [], [output], [weight])
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    return path


@pytest.mark.filterwarnings("error")
def test_tensors_are_read_by_name_into_memory_that_can_be_written(tmp_path: Path) -> None:
    tensors = read_weights(ReadWeights(str(one_weight(tmp_path / "a.onnx"))))
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {"w": [1.0, -2.0]}
    tensors["w"].add_(1)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_files_of_other_kinds_are_left_to_others(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights"
    path.write_bytes(content)
    assert read_weights(ReadWeights(str(path))) is None


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = one_weight(tmp_path / "a.onnx")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(FormatError, match="not an ONNX file"):
        read_weights(ReadWeights(str(path)))


def test_a_file_that_points_to_another_one_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(8))
    path = one_weight(tmp_path / "a.onnx", data_location=onnx.TensorProto.EXTERNAL)
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].external_data.add(key="location", value=secret.name)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FormatError, match="other files"):
        read_weights(ReadWeights(str(path)))


def test_without_the_reader_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = one_weight(tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r"zoo-timm\[onnx\]"):
        read_weights(ReadWeights(str(path)))
