"""JSON that somebody else wrote: one meaning, or none.

Python's own reader takes the last of two equal names, `NaN`, `1e999` as infinity, and text that is no Unicode; others
read the same bytes in another way, or cannot write again what was read. All of that is refused here.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

DEEPEST = 64
"""Objects and lists within each other; more would exhaust the stack of whoever walks through them."""


def loads(raw: bytes, limit: int) -> Any:
    """The value in at most `limit` bytes of UTF-8.

    Raises:
        ValueError: what is wrong, in one line: too long, nested too deep, no JSON, a name that stands twice in one
            object, a number that is not finite, or text that is no Unicode.
    """
    if len(raw) > limit:
        raise ValueError(f"it is larger than {limit:,} bytes")
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_constant, parse_float=_finite
        )
    except RecursionError:
        raise _too_deep() from None
    _check_depth(value)
    if b"\\ud" in raw.lower():  # JSON can spell half a character, which could not even be printed
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the name {twice[:60]!r} stands twice in one object")
    return found


def _constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:30]} is no finite number")
    return value


def _check_depth(value: Any) -> None:
    """One layer after the other: this must not need the stack itself."""
    layer = [part for part in (value,) if isinstance(part, dict | list)]
    for _ in range(DEEPEST):
        if not layer:
            return
        parts = (part for one in layer for part in (one.values() if isinstance(one, dict) else one))
        layer = [part for part in parts if isinstance(part, dict | list)]
    if layer:
        raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError("it is nested too deep")
