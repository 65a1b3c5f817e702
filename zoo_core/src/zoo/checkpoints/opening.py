"""Opening a checkpoint: from its record to verified, memory-mapped tensors, or just to its structure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from zoo.checkpoints.archives import is_torch_file
from zoo.checkpoints.delivery import Progress
from zoo.checkpoints.headers import Header, TensorInfo, read_header
from zoo.checkpoints.sharding import ShardIndex, beside, is_index, joined, read_index
from zoo.checkpoints.sources import LOCAL, REMOTE, Carrier, Fetched, fetch, file_name, stored
from zoo.checkpoints.store import Store
from zoo.errors import FormatError, SourceError
from zoo.specs import CheckpointSpec

if TYPE_CHECKING:
    from torch import Tensor

Reader = Callable[[str], "Mapping[str, Tensor] | None"]
"""Reads a file of another format into tensors by name, or gives None for one it does not know."""

_Read = TypeVar("_Read")
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


class FileFact(NamedTuple):
    """One file that opening a checkpoint needs: where it may come from, and its digest and size where known."""

    sources: tuple[str, ...]
    sha256: str | None = None
    size: int | None = None


def files_of(spec: CheckpointSpec, store: Store | None = None) -> list[FileFact]:
    """Every file that opening a checkpoint needs, as far as this machine knows; asks no network.

    The first is the one the record names. A sharded checkpoint's shards follow once its index is here.

    Raises:
        FormatError: the index is here, and it is not sound.
    """
    store = store or Store()
    facts = [FileFact(tuple(spec.sources), spec.sha256, spec.size)]
    if any(is_index(file_name(source)) for source in spec.sources):
        here = stored(spec.sources, sha256=spec.sha256, size=spec.size, store=store)
        if here is not None and is_index(file_name(here.source)):
            index = _read(here, store, _index)
            facts += [_shard_fact(spec, here.source, shard) for shard in index.shards]
    return facts


def is_here(spec: CheckpointSpec, store: Store | None = None) -> bool:
    """Whether every file of a checkpoint is on this machine, so that opening it asks no network."""
    store = store or Store()
    return all(stored(f.sources, sha256=f.sha256, size=f.size, store=store) for f in files_of(spec, store))


def _shard_fact(spec: CheckpointSpec, index: str, shard: str) -> FileFact:
    """A shard's own: beside the index that was taken, in its revision, then beside the index's other addresses."""
    sources = [source for source in spec.sources if is_index(file_name(source))]
    return FileFact(tuple(dict.fromkeys(beside(source, shard) for source in (index, *sources))))


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
        readers: asked in turn for files that are called neither as safetensors are nor as torch's own. What none of
            them reads is opened all the same where its first bytes are torch's.
        carriers: asked in turn for sources of schemes the zoo does not know.

    Raises:
        SourceError, OfflineError, DigestError: the file cannot be had.
        FormatError: it cannot be read.
    """
    store = store or Store()
    fetched = fetch(spec.sources, sha256=spec.sha256, size=spec.size, store=store, progress=progress, carriers=carriers)
    name = file_name(fetched.source).lower()
    if is_index(name):
        parts: dict[str, OpenedCheckpoint] = {}
        index = _read(fetched, store, _index)
        for shard in index.shards:
            fact = _shard_fact(spec, fetched.source, shard)
            arrived = fetch(fact.sources, store=store, progress=progress, carriers=carriers)
            parts[shard] = _read(arrived, store, partial(_opened, store=store))
        return _joined(fetched, index, parts)
    if name.endswith(SAFETENSORS + TORCH):
        return _read(fetched, store, partial(_opened, store=store))
    for reader in readers:
        read = reader(fetched.path)
        if read is not None:
            return OpenedCheckpoint(dict(read), {}, fetched.sha256, fetched.source, fetched.pinned, fetched.path)
    if is_torch_file(fetched.path):
        return _read(fetched, store, partial(_opened, store=store))
    raise FormatError(
        f"{fetched.source}: no installed plugin reads such a file",
        found=name,
        asked=", ".join(SAFETENSORS + TORCH),
        fix="convert it to safetensors: zoo.checkpoints.writing.write_weights(path, tensors)",
    )


def peek_structure(spec: CheckpointSpec, *, store: Store | None = None) -> dict[str, TensorInfo] | None:
    """The published names, dtypes and shapes, without downloading the weights; None where that cannot be known.

    Of a sharded checkpoint the index is fetched, and the headers of the shards are looked at.

    Raises:
        FormatError: the file is here, or its header came, and it is not sound.
    """
    peeked = _peek(spec, store or Store())
    if peeked is None:
        return None
    if peeked.shards_by is None:
        return peeked.headers[""].structure
    structures = {shard: header.structure for shard, header in peeked.headers.items()}
    aliases = {shard: header.aliases for shard, header in peeked.headers.items()}
    return joined(peeked.shards_by, structures, aliases, peeked.where)


