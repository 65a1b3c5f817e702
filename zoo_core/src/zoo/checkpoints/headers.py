"""The header of a safetensors file, checked before anything in it is believed. Needs no torch.

8 bytes: n, little endian | n bytes: JSON, {name: {dtype, shape, data_offsets}} | the tensors' bytes, no gaps
"""

from __future__ import annotations

import os
from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

from zoo.checkpoints import strict_json
from zoo.errors import FormatError

MAX_HEADER = 25_000_000
"""Bytes; the Hub's own limit."""

MAX_RANK = 32
MAX_VALUES = 1 << 62
"""Of a tensor without the dimensions that are 0: its strides are of that size, and torch counts them in 64 bits."""

ALIASES = "zoo.aliases"
"""The metadata key under which tied names are kept: JSON, {name: the name that has the bytes}."""

PEEK = 16_384
"""Bytes that the first look at a remote header fetches; enough for most."""

ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
PACKED = ("F4", "F6_E2M3", "F6_E3M2")
"""Dtypes of the format whose values share bytes; torch computes with none of them."""


class TensorInfo(NamedTuple):
    """A tensor as a header describes it: `dtype` in safetensors' words (`F32`, `BF16`, `I64` …), and its shape."""

    dtype: str
    shape: tuple[int, ...]


class Header(NamedTuple):
    """A checked header.

    tensors: by name. spans: (begin, end) in bytes from `start`, where the tensors' bytes begin in the file.
    metadata: the file's own strings. aliases: names that share another tensor's bytes, as tied weights do.
    """

    tensors: dict[str, TensorInfo]
    spans: dict[str, tuple[int, int]]
    metadata: dict[str, str]
    aliases: dict[str, str]
    start: int

    @property
    def structure(self) -> dict[str, TensorInfo]:
        """Every tensor the file provides, aliases included."""
        return self.tensors | {alias: self.tensors[name] for alias, name in self.aliases.items()}


def read_header(path: str) -> Header:
    """The header of a local file. Raises `FormatError` naming the file and what is wrong with it."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = header_length(file.read(8), size, path)
            return parse_header(file.read(length), size, path)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error


def peek_header(read: Callable[[int, int], tuple[bytes, int | None]], where: str) -> Header:
    """The header of a remote file. `read(begin, end)` gives those bytes and the file's size, where it is known."""
    first, size = read(0, PEEK)
    length = header_length(first[:8], size, where)
    body = first[8 : 8 + length]
    if len(body) < length:
        body += read(8 + len(body), 8 + length)[0]
    return parse_header(body, size, where)


def header_length(prefix: bytes, size: int | None, where: str) -> int:
    """The length that a file's first 8 bytes announce."""
    if len(prefix) < 8:
        raise _fault(where, "shorter than 8 bytes")
    length = int.from_bytes(prefix, "little")
    if length > MAX_HEADER or (size is not None and length > size - 8):
        raise _fault(where, f"its header would have {length} bytes")
    return length


def parse_header(raw: bytes, size: int | None, where: str) -> Header:
    """A header's JSON, checked: types, sizes, and spans that cover the data exactly once.

    Args:
        raw: the JSON. size: of the whole file in bytes; None skips the check against it.

    Raises:
        FormatError: anything else than a sound header.
    """
    try:
        entries = strict_json.loads(raw, MAX_HEADER)
    except ValueError as error:
        raise _fault(where, f"its header cannot be read: {str(error)[:100]}") from None
    if not isinstance(entries, dict):
        raise _fault(where, "its header is not an object")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _fault(where, "its metadata are not strings")
    tensors: dict[str, TensorInfo] = {}
    spans: dict[str, tuple[int, int]] = {}
    for name, entry in entries.items():
        tensors[name], spans[name] = _entry(name, entry, where)
    _check_cover(spans, None if size is None else size - 8 - len(raw), where)
    return Header(tensors, spans, metadata, _aliases(metadata.pop(ALIASES, None), tensors, where), 8 + len(raw))


def _aliases(text: str | None, tensors: dict[str, TensorInfo], where: str) -> dict[str, str]:
    if text is None:
        return {}
    try:
        aliases = strict_json.loads(text.encode("utf-8"), MAX_HEADER)
    except ValueError:
        aliases = None
    if isinstance(aliases, dict) and all(
        k not in tensors and k != "__metadata__" and isinstance(v, str) and v in tensors for k, v in aliases.items()
    ):
        return aliases
    raise _fault(where, "its shared tensors name tensors that are not there")


def _entry(name: str, entry: Any, where: str) -> tuple[TensorInfo, tuple[int, int]]:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _fault(where, f"{name!r} is not described by dtype, shape and data_offsets")
    dtype, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype in PACKED:
        raise FormatError(
            f"{where}: {name!r} has the dtype {dtype}, whose values share bytes, and is not read",
            fix="a file of the same weights in BF16, F16, F32 or F8",
        )
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise _fault(where, f"{name!r} has the unknown dtype {str(dtype)[:20]!r}")
    if not _counts(shape) or len(shape) > MAX_RANK or prod(max(1, extent) for extent in shape) > MAX_VALUES:
        raise _fault(where, f"{name!r} has no sensible shape")
    if not _counts(span) or len(span) != 2 or span[1] - span[0] != prod(shape) * ITEM_BYTES[dtype]:
        raise _fault(where, f"{name!r}: its bytes do not fit its shape")
    return TensorInfo(dtype, tuple(shape)), (span[0], span[1])


def _counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 1 << 48 for v in values)


def _check_cover(spans: dict[str, tuple[int, int]], data_bytes: int | None, where: str) -> None:
    reached = 0
    for name, (begin, end) in sorted(spans.items(), key=lambda item: item[1]):
        if begin != reached:
            raise _fault(where, f"{name!r} {'overlaps another tensor' if begin < reached else 'follows a gap'}")
        reached = end
    if data_bytes is not None and reached != data_bytes:
        raise _fault(where, f"its tensors take {reached} bytes, the file has {data_bytes} for them")


def _fault(where: str, what: str) -> FormatError:
    return FormatError(
        f"{where}: not a sound safetensors file: {what}",
        fix="fetch the file again; if it stays so, it is damaged at its origin",
    )
