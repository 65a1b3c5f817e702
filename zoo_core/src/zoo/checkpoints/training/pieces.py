"""Pieces of tensors in safetensors files, and their index in JSON: what torch.distributed.checkpoint works on here.

shards.json    {"tensors": {name: {"dtype": "float32", "shape": [8, 4], "pieces": [
                    {"file": "shard-00000.safetensors", "key": "name@0,0", "offsets": [0, 0], "sizes": [4, 4]}, ...]}}}
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, SavePlan, SavePlanner, WriteItem
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from zoo.checkpoints.files import DTYPES, read_tensors
from zoo.checkpoints.headers import Header, read_header
from zoo.checkpoints.training.commit import write_file
from zoo.checkpoints.training.folders import SHARDS, STRUCTURE, TENSORS, WEIGHTS, File, TrainingCheckpoint
from zoo.checkpoints.writing import serialize
from zoo.errors import FormatError

WEIGHT, LOCAL = "weight:", "local:"
"""Before the names of a model's tensors; before the keys of what one process has of its own."""


class Piece(NamedTuple):
    """A box of a tensor: the file and key that have it, where it begins in the tensor, and its shape."""

    file: str
    key: str
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]


class Whole(NamedTuple):
    """A tensor that lies in pieces."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    pieces: dict[tuple[int, ...], Piece]


class PieceWriter(StorageWriter):
    """Writes what one process holds to one file, and, on the first process, the index of all.

    Attributes:
        files: what this process has written.
    """

    def __init__(self, folder: str, rank: int, local: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        self.folder, self.name = folder, shard_name(rank)
        self._local, self._metadata = local, metadata
        self.files: dict[str, File] = {}

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Nothing to do: a writer writes once."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any) -> None:
        """Nothing to do."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """The plan as it is."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """The plans as they are."""
        return plans

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write all of this process's pieces."""
        tensors = {LOCAL + name: tensor for name, tensor in self._local.items()}
        results = []
        for item in plan.items:
            data = planner.resolve_data(item)
            assert isinstance(data, Tensor), "only tensors are handed over"
            key = _key(item)
            tensors[key] = data.detach()
            results.append(WriteResult(item.index, data.numel() * data.dtype.itemsize, (self.name, key)))
        self.files[self.name] = write_file(self.folder, self.name, serialize(tensors, self._metadata))
        done: Future[list[WriteResult]] = Future()
        done.set_result(results)
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Write the index; on the first process only."""
        tensors: dict[str, Any] = {}
        for result in (result for of_one in results for result in of_one):
            described = metadata.state_dict_metadata[result.index.fqn]
            assert isinstance(described, TensorStorageMetadata)
            entry = tensors.setdefault(
                result.index.fqn,
                {
                    "dtype": str(described.properties.dtype).removeprefix("torch."),
                    "shape": list(described.size),
                    "pieces": [],
                },
            )
            offsets = result.index.offset if result.index.offset is not None else [0] * len(described.size)
            sizes = next(c.sizes for c in described.chunks if list(c.offsets) == list(offsets))
            file, key = result.storage_data
            entry["pieces"].append({"file": file, "key": key, "offsets": list(offsets), "sizes": list(sizes)})
        text = json.dumps({"tensors": tensors}, sort_keys=True, separators=(",", ":"))
        self.files[SHARDS] = write_file(self.folder, SHARDS, [text.encode()])

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Only ever made by hand."""
        return False


class PieceReader(StorageReader):
    """Reads boxes of tensors out of a checkpoint's files, which are mapped: only what is asked for is read."""

    def __init__(self, folder: str, tensors: Mapping[str, Whole]) -> None:
        self._folder, self._tensors = folder, tensors
        self._open: dict[str, dict[str, Tensor]] = {}

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Nothing to do."""

    def read_metadata(self, *args: Any) -> Metadata:
        """What there is, in torch's words."""
        described = {
            name: TensorStorageMetadata(
                TensorProperties(whole.dtype),
                torch.Size(whole.shape),
                [ChunkStorageMetadata(torch.Size(p.offsets), torch.Size(p.sizes)) for p in whole.pieces.values()],
            )
            for name, whole in self._tensors.items()
        }
        return Metadata(dict(described), storage_meta=StorageMeta())

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any) -> None:
        """Nothing to do."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """The plan as it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """The plans as they are."""
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Copy every box that is asked for to its place."""
        for item in plan.items:
            offsets = item.storage_index.offset
            assert offsets is not None, "every piece says where it begins"
            piece = self._tensors[item.storage_index.fqn].pieces[tuple(offsets)]
            box = self._file(piece.file)[piece.key]
            for dimension, (begin, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
                box = box.narrow(dimension, begin, length)
            target = planner.resolve_tensor(item).detach()
            target.copy_(box)
            planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Only ever made by hand."""
        return False

    def _file(self, name: str) -> dict[str, Tensor]:
        if name not in self._open:
            self._open[name] = read_tensors(os.path.join(self._folder, name)).tensors
        return self._open[name]


