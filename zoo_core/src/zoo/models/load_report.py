"""LoadReport: what loading weights did to every tensor, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """One load, tensor by tensor, in the model's key names unless said otherwise.

    inside: under which keys of the file the tensors lay, such as `model_ema`, with dots between. prefix: what every
    name in the file began with and the model's do not, such as `module.`; it was left out.

    loaded: taken from the file as they are. adapted: taken, but changed on the way, with how (resized positions,
    another number of input channels). reinitialised: fresh random values, with why. kept: not in the file and left
    as the model computed them (counters and index tables). skipped: in the file, deliberately not used, with why
    (published names). unexpected: in the file, unknown to the model (published names). missing: in the model, not in
    the file. mismatched: another shape in the file than in the model, or values that are none of its kind.
    """

    source: str = ""
    format: str = "native"
    inside: str = ""
    prefix: str = ""
    loaded: tuple[str, ...] = ()
    adapted: Mapping[str, str] = field(default_factory=dict)
    reinitialised: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    unexpected: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    mismatched: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every tensor on both sides is accounted for."""
        return not (self.unexpected or self.missing or self.mismatched)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            name: dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
        } | {"ok": self.ok}

    def __str__(self) -> str:
        where = f"{self.source} ({self.format})" + (f", taken from {self.inside!r} in it" if self.inside else "")
        lines = [f"{len(self.loaded)} tensors loaded from {where}"]
        if self.prefix:
            lines.append(f"  {self.prefix!r} left out of every name")
        for name in ("adapted", "reinitialised", "kept", "skipped", "mismatched", "missing", "unexpected"):
            keys = getattr(self, name)
            if not keys:
                continue
            shown = [f"{k} ({keys[k]})" if isinstance(keys, Mapping) and keys[k] else k for k in list(keys)[:6]]
            more = f", … {len(keys) - 6} more" if len(keys) > 6 else ""
            lines.append(f"  {name} {len(keys)}: " + ", ".join(shown) + more)
        return "\n".join(lines)


class Reporting(Protocol):
    """A part that knows what loading did to it."""

    load_report: LoadReport | None


def report_of_parts(names: Iterable[str], parts: Mapping[str, Reporting]) -> LoadReport | None:
    """One report for a model whose parts came with weights of their own; None where none of them did.

    Args:
        names: of all tensors of the model.
        parts: by the name that their tensors' names begin with.
    """
    reports = {name: part.load_report for name, part in parts.items() if part.load_report is not None}
    if not reports:
        return None
    loaded = tuple(f"{part}.{name}" for part, report in reports.items() for name in report.loaded)
    adapted = {f"{part}.{n}": how for part, report in reports.items() for n, how in report.adapted.items()}
    kept = tuple(f"{part}.{name}" for part, report in reports.items() for name in report.kept)
    skipped = {name: why for report in reports.values() for name, why in report.skipped.items()}
    fresh = {f"{part}.{n}": why for part, report in reports.items() for n, why in report.reinitialised.items()}
    there = {*loaded, *adapted, *kept, *fresh}
    return LoadReport(
        source=", ".join(report.source for report in reports.values()),
        format=", ".join(dict.fromkeys(report.format for report in reports.values())),
        loaded=loaded,
        adapted=adapted,
        kept=kept,
        skipped=skipped,
        reinitialised=fresh | {n: f"{n.partition('.')[0]} has no weights of its own" for n in names if n not in there},
        unexpected=tuple(name for report in reports.values() for name in report.unexpected),
    )
