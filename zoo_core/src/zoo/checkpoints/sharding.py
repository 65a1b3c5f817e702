"""Checkpoints in several files: an index says which tensor lies in which shard, the shards lie beside it.

    model.safetensors.index.json            {"metadata": {"total_size": 9}, "weight_map": {"a.weight": "model-00001-…"}}
    model-00001-of-00002.safetensors        or pytorch_model-00001-of-00002.bin, named by pytorch_model.bin.index.json
    model-00002-of-00002.safetensors

The layout is the one that transformers and the Hub write. An index comes from anywhere, so it is believed in nothing
but names: a shard is a plain file beside it, and every tensor is in the shard that the index names and in no other.
Needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from zoo.checkpoints import strict_json
from zoo.errors import FormatError

INDEX = ".index.json"
MAX_INDEX = 25_000_000
"""Bytes, as for a safetensors header."""

MAX_SHARDS = 4096
SHARDS = (".safetensors", ".bin", ".pt", ".pth")
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]{0,254}")
_Part = TypeVar("_Part")


class ShardIndex(NamedTuple):
    """A checked index.

    weight_map: tensor → shard, each a plain file name. metadata: what the index says of itself.
    """

    weight_map: dict[str, str]
    metadata: dict[str, Any]

    @property
    def shards(self) -> tuple[str, ...]:
        """The shards' file names, in order."""
        return tuple(sorted(set(self.weight_map.values())))


def is_index(name: str) -> bool:
    """Whether a file of that name is an index of shards."""
    return name.lower().endswith(INDEX)


def read_index(path: str, where: str = "") -> ShardIndex:
    """Read and check an index.

    Args:
        where: its address, for the message.

    Raises:
        FormatError: it cannot be read, is no index, or names anything but plain files beside it.
    """
    where = where or path
    try:
        with open(path, "rb") as file:
            record = strict_json.loads(file.read(MAX_INDEX + 1), MAX_INDEX)
    except OSError as error:
        raise FormatError(f"{where}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise _fault(where, str(error)[:100]) from None
    weight_map = record.get("weight_map") if isinstance(record, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise _fault(where, "it maps no tensors to files")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not _PLAIN.fullmatch(shard) or not shard.lower().endswith(SHARDS):
            raise _fault(where, f"{name[:100]!r} lies in {str(shard)[:100]!r}, which is no weights file beside it")
    metadata = record.get("metadata")
    index = ShardIndex(weight_map, metadata if isinstance(metadata, dict) else {})
    if len(index.shards) > MAX_SHARDS:
        raise _fault(where, f"it names {len(index.shards)} files")
    return index


def beside(source: str, shard: str) -> str:
    """The address of a shard, from the index's own."""
    if source.startswith(("https://", "http://")):
        address, mark, query = source.partition("?")
        return f"{address.rpartition('/')[0]}/{quote(shard)}{mark}{query}"
    return f"{source.rpartition('/')[0]}/{shard}"


def joined(
    index: ShardIndex, parts: Mapping[str, Mapping[str, _Part]], aliases: Mapping[str, Collection[str]], where: str
) -> dict[str, _Part]:
    """The shards' contents as one, held against the index.

    Args:
        parts: by shard, what it holds by tensor name. aliases: by shard, names that share their bytes with another
            name; an index need not name them.

    Raises:
        FormatError: a tensor is not where the index says, is there twice, or nobody names it.
    """
    whole: dict[str, _Part] = {}
    for shard in index.shards:
        for name, part in parts[shard].items():
            said = index.weight_map.get(name)
            if said != shard and not (said is None and name in aliases[shard]):
                where_else = f"says it is in {said}" if said else "does not know it"
                raise _fault(where, f"{shard} holds {name!r}, and the index {where_else}")
            if name in whole:
                raise _fault(where, f"{name!r} is in {shard} and in another file too")
            whole[name] = part
    missing = [name for name in index.weight_map if name not in whole]
    if missing:
        shard = index.weight_map[missing[0]]
        more = f", and {len(missing) - 1} more are not where it says" if len(missing) > 1 else ""
        raise _fault(where, f"{missing[0]!r} is not in {shard}{more}")
    return whole


def _fault(where: str, what: str) -> FormatError:
    return FormatError(
        f"{where}: not a sound index of a checkpoint's files: {what}",
        fix="fetch index and files again, from the same revision; if it stays so, they do not belong together",
    )
