"""`zoo bundle REF… -o FILE.zip`: everything that models need, in one file for a machine without network."""

from __future__ import annotations

from zoo.cli.arguments import Arguments, Command, Option, UsageError
from zoo.cli.fetch import JSON, LICENSE, described, gather_all, tell

COMMAND = Command(
    "bundle",
    operands=("REF…",),
    options=(Option("--output", "the zip to write", value="FILE.zip", short="-o"), LICENSE, JSON),
    notes=(
        "REF is as for zoo fetch. The zip holds each file once, uncompressed, and the same models give the same bytes.",
        "On a machine without network, zoo cache add FILE.zip takes it into its store, verified. The plugins that know "
        "the models have to be installed there too.",
    ),
    examples=(("zoo bundle mobilenetv2 resnet50.a1_in1k -o models.zip", "two models in one file"),),
)


def run(arguments: Arguments) -> int:
    """Fetch what is not here, and write the bundle."""
    from zoo.checkpoints.bundles import write_zip
    from zoo.checkpoints.store import Store

    path = arguments.text("output")
    if path is None:
        raise UsageError("zoo bundle needs the file to write", fix="zoo bundle REF -o FILE.zip")
    store = Store()
    gathered = gather_all(arguments, store)
    write_zip(path, arguments.operands, described(gathered), store)
    tell(gathered, path, as_json=arguments.flag("json"))
    return 0
