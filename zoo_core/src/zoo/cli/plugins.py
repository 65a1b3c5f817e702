"""`zoo plugins`: which plugins there are, and how they are."""

from __future__ import annotations

from zoo.catalog import open_catalog
from zoo.cli.arguments import Arguments, Command, Option
from zoo.cli.terminal import styled, table, wrapped

COMMAND = Command(
    "plugins",
    options=(Option("--json", "one JSON list for machines"),),
    notes=(
        "A plugin that cannot be used is set aside with the reason; everything else works without it. zoo doctor "
        "tries the others too.",
    ),
)


def run(arguments: Arguments) -> int:
    """List every plugin with its state."""
    records = open_catalog().plugins()
    if arguments.flag("json"):
        import json

        print(json.dumps([record._asdict() for record in records], indent=2, ensure_ascii=False))
        return 0
    rows = [("PLUGIN", "PACKAGE", "VERSION", "STATE")]
    rows += [(record.namespace, record.distribution, record.version, record.state) for record in records]
    table(rows)
    for record in records:
        if record.state != "ok":
            print(f"\n{styled(record.namespace, 'bold')}: {record.state}")
            print(wrapped(record.reason, "  "))
            if record.fix:
                print(f"  {styled('try:', 'green')} {record.fix}")
    return 0
