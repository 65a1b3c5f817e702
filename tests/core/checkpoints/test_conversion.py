"""Published `.pth` files: read without running anything, converted once."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import tracemalloc
import zipfile
from argparse import Namespace
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from torch import nn

from zoo.checkpoints.conversion import convert
from zoo.checkpoints.files import read_tensors
from zoo.checkpoints.store import Store
from zoo.errors import FormatError

STATE = {
    "conv.weight": torch.randn(4, 3, 3, 3),
    "bn.num_batches_tracked": torch.tensor(7),
    "half": torch.ones(3).half(),
}


def saved(tmp_path: Path, content: Any, *, legacy: bool = False) -> tuple[str, str]:
    """(digest, path) of a torch file with that content."""
    path = tmp_path / "model.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return hashlib.sha256(path.read_bytes()).hexdigest(), str(path)


@pytest.mark.parametrize(
    ("content", "inside"),
    [
        (STATE, None),
        (OrderedDict(STATE), None),
        ({"state_dict": STATE, "epoch": 3, "optimizer": {"lr": 0.1}}, "state_dict"),
        ({"model": STATE, "args": None}, "model"),
        ({"model": {"state_dict": STATE}}, "model.state_dict"),
        ({"state_dict": {"conv.weight": torch.zeros(1)}, "state_dict_ema": STATE}, "state_dict_ema"),
        ({"params": STATE}, "params"),
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_weights_are_found_in_their_wrappers(
    tmp_path: Path, store: Store, content: Any, inside: str | None, legacy: bool
) -> None:
    origin, path = saved(tmp_path, content, legacy=legacy)
    tensors, metadata = read_tensors(convert(origin, path, store).path)
    assert tensors.keys() == STATE.keys()
    assert all(torch.equal(tensors[name], STATE[name]) and tensors[name].dtype == STATE[name].dtype for name in STATE)
    assert metadata.get("zoo.inside") == inside
    assert metadata["zoo.origin_sha256"] == origin


def test_a_file_is_converted_once(tmp_path: Path, store: Store) -> None:
    origin, path = saved(tmp_path, STATE)
    first = convert(origin, path, store)
    os.unlink(path)  # the second time nobody looks at it
    assert convert(origin, path, store) == first
    assert first.path == store.blob_path(first.sha256)


def test_tied_and_strided_tensors_survive(tmp_path: Path, store: Store) -> None:
    weight = torch.randn(50, 20)
    origin, path = saved(tmp_path, {"a": weight, "b": weight, "t": weight.t(), "row": weight[3]})
    tensors = read_tensors(convert(origin, path, store).path).tensors
    assert tensors["a"] is tensors["b"]
    assert torch.equal(tensors["t"], weight.t())
    assert torch.equal(tensors["row"], weight[3])


def test_what_lay_beside_the_tensors_is_noted(tmp_path: Path, store: Store) -> None:
    origin, path = saved(tmp_path, {**STATE, "epoch": 3, "note": "hello"})
    assert json.loads(read_tensors(convert(origin, path, store).path).metadata["zoo.dropped"]) == ["epoch", "note"]


def hostile(path: Path, raw: bytes) -> tuple[str, str]:
    """(digest, path) of an archive with a tensor of four values at `TENSOR`."""
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n((Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nK\4tQK\0K\4\x85K\1\x85\x89"
    )
    with zipfile.ZipFile(path, "w") as archive:
        raw = raw.replace(b"TENSOR", tensor + b"ccollections\nOrderedDict\n)RtR")
        archive.writestr("m/data.pkl", b"\x80\x02" + raw)
        archive.writestr("m/data/0", bytes(16))
    return hashlib.sha256(path.read_bytes()).hexdigest(), str(path)


def test_what_lay_beside_is_noted_in_bounds(tmp_path: Path, store: Store) -> None:
    """Its keys may be thousands of tuples of one long string: to write them out would take any memory."""
    long = b"V" + b"m" * 100_000 + b"\nq\0"
    keys = b"".join(b"(h\0J" + i.to_bytes(4, "little") + b"tN" for i in range(300))
    strings = b"".join(b"Vk%dx\nN" % i for i in range(1100))
    origin, path = hostile(tmp_path / "m.pth", long + b"0}(Vw\nTENSOR" + keys + strings + b"h\0Nu.")
    tracemalloc.start()
    metadata = read_tensors(convert(origin, path, store).path).metadata
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    noted = json.loads(metadata["zoo.dropped"])
    assert len(noted) == 1000
    assert max(map(len, noted)) <= 200
    assert metadata["zoo.dropped_count"] == "1401"


def test_the_message_about_a_file_without_weights_has_bounds(tmp_path: Path, store: Store) -> None:
    long = b"V" + b"m" * 900_000 + b"\nq\0"
    keys = b"".join(b"(" + b"h\0" * 15 + b"J" + i.to_bytes(4, "little") + b"tN" for i in range(12))
    origin, path = hostile(tmp_path / "m.pth", long + b"0}(" + keys + b"u.")
    tracemalloc.start()
    with pytest.raises(FormatError, match="no tensors"):
        convert(origin, path, store)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_a_name_of_half_a_character_is_a_format_error_that_names_the_file(tmp_path: Path, store: Store) -> None:
    origin, path = hostile(tmp_path / "m.pth", b"}(X\3\0\0\0\xed\xa0\x80TENSORu.")
    with pytest.raises(FormatError, match=r"m\.pth: .*half a character") as caught:
        convert(origin, path, store)
    str(caught.value).encode()


class Bomb:
    """Unpickling it writes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path(self.path),))


