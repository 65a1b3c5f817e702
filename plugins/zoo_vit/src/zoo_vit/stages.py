"""What configs of families with four stages have in common: a number for each stage, fine to coarse."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Count = Annotated[int, Field(ge=1, le=1024)]
Width = Annotated[int, Field(ge=1, le=65536)]

Counts = tuple[Count, Count, Count, Count]
Widths = tuple[Width, Width, Width, Width]
