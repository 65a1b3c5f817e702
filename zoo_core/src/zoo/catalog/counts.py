"""Parameter counts as people write them: `25M`, `1.5B`."""

from __future__ import annotations

from zoo.errors import OptionError

_UNITS = (("B", 1e9), ("M", 1e6), ("k", 1e3))


def parse_count(count: float | str) -> int:
    """`"25M"`, `25e6` and `25_000_000` are the same. Raises `OptionError`."""
    text = str(count).strip().replace("_", "").replace(",", "")
    unit = {"b": 1e9, "g": 1e9, "m": 1e6, "k": 1e3}.get(text[-1:].lower(), 1)
    try:
        number = float(text if unit == 1 else text[:-1]) * unit
    except ValueError:
        number = -1.0
    if isinstance(count, bool) or not 0 <= number < 1e15:
        raise OptionError("a number of parameters is a number, or a text such as 25M", asked=repr(count), fix='"25M"')
    return round(number)


def shown_count(params: int | None) -> str:
    """25557032 → `25.6M`; `-` where nobody has counted."""
    if params is None:
        return "-"
    for unit, size in _UNITS:
        if params >= size * 0.9995:
            return f"{params / size:.1f}{unit}"
    return str(params)
