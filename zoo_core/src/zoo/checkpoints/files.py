"""Tensors of a safetensors file, memory-mapped: nothing is read before it is used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.checkpoints.headers import Header, TensorInfo, read_header
from zoo.errors import FormatError

DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz, "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "U16": torch.uint16, "I16": torch.int16, "F16": torch.float16, "BF16": torch.bfloat16,
    "U32": torch.uint32, "I32": torch.int32, "F32": torch.float32,
    "U64": torch.uint64, "I64": torch.int64, "F64": torch.float64, "C64": torch.complex64,
}  # fmt: skip
"""Safetensors' dtypes in torch."""


class WeightsFile(NamedTuple):
    """A file's tensors by name, and its own strings."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def read_tensors(path: str, *, mapped: bool = True) -> WeightsFile:
    """Every tensor of a safetensors file, each with its own storage.

    Args:
        mapped: tensors are private pages of the file, read when first touched; writing to them (training) copies the
            page and never reaches the file. The file must then never be edited in place, as blobs, packages and the
            Hub's cache are not. False reads the file into memory at once: for files that belong to somebody.

    Raises:
        FormatError: damaged, hostile or not safetensors.
    """
    header = read_header(path)
    try:
        storage = _mapped(path) if mapped else _read(path)
        tensors = {name: _tensor(storage, header, name) for name in header.tensors}
    except (OSError, RuntimeError) as error:
        raise FormatError(f"{path}: cannot be opened: {str(error)[:200]}") from error
    tensors |= {alias: tensors[name] for alias, name in header.aliases.items()}  # the same object: still tied
    return WeightsFile(tensors, header.metadata)


def meta_tensors(structure: Mapping[str, TensorInfo]) -> dict[str, Tensor]:
    """Tensors of that structure without data, on the meta device: what key maps are tried on before a download."""
    return {name: torch.empty(info.shape, dtype=DTYPES[info.dtype], device="meta") for name, info in structure.items()}


def _mapped(path: str) -> torch.UntypedStorage:
    return torch.UntypedStorage.from_file(path, False, os.path.getsize(path))  # type: ignore[return-value]  # the stubs give a TypedStorage


def _read(path: str) -> torch.UntypedStorage:
    with open(path, "rb", buffering=0) as file:
        storage = torch.UntypedStorage(os.fstat(file.fileno()).st_size)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        view = memoryview(torch.empty(0, dtype=torch.uint8).set_(storage).numpy())  # type: ignore[arg-type]  # it is a buffer
        while view and (n := file.readinto(view)):
            view = view[n:]
    if view:
        raise OSError("it became shorter while it was read")
    return storage


def _tensor(storage: torch.UntypedStorage, header: Header, name: str) -> Tensor:
    info, (begin, end) = header.tensors[name], header.spans[name]
    own = storage[header.start + begin : header.start + end]  # its own storage: saving one tensor saves only that one
    dtype = DTYPES[info.dtype]
    if (header.start + begin) % dtype.itemsize:  # some writers do not align; a copy does
        own = own.clone()
    return torch.empty(0, dtype=dtype).set_(own, 0, info.shape)  # type: ignore[call-overload,no-any-return]  # the stubs lack this form
