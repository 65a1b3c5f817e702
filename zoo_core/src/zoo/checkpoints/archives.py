"""The zip archives that torch writes, listed without unpacking anything.

Torch stores its records uncompressed, so each is a span of the file and can be mapped. What is compressed, encrypted,
there twice, beyond the file, over another record, or named as no record is, is refused before torch sees it: a record
that unpacks to a thousand times its size, or under another's name, is nobody's checkpoint. Needs no torch.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from zoo.checkpoints.unpickling import Bytes
from zoo.errors import FormatError

MAX_DIRECTORY = 16_000_000
"""Bytes of the archive's own list of records: some 200,000 of them."""

_PART = re.compile(r"(?!\.\.?/)[^/\\\0]{1,255}")  # the root is called as the file was, at noon 12:00 perhaps
_PLAIN = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # 0x1950A86A20F9469CFC6C, as files of torch before 1.6 begin
_END, _END64, _LOCATOR, _ENTRY, _LOCAL = b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\1\2", b"PK\3\4"


class Span(NamedTuple):
    """A record's bytes in the file. plain: neither compressed nor encrypted."""

    begin: int
    size: int
    plain: bool


class Archive(NamedTuple):
    """A torch archive: its root folder's name, and its records by their name below it."""

    root: str
    spans: dict[str, Span]

    @property
    def scripted(self) -> bool:
        """Whether it is a TorchScript program, with code of its own."""
        return "constants.pkl" in self.spans


def is_archive(data: Bytes) -> bool:
    """Whether the file begins as torch's archives do."""
    return data[:4] == _LOCAL


def is_torch_file(path: str) -> bool:
    """Whether a file of any name is one that torch wrote: an archive with a `data.pkl`, or begun by torch's number."""
    try:
        with open(path, "rb") as file:
            if _PLAIN in file.read(20):
                return True
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return is_archive(data) and bool(list_archive(data, path))
    except (OSError, ValueError, FormatError):  # mmap refuses an empty file by ValueError
        return False


def list_archive(data: Bytes, where: str) -> Archive:
    """The records of a torch archive. Raises `FormatError` for one that torch would not have written."""
    try:
        named = dict[str, Span]()
        for name, span in _entries(data):
            if name in named:
                raise ValueError(f"{name[:100]!r} is there twice")
            named[name] = span
    except (ValueError, struct.error, UnicodeDecodeError) as error:
        raise _fault(where, str(error)) from None
    roots = [name.removesuffix("/data.pkl") for name in named if name.endswith("/data.pkl")]
    roots = [root for root in roots if "/" not in root]
    if len(roots) != 1:
        raise _fault(where, "it has no data.pkl")
    root = roots[0] + "/"
    archive = Archive(roots[0], {name.removeprefix(root): span for name, span in named.items()})
    if not all(name.startswith(root) for name in named):
        raise _fault(where, "it has records outside its folder")
    for name, span in archive.spans.items():
        if not span.plain and not (archive.scripted and name.startswith(("code/", "extra/"))):
            raise _fault(where, f"{name[:100]!r} is compressed or encrypted")
    return archive


def _entries(data: Bytes) -> Iterator[tuple[str, Span]]:
    at, size, count = _directory(data)
    listed = data[at : at + size]
    here = 0
    taken: list[tuple[int, int]] = []
    for _ in range(count):
        if listed[here : here + 4] != _ENTRY:
            raise ValueError("its list of records is damaged")
        flags, method = struct.unpack_from("<HH", listed, here + 8)
        packed, unpacked, name_size, extra_size, note_size = struct.unpack_from("<IIHHH", listed, here + 20)
        (local,) = struct.unpack_from("<I", listed, here + 42)
        begin = here + 46
        raw = listed[begin : begin + name_size]
        name = raw.decode("utf-8")
        extra = listed[begin + name_size : begin + name_size + extra_size]
        unpacked, packed, local = _widened(extra, (unpacked, packed, local))
        here = begin + name_size + extra_size + note_size
        if len(name) > 1000 or not all(_PART.fullmatch(part) and part not in (".", "..") for part in name.split("/")):
            raise ValueError(f"{name[:100]!r} cannot name a record")
        first = _data(data, local, raw, packed, at)
        taken.append((local, first + packed))
        yield name, Span(first, packed, not method and not flags & 1 and packed == unpacked)
    taken.sort()
    if any(end > following for (_, end), (following, _) in pairwise(taken)):
        raise ValueError("two records share bytes")  # so that a small file would unpack to a large one


def _data(data: Bytes, local: int, name: bytes, size: int, end: int) -> int:
    """Where a record's bytes begin, which its own header tells."""
    header = data[local : local + 30]
    if header[:4] != _LOCAL:
        raise ValueError("a record is not where the list says")
    name_size, extra_size = struct.unpack_from("<HH", header, 26)
    if data[local + 30 : local + 30 + name_size] != name:
        raise ValueError("a record has another name than the list says")
    begin: int = local + 30 + name_size + extra_size
    if begin + size > end:
        raise ValueError("a record is longer than the file")
    return begin


def _directory(data: Bytes) -> tuple[int, int, int]:
    """(offset, bytes, entries) of the list of records."""
    tail_at = max(0, len(data) - 65_557)
    tail = data[tail_at : len(data)]
    found = tail.rfind(_END, 0, len(tail) - 18)
    if found < 0:
        raise ValueError("its end is missing")
    count, size, at = struct.unpack_from("<HII", tail, found + 10)
    if count == 0xFFFF or 0xFFFFFFFF in (size, at):
        locator = data[max(0, tail_at + found - 20) : tail_at + found]
        if locator[:4] != _LOCATOR:
            raise ValueError("its end is damaged")
        (wide,) = struct.unpack_from("<Q", locator, 8)
        record = data[wide : wide + 56]
        if record[:4] != _END64:
            raise ValueError("its end is damaged")
        count, size, at = struct.unpack_from("<QQQ", record, 32)
    if size > MAX_DIRECTORY or count * 46 > size or at + size > len(data):
        raise ValueError(f"its list of records would have {size} bytes for {count}")
    return at, size, count


def _widened(extra: bytes, values: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes and offset, those that do not fit 32 bits from the extra field that has them."""
    if 0xFFFFFFFF not in values:
        return values
    here = 0
    while here + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, here)
        if kind == 1:
            wide = iter(struct.unpack_from(f"<{size // 8}Q", extra, here + 4))
            return tuple(next(wide, value) if value == 0xFFFFFFFF else value for value in values)
        here += 4 + size
    raise ValueError("a record's size is missing")


def _fault(where: str, what: str) -> FormatError:
    return FormatError(
        f"{where}: not a sound torch file: {what}",
        fix="fetch the file again; if it stays so, it is damaged at its origin",
    )
