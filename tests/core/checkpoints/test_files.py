"""Tensors of files: mapped privately and lazily, written completely or not at all."""

from __future__ import annotations

import copy
import io
import os
import stat
import threading
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from torch import Tensor, nn

from zoo.checkpoints.files import DTYPES, meta_tensors, read_tensors
from zoo.checkpoints.headers import read_header
from zoo.checkpoints.writing import serialize, write_weights
from zoo.errors import CheckpointError, FormatError

QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def some(dtype: torch.dtype, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Arbitrary bits of that dtype and shape; booleans are 0 or 1."""
    count = torch.Size(shape).numel() * dtype.itemsize
    bits = torch.randint(0, 256, (count,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return (bits % 2 if dtype == torch.bool else bits).view(dtype).reshape(shape)


def same_bits(left: Tensor, right: Tensor) -> bool:
    """Equal dtype, shape and bytes, NaNs included."""
    return (left.dtype, left.shape) == (right.dtype, right.shape) and torch.equal(
        left.contiguous().reshape(-1).view(torch.uint8), right.contiguous().reshape(-1).view(torch.uint8)
    )


@QUIET
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(lambda n: n != "__metadata__"),
        st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 4), max_size=3).map(tuple)),
        max_size=5,
    ),
    st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3),
    st.booleans(),
)
def test_what_is_written_is_read_back_bit_by_bit(
    tmp_path: Path, described: dict[str, tuple[str, tuple[int, ...]]], metadata: dict[str, str], mapped: bool
) -> None:
    tensors = {name: some(DTYPES[d], shape, i) for i, (name, (d, shape)) in enumerate(described.items())}
    write_weights(str(tmp_path / "f"), tensors, metadata)
    back = read_tensors(str(tmp_path / "f"), mapped=mapped)
    assert back.tensors.keys() == tensors.keys()
    assert all(same_bits(back.tensors[name], tensors[name]) for name in tensors)
    assert back.metadata == {"format": "pt", **metadata}


def test_the_library_reads_our_files_and_we_read_its(tmp_path: Path) -> None:
    tensors = {name: some(dtype, (3, 5), i) for i, (name, dtype) in enumerate(DTYPES.items())}
    write_weights(str(tmp_path / "ours"), tensors, {"a": "b"})
    theirs = safetensors.torch.load_file(tmp_path / "ours")
    assert all(same_bits(theirs[name], tensors[name]) for name in tensors)
    safetensors.torch.save_file(tensors, tmp_path / "theirs")
    ours = read_tensors(str(tmp_path / "theirs")).tensors
    assert all(same_bits(ours[name], tensors[name]) for name in tensors)


def test_the_same_tensors_make_the_same_file() -> None:
    tensors = {"b": torch.ones(3), "a": torch.zeros(2, dtype=torch.int64)}
    first = b"".join(serialize(tensors, {"x": "1", "y": "2"}))
    assert first == b"".join(serialize(dict(reversed(tensors.items())), {"y": "2", "x": "1"}))


def test_written_tensors_are_aligned_in_the_file(tmp_path: Path) -> None:
    write_weights(str(tmp_path / "f"), {"a": torch.ones(1, dtype=torch.bool), "b": torch.ones(3, dtype=torch.float64)})
    header = read_header(str(tmp_path / "f"))
    assert (header.start + header.spans["b"][0]) % 8 == 0


def test_training_on_mapped_weights_never_touches_the_file(tmp_path: Path) -> None:
    path = str(tmp_path / "f")
    write_weights(path, nn.Linear(64, 64).state_dict())
    os.chmod(path, 0o444)
    before = Path(path).read_bytes()
    model = nn.Linear(64, 64)
    model.load_state_dict(read_tensors(path).tensors, assign=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(torch.ones(2, 64)).sum().backward()
    optimizer.step()
    assert not torch.equal(model.weight, read_tensors(path).tensors["weight"])
    assert Path(path).read_bytes() == before


def test_mapped_pages_are_read_when_they_are_touched(tmp_path: Path) -> None:
    path = str(tmp_path / "f")
    write_weights(path, {"weight": torch.ones(64, 1024, 256)})  # 64 MiB
    tensor = read_tensors(path).tensors["weight"]
    assert resident(path) < 2_000
    tensor.sum()
    assert resident(path) > 60_000


def resident(path: str) -> int:
    """KiB of the file's mapping that this process holds."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    starts = [i for i, line in enumerate(lines) if line.endswith(path)]
    return sum(int(next(line for line in lines[i:] if line.startswith("Rss:")).split()[1]) for i in starts)


def test_every_tensor_has_its_own_storage(tmp_path: Path) -> None:
    write_weights(str(tmp_path / "f"), {"small": torch.ones(4), "large": torch.ones(1_000_000)})
    small = read_tensors(str(tmp_path / "f")).tensors["small"]
    assert small.untyped_storage().nbytes() == 16
    saved = io.BytesIO()
    torch.save(copy.deepcopy(small), saved)
    assert saved.tell() < 10_000  # not the whole file


def test_tensors_outlive_their_file(tmp_path: Path) -> None:
    write_weights(str(tmp_path / "f"), {"weight": torch.arange(1000.0)})
    tensor = read_tensors(str(tmp_path / "f")).tensors["weight"]
    os.unlink(tmp_path / "f")
    assert tensor.sum() == 499500


def test_a_file_of_the_callers_may_be_overwritten_in_place(tmp_path: Path) -> None:
    write_weights(str(tmp_path / "f"), {"weight": torch.arange(10_000.0)})
    tensor = read_tensors(str(tmp_path / "f"), mapped=False).tensors["weight"]
    (tmp_path / "f").write_bytes(b"")  # a mapped tensor would now kill the process
    assert tensor.sum() == 49_995_000


def test_a_writer_that_does_not_align_its_data_is_understood(tmp_path: Path) -> None:
    data = torch.arange(6, dtype=torch.float64)
    text = (
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F64","shape":[6],"data_offsets":[1,49]}}'
    )
    (tmp_path / "f").write_bytes(len(text).to_bytes(8, "little") + text + b"\7" + data.numpy().tobytes())
    tensors = read_tensors(str(tmp_path / "f")).tensors
    assert torch.equal(tensors["b"], data)
    assert tensors["b"].data_ptr() % 8 == 0
    assert tensors["a"].item() == 7


def test_any_layout_is_written_as_its_values(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(2, 3, 4)
    tensors = {
        "transposed": base.transpose(0, 2),
        "strided": base[:, ::2, 1:],
        "expanded": torch.ones(1).expand(5),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "conjugate": torch.tensor([1 + 2j]).conj(),
        "parameter": nn.Parameter(torch.ones(3)),
        "row": base[0],
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(3),
    }
    write_weights(str(tmp_path / "f"), tensors)
    back = safetensors.torch.load_file(tmp_path / "f")
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert back.keys() == tensors.keys()


def test_a_negated_view_is_another_tensor(tmp_path: Path) -> None:
    values = torch.randn(4, dtype=torch.cfloat)
    negated = values.conj().imag
    assert negated.is_neg()
    write_weights(str(tmp_path / "m"), {"a": values.imag, "b": negated, "c": values.imag})
    tensors = read_tensors(str(tmp_path / "m")).tensors
    assert torch.equal(tensors["a"], values.imag)
    assert torch.equal(tensors["b"], -values.imag)
    assert tensors["c"] is tensors["a"]


def test_tied_tensors_are_written_once_and_come_back_tied(tmp_path: Path) -> None:
    shared = torch.randn(1000, 10)
    tensors = {"encoder.weight": shared, "decoder.weight": shared, "view": shared[:10], "equal": shared.clone()}
    write_weights(str(tmp_path / "f"), tensors)
    assert os.path.getsize(tmp_path / "f") < 2.2 * shared.nbytes
    back = read_tensors(str(tmp_path / "f")).tensors
    assert back["encoder.weight"] is back["decoder.weight"]
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert read_header(str(tmp_path / "f")).structure.keys() == tensors.keys()


@pytest.mark.parametrize(
    ("tensors", "metadata", "why"),
    [
        ({"a": torch.empty(2, device="meta")}, {}, "meta device"),
        ({"a": torch.eye(2).to_sparse()}, {}, "cannot be written"),
        ({"a": torch.ones(2, dtype=torch.complex128)}, {}, "cannot be written"),
        ({"a": [1, 2]}, {}, "not a tensor"),
        ({"__metadata__": torch.ones(1)}, {}, "cannot name a tensor"),
        ({"a": torch.ones(1)}, {"epoch": 3}, "are strings"),
    ],
)
def test_what_the_format_cannot_hold_leaves_no_file(
    tmp_path: Path, tensors: dict[str, Tensor], metadata: dict[str, str], why: str
) -> None:
    with pytest.raises(FormatError, match=why):
        write_weights(str(tmp_path / "f"), tensors, metadata)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_weights(str(tmp_path / "no" / "such" / "folder"), {"a": torch.ones(1)})
    (tmp_path / "f").mkdir()
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_weights(str(tmp_path / "f"), {"a": torch.ones(1)})
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_reader_meets_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = str(tmp_path / "f")
    write_weights(path, {"a": torch.zeros(100_000)})
    stop = threading.Event()

    def write() -> None:
        for value in range(1, 60):
            write_weights(path, {"a": torch.full((100_000,), float(value))})
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not stop.is_set():
        tensor = read_tensors(path).tensors["a"]
        assert tensor.min() == tensor.max()
    writer.join()


def test_a_written_file_has_the_permissions_of_an_ordinary_one(tmp_path: Path) -> None:
    write_weights(str(tmp_path / "f"), {"a": torch.ones(1)})
    (tmp_path / "g").write_bytes(b"")
    assert stat.S_IMODE(os.stat(tmp_path / "f").st_mode) == stat.S_IMODE(os.stat(tmp_path / "g").st_mode)


def test_a_structure_becomes_tensors_without_data(tmp_path: Path) -> None:
    tensors = {name: some(dtype, (2, 3)) for name, dtype in DTYPES.items()}
    write_weights(str(tmp_path / "f"), tensors)
    metas = meta_tensors(read_header(str(tmp_path / "f")).structure)
    assert all(m.is_meta and (m.dtype, m.shape) == (tensors[n].dtype, tensors[n].shape) for n, m in metas.items())