@pytest.mark.parametrize("legacy", [False, True])
def test_what_a_file_pickles_is_never_run(tmp_path: Path, store: Store, legacy: bool) -> None:
    trace = tmp_path / "ran"
    origin, path = saved(tmp_path, {"state_dict": STATE, "bomb": Bomb(str(trace))}, legacy=legacy)
    tensors, metadata = read_tensors(convert(origin, path, store).path)
    assert tensors.keys() == STATE.keys()
    assert all(torch.equal(tensors[name], STATE[name]) for name in STATE)
    assert metadata["zoo.inside"] == "state_dict"
    assert not trace.exists()


def test_a_file_that_holds_only_a_call_says_so(tmp_path: Path, store: Store) -> None:
    trace = tmp_path / "ran"
    origin, path = saved(tmp_path, Bomb(str(trace)))
    with pytest.raises(FormatError, match="holds a computed object"):
        convert(origin, path, store)
    assert not trace.exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("content", "inside"),
    [
        ({"ema": None, "model": nn.Linear(2, 3)}, "model"),
        ({"model": nn.Linear(2, 3), "ema": nn.Linear(2, 3).half(), "epoch": 3}, "ema"),
        ({"ema": {"updates": 3, "module": nn.Linear(2, 3).state_dict()}, "model": STATE}, "ema.module"),
        ({"ema": {"decay": 0.9}, "model": nn.Linear(2, 3).state_dict()}, "model"),
        ({"model": nn.Linear(2, 3), "args": Namespace(model="x", lr=numpy.float64(1))}, "model"),
        (nn.Linear(2, 3), None),
    ],
)
def test_averaged_weights_are_preferred_whether_module_or_state(
    tmp_path: Path, store: Store, content: Any, inside: str | None, legacy: bool
) -> None:
    origin, path = saved(tmp_path, content, legacy=legacy)
    tensors, metadata = read_tensors(convert(origin, path, store).path)
    wanted = content
    for key in inside.split(".") if inside else ():
        wanted = wanted[key]
    state = wanted.state_dict() if isinstance(wanted, nn.Module) else wanted
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], state[name]) and tensors[name].dtype == state[name].dtype for name in state)
    assert metadata.get("zoo.inside") == inside
    assert metadata["zoo.origin_sha256"] == origin


@pytest.mark.parametrize("legacy", [False, True])
def test_a_view_that_unfolds_to_far_more_than_the_file_is_refused(tmp_path: Path, store: Store, legacy: bool) -> None:
    origin, path = saved(tmp_path, {"a": torch.zeros(1).expand(1 << 40)}, legacy=legacy)
    with pytest.raises(FormatError, match="far more than it has"):
        convert(origin, path, store)


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"cbuiltins\nbytearray\n(L1099511627776L\ntR.", "builtins.bytearray"),
        (b"ctorch\nTensor\n(L1099511627776L\ntR.", "torch.Tensor"),
        (b"}" + b"(" * 100_000 + b"t" * 100_000 + b"Ns.", "nests tuples"),
        (b"ccollections\nOrderedDict\n(((" + b"(" * 100_000 + b"t" * 100_000 + b"NtltR.", "nests tuples"),
    ],
    ids=["bytes", "a tensor", "a deep key", "a deep key of another"],
)
def test_what_torch_would_make_for_a_file_is_not_made(tmp_path: Path, store: Store, raw: bytes, what: str) -> None:
    """`weights_only=True` allows these: memory without bound, and a crash of the interpreter."""
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02" + raw)
    tracemalloc.start()
    with pytest.raises(FormatError, match=what):
        convert("a" * 64, str(tmp_path / "m.pt"), store)
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "why"),
    [([1, 2], "holds a list"), ({}, "no tensors"), ({"a": 1}, "no tensors"), (torch.ones(2), "holds a Tensor")],
)
def test_a_file_without_weights_says_what_it_holds(tmp_path: Path, store: Store, content: Any, why: str) -> None:
    origin, path = saved(tmp_path, content)
    with pytest.raises(FormatError, match=why):
        convert(origin, path, store)


def test_other_files_are_format_errors(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "x.pth"
    for junk in (b"", b"hello", pickle.dumps({"a": 1}, protocol=2), b"PK\x03\x04" + b"\0" * 50, b"\x80\x02."):
        path.write_bytes(junk)
        with pytest.raises(FormatError):
            convert("a" * 64, str(path), store)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
    with pytest.raises(FormatError):
        convert("a" * 64, str(path), store)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=80)
@given(st.floats(0, 1), st.binary(min_size=1, max_size=4), st.booleans())
def test_any_damage_is_a_format_error_or_harmless(
    tmp_path: Path, store: Store, place: float, put: bytes, legacy: bool
) -> None:
    _, path = saved(tmp_path, {"a": torch.ones(4)}, legacy=legacy)
    content = bytearray(Path(path).read_bytes())
    at = int(place * (len(content) - len(put)))
    content[at : at + len(put)] = put
    Path(path).write_bytes(content)
    with suppress(FormatError):
        convert(hashlib.sha256(content).hexdigest(), path, store)
