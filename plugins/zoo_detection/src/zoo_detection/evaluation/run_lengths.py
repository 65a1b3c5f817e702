"""COCO's run lengths: a mask as the lengths of its runs, down the columns, the first one of background.

Uncompressed they are numbers; compressed, as pycocotools writes them, a string: each number as the difference to the
last but one (from the fourth on), in groups of five bits, low ones first, as characters from '0', the sixth bit saying
that more follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    import numpy as np


def encode_masks(masks: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    """Masks (N, H, W) bool → N run lengths, compressed, as pycocotools writes them."""
    import numpy as np

    if not len(masks):
        return []
    codec = codec_of_masks()
    runs: list[dict[str, Any]] = codec.encode(np.asfortranarray(masks.transpose(1, 2, 0), dtype=np.uint8))
    return runs


def codec_of_masks() -> Any:
    """faster-coco-eval's masks. Raises `MissingDependencyError` where it is not installed."""
    try:
        from faster_coco_eval.core import mask
    except ImportError:
        raise no_faster_coco_eval() from None
    return mask


def no_faster_coco_eval() -> MissingDependencyError:
    """What to type where the library that measures is not there."""
    return MissingDependencyError(
        "COCO's measure needs faster-coco-eval",
        asked="import faster_coco_eval",
        fix='pip install "zoo-detection[eval]"',
    )


def counts_of(text: str) -> list[int]:
    """The numbers in a compressed string. Raises `InputError` for what is none."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 50:
            raise InputError("not run lengths as pycocotools compresses them", found=repr(text[:40]))
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:  # the highest bit of the last group is the sign
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise InputError("run lengths that end within a number", found=repr(text[-40:]))
    return counts


def check_counts(counts: Sequence[int], size: tuple[int, int]) -> None:
    """Raise `InputError` unless the runs fill an image of (H, W)."""
    if any(count < 0 for count in counts) or sum(counts) != size[0] * size[1]:
        raise InputError(
            "the run lengths of its outline do not fill the image",
            found=f"{sum(counts)} pixels, {size[0]} x {size[1]}",
        )
