"""Torch files that lie: about tensors, storages, modules and records. Each is an error that names the file."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from zoo.checkpoints.archives import list_archive
from zoo.checkpoints.torch_files import read_torch_file
from zoo.errors import FormatError


def tensor_of(path: Path, name: str | None = None) -> Tensor:
    """The tensor that a file is, or has under a name."""
    file = read_torch_file(str(path))
    found = file.tensor(file.root if name is None else file.root[name])
    assert found is not None
    return found


class Call:
    """Pickled as a call of something by name."""

    def __init__(self, name: str, *args: Any) -> None:
        self.name, self.args = name, args


class Outside:
    """Pickled as a reference."""

    def __init__(self, *identity: Any) -> None:
        self.identity = identity


def pickled(value: Any) -> bytes:
    """A pickle of plain values, calls and references, whether or not there are such things."""
    if isinstance(value, Call):
        module, _, name = value.name.rpartition(".")
        return f"c{module}\n{name}\n".encode() + (pickled(value.args) + b"R" if value.args else b"")
    if isinstance(value, Outside):
        return pickled(value.identity) + b"Q"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(pickled, value)) + b"t"
    if isinstance(value, dict):
        return b"}(" + b"".join(pickled(k) + pickled(v) for k, v in value.items()) + b"u"
    return pickle.dumps(value, 2)[2:-1].replace(b"q\x00", b"").replace(b"q\x01", b"")


def archive_of(root: Any, data: dict[str, bytes], path: Path, **more: bytes) -> Path:
    """An archive as torch's, of what torch would not write."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02" + pickled(root) + b".")
        for name, raw in ({f"data/{key}": raw for key, raw in data.items()} | more).items():
            archive.writestr(f"m/{name}", raw)
    return path


VALUES = struct.pack("<4f", 1, 2, 3, 4)
FLOATS = Call("torch.FloatStorage")
STORAGE = Outside("storage", FLOATS, "0", "cpu", 4)


def tensor(
    storage: Any = STORAGE, offset: Any = 0, shape: Any = (4,), strides: Any = (1,), name: str = "_rebuild_tensor_v2"
) -> Call:
    """A tensor's record."""
    return Call(f"torch._utils.{name}", storage, offset, shape, strides, False, Call("collections.OrderedDict", ()))


def test_a_tensor_written_by_hand_is_read(tmp_path: Path) -> None:
    path = archive_of({"a": tensor()}, {"0": VALUES}, tmp_path / "m.pt")
    assert torch.equal(tensor_of(path, "a"), torch.tensor([1.0, 2, 3, 4]))


LYING = {
    "more than there is": tensor(shape=(5,)),
    "beyond the end": tensor(offset=1),
    "far beyond": tensor(offset=1 << 60),
    "negative offset": tensor(offset=-1),
    "negative shape": tensor(shape=(-4,)),
    "negative stride": tensor(offset=3, strides=(-1,)),
    "wide stride": tensor(shape=(2,), strides=(4,)),
    "overflow": tensor(shape=(1 << 32, 1 << 32), strides=(1 << 32, 1)),
    "an overflow that is 0": tensor(shape=(1 << 40, 1 << 24), strides=(0, 1)),
    "empty and huge": tensor(shape=(0, 1 << 47, 1 << 47), strides=(1, 1, 1)),
    "unequal ranks": tensor(strides=(1, 1)),
    "a float": tensor(shape=(4.0,)),
    "a truth": tensor(offset=True),
    "text": tensor(shape="4"),
    "nothing": tensor(shape=None),
    "too many dimensions": tensor(shape=(1,) * 100, strides=(1,) * 100),
    "no storage": tensor(storage=None),
    "a storage of no file": tensor(storage=Outside("storage", FLOATS, "1", "cpu", 4)),
    "a storage up there": tensor(storage=Outside("storage", FLOATS, "../data.pkl", "cpu", 4)),
    "a larger storage": tensor(storage=Outside("storage", FLOATS, "0", "cpu", 400), shape=(400,)),
    "a huge storage": tensor(storage=Outside("storage", FLOATS, "0", "cpu", 1 << 62), shape=(4,)),
    "a negative storage": tensor(storage=Outside("storage", FLOATS, "0", "cpu", -4)),
    "wider values": tensor(storage=Outside("storage", Call("torch.DoubleStorage"), "0", "cpu", 4)),
    "an unknown kind": tensor(storage=Outside("storage", Call("torch.QInt8Storage"), "0", "cpu", 4)),
    "a kind from elsewhere": tensor(storage=Outside("storage", Call("os.FloatStorage"), "0", "cpu", 4)),
    "a short reference": tensor(storage=Outside("storage", FLOATS)),
    "an empty reference": tensor(storage=Outside()),
    "another reference": tensor(storage=Outside("module", FLOATS, "0", "cpu", 4)),
    "a number for a key": tensor(storage=Outside("storage", FLOATS, 0, "cpu", 4)),
    "a bad view": tensor(storage=Outside("storage", FLOATS, "0", "cpu", 4, (1,))),
    "a view beyond": tensor(storage=Outside("storage", FLOATS, "0", "cpu", 4, ("v", 2, 4))),
    "a third kind without dtype": tensor(name="_rebuild_tensor_v3"),
    "few arguments": Call("torch._utils._rebuild_tensor_v3", STORAGE, 0, (4,), (1,)),
}


