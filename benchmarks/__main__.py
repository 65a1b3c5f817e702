"""`python -m benchmarks [PART…] [--quick] [--write]`: measure, print, and with --write keep in docs/benchmarks.md."""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

from benchmarks.checkpointing import checkpointing
from benchmarks.creating import creating
from benchmarks.detection import detection
from benchmarks.inference import inference
from benchmarks.listing import against_peers, at_scale
from benchmarks.measuring import Table, machine
from benchmarks.storing import registry, storing

PARTS = {
    "import": lambda quick: [against_peers(quick)],
    "scale": lambda quick: [at_scale(quick)],
    "create": creating,
    "store": storing,
    "checkpoints": checkpointing,
    "registry": registry,
    "detection": detection,
    "inference": lambda quick: [inference(quick)],
}
REPORT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
INTRODUCTION = """# Measurements

`python -m benchmarks [PART…] --write` wrote this page, each table when and where it says; `--quick` gives a rough idea
in a few minutes. All sides take turns in one run on one machine, so read the ratios: the seconds are
that machine's, on that day. Nothing here is asserted by a test, because timings of a shared machine are not facts about
the code.
"""


def main() -> None:
    """Read the command line, measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure, and print ratios.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="few rounds: a rough idea")
    parser.add_argument("--write", action="store_true", help=f"keep the result in {REPORT.parent.name}/{REPORT.name}")
    arguments = parser.parse_args()
    parts = arguments.parts or list(PARTS)
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    tables: list[Table] = []
    about = f"{datetime.date.today().isoformat()} · {machine()}" + (" A quick run." if arguments.quick else "")
    print(about)
    for part in parts:
        for table in PARTS[part](arguments.quick):
            tables.append(table)
            print(f"\n{table.text()}", flush=True)
    if arguments.write:
        _write(tables, about)


def _write(tables: list[Table], about: str) -> None:
    """Put tables in the place of those of the same title; the others stay, with the day they are of."""
    kept = REPORT.read_text(encoding="utf-8").split("\n## ")[1:]
    sections = {section.partition("\n")[0]: section.rstrip("\n") for section in kept}
    for table in tables:
        heading, _, rest = table.markdown().removeprefix("## ").partition("\n\n")
        sections[heading] = f"{heading}\n\n{about}\n\n{rest}".rstrip("\n")
    text = INTRODUCTION + "".join(f"\n## {section}\n" for section in sections.values())
    REPORT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