def peek_metadata(spec: CheckpointSpec, *, store: Store | None = None) -> dict[str, str] | None:
    """The strings that the weights say of themselves, without downloading them; None where that cannot be known.

    As `OpenedCheckpoint.metadata`. A file of torch's own says nothing. Raises what `peek_structure` raises.
    """
    if all(source.startswith(REMOTE) and file_name(source).lower().endswith(TORCH) for source in spec.sources):
        return {}
    peeked = _peek(spec, store or Store())
    headers = peeked.headers.values() if peeked is not None else ()
    return None if peeked is None else {key: value for header in headers for key, value in header.metadata.items()}


class _Peeked(NamedTuple):
    """The headers of a checkpoint's files: by shard under an index, otherwise one under no name."""

    headers: dict[str, Header]
    shards_by: ShardIndex | None = None
    where: str = ""


def _peek(spec: CheckpointSpec, store: Store) -> _Peeked | None:
    if any(is_index(file_name(source)) for source in spec.sources):
        with suppress(SourceError):  # as for a header that nobody delivers
            fetched = fetch(spec.sources, sha256=spec.sha256, size=spec.size, store=store)
            if is_index(file_name(fetched.source)):
                return _peek_shards(spec, fetched, store)
        return None
    header = _peek_header(spec.sources, spec.sha256, spec.size, store)
    return None if header is None else _Peeked({"": header})


def _peek_header(sources: Sequence[str], sha256: str | None, size: int | None, store: Store) -> Header | None:
    here = stored(sources, sha256=sha256, size=size, store=store)
    for source in sources if here is None else ():
        if source.startswith(LOCAL):
            here = stored((source,), sha256=sha256, size=size, store=store)
            if here is not None:
                break
        elif source.startswith(REMOTE) and file_name(source).lower().endswith(SAFETENSORS):
            with suppress(SourceError):  # the next source may know; if none does, opening says why
                return _remote_header(source)
    if here is None or not file_name(here.source).lower().endswith(SAFETENSORS + TORCH):
        return None
    return _read(here, store, lambda found: read_header(_safetensors_path(found, store)))


def _peek_shards(spec: CheckpointSpec, fetched: Fetched, store: Store) -> _Peeked | None:
    index = _read(fetched, store, _index)
    headers: dict[str, Header] = {}
    for shard in index.shards:
        header = _peek_header(_shard_fact(spec, fetched.source, shard).sources, None, None, store)
        if header is None:
            return None
        headers[shard] = header
    return _Peeked(headers, index, fetched.source)


def _read(fetched: Fetched, store: Store, read: Callable[[Fetched], _Read]) -> _Read:
    """Read a file; once more where it had vanished, as one does that a collector has taken and is putting back."""
    try:
        return read(fetched)
    except FormatError as error:
        if not isinstance(error.__cause__, FileNotFoundError) and "No such file" not in str(error.__cause__):
            raise
        found = store.find(fetched.sha256)
        return read(fetched if found is None else fetched._replace(path=found.path))


def _index(fetched: Fetched) -> ShardIndex:
    return read_index(fetched.path, fetched.source)


def _opened(fetched: Fetched, store: Store) -> OpenedCheckpoint:
    """One file of weights."""
    from zoo.checkpoints.files import read_tensors

    path = _safetensors_path(fetched, store)
    tensors, metadata = read_tensors(path, mapped=not (path == fetched.path and _is_callers(fetched)))
    return OpenedCheckpoint(tensors, metadata, fetched.sha256, fetched.source, fetched.pinned, path)


def _joined(fetched: Fetched, index: ShardIndex, parts: Mapping[str, OpenedCheckpoint]) -> OpenedCheckpoint:
    """Several files of weights as one, under the index's identity."""
    aliases = {shard: _tied(part.tensors) for shard, part in parts.items()}
    tensors = joined(index, {shard: part.tensors for shard, part in parts.items()}, aliases, fetched.source)
    metadata = {key: value for part in parts.values() for key, value in part.metadata.items()}
    pinned = fetched.pinned if all(part.pinned == "declared" for part in parts.values()) else "first-use"
    return OpenedCheckpoint(tensors, metadata, fetched.sha256, fetched.source, pinned, fetched.path)


def _tied(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names whose tensor another name has as well."""
    counts = Counter(map(id, tensors.values()))
    return [name for name, tensor in tensors.items() if counts[id(tensor)] > 1]


def _safetensors_path(fetched: Fetched, store: Store) -> str:
    """The file, or what it was converted to where it is torch's own, whatever its name."""
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