@pytest.mark.parametrize("lie", LYING.values(), ids=LYING)
def test_a_tensor_that_lies_is_a_format_error(tmp_path: Path, lie: Call) -> None:
    path = archive_of({"a": lie}, {"0": VALUES}, tmp_path / "m.pt")
    with pytest.raises(FormatError, match=r"m\.pt"):
        tensor_of(path, "a")


def plain_file(root: Any, keys: Any, *storages: tuple[int, bytes], system: Any = None) -> bytes:
    """A file of torch before 1.6."""
    system = {"protocol_version": 1001, "little_endian": True} if system is None else system
    parts = [0x1950A86A20F9469CFC6C, 1001, system, root, keys]
    return b"".join(b"\x80\x02" + pickled(part) + b"." for part in parts) + b"".join(
        struct.pack("<Q", count) + raw for count, raw in storages
    )


PLAIN = tensor(storage=Outside("storage", FLOATS, "0", "cpu", 4, None))
PLAIN_LIES = {
    "no storage": plain_file(PLAIN, ["0"]),
    "a short one": plain_file(PLAIN, ["0"], (4, VALUES[:-1])),
    "a huge one": plain_file(PLAIN, ["0"], ((1 << 64) - 1, VALUES)),
    "fewer than said": plain_file(PLAIN, ["0"], (3, VALUES[:12])),
    "one twice": plain_file(PLAIN, ["0", "0"], (4, VALUES), (4, VALUES)),
    "one unasked": plain_file(PLAIN, ["0", "1"], (4, VALUES), (4, VALUES)),
    "no list": plain_file(PLAIN, "0", (4, VALUES)),
    "no names": plain_file(PLAIN, [0], (4, VALUES)),
    "nothing listed": plain_file(PLAIN, [], (4, VALUES)),
    "other byte order": plain_file(PLAIN, ["0"], (4, VALUES), system={"little_endian": False}),
    "no system": plain_file(PLAIN, ["0"], (4, VALUES), system=3),
    "only a magic number": b"\x80\x02" + pickled(0x1950A86A20F9469CFC6C) + b".",
}


def test_a_plain_file_written_by_hand_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(plain_file(PLAIN, ["0"], (4, VALUES)))
    assert torch.equal(tensor_of(tmp_path / "m.pt"), torch.tensor([1.0, 2, 3, 4]))


@pytest.mark.parametrize("raw", PLAIN_LIES.values(), ids=PLAIN_LIES)
def test_a_plain_file_that_lies_is_a_format_error(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "m.pt").write_bytes(raw)
    with pytest.raises(FormatError, match=r"m\.pt"):
        tensor_of(tmp_path / "m.pt")


# modules without end


def module_of(modules: bytes, own: bytes = b"}") -> bytes:
    """The instructions for a module with these in `_modules`."""
    return b"cx\nNet\n)\x81}(V_parameters\n" + own + b"V_buffers\n}V_modules\n" + modules + b"ub"


