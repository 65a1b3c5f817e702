"""Published `.pth` and `.pt` files: read without running them, converted once to a safetensors blob.

The inert unpickler reads every file first. Archives of plain tensors are then read by torch itself, with
`weights_only=True`; those with whole modules or settings pickled beside the tensors, and files of torch before 1.6,
are rebuilt from what the unpickler found.

The blob's metadata and the store's conversion record name the digest of the file it was made from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from zoo.checkpoints.store import Blob, Store
from zoo.checkpoints.torch_files import TorchFile, is_module, read_torch_file
from zoo.checkpoints.unpickling import Record
from zoo.checkpoints.writing import serialize
from zoo.errors import FormatError

CONVERTER = "torch-3"
"""Bumped when the same file would convert to something else."""

WRAPPERS = ("ema", "state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model_state",
            "model", "module", "params_ema", "params", "net", "network", "weights", "teacher", "student")  # fmt: skip
"""Where training code keeps the weights inside a checkpoint; averaged ones, which published figures are of, first."""

MAX_DEPTH = 4
MAX_NOTED = 1000


def convert(origin: str, path: str, store: Store) -> Blob:
    """The safetensors blob of a torch file, made on the first call and found on later ones.

    Args:
        origin: the file's SHA-256, already verified. path: where it is.

    Raises:
        FormatError: damaged, or it could only be read by running what it contains.
    """
    done = store.conversion(origin, CONVERTER)
    if done is not None:
        return done
    file = _read(path)
    inside, fields = _weights(file, file.root, (), set())
    if fields is None:
        raise _nothing(file)
    tensors = {name: value for name, value in fields.items() if isinstance(name, str)}
    tensors = {name: tensor for name, value in tensors.items() if (tensor := file.tensor(value)) is not None}
    _check_extent(tensors, path)
    metadata = {"zoo.origin_sha256": origin, "zoo.converter": CONVERTER}
    if inside:
        metadata["zoo.inside"] = ".".join(inside)
    dropped = [name for name in fields if name not in tensors]
    noted = sorted(name[:200] for name in dropped if isinstance(name, str))[:MAX_NOTED]
    if noted:
        metadata["zoo.dropped"] = json.dumps(noted)
    if len(dropped) > len(noted):
        metadata["zoo.dropped_count"] = str(len(dropped))
    try:
        content = serialize(tensors, metadata)
    except FormatError as error:
        raise FormatError(f"{path}: {error.message}", fix=error.fix) from None
    blob = store.put(content)
    store.remember_conversion(origin, CONVERTER, blob.sha256)
    return blob


def _read(path: str) -> TorchFile:
    """The file's content: as torch reads it, where it is plain, or as records.

    Torch is given nothing that calls for more than tensors: what it allows besides can be asked for any memory.
    """
    file = read_torch_file(path)
    if file.plain:
        with suppress(Exception):  # a hostile file can raise anything at all; the records say what is wrong with it
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            return TorchFile(path, loaded, {})
    return file


def _weights(
    file: TorchFile, value: Any, inside: tuple[str, ...], seen: set[int]
) -> tuple[tuple[str, ...], Mapping[Any, Any] | None]:
    """(the wrappers' keys, what lies under them), for the first of `WRAPPERS` that leads to tensors.

    seen: what was looked into, by id; a file may hold one thing in many places.
    """
    fields = file.fields(value) if id(value) not in seen else None
    if fields is None:
        return inside, None
    seen.add(id(value))
    for key in WRAPPERS if len(inside) < MAX_DEPTH and not is_module(value) else ():
        if key in fields:
            deeper, found = _weights(file, fields[key], (*inside, key), seen)
            if found is not None:
                return deeper, found
    return inside, fields if any(file.is_tensor(value) for value in fields.values()) else None


def _check_extent(tensors: Mapping[str, Tensor], path: str) -> None:
    """Refuse views that unfold to many times the file: a few bytes may be said to be any number of values."""
    places = {(t.data_ptr(), t.dtype, t.shape, t.stride()): t.numel() * t.dtype.itemsize for t in tensors.values()}
    if sum(places.values()) > 4 * os.path.getsize(path) + 64_000_000:
        raise FormatError(f"{path}: its tensors would take {sum(places.values())} bytes, far more than it has")


def _nothing(file: TorchFile) -> FormatError:
    fields = file.fields(file.root)
    if fields is None or isinstance(file.root, Record):
        kind = (file.root.name or "computed object") if isinstance(file.root, Record) else type(file.root).__name__
        return FormatError(f"{file.path}: holds a {kind[:200]}, not tensors by name")
    return FormatError(
        f"{file.path}: no tensors where weights are looked for",
        found=", ".join(_shown(key) for key in list(fields)[:12])[:500] or "an empty file",
        fix="save the state dict itself, tensors by name: torch.save(model.state_dict(), …)",
    )


def _shown(key: Any) -> str:
    """A key in a message. Only strings are shown: a tuple of a long one, thousands of times, costs the file little."""
    if not isinstance(key, str):
        return f"<{type(key).__name__}>"
    return key[:100].encode("utf-8", "backslashreplace").decode()
