"""State trees come back exactly, and what cannot is refused with its place."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter, OrderedDict, defaultdict, namedtuple
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from zoo.checkpoints.files import read_tensors
from zoo.checkpoints.training.trees import TreeReader, TreeWriter, structure_text
from zoo.checkpoints.writing import serialize
from zoo.errors import FormatError, OptionError

DTYPES = [
    value
    for name, value in sorted(vars(torch).items())
    if isinstance(value, torch.dtype) and name not in ("quint8", "qint8", "qint32", "quint4x2", "quint2x4")
    if not name.startswith(("bit", "int1", "int2", "int3", "int4", "int5", "int6", "int7", "uint1", "uint2", "uint3"))
    if not name.startswith(("uint4", "uint5", "uint6", "uint7"))
] + [torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64]


def through_files(tree: Any) -> Any:
    """A tree after a trip through the bytes of both files."""
    writer = TreeWriter()
    structure = json.loads(structure_text({"tree": writer.add(tree, "tree")}))["tree"]
    with NamedTemporaryFile(suffix=".safetensors") as file:
        file.writelines(serialize(writer.tensors))
        file.flush()
        tensors = read_tensors(file.name, mapped=False).tensors
    return TreeReader(tensors, "the test").read(structure)


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return [*one] == [*other] and all(type(a) is type(b) for a, b in zip(one, other, strict=True)) and all(
            same(one[key], other[key]) for key in one
        )  # fmt: skip
    if isinstance(one, torch.Size):
        return one == other
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and raw_bytes(one) == raw_bytes(other)
    if isinstance(one, np.ndarray | np.generic):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", other)
    return bool(one == other)


def raw_bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy()) if flat.numel() else b""


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=4))
    count = math.prod(shape) * dtype.itemsize
    raw = torch.tensor(list(draw(st.binary(min_size=count, max_size=count))), dtype=torch.uint8)
    if dtype == torch.bool:
        raw &= 1
    tensor = raw.view(dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)
    return tensor.transpose(0, -1) if len(shape) > 1 and draw(st.booleans()) else tensor


arrays = st.builds(
    lambda values, dtype: np.array(values).astype(dtype),
    st.lists(st.integers(0, 100), max_size=4),
    st.sampled_from(["<f4", ">f8", "<i8", "u1", "?", "<c16", "<f2", "M8[s]"]),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**300), 2**300),
    st.floats(),
    st.text(),
    st.sampled_from([torch.float16, torch.device("cuda:1"), torch.Size([2, 3]), np.float32("nan"), np.int8(-3)]),
    st.sampled_from([np.datetime64("2026-11-21"), np.bool_(True), -0.0, math.inf, -math.inf, math.nan]),
    st.sampled_from(["7ff8000000000001", "fff8000000000000"]).map(
        lambda bits: struct.unpack(">d", bytes.fromhex(bits))[0]
    ),
)
keys = st.one_of(
    st.text(max_size=5), st.integers(), st.booleans(), st.none(), st.tuples(st.integers(), st.text(max_size=2)),
    st.sampled_from(["$tensor", "$dict", "$", "__metadata__", "a.b"]),
)  # fmt: skip
trees = st.recursive(
    st.one_of(scalars, tensors(), arrays),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=4),
        st.dictionaries(keys, inner, max_size=3).map(OrderedDict),
        st.dictionaries(keys, st.integers(), max_size=3).map(Counter),
    ),
    max_leaves=12,
)


@settings(max_examples=250, deadline=None)
@given(trees)
def test_every_tree_of_the_allowed_kinds_comes_back_exactly(tree: Any) -> None:
    assert same(tree, through_files(tree))


def test_every_dtype_is_among_those_tried() -> None:
    assert {torch.bfloat16, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2fnuz, torch.int16} <= set(DTYPES)


def test_a_tensor_that_is_met_twice_is_one_tensor_afterwards() -> None:
    shared, empty, exotic = torch.arange(6.0).reshape(2, 3), torch.empty(0, 3), torch.ones(2, dtype=torch.complex128)
    array = np.arange(3)
    tree = {"a": shared, "b": [shared, shared.view(2, 3)], "c": (empty, empty), "d": [exotic, exotic, array, array]}
    back = through_files(tree)
    assert back["a"] is back["b"][0] is back["b"][1]
    assert back["c"][0] is back["c"][1]
    assert back["d"][0] is back["d"][1]
    assert back["d"][2] is back["d"][3]
    back["d"][2][0] = 7  # and may be written to


def test_equal_tensors_that_are_two_stay_two() -> None:
    back = through_files([torch.zeros(3), torch.zeros(3)])
    assert back[0] is not back[1]
    assert back[0].data_ptr() != back[1].data_ptr()


def test_views_of_one_storage_keep_their_own_values() -> None:
    whole = torch.arange(6.0)
    back = through_files({"whole": whole, "half": whole[3:], "row": whole.reshape(2, 3)[0]})
    assert back["half"].tolist() == [3, 4, 5]
    assert back["row"].tolist() == [0, 1, 2]


class Custom:
    pass


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Custom(), "Custom"),
        (lambda: 0, "function"),
        ({1, 2}, "set"),
        (b"raw", "bytes"),
        (Point(1, 2), "Point"),
        (defaultdict(list), "defaultdict"),
        (1 + 2j, "complex"),
        (np.array([Custom()]), "ndarray"),
        (np.str_("x"), "str_"),
        (torch.ones(2).to_sparse(), "sparse"),
        (torch.ones(2, device="meta"), "meta"),
        (nn.UninitializedParameter(), "no shape yet"),
    ],
)
def test_anything_else_is_refused_with_its_place(value: Any, says: str) -> None:
    with pytest.raises(OptionError, match=r"optimizer\.param_groups\[0\]\.foo") as caught:
        TreeWriter().add({"param_groups": [{"lr": 0.1, "foo": value}]}, "optimizer")
    assert says in str(caught.value)


def test_a_tree_that_contains_itself_or_is_absurdly_deep_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(OptionError, match="contains itself"):
        TreeWriter().add(loop, "extra")
    deep: Any = 1
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(OptionError, match="levels deep"):
        TreeWriter().add(deep, "extra")
    twice = [1]
    TreeWriter().add([twice, twice], "extra")  # twice is no loop


@pytest.mark.parametrize(
    "structure",
    [
        {"$tensor": "nowhere"},
        {"$tensor": {"a": 1}},
        {"$eval": "1"},
        {"$dtype": "load"},
        {"$dtype": "float31"},
        {"$float": "zz"},
        {"$int": "zz"},
        {"$dict": [[1]]},
        {"$dict": [[[1], 2]]},
        {"$dict": 3},
        {"$device": "file:///etc/passwd"},
        {"$size": ["a"]},
        {"$scalar": "|O", "hex": "0000000000000000"},
        {"$scalar": "<f4", "hex": "00"},
        {"$array": "t", "dtype": "|O", "shape": [1]},
        {"$array": "t", "dtype": "<f4", "shape": [1 << 60]},
        {"$tensor": "t", "dtype": "save", "shape": [1]},
        {"$tensor": "t", "dtype": "complex128", "shape": [-7]},
        {"$tensor": "t", "layout": "sideways"},
    ],
)
def test_hostile_structures_are_format_errors(structure: Any) -> None:
    with pytest.raises(FormatError, match="is damaged"):
        TreeReader({"t": torch.zeros(8, dtype=torch.uint8)}, "state.json").read(structure)


def test_a_negated_view_keeps_its_own_values() -> None:
    values = torch.randn(4, dtype=torch.cfloat)
    writer = TreeWriter()
    structure = writer.add({"a": values.imag, "b": values.conj().imag}, "extra")
    read = TreeReader({name: tensor.contiguous() for name, tensor in writer.tensors.items()}, "here").read(structure)
    assert torch.equal(read["b"], -read["a"])
