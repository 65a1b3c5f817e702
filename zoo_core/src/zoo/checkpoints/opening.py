"""Opening a checkpoint: from its record to verified, memory-mapped tensors, or just to its structure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from zoo.checkpoints.delivery import Progress
from zoo.checkpoints.headers import Header, TensorInfo, read_header
from zoo.checkpoints.sources import LOCAL, REMOTE, Carrier, Fetched, fetch, file_name, stored
from zoo.checkpoints.store import Store
from zoo.errors import FormatError, SourceError
from zoo.specs import CheckpointSpec

if TYPE_CHECKING:
    from torch import Tensor

Reader = Callable[[str], "Mapping[str, Tensor] | None"]
"""Reads a file of another format into tensors by name, or gives None for one it does not know."""

SAFETENSORS = (".safetensors",)
TORCH = (".pth", ".pt", ".bin", ".ckpt", ".pth.tar")


class OpenedCheckpoint(NamedTuple):
    """An opened checkpoint.

    tensors: by published name; mapped from a file that is never edited, unless it is the caller's own. metadata: the
    file's own strings. sha256: of the file as published, also where it was converted. source: its address, with the
    revision pinned. pinned: `declared` or `first-use`. path: the safetensors file that was opened, or the original.
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    sha256: str
    source: str
    pinned: str
    path: str


def open_checkpoint(
    spec: CheckpointSpec,
    *,
    readers: Sequence[Reader] = (),
    carriers: Sequence[Carrier] = (),
    store: Store | None = None,
    progress: Progress | None = None,
) -> OpenedCheckpoint:
    """Fetch, verify and open. A stored file is not hashed, not copied and not read: its pages are read when used.

    Args:
        readers: asked in turn for files that are neither safetensors nor torch's own.
        carriers: asked in turn for sources of schemes the zoo does not know.

    Raises:
        SourceError, OfflineError, DigestError: the file cannot be had.
        FormatError: it cannot be read.
    """
    from zoo.checkpoints.files import read_tensors

    store = store or Store()
    fetched = fetch(spec.sources, sha256=spec.sha256, size=spec.size, store=store, progress=progress, carriers=carriers)
    name = file_name(fetched.source).lower()
    if name.endswith(SAFETENSORS + TORCH):
        path = _safetensors_path(fetched, store)
        tensors, metadata = read_tensors(path, mapped=not (path == fetched.path and _is_callers(fetched)))
        return OpenedCheckpoint(tensors, metadata, fetched.sha256, fetched.source, fetched.pinned, path)
    for reader in readers:
        read = reader(fetched.path)
        if read is not None:
            return OpenedCheckpoint(dict(read), {}, fetched.sha256, fetched.source, fetched.pinned, fetched.path)
    raise FormatError(
        f"{fetched.source}: no installed plugin reads such a file",
        found=name,
        asked=", ".join(SAFETENSORS + TORCH),
        fix="convert it to safetensors: zoo.checkpoints.writing.write_weights(path, tensors)",
    )


def peek_structure(spec: CheckpointSpec, *, store: Store | None = None) -> dict[str, TensorInfo] | None:
    """The published names, dtypes and shapes, without downloading the weights; None where that cannot be known.

    Raises:
        FormatError: the file is here, or its header came, and it is not sound.
    """
    store = store or Store()
    here = stored(spec.sources, sha256=spec.sha256, size=spec.size, store=store)
    for source in spec.sources if here is None else ():
        if source.startswith(LOCAL):
            here = stored((source,), sha256=spec.sha256, size=spec.size, store=store)
            if here is not None:
                break
        elif source.startswith(REMOTE) and file_name(source).lower().endswith(SAFETENSORS):
            with suppress(SourceError):  # the next source may know; if none does, opening says why
                return _remote_header(source).structure
    if here is None or not file_name(here.source).lower().endswith(SAFETENSORS + TORCH):
        return None
    return read_header(_safetensors_path(here, store)).structure


def _safetensors_path(fetched: Fetched, store: Store) -> str:
    if file_name(fetched.source).lower().endswith(SAFETENSORS):
        return fetched.path
    from zoo.checkpoints.conversion import CONVERTER, convert

    done = store.conversion(fetched.sha256, CONVERTER)
    return (done or convert(fetched.sha256, fetched.path, store)).path


def _is_callers(fetched: Fetched) -> bool:
    """Whether somebody may edit the file in place while its pages are mapped."""
    return fetched.source.startswith("file://")


def _remote_header(source: str) -> Header:
    if source.startswith("hf://"):
        from zoo.checkpoints.hub import peek_hub

        return peek_hub(source)
    from zoo.checkpoints.web import peek_web

    return peek_web(source)
