"""`zoo doctor`: is this installation well, and if not, what mends it."""

from __future__ import annotations

from typing import Any

from zoo.cli.arguments import Arguments, Command, Option
from zoo.cli.progress import Progress
from zoo.cli.terminal import clean, styled, wrapped
from zoo.errors import NotFoundError
from zoo.plugin.discovery import discover
from zoo.plugin.doctor import Diagnosis, examine

COMMAND = Command(
    "doctor",
    operands=("PLUGIN?",),
    options=(Option("--json", "one JSON list for machines"),),
    notes=(
        "Every plugin is imported and its smallest models built in a process of its own, so that one that raises, "
        "exits or never comes back harms nothing. The exit code is 1 if one is not well.",
    ),
    examples=(("zoo doctor", "examine all of them"), ("zoo doctor acme", "examine one")),
)


def run(arguments: Arguments) -> int:
    """Examine all plugins, or one."""
    plugins = discover().plugins
    if arguments.operands:
        wanted = arguments.operands[0]
        known = [record.namespace for record, _ in plugins]
        plugins = [(record, spec) for record, spec in plugins if wanted in (record.namespace, record.distribution)]
        if not plugins:
            raise NotFoundError(f"no plugin {wanted!r} is installed", found=", ".join(known), fix="zoo plugins")
    as_json = arguments.flag("json")
    found: list[Diagnosis] = []
    with Progress("examining") as progress:
        for record, spec in plugins:
            progress.step(f"examining {clean(record.namespace)}")
            found.append(examine(record, spec))
            if not as_json:
                with progress.aside():
                    _print(found[-1])
    if as_json:
        import json

        print(json.dumps([_as_json(diagnosis) for diagnosis in found], indent=2, ensure_ascii=False))
    return int(any(diagnosis.record.state not in ("ok", "disabled") for diagnosis in found))


def _as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    return {**diagnosis.record._asdict(), "tried": diagnosis.tried}


def _print(diagnosis: Diagnosis) -> None:
    record = diagnosis.record
    colour = {"ok": "green", "disabled": "yellow"}.get(record.state, "red")
    about = f"{record.distribution} {record.version}"
    if record.state == "ok":
        about += f", {diagnosis.tried} class{'es' if diagnosis.tried != 1 else ''} built"
    print(f"{styled(clean(record.namespace), 'bold')}: {styled(record.state, colour)}  ({clean(about)})")
    if record.state != "ok":
        print(wrapped(record.reason, "  "))
        if record.fix:
            print(f"  {styled('try:', 'green')} {clean(record.fix)}")
        print(styled(f"  in   {clean(record.manifest or record.location)}", "dim"))
