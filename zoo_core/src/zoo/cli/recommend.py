"""`zoo recommend`: which model suits, and why."""

from __future__ import annotations

import sys

from zoo.catalog.recommend import Recommendations, recommend
from zoo.cli.arguments import Arguments, Command, Option
from zoo.cli.terminal import clean, styled, wrapped

COMMAND = Command(
    "recommend",
    options=(
        Option("--task", "what it is for (classification)", value="TASK"),
        Option("--constraint", "what counts most: accuracy, speed, memory, balanced (the default)", value="WORD"),
        Option("--data", "your labelled images: a number, or none, small, large", value="COUNT"),
        Option("--max-params", "no larger than this: 5000000, 25M", value="COUNT"),
        Option("--max-macs", "no more multiply-accumulates an image than this: 500M, 5G", value="COUNT"),
        Option("--license", "weights under a licence: an SPDX id, or permissive, copyleft …", value="LICENCE"),
        Option("--installed", "only what can be created now"),
        Option("--limit", "how many answers (5)", value="N"),
        Option("--json", "one JSON object for machines"),
    ),
    notes=(
        "Chosen from what the catalogue states: nothing is run, nothing is fetched. One answer a family; what nobody "
        "states is never preferred.",
        "The exit code is 1 if nothing fits.",
    ),
    examples=(
        ("zoo recommend --constraint speed --max-params 6M", "for a small machine"),
        ("zoo recommend --data 500 --license permissive", "to be taught with 500 labelled images"),
    ),
)


def run(arguments: Arguments) -> int:
    """Print the answers with their reasons."""
    found = recommend(
        arguments.text("task") or "classification",
        arguments.text("constraint") or "balanced",
        data=arguments.text("data"),
        max_params=arguments.text("max-params"),
        max_macs=arguments.text("max-macs"),
        license=arguments.text("license"),
        installed=arguments.flag("installed"),
        limit=arguments.number("limit", 5),
    )
    if arguments.flag("json"):
        import json

        print(json.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        _print(found)
    return 0 if found else 1


def _print(found: Recommendations) -> None:
    for answer in found:
        print(styled(clean(answer.ref), "bold"))
        print(wrapped(answer.reason, "  "))
        if answer.install:
            print(f"  {styled('first:', 'green')} {clean(answer.install)}")
        print()
    print(wrapped(found.explanation), file=sys.stdout if found else sys.stderr)
