"""Published `.pth` and `.pt` files: read without running them, converted once to a safetensors blob.

The blob's metadata and the store's conversion record name the digest of the file it was made from.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zoo.checkpoints.store import Blob, Store
from zoo.checkpoints.writing import serialize
from zoo.errors import FormatError

CONVERTER = "torch-1"
"""Bumped when the same file would convert to something else."""

WRAPPERS = ("state_dict_ema", "model_ema", "ema_state_dict", "state_dict", "model_state_dict", "model_state", "model",
            "module", "params_ema", "params", "net", "network", "weights", "teacher", "student")  # fmt: skip
"""Where training code keeps the weights inside a checkpoint; averaged ones, which published figures are of, first."""

MAX_DEPTH = 4


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
    tensors, inside, dropped = _weights(_load(path), path)
    metadata = {"zoo.origin_sha256": origin, "zoo.converter": CONVERTER}
    if inside:
        metadata["zoo.inside"] = inside
    if dropped:
        metadata["zoo.dropped"] = json.dumps(dropped)
    blob = store.put(serialize(tensors, metadata))
    store.remember_conversion(origin, CONVERTER, blob.sha256)
    return blob


def _load(path: str) -> Any:
    try:
        # Files of torch before 1.6 are plain pickles, which cannot be mapped.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a hostile file can raise anything at all out of the unpickler
        reason = str(error).strip().splitlines() or [type(error).__name__]
        wants = next((line.strip() for line in reason if "GLOBAL" in line or "global" in line), reason[0])
        raise FormatError(
            f"{path}: not a file of plain tensors, and what it pickles is not run",
            found=wants[:300],
            fix="save its state dict instead: torch.save(model.state_dict(), …), or better: zoo.save_pretrained(…)",
        ) from error


def _weights(loaded: Any, path: str) -> tuple[dict[str, Tensor], str, list[str]]:
    """(tensors, the wrapper's keys they were under, what else lay beside them)."""
    inside: list[str] = []
    while isinstance(loaded, Mapping) and len(inside) < MAX_DEPTH:
        wrapper = next((key for key in WRAPPERS if isinstance(loaded.get(key), Mapping)), None)
        if wrapper is None:
            break
        inside.append(wrapper)
        loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping):
        raise FormatError(f"{path}: holds a {type(loaded).__name__}, not tensors by name")
    tensors = {name: value for name, value in loaded.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise FormatError(
            f"{path}: no tensors where weights are looked for",
            found=", ".join(str(key) for key in list(loaded)[:12]) or "an empty file",
            fix="save the state dict itself, tensors by name: torch.save(model.state_dict(), …)",
        )
    dropped = sorted(str(name) for name in loaded if name not in tensors)
    return tensors, ".".join(inside), dropped
