"""`zoo list [PATTERN]`: the models there are, installed or not."""

from __future__ import annotations

import sys

from zoo.catalog.catalog import Catalog, open_catalog
from zoo.catalog.lines import heading
from zoo.catalog.listing import Wanted
from zoo.cli.arguments import Arguments, Command, Option
from zoo.cli.terminal import is_terminal, styled, table, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.catalog import ModelRow

COMMAND = Command(
    "list",
    operands=("PATTERN?",),
    options=(
        Option("--task", "what they do: classification, detection …", value="TASK"),
        Option("--plugin", "of one plugin: cnn, timm …", value="PLUGIN"),
        Option("--license", "weights under a licence: an SPDX id, or permissive, copyleft …", value="LICENCE"),
        Option("--max-params", "no larger than this: 5000000, 25M, 1.5B", value="COUNT"),
        Option("--tag", "with a tag", value="TAG"),
        Option("--installed", "only what can be created now"),
        Option("--json", "one JSON list for machines"),
    ),
    notes=(
        "A PATTERN is matched with the whole name; * stands for anything, ? for one letter. Quote it.",
        "The exit code is 1 if nothing matches.",
    ),
    examples=(
        ('zoo list "*resnet*"', "every ResNet"),
        ("zoo list --max-params 6M --license permissive", "small ones, free to use"),
        ("zoo list --plugin timm --json", "names and facts for another program"),
    ),
)

AND_MORE = {"detection": ("instance_segmentation", "keypoints")}
"""Tasks whose models do what another task's do, and more: a person who looks for the one may mean those, too."""


def run(arguments: Arguments) -> int:
    """Print what matches."""
    pattern = arguments.operands[0] if arguments.operands else "*"
    catalog = open_catalog()
    code, task = _listed(catalog, pattern, arguments), arguments.text("task") or ""
    if task in AND_MORE and not arguments.flag("json"):
        more = " and ".join(f"--task {one}" for one in AND_MORE[task] if _lines(catalog, pattern, arguments, one))
        if more:
            print(styled(f"note: {more}: models that do {task} and more", "dim", sys.stderr), file=sys.stderr)
    return code


def _listed(catalog: Catalog, pattern: str, arguments: Arguments) -> int:
    if arguments.flag("json") or is_terminal(sys.stdout):
        return _rows(catalog, pattern, arguments)
    pieces = _lines(catalog, pattern, arguments, arguments.text("task"))
    if not pieces:
        return _rows(catalog, pattern, arguments)  # asks again, to say why there is nothing
    print(heading())
    for piece in pieces:
        print(piece, end="")
    return 0


def _lines(catalog: Catalog, pattern: str, arguments: Arguments, task: str | None) -> list[str]:
    return catalog.listing(
        Wanted(
            pattern,
            task=task,
            plugin=arguments.text("plugin"),
            license=arguments.text("license"),
            max_params=arguments.text("max-params"),
            tag=arguments.text("tag"),
            installed=True if arguments.flag("installed") else None,
        )
    )


def _rows(catalog: Catalog, pattern: str, arguments: Arguments) -> int:
    """As JSON, or fitted to a terminal."""
    rows = catalog.list_models(
        pattern,
        task=arguments.text("task"),
        plugin=arguments.text("plugin"),
        license=arguments.text("license"),
        max_params=arguments.text("max-params"),
        tag=arguments.text("tag"),
        installed=True if arguments.flag("installed") else None,
    )
    if arguments.flag("json"):
        import json

        print(json.dumps([row._asdict() for row in rows], indent=2, ensure_ascii=False))
    elif rows:
        _print(rows)
    else:
        print(_nothing(catalog, pattern), file=sys.stderr)
    return 0 if rows else 1


def _print(rows: Sequence[ModelRow]) -> None:
    from zoo.catalog.counts import shown_count

    shown = [("MODEL", "TASK", "PARAMS", "LICENCE", "WEIGHTS", "STATUS")]
    for row in rows:
        weights = str(row.checkpoints or "-")
        shown.append((row.ref, row.task, shown_count(row.params), row.license, weights, row.status))
    kept = _fitting([max(map(len, column)) for column in zip(*shown, strict=True)])
    right = [place for place, column in enumerate(kept) if shown[0][column] in ("PARAMS", "WEIGHTS")]
    table([[row[column] for column in kept] for row in shown], right=right)
    absent = sum(row.status == "available" for row in rows)
    if absent:
        print(styled(f"\n{absent} of {len(rows)} are not installed; zoo info MODEL says how to get one", "dim"))


def _fitting(widths: Sequence[int]) -> list[int]:
    """The columns the terminal has room for: the task goes first, then the weights, the licence, the size."""
    kept, room = [*range(len(widths))], width(sys.stdout) or 0
    for column in (1, 4, 3, 2):
        if sum(widths[i] + 2 for i in kept) - 2 > room:
            kept.remove(column)
    return kept


def _nothing(catalog: Catalog, pattern: str) -> str:
    if pattern == "*":
        return "no model matches all of that; zoo list shows every model, zoo plugins where they come from"
    near = catalog.suggest(pattern.strip("*?"))
    return f"no model matches {pattern!r}; " + (f"near it: {', '.join(near)}" if near else "zoo list shows all of them")
