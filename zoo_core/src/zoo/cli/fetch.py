"""`zoo fetch REF…`: models' files into the store, and into a folder to carry elsewhere."""

from __future__ import annotations

from zoo.cli.arguments import Arguments, Command, Option
from zoo.cli.terminal import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zoo.build.gathering import Gathered
    from zoo.checkpoints.bundles import BundledFile
    from zoo.checkpoints.store import Store

LICENSE = Option("--allow-license", "accept weights under this licence; '*' accepts any", value="SPDX", repeat=True)
JSON = Option("--json", "one JSON object for machines")
COMMAND = Command(
    "fetch",
    operands=("REF…",),
    options=(Option("--output", "also copy them into this new folder", value="DIR", short="-o"), LICENSE, JSON),
    notes=(
        "A REF is a model with published weights, hf://ORG/REPO of a saved model, or the address of a weights file. "
        "What is here already is not fetched; what was broken off goes on where it stopped.",
        "On a machine without network, zoo cache add DIR takes the folder into its store.",
    ),
    examples=(
        ("zoo fetch mobilenetv2", "so that it can be used without network"),
        ("zoo fetch mobilenetv2 resnet50.a1_in1k -o models", "and copy the files into a folder"),
    ),
)


def run(arguments: Arguments) -> int:
    """Fetch, and copy where asked."""
    from zoo.checkpoints.bundles import write_folder
    from zoo.checkpoints.store import Store

    store, folder = Store(), arguments.text("output")
    gathered = gather_all(arguments, store)
    if folder is not None:
        write_folder(folder, arguments.operands, described(gathered), store)
    tell(gathered, folder, as_json=arguments.flag("json"))
    return 0


def gather_all(arguments: Arguments, store: Store) -> list[Gathered]:
    """Every file of every model that a command line names."""
    from zoo.build.gathering import gather
    from zoo.checkpoints.delivery import watched_by
    from zoo.cli.progress import Progress

    with Progress("fetching") as progress:

        def watch(name: str) -> Callable[[int, int | None], None]:
            progress.step(f"fetching {name}", unit="B")
            return progress.advance

        allowed = arguments.texts("allow-license") or None
        with watched_by(watch):
            return [file for ref in arguments.operands for file in gather(ref, store, allow_licenses=allowed)]


def described(gathered: Sequence[Gathered]) -> list[BundledFile]:
    """The files as a bundle describes them."""
    from zoo.checkpoints.bundles import bundled

    return [bundled(file.sources, file.fetched) for file in gathered]


def tell(gathered: Sequence[Gathered], output: str | None, *, as_json: bool) -> None:
    """Say what is where."""
    import os

    told = [
        {
            "ref": file.ref,
            "source": file.fetched.source,
            "sha256": file.fetched.sha256,
            "size": os.path.getsize(file.fetched.path),
            "path": file.fetched.path,
            "pinned": file.fetched.pinned,
            "fetched": file.new,
        }
        for file in gathered
    ]
    if as_json:
        import json

        print(json.dumps({"files": told, "output": output}, indent=2, ensure_ascii=False))
        return
    for entry in told:
        what = "fetched" if entry["fetched"] else "here"
        print(clean(f"{entry['ref']}: {what}, {entry['source']}, {entry['size']:,} bytes"))
    if output is not None:
        print(clean(f"{output}: on a machine without network, zoo cache add {output}"))
