"""Writing safetensors: complete or not at all, one tensor at a time.

The safetensors package returns a file as one piece of memory, or writes it where it can be seen half done. A large
model is to stream into the store, hashed on the way, without a second copy of itself.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from zoo.checkpoints.files import DTYPES
from zoo.checkpoints.headers import ALIASES, MAX_HEADER
from zoo.checkpoints.store import sync_folder
from zoo.errors import CheckpointError, FormatError

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def write_weights(path: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file by one rename; whoever maps the old file keeps the old file.

    Args:
        tensors: dense, of any layout and device. Names that are one tensor (tied weights) are written once; the
            metadata say which name stands for which.
        metadata: strings only.

    Raises:
        FormatError: a tensor or metadata that the format cannot hold.
        CheckpointError: the file cannot be written.
    """
    path = os.path.abspath(path)
    temp = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{secrets.token_hex(4)}.tmp")
    chunks = serialize(tensors, metadata)
    try:
        with open(temp, "xb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        if os.path.exists(temp):
            os.unlink(temp)
    sync_folder(os.path.dirname(path))


def serialize(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Iterator[memoryview]:
    """A safetensors file in pieces, the same bytes for the same tensors. Checks everything before the first piece."""
    kept, aliases = _untied(tensors)
    for name, tensor in kept.items():
        _check(name, tensor)
    # As safetensors orders them: wide dtypes first, so that every tensor is aligned.
    names = sorted(kept, key=lambda name: (-kept[name].dtype.itemsize, name))
    strings = {"format": "pt", **(metadata or {})}
    if aliases:
        strings[ALIASES] = json.dumps(aliases, sort_keys=True)
    if not all(isinstance(k, str) and isinstance(v, str) for k, v in strings.items()):
        raise FormatError("safetensors metadata are strings", fix="json.dumps(…) for anything else")
    entries: dict[str, object] = {"__metadata__": dict(sorted(strings.items()))}
    reached = 0
    for name in names:
        tensor = kept[name]
        end = reached + tensor.numel() * tensor.dtype.itemsize
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [reached, end]}
        reached = end
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > MAX_HEADER:
        raise FormatError(f"the header would have {len(header)} bytes; at most {MAX_HEADER} are read back")
    return _pieces(header, [kept[name] for name in names])


def _pieces(header: bytes, tensors: list[Tensor]) -> Iterator[memoryview]:
    yield memoryview(len(header).to_bytes(8, "little") + header)
    for tensor in tensors:
        if tensor.numel():
            flat = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1)
            yield memoryview(flat.view(torch.uint8).numpy())  # type: ignore[arg-type]  # it is a buffer


def _untied(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors without repeats, and which name stands for which. The first name in order keeps the bytes."""
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple[object, ...], str] = {}
    for name in sorted(tensors):
        tensor = tensors[name]
        if not isinstance(name, str) or name == "__metadata__":
            raise FormatError(f"{name!r} cannot name a tensor in a safetensors file")
        if not isinstance(tensor, Tensor):
            raise FormatError(f"{name!r} is a {type(tensor).__name__}, not a tensor")
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or not tensor.numel():
            kept[name] = tensor
            continue
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), tensor.is_conj())
        if place in first:
            aliases[name] = first[place]
        else:
            first[place] = name
            kept[name] = tensor
    return kept, aliases


def _check(name: str, tensor: Tensor) -> None:
    if tensor.is_meta:
        raise FormatError(f"{name!r} has no data: it is on the meta device", fix="load or initialise it first")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.dtype not in _NAMES:
        raise FormatError(
            f"{name!r} cannot be written: {tensor.dtype}, {tensor.layout}", fix="write a dense tensor of a plain dtype"
        )
