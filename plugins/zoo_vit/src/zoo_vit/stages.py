"""What configs of families in stages have in common: a number for each stage, fine to coarse, and blocks by number."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from zoo.errors import OptionError

Count = Annotated[int, Field(ge=1, le=1024)]
Width = Annotated[int, Field(ge=1, le=65536)]

Counts = tuple[Count, Count, Count, Count]
Widths = tuple[Width, Width, Width, Width]


def check_global_blocks(numbers: tuple[int, ...], depth: int) -> None:
    """Raises `OptionError` where a block is to attend globally that a trunk of `depth` blocks does not have."""
    missing = [number for number in numbers if number >= depth]
    if missing:
        raise OptionError(
            f"{depth} blocks are counted from 0 to {depth - 1}: there is no block {missing[0]}",
            asked=f"global_blocks={numbers}",
            fix=f"global_blocks=({depth - 1},)",
        )
