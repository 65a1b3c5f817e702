"""Safetensors headers: what is sound is read as the library reads it, anything else is a FormatError."""

from __future__ import annotations

import json
import string
import tracemalloc
from pathlib import Path
from typing import Any

import numpy
import pytest
import safetensors
import safetensors.numpy
from hypothesis import HealthCheck, example, given, settings, strategies as st

from zoo.checkpoints.headers import PEEK, TensorInfo, parse_header, peek_header, read_header
from zoo.errors import FormatError

QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
NAMES = st.text(string.ascii_letters + string.digits + "._äü€", min_size=1, max_size=11)  # "__metadata__" has 12
SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)
DTYPES = {"F32": "<f4", "F64": "<f8", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1", "BOOL": "?", "U16": "<u2"}


def file_of(header: Any, body: bytes = b"") -> bytes:
    """A file with this header, which need not be sound."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def entry(dtype: Any = "F32", shape: Any = (1,), span: Any = (0, 4)) -> dict[str, Any]:
    """One tensor's description."""
    return {"dtype": dtype, "shape": shape, "data_offsets": span}


@QUIET
@given(st.dictionaries(NAMES, st.tuples(st.sampled_from(sorted(DTYPES)), SHAPES), max_size=6), st.text(max_size=20))
def test_a_sound_header_is_read_as_the_library_wrote_it(
    tmp_path: Path, tensors: dict[str, tuple[str, tuple[int, ...]]], note: str
) -> None:
    arrays = {name: numpy.zeros(shape, DTYPES[dtype]) for name, (dtype, shape) in tensors.items()}
    safetensors.numpy.save_file(arrays, tmp_path / "f", metadata={"note": note})
    header = read_header(str(tmp_path / "f"))
    assert header.tensors == {name: TensorInfo(*described) for name, described in tensors.items()}
    assert header.metadata == {"note": note}
    assert header.structure == header.tensors


HOSTILE = [
    b"",
    b"1234567",
    (25_000_001).to_bytes(8, "little") + b"{}",
    b"\xff" * 8,
    file_of(b""),
    file_of(b"[]"),
    file_of(b"null"),
    file_of(b"{"),
    file_of(b"\xff\xfe{}"),
    file_of(b"[" * 200_000),
    file_of(b'{"a":' * 50_000),
    file_of(b'{"a": 1' + b"0" * 10_000 + b"}"),
    file_of(b'{"a": NaN}'),
    file_of({"a": 3}),
    file_of({"a": {"dtype": "F32"}}),
    file_of({"a": {**entry(), "more": 1}}, b"1234"),
    file_of({"a": entry("F33")}, b"1234"),
    file_of({"a": entry(["F32"])}, b"1234"),
    file_of({"a": entry(shape=[-1])}, b"1234"),
    file_of({"a": entry(shape=[True])}, b"1234"),
    file_of({"a": entry(shape=[1.0])}, b"1234"),
    file_of({"a": entry(shape="1")}, b"1234"),
    file_of({"a": entry(shape=[1] * 100)}, b"1234"),
    file_of({"a": entry(shape=[1 << 62, 1 << 62])}, b"1234"),
    file_of({"a": entry(shape=[2])}, b"1234"),
    file_of({"a": entry(span=[0])}, b"1234"),
    file_of({"a": entry(span=[4, 0])}, b"1234"),
    file_of({"a": entry(span=[-4, 0])}, b"1234"),
    file_of({"a": entry(span=[4, 8])}, b"12345678"),  # a gap
    file_of({"a": entry(), "b": entry()}, b"1234"),  # an overlap
    file_of({"a": entry(), "b": entry(span=[2, 6])}, b"123456"),
    file_of({"a": entry()}, b"123"),  # beyond the end
    file_of({"a": entry()}, b"12345"),  # bytes that nobody names
    file_of({"a": entry(), "__metadata__": []}, b"1234"),
    file_of({"a": entry(), "__metadata__": {"n": 1}}, b"1234"),
    file_of({"a": entry(), "__metadata__": {"zoo.aliases": "{"}}, b"1234"),
    file_of({"a": entry(), "__metadata__": {"zoo.aliases": '{"b": "c"}'}}, b"1234"),
    file_of({"a": entry(), "__metadata__": {"zoo.aliases": '{"a": "a"}'}}, b"1234"),
    file_of({"a": entry(), "__metadata__": {"zoo.aliases": '{"b": []}'}}, b"1234"),
    file_of(b'{"a":' + json.dumps(entry()).encode() + b',"a":' + json.dumps(entry()).encode() + b"}", b"1234"),
    file_of(b'{"a":{"dtype":"F32","dtype":"U8","shape":[4],"data_offsets":[0,4]}}', b"1234"),
    file_of(b'{"a":{"dtype":"U8","shape":[1],"shape":[4],"data_offsets":[0,4]}}', b"1234"),
    file_of(b'{"__metadata__":{"a":"1","a":"2"}}'),
    file_of(b'{"__metadata__":{},"__metadata__":{}}'),
    file_of(b'{"a":' + json.dumps(entry()).encode() + b',"\\u0061":' + json.dumps(entry()).encode() + b"}", b"1234"),
    file_of({"a": entry(shape=[1 << 32, 1 << 32], span=[0, 0])}),  # 2**64, which 64 bits take for 0
    file_of({"a": entry(shape=[1 << 31, 1 << 31, 2], span=[0, 0])}),
    file_of({"a": entry(shape=[(1 << 63) - 1], span=[0, (1 << 63) - 1])}, b"1234"),
    file_of({"a": entry(shape=[0, 1 << 47, 1 << 47], span=[0, 0])}),  # empty, with strides beyond 64 bits
    file_of({"a": entry(shape=[1 << 63, 0], span=[0, 0])}),
    file_of({"a": entry(span=[(1 << 64) - 4, 1 << 64])}, b"1234"),
    file_of({"a": entry(span=[-(1 << 63), 4 - (1 << 63)])}, b"1234"),
    file_of(b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', b"1234"),
    file_of(b'{"a":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}}', b"1234"),
    file_of(b'{"a":{"dtype":"F32","shape":[Infinity],"data_offsets":[0,4]}}', b"1234"),
    file_of(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[false,4]}}', b"1234"),
    file_of(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0.0,4]}}', b"1234"),
    file_of(b'{"a":{"dtype":"F32","shape":["\xd9\xa1"],"data_offsets":[0,4]}}', b"1234"),  # an Arabic 1
    file_of(b'{"a":{"dtype":"\xef\xbc\xa632","shape":[1],"data_offsets":[0,4]}}', b"1234"),  # a wide F
    file_of(b'{"a":{"dtype":"f32","shape":[1],"data_offsets":[0,4]}}', b"1234"),
    file_of(b'{"\\ud800":' + json.dumps(entry()).encode() + b"}", b"1234"),  # half a character
    file_of(b'{"__metadata__":{"note":"\\udfff"}}'),
    file_of(json.dumps({"a": entry()}).encode() + b"\0", b"1234"),
    file_of(json.dumps({"a": entry()}).encode() + b"{}", b"1234"),
    file_of(b"\xef\xbb\xbf" + json.dumps({"a": entry()}).encode(), b"1234"),  # a byte order mark
    file_of(json.dumps({"a": entry()}).encode("utf-16-le"), b"1234"),
    file_of({"a": entry(), "b": entry(span=[4, 4])}, b"1234"),  # no bytes for a value
    file_of({"a": entry("F4", [8], [0, 4])}, b"1234"),
    file_of({"a": entry("F6_E2M3", [4], [0, 3])}, b"123"),
    file_of({"a": entry(), "__metadata__": {"zoo.aliases": '{"b": "a", "b": "a"}'}}, b"1234"),
    file_of({"a": entry(), "__metadata__": {"zoo.aliases": "[" * 100_000}}, b"1234"),
    file_of({"a": entry(), "__metadata__": {"zoo.aliases": '{"__metadata__": "a"}'}}, b"1234"),
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_header_is_a_format_error_that_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(FormatError, match=r"bad\.safetensors"):
        read_header(str(tmp_path / "bad.safetensors"))