def shard_name(rank: int) -> str:
    """`shard-00001.safetensors`"""
    return f"shard-{rank:05d}.safetensors"


def pieces_of(checkpoint: TrainingCheckpoint) -> dict[str, Whole]:
    """Every tensor of a checkpoint, one written by a single process too. Raises `FormatError`."""
    if SHARDS not in checkpoint.files:
        names = [(WEIGHT, WEIGHTS), ("", TENSORS)]
        return {
            prefix + name: whole
            for prefix, file in names
            for name, whole in _one_piece_each(file, read_header(os.path.join(checkpoint.path, file))).items()
        }
    path = os.path.join(checkpoint.path, SHARDS)
    headers: dict[str, Header] = {}
    try:
        with open(path, "rb") as file:
            entries = json.loads(file.read())["tensors"]
        found = {name: _whole(entry) for name, entry in entries.items()}
        for name, whole in found.items():
            for piece in whole.pieces.values():
                if piece.file not in checkpoint.files or piece.file in (SHARDS, STRUCTURE):
                    raise ValueError(f"{name!r} lies in {piece.file!r}")
                if piece.file not in headers:
                    headers[piece.file] = read_header(os.path.join(checkpoint.path, piece.file))
                info = headers[piece.file].structure[piece.key]
                if info.shape != piece.sizes or DTYPES[info.dtype] != whole.dtype:
                    raise ValueError(f"{name!r} is not what its file has")
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"{path} is damaged: {type(error).__name__}: {str(error)[:200]}") from None


def _whole(entry: Mapping[str, Any]) -> Whole:
    shape = tuple(int(size) for size in entry["shape"])
    pieces = [
        Piece(str(p["file"]), str(p["key"]), tuple(map(int, p["offsets"])), tuple(map(int, p["sizes"])))
        for p in entry["pieces"]
    ]
    covered = sum(prod(piece.sizes) for piece in pieces)
    inside = all(
        len(p.offsets) == len(p.sizes) == len(shape)
        and all(o >= 0 and n >= 0 and o + n <= size for o, n, size in zip(p.offsets, p.sizes, shape, strict=True))
        for p in pieces
    )
    dtype = getattr(torch, entry["dtype"])
    if not inside or _overlap(pieces) or covered != prod(shape) or not isinstance(dtype, torch.dtype):
        raise ValueError("its pieces do not make up a tensor")
    return Whole(dtype, shape, {piece.offsets: piece for piece in pieces})


def _overlap(pieces: Sequence[Piece]) -> bool:
    """Whether any two boxes share an element."""
    reaching: list[Piece] = []  # those that begin above the box at hand and have not ended there
    for piece in sorted((p for p in pieces if p.sizes and all(p.sizes)), key=lambda p: p.offsets):
        reaching = [p for p in reaching if p.offsets[0] + p.sizes[0] > piece.offsets[0]]
        if any(_meet(other, piece) for other in reaching):
            return True
        reaching.append(piece)
    return False


def _meet(one: Piece, other: Piece) -> bool:
    sides = zip(one.offsets, one.sizes, other.offsets, other.sizes, strict=True)
    return all(a < b + n and b < a + m for a, m, b, n in sides)


def _one_piece_each(file: str, header: Header) -> dict[str, Whole]:
    return {
        name: Whole(
            DTYPES[info.dtype],
            info.shape,
            {(0,) * len(info.shape): Piece(file, name, (0,) * len(info.shape), info.shape)},
        )
        for name, info in header.structure.items()
    }


def _key(item: WriteItem) -> str:
    offset = item.index.offset
    return item.index.fqn if offset is None else f"{item.index.fqn}@{','.join(map(str, offset))}"