def read_raw(path: Path, raw: bytes) -> dict[str, Any]:
    """The state of a module whose pickle is given."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02" + raw + b".")
    file = read_torch_file(str(path))
    return dict(file.fields(file.root) or {})


def test_a_module_that_contains_itself_is_refused(tmp_path: Path) -> None:
    raw = b"cx\nNet\n)\x81q\x00}(V_parameters\n}V_modules\n}Vme\nh\x00sub"
    with pytest.raises(FormatError, match="contains itself"):
        read_raw(tmp_path / "m.pt", raw)


def test_modules_that_multiply_are_refused(tmp_path: Path) -> None:
    raw = (
        module_of(b"}")
        + b"q\x00"
        + b"".join(
            b"0" + module_of(b"}(Va\nh" + bytes([i]) + b"Vb\nh" + bytes([i]) + b"u") + b"q" + bytes([i + 1])
            for i in range(100)
        )
    )
    with pytest.raises(FormatError, match="without end"):
        read_raw(tmp_path / "m.pt", raw)


def test_modules_nested_too_deep_are_refused(tmp_path: Path) -> None:
    raw = module_of(b"}")
    for _ in range(300):
        raw = module_of(b"}Va\n" + raw + b"s")
    with pytest.raises(FormatError, match="without end"):
        read_raw(tmp_path / "m.pt", raw)


@pytest.mark.parametrize("name", [b"Va.b\n", b"N", b"K\x05", b"V" + b"x" * 3000 + b"\n"])
def test_a_part_has_a_proper_name(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(FormatError, match="proper name"):
        read_raw(tmp_path / "m.pt", module_of(b"}" + name + module_of(b"}") + b"s"))


# archives


def zipped(path: Path, names: dict[str, bytes] | list[tuple[str, bytes]], **how: Any) -> Path:
    """A zip file."""
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, raw in names.items() if isinstance(names, dict) else names:
            archive.writestr(zipfile.ZipInfo(name) if not how else name, raw)
    return path


OK = {"m/data.pkl": b"\x80\x02N.", "m/data/0": b"1234"}
ARCHIVES: dict[str, Any] = {
    "climbing": {**OK, "m/../x": b""},
    "climbing more": {**OK, "m/../../../etc/passwd": b""},
    "absolute": {**OK, "/etc/passwd": b""},
    "backslashes": {**OK, "m\\x": b""},
    "an empty part": {**OK, "m//x": b""},
    "outside": {**OK, "n/x": b""},
    "two roots": {**OK, "n/data.pkl": b"\x80\x02N."},
    "no pickle": {"m/data/0": b"1234"},
    "deep pickle": {"m/n/data.pkl": b"\x80\x02N."},
    "byte order": {**OK, "m/byteorder": b"middle"},
}


@pytest.mark.parametrize("names", ARCHIVES.values(), ids=ARCHIVES)
def test_an_archive_that_torch_would_not_write_is_refused(tmp_path: Path, names: dict[str, bytes]) -> None:
    with pytest.raises(FormatError, match=r"m\.pt: not a sound torch file"):
        read_torch_file(str(zipped(tmp_path / "m.pt", names)))


def test_compressed_records_are_never_unpacked(tmp_path: Path) -> None:
    bomb = {"m/data.pkl": b"\x80\x02N.", "m/data/0": bytes(50_000_000)}
    path = zipped(tmp_path / "m.pt", bomb, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(FormatError, match="compressed"):
        read_torch_file(str(path))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_record_is_there_once(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="twice"):
        read_torch_file(str(zipped(tmp_path / "m.pt", [*OK.items(), ("m/data/0", b"5678")])))


def test_an_archive_is_called_as_its_file_was(tmp_path: Path) -> None:
    path = tmp_path / "2024-01-01T12:00:00.pth"
    torch.save({"a": torch.ones(3)}, path)
    assert torch.equal(tensor_of(path, "a"), torch.ones(3))


def overlapping(entries: list[tuple[bytes, int, int]], raw: bytes) -> bytes:
    """An archive with these in its list: (name, where, how long)."""
    listed = b"".join(
        struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, size, size, len(name), 0, 0, 0, 0, 0, at) + name
        for name, at, size in entries
    )
    return raw + listed + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, len(entries), len(entries), len(listed), len(raw), 0)


def test_records_that_share_bytes_are_refused() -> None:
    """A small file would otherwise unpack to as many times its size as it has entries."""
    inner = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 4, 4, 8, 0) + b"m/data/0" + b"1234"
    outer = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 10, 0) + b"m/data.pkl"
    raw = outer + inner
    whole = (b"m/data.pkl", 0, len(inner))
    nested = (b"m/data/0", len(outer), 4)
    assert "data/0" in list_archive(overlapping([(b"m/data.pkl", 0, 0), nested], raw), "here").spans
    with pytest.raises(FormatError, match="share bytes"):
        list_archive(overlapping([whole, nested], raw), "here")
    with pytest.raises(FormatError, match="another name"):
        list_archive(overlapping([(b"m/data.pkl", 0, 0), nested, (b"m/data/1", len(outer), 4)], raw), "here")


@pytest.mark.parametrize(
    ("at", "form", "value"),
    [(-12, "<H", 60_000), (-10, "<I", 1 << 31), (-6, "<I", 1 << 31), (-12, "<HII", (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF))],
)
def test_the_end_of_an_archive_may_lie(tmp_path: Path, at: int, form: str, value: Any) -> None:
    raw = bytearray(zipped(tmp_path / "m.pt", OK).read_bytes())
    struct.pack_into(form, raw, len(raw) + at, *(value if isinstance(value, tuple) else (value,)))
    (tmp_path / "m.pt").write_bytes(raw)
    with pytest.raises(FormatError, match="not a sound torch file"):
        read_torch_file(str(tmp_path / "m.pt"))


def test_large_archives_are_listed(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, archive.open("m/data.pkl", "w", force_zip64=True) as record:
        record.write(b"\x80\x02N.")
    assert list_archive(stream.getvalue(), "here").spans["data.pkl"].size == 4