def test_an_announced_length_is_not_believed_before_it_is_checked(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes((20_000_000).to_bytes(8, "little") + b"{}")
    tracemalloc.start()
    with pytest.raises(FormatError):
        read_header(str(tmp_path / "bad"))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_an_absurd_length_is_refused_where_the_size_is_unknown() -> None:
    with pytest.raises(FormatError, match="would have"):
        peek_header(lambda begin, end: ((25_000_001).to_bytes(8, "little"), None), "there")


def test_a_file_that_is_not_there_is_a_format_error(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot be read"):
        read_header(str(tmp_path / "nothing"))


SOUND = file_of({"a": entry(), "b": entry("U8", [2], [4, 6]), "__metadata__": {"format": "pt"}}, b"123456")


@QUIET
@given(st.integers(0, len(SOUND) - 1), st.binary(max_size=6), st.integers(0, 6))
@example(8, b"{", 1)
def test_any_damage_is_a_format_error_or_still_a_file_the_library_reads(
    tmp_path: Path, at: int, put: bytes, cut: int
) -> None:
    damaged = SOUND[:at] + put + SOUND[at + cut :]
    (tmp_path / "f").write_bytes(damaged)
    try:
        ours = read_header(str(tmp_path / "f"))
    except FormatError:
        return
    with safetensors.safe_open(tmp_path / "f", "numpy") as theirs:
        assert sorted(ours.tensors) == sorted(theirs.keys())


def test_values_that_share_bytes_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(file_of({"a": entry("F4", [8], [0, 4])}, b"1234"))
    with pytest.raises(FormatError, match="F4, whose values share bytes"):
        read_header(str(tmp_path / "f"))


REAL = safetensors.numpy.save(
    {
        "layer.weight": numpy.arange(12, dtype=numpy.float32).reshape(3, 4),
        "layer.bias": numpy.ones(3, numpy.float16),
        "steps": numpy.array(7),
        "none": numpy.zeros((0, 4)),
    },
    metadata={"format": "pt", "note": "ä"},
)


@QUIET
@given(
    st.lists(st.tuples(st.integers(0, len(REAL) - 1), st.binary(max_size=4), st.integers(0, 4)), min_size=1, max_size=3)
)
def test_any_damage_to_a_real_file_is_refused_or_read_as_the_library_reads_it(
    tmp_path: Path, places: list[tuple[int, bytes, int]]
) -> None:
    damaged = REAL
    for at, put, cut in places:
        damaged = damaged[:at] + put + damaged[at + cut :]
    (tmp_path / "f").write_bytes(damaged)
    try:
        header = read_header(str(tmp_path / "f"))
    except FormatError:
        return
    theirs = safetensors.numpy.load_file(tmp_path / "f")
    assert header.tensors.keys() == theirs.keys()
    for name, array in theirs.items():
        begin, end = header.spans[name]
        assert header.tensors[name].shape == array.shape
        assert damaged[header.start + begin : header.start + end] == array.tobytes()


@QUIET
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner)))
def test_any_json_raises_nothing_else(value: Any) -> None:
    raw = json.dumps({"a": value, "b": {"dtype": value, "shape": value, "data_offsets": value}}).encode()
    with pytest.raises(FormatError):
        parse_header(raw, None, "here")


@pytest.mark.parametrize("count", [1, 2000])
def test_a_remote_header_takes_one_look_or_two(count: int) -> None:
    header = {f"tensor.{i}": entry(span=[4 * i, 4 * i + 4]) for i in range(count)}
    content = file_of(header, bytes(4 * count))
    looks: list[tuple[int, int]] = []

    def read(begin: int, end: int) -> tuple[bytes, int | None]:
        looks.append((begin, end))
        return content[begin:end], len(content)

    assert len(peek_header(read, "there").tensors) == count
    assert looks[0] == (0, PEEK)
    assert looks[1:] == ([] if count == 1 else [(PEEK, len(content) - 4 * count)])
