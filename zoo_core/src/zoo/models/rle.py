"""COCO's run-length code of masks, written and read without pycocotools.

A mask (H, W) is read column by column: how many zeros, how many ones, how many zeros … These counts are written as
text, from the fourth on as the difference to the last but one, each in groups of five bits, the lowest first: a sixth
bit says that more follow, and 48 is added so that every group is a printable letter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.errors import FormatError

LARGEST_MASK = 1 << 30
"""Pixels above which a code is not believed."""


def encode_rle(mask: Tensor) -> dict[str, Any]:
    """A mask (H, W) bool → `size` [H, W] and `counts`, the compressed text, as pycocotools writes them."""
    columns = mask.cpu().numpy().T.reshape(-1)  # by columns
    changes = np.flatnonzero(np.diff(columns)) + 1
    edges = [0, *changes.tolist(), len(columns)]
    counts = [after - before for before, after in pairwise(edges)] if len(columns) else []
    if len(columns) and columns[0]:
        counts.insert(0, 0)  # the first count is one of zeros
    return {"size": list(mask.shape), "counts": _written(counts)}


def decode_rle(code: Mapping[str, Any]) -> Tensor:
    """`size` and `counts`, compressed or a list of numbers → the mask (H, W) bool.

    Raises:
        FormatError: no such code, or one whose counts do not make `size`.
    """
    size, counts = code.get("size"), code.get("counts")
    if not (isinstance(size, list | tuple) and len(size) == 2 and all(type(n) is int and n >= 0 for n in size)):
        raise FormatError("a run-length code has a `size` [height, width]", found=repr(size)[:100])
    if isinstance(counts, str | bytes):
        counts = _read(counts.encode("latin-1", "replace") if isinstance(counts, str) else counts)
    if not isinstance(counts, Sequence) or not all(type(n) is int and n >= 0 for n in counts):
        raise FormatError("the `counts` of a run-length code are text or whole numbers", found=repr(counts)[:100])
    pixels = size[0] * size[1]
    if sum(counts) != pixels or pixels > LARGEST_MASK:
        raise FormatError(f"a run-length code of {sum(counts)} pixels is no mask of {size[0]} x {size[1]}")
    ones = np.arange(len(counts)) % 2 == 1
    return torch.from_numpy(np.repeat(ones, np.array(counts, dtype=np.int64)).reshape(size[1], size[0]).T.copy())


def _written(counts: list[int]) -> str:
    letters = bytearray()
    for place, count in enumerate(counts):
        rest = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            five, rest = rest & 0x1F, rest >> 5
            more = rest != (-1 if five & 0x10 else 0)  # what is left is more than the sign
            letters.append((five | 0x20 if more else five) + 48)
    return letters.decode("ascii")


def _read(text: bytes) -> list[int]:
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        group = letter - 48
        if not 0 <= group < 64 or shift > 40:
            raise FormatError("the `counts` of a run-length code are damaged", found=repr(text[:40]))
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise FormatError("the `counts` of a run-length code end too early", found=repr(text[-40:]))
    return counts
