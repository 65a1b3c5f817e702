"""Torch's own files, read without running what they pickle: archives, and the plain files of torch before 1.6.

    archive        <root>/data.pkl   <root>/byteorder   <root>/data/<key> …       since torch 1.6
    plain          magic | protocol | system | object | keys   (five pickles), then for each key: count | bytes

`zoo.checkpoints.unpickling` gives records; here those that torch writes for tensors become tensors, mapped from the
file, and those that it writes for modules become state dicts. Every number is held against the bytes that are there.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.checkpoints.archives import is_archive, list_archive
from zoo.checkpoints.unpickling import Bytes, Name, Persistent, Record, Tape, unpickle
from zoo.errors import FormatError

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MAX_RANK, MAX_NESTING, MAX_NAME, MAX_NAMES = 32, 200, 2000, 25_000_000

_STORAGES = {
    "Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128, "Untyped": torch.uint8,
}  # fmt: skip
_TENSORS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3")
_AROUND = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state",
           "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")  # fmt: skip
_SUBCLASS = ("torch._tensor._rebuild_from_type_v2", "torch._tensor._rebuild_from_type")
_DICTS = ("collections.OrderedDict", "collections.defaultdict", "builtins.dict", "__builtin__.dict")


class Storage(NamedTuple):
    """Bytes that tensors share: where they are in the file."""

    begin: int
    size: int


class TorchFile:
    """A torch file as records.

    root: the object it holds; see `fields`, `tensor`. foreign: from a machine of the other byte order. plain: an
    archive of tensors and plain containers, with which nothing else is to be called, and whose keys cost nothing.
    """

    def __init__(
        self, path: str, root: Any, storages: Mapping[str, Storage], *, foreign: bool = False, plain: bool = False
    ) -> None:
        self.path, self.root, self.storages, self.foreign, self.plain = path, root, storages, foreign, plain
        self._bytes: torch.UntypedStorage | None = None
        self._opened: dict[tuple[str, torch.dtype], torch.UntypedStorage] = {}
        self._tensors: dict[int, Tensor] = {}

    def fields(self, value: Any) -> Mapping[Any, Any] | None:
        """What a value holds by name: a mapping's items, a module's state dict, an object's attributes; or None."""
        if isinstance(value, Mapping):
            return value
        if not isinstance(value, Record) or is_tensor(value):
            return None
        if is_module(value):
            return dict(module_state(value, self.path))
        found = _entries(value)
        return found or _attributes(value)

    def is_tensor(self, value: Any) -> bool:
        """Whether a value is a tensor, or the record of one."""
        return isinstance(value, Tensor) or is_tensor(value)

    def tensor(self, value: Any) -> Tensor | None:
        """The tensor a record stands for; None for anything else. The same record gives the same tensor.

        Raises:
            FormatError: a tensor that is not within its storage, or of a kind that safetensors does not hold.
        """
        if isinstance(value, Tensor):
            return value
        record = _inner(value)
        if record is None:
            return None
        if id(value) not in self._tensors:
            try:
                self._tensors[id(value)] = self._built(record)
            except (RuntimeError, ValueError, TypeError, IndexError, KeyError, OverflowError) as error:
                raise _fault(self.path, f"a tensor of it: {str(error)[:150]}") from error
        return self._tensors[id(value)]

    def _built(self, record: Record) -> Tensor:
        reference, offset, shape, strides, *more = record.args
        shape, strides = _counts(shape), _counts(strides)
        (offset,) = _counts((offset,))
        if len(shape) != len(strides) or len(shape) > MAX_RANK:
            raise ValueError(f"of shape {shape} with strides {strides}")
        key, dtype, begin, length = _reference(reference)
        if record.name.endswith("_v3"):
            dtype, length = _dtype(more[2]), length // _dtype(more[2]).itemsize
        if 0 in shape:
            return torch.empty(shape, dtype=dtype)
        last = offset + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))
        storage = self._storage(key, dtype)
        if last >= length or (begin + length) * dtype.itemsize > storage.nbytes():
            raise ValueError(f"of shape {shape} at {offset} with strides {strides}, of {length} values")
        return torch.empty(0, dtype=dtype).set_(storage, begin + offset, shape, strides)

    def _storage(self, key: str, dtype: torch.dtype) -> torch.UntypedStorage:
        if (key, dtype) not in self._opened:
            begin, size = self.storages[key]
            own = self._mapped()[begin : begin + size]
            if begin % dtype.itemsize:  # plain files do not align; a copy does
                own = own.clone()
            self._opened[key, dtype] = _turned(own, dtype) if self.foreign and dtype.itemsize > 1 else own
        return self._opened[key, dtype]

    def _mapped(self) -> torch.UntypedStorage:
        if self._bytes is None:
            self._bytes = torch.UntypedStorage.from_file(self.path, False, os.path.getsize(self.path))  # type: ignore[assignment]  # the stubs say it is typed
        assert self._bytes is not None
        return self._bytes


