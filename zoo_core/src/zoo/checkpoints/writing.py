"""Writing safetensors: complete or not at all, one tensor at a time.

The safetensors package returns a file as one piece of memory, or writes it where it can be seen half done. A large
model is to stream into the store, hashed on the way, without a second copy of itself.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from zoo.checkpoints.files import DTYPES
from zoo.checkpoints.headers import ALIASES, MAX_HEADER
from zoo.checkpoints.sharding import INDEX
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
    _write(os.path.abspath(path), serialize(tensors, metadata))


def _write(path: str, chunks: Iterable[bytes | memoryview]) -> None:
    temp = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temp, "xb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temp, path)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written: {error.strerror or error}", fix="free some space, or choose another folder"
        ) from error
    finally:
        if os.path.exists(temp):
            os.unlink(temp)
    sync_folder(os.path.dirname(path))


def write_sharded(
    folder: str,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    max_bytes: int | None = None,
    stem: str = "model",
) -> str:
    """Write `<stem>.safetensors`, or where it would be larger than `max_bytes`, shards and then their index.

    The layout is the one transformers writes and reads. A tensor is never cut: one larger than `max_bytes` has a shard
    to itself. Tied names are in one shard; the index names the one that has the bytes, as transformers does.

    Returns:
        The name of the file to open, in the folder: the weights, or the index.

    Raises:
        FormatError, CheckpointError: as `write_weights`.
    """
    kept, aliases = _untied(tensors)
    for name, tensor in kept.items():
        _check(name, tensor)
    parts = _parts({name: kept[name] for name in tensors if name in kept}, max_bytes)
    if len(parts) < 2:
        write_weights(os.path.join(folder, f"{stem}.safetensors"), tensors, metadata)
        return f"{stem}.safetensors"
    weight_map: dict[str, str] = {}
    for i, part in enumerate(parts):
        shard = f"{stem}-{i + 1:05d}-of-{len(parts):05d}.safetensors"
        weight_map |= dict.fromkeys(part, shard)
        tied = {alias: tensors[alias] for alias, name in aliases.items() if name in part}
        write_weights(os.path.join(folder, shard), {**part, **tied}, metadata)
    total = {"total_size": sum(_bytes(tensor) for tensor in kept.values())}
    index = {"metadata": {**(metadata or {}), **total}, "weight_map": dict(sorted(weight_map.items()))}
    name = f"{stem}.safetensors{INDEX}"
    _write(os.path.join(folder, name), [json.dumps(index, indent=1).encode() + b"\n"])
    return name


def _parts(tensors: Mapping[str, Tensor], max_bytes: int | None) -> list[dict[str, Tensor]]:
    """The tensors in order, in as many parts as none larger than that takes."""
    parts: list[dict[str, Tensor]] = []
    room = 0
    for name, tensor in tensors.items():
        size = _bytes(tensor)
        if not parts or (max_bytes is not None and size > room):
            parts.append({})
            room = max_bytes or 0
        parts[-1][name] = tensor
        room -= size
    return parts


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.dtype.itemsize


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
        end = reached + _bytes(tensor)
        entries[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [reached, end]}
        reached = end
    try:
        header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        part = error.object[max(0, error.start - 20) : error.end + 20]
        raise FormatError(f"a name or a string holds half a character: {part!a}") from None
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
    first: dict[object, str] = {}
    for name in sorted(tensors):
        tensor = tensors[name]
        if not isinstance(name, str) or name == "__metadata__":
            raise FormatError(f"{name!r} cannot name a tensor in a safetensors file")
        if not isinstance(tensor, Tensor):
            raise FormatError(f"{name!r} is a {type(tensor).__name__}, not a tensor")
        place = tensor_place(tensor)
        if place in first:
            aliases[name] = first[place]
        else:
            first[place] = name
            kept[name] = tensor
    return kept, aliases


def tensor_place(tensor: Tensor) -> object:
    """Equal for tensors that are one and the same data, as tied weights are."""
    if tensor.layout != torch.strided or tensor.is_meta or is_sharded(tensor) or not tensor.numel():
        return id(tensor)
    views = (tensor.is_conj(), tensor.is_neg())  # the same bytes read otherwise
    return (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), *views)


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor, spread over processes. Importing that class takes longer than a small checkpoint."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def _check(name: str, tensor: Tensor) -> None:
    if tensor.is_meta:
        raise FormatError(f"{name!r} has no data: it is on the meta device", fix="load or initialise it first")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.dtype not in _NAMES:
        raise FormatError(
            f"{name!r} cannot be written: {tensor.dtype}, {tensor.layout}", fix="write a dense tensor of a plain dtype"
        )