def read_torch_file(path: str) -> TorchFile:
    """Read a torch file and run nothing of it.

    Raises:
        FormatError: damaged, hostile, or no torch file.
    """
    try:
        with open(path, "rb") as file:
            if not file.seek(0, 2):
                raise _fault(path, "it is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _from_archive(path, data) if is_archive(data) else _from_plain(path, data)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error


def is_tensor(value: Any) -> bool:
    """Whether a value is the record of a tensor, a parameter or a buffer."""
    return isinstance(_inner(value), Record)


def is_module(value: Any) -> bool:
    """Whether a value is the record of an `nn.Module`, whatever its class, or of a module of a TorchScript program."""
    state = _attributes(value) if isinstance(value, Record) else None
    if state is None:
        return False
    parts = (_entries(state.get(name)) for name in ("_parameters", "_modules"))
    return value.name.startswith("__torch__.") or all(part is not None for part in parts)


def module_state(module: Record, where: str) -> Iterator[tuple[str, Any]]:
    """(name, record of the tensor) of every parameter and persistent buffer, named and ordered as torch would.

    Raises:
        FormatError: modules that contain themselves, or more of them than any model has.
    """
    spent, above = 0, set[int]()
    waiting: list[tuple[str, Record, bool]] = [("", module, False)]
    while waiting:
        prefix, record, done = waiting.pop()
        if done:
            above.discard(id(record))
            continue
        tensors, modules, looked_at = _parts(record)
        spent += len(prefix) + looked_at + sum(len(prefix) + len(str(name)) for name, _ in tensors + modules)
        if id(record) in above or len(above) >= MAX_NESTING or spent > MAX_NAMES:
            raise _fault(where, f"its module {prefix[:100]!r} contains itself, or modules without end")
        above.add(id(record))
        waiting.append((prefix, record, True))
        yield from ((_named(prefix, name, where), value) for name, value in tensors)
        waiting.extend((_named(prefix, name, where) + ".", child, False) for name, child in reversed(modules))


def _parts(module: Record) -> tuple[list[tuple[Any, Any]], list[tuple[Any, Record]], int]:
    """A module's own parameters and persistent buffers, its modules, and how many things were looked at for them."""
    state = _attributes(module) or {}
    if module.name.startswith("__torch__."):  # TorchScript keeps all three side by side
        tensors = [(name, value) for name, value in state.items() if is_tensor(value)]
        return tensors, [(name, value) for name, value in state.items() if is_module(value)], len(state) + 1
    passing = _members(state.get("_non_persistent_buffers_set"))
    parameters, buffers, modules = (_entries(state.get(n)) or {} for n in ("_parameters", "_buffers", "_modules"))
    tensors = [(name, value) for name, value in parameters.items() if is_tensor(value)]
    tensors += [(name, value) for name, value in buffers.items() if is_tensor(value) and name not in passing]
    children = [(name, value) for name, value in modules.items() if is_module(value)]
    return tensors, children, len(parameters) + len(buffers) + len(modules) + len(passing) + 1


def _from_archive(path: str, data: Bytes) -> TorchFile:
    archive = list_archive(data, path)
    begin, size, _ = archive.spans["data.pkl"]
    read = unpickle(Tape(data, begin, begin + size), path)
    order = archive.spans.get("byteorder")
    text = b"little" if order is None else data[order.begin : order.begin + min(order.size, 16)]
    if text not in (b"little", b"big"):
        raise _fault(path, f"its byte order is {text!r}")
    storages = {
        name.removeprefix("data/"): Storage(span.begin, span.size)
        for name, span in archive.spans.items()
        if name.startswith("data/")
    }
    known = {*_TENSORS, *_AROUND[:2], "collections.OrderedDict", "torch.Size"}
    plain = not archive.scripted and read.orderly and read.called <= known
    return TorchFile(path, read.root, storages, foreign=text == b"big", plain=plain)


def _from_plain(path: str, data: Bytes) -> TorchFile:
    tape = Tape(data)
    if data[:1] != b"\x80" or unpickle(tape, path).root != MAGIC or unpickle(tape, path).root != PROTOCOL:
        raise _fault(path, "it does not begin as one does")
    system = unpickle(tape, path).root
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _fault(path, "it was written on a machine of the other byte order")
    read = unpickle(tape, path)
    keys = unpickle(tape, path).root
    sizes: dict[str, int] = {}
    try:
        for reference in read.outside:
            if isinstance(reference.identity, tuple) and reference.identity[0] == "storage":
                key, dtype, _, _ = _reference(reference)
                sizes[key] = dtype.itemsize
        storages = _plain_storages(data, tape.at, keys, sizes)
    except (ValueError, TypeError, IndexError, KeyError) as error:
        raise _fault(path, str(error)[:150]) from None
    return TorchFile(path, read.root, storages)


def _plain_storages(data: Bytes, at: int, keys: Any, sizes: Mapping[str, int]) -> dict[str, Storage]:
    """Where each storage's bytes lie: one after the other, each after the number of its values."""
    storages: dict[str, Storage] = {}
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("it does not say which storages follow")
    for key in keys:
        count = int.from_bytes(data[at : at + 8], "little")
        size = count * sizes[key]
        if key in storages or at + 8 + size > len(data):
            raise ValueError(f"the storage {key[:40]!r} of {count} values is not there")
        storages[key] = Storage(at + 8, size)
        at += 8 + size
    return storages


def _inner(value: Any) -> Record | None:
    """The record of a tensor, out of those around it that say that it is a parameter or of a subclass."""
    for _ in range(8):
        if not isinstance(value, Record) or not isinstance(value.args, tuple) or not value.args:
            return None
        if value.name in _TENSORS:
            return value if len(value.args) >= 4 else None
        if value.name in _AROUND:
            value = value.args[0]
        elif value.name in _SUBCLASS and len(value.args) >= 3 and isinstance(value.args[0], Name):
            value = Record(value.args[0].text, value.args[2])
        else:
            return None
    return None


def _reference(value: Any) -> tuple[str, torch.dtype, int, int]:
    """(key, dtype, first value, number of values) of a storage that a pickle refers to."""
    if not isinstance(value, Persistent) or not isinstance(value.identity, tuple):
        raise ValueError("without a storage")
    kind, storage, key, _, count, *view = value.identity
    if kind != "storage" or not isinstance(key, str) or not isinstance(storage, Name):
        raise ValueError("without a storage")
    dtype = _STORAGES.get(storage.text.rpartition(".")[2].removesuffix("Storage"))
    if dtype is None or not storage.text.startswith("torch."):
        raise ValueError(f"in a {storage.text[:60]}, which is not read")
    (count,) = _counts((count,))
    if view and view[0] is not None:
        begin, count = _counts(tuple(view[0])[1:])
        return key, dtype, begin, count
    return key, dtype, 0, count


def _dtype(value: Any) -> torch.dtype:
    found = getattr(torch, value.text.removeprefix("torch."), None) if isinstance(value, Name) else None
    if not isinstance(found, torch.dtype):
        raise ValueError("of an unknown dtype")
    return found


def _counts(value: Any) -> tuple[int, ...]:
    if isinstance(value, Record) and value.name == "torch.Size" and value.args:
        value = tuple(value.args[0])
    if not isinstance(value, tuple | list) or not all(type(v) is int and 0 <= v < 1 << 48 for v in value):
        raise ValueError("with numbers that are none")
    return tuple(value)


def _attributes(value: Record) -> Mapping[Any, Any] | None:
    state = value.state[0] if isinstance(value.state, tuple) and value.state else value.state
    return state if isinstance(state, dict) else None


def _entries(value: Any) -> Mapping[Any, Any] | None:
    """The items of a dict or of a record of one."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, Record):
        return None
    if value.entries is None and value.name in _DICTS:
        listed = value.args[0] if isinstance(value.args, tuple) and value.args else None
        listed = listed if isinstance(listed, list) else None
        pairs = [pair for pair in listed if isinstance(pair, tuple | list) and len(pair) == 2] if listed else []
        value.entries = {k: v for k, v in pairs if isinstance(k, str)}  # Python 2 wrote them so
    return value.entries


def _members(value: Any) -> frozenset[str]:
    """The names in a set, as any pickle protocol writes one."""
    if not isinstance(value, Record):
        return frozenset()
    held = value.items
    if held is None and isinstance(value.args, tuple) and value.args and isinstance(value.args[0], list):
        held = value.args[0]
    return frozenset(name for name in held or () if isinstance(name, str))


def _named(prefix: str, name: Any, where: str) -> str:
    if not isinstance(name, str) or "." in name or len(prefix) + len(name) > MAX_NAME:
        raise _fault(where, f"it has a part without a proper name in {prefix[:100]!r}")
    return prefix + name


def _turned(storage: torch.UntypedStorage, dtype: torch.dtype) -> torch.UntypedStorage:
    """From the other byte order."""
    width = dtype.itemsize // 2 if dtype.is_complex else dtype.itemsize
    values: Tensor = torch.empty(0, dtype=torch.uint8).set_(storage)
    return values.reshape(-1, width).flip(1).contiguous().untyped_storage()


def _fault(where: str, what: str) -> FormatError:
    return FormatError(
        f"{where}: not a sound torch file: {what}",
        fix="fetch the file again; if it stays so, it is damaged at its origin",
    )
