"""`zoo pull --lock [FILE]`: the very files that a lock names, from any of their sources, into the store."""

from __future__ import annotations

from zoo.cli.arguments import Arguments, Command, Option, UsageError
from zoo.cli.terminal import clean, styled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from zoo.checkpoints.lock import LockedFile, LockedModel
    from zoo.checkpoints.store import Store
    from zoo.errors import ZooError

COMMAND = Command(
    "pull",
    operands=("FILE?",),
    options=(
        Option("--lock", "fetch what a lock file names: FILE, that of ZOO_LOCK, or zoo.lock"),
        Option("--json", "one JSON object for machines"),
    ),
    notes=(
        "Every file is verified against the lock's digest, whoever delivers it. What is here already is not fetched; "
        "what was broken off goes on where it stopped. No plugin need be installed.",
        "The exit code is 1 if anything is missing in the end.",
    ),
    examples=(
        ("zoo pull --lock", "what zoo.lock names"),
        ("zoo pull --lock deploy/zoo.lock", "another lock file"),
    ),
)


def run(arguments: Arguments) -> int:
    """Fetch every locked file that is not here."""
    from zoo.checkpoints.delivery import watched_by
    from zoo.checkpoints.lock import chosen_path, read, set_aside
    from zoo.checkpoints.store import Store
    from zoo.cli.progress import Progress

    given = arguments.operands[0] if arguments.operands else None
    if not arguments.flag("lock"):
        raise UsageError("zoo pull fetches what a lock file names", fix=f"zoo pull --lock {given or ''}".strip())
    path, as_json = chosen_path(given), arguments.flag("json")
    lock, store = read(path), Store()
    store.note_lock(path)
    told: list[dict[str, Any]] = []
    with Progress(f"pulling {path}") as progress, set_aside():

        def watch(name: str) -> Any:
            progress.step(f"fetching {name}", unit="B")
            return progress.advance

        with watched_by(watch):
            for ref, model in sorted(lock.models.items()):
                for file in model.files:
                    entry = {"ref": ref, "sha256": file.sha256, "size": file.size, **_pulled(model, file, store)}
                    told.append(entry)
                    if not as_json:
                        with progress.aside():
                            _print(entry)
    missing = sum(entry["status"] == "missing" for entry in told)
    if as_json:
        import json

        print(json.dumps({"lock": path, "ok": not missing, "files": told}, indent=2, ensure_ascii=False))
    else:
        count = f"{len(told)} file{'' if len(told) == 1 else 's'}"
        print(f"{clean(path)}: {count}, " + (f"{missing} missing" if missing else "all here"))
    return 1 if missing else 0


def _pulled(model: LockedModel, file: LockedFile, store: Store) -> dict[str, Any]:
    """What became of one file: `here`, `fetched` or `missing`, with its source or the error."""
    from zoo.checkpoints.sources import fetch, stored
    from zoo.errors import ZooError

    try:
        here = stored(file.sources, sha256=file.sha256, size=file.size, store=store)
        if here is not None:
            return {"status": "here", "source": here.source}
        if not file.sources:
            raise _only_registered(model)
        found = fetch(file.sources, sha256=file.sha256, size=file.size, store=store, carriers=(_carry,))
        return {"status": "fetched", "source": found.source}
    except ZooError as error:
        return {"status": "missing", "error": error.to_dict()}


def _carry(address: str, folder: str) -> str | None:
    """Asks plugins only about a scheme that nobody else knows."""
    from zoo.plugin.hooks import carry_checkpoint

    return carry_checkpoint(address, folder)


def _only_registered(model: LockedModel) -> ZooError:
    from zoo.errors import SourceError

    return SourceError(
        f"{model.ref} is in the registry of the machine that locked it, and not here",
        asked=model.ref,
        fix=f"there: zoo registry push {model.ref.removeprefix('local/')} hf://ORG/REPO; here: zoo registry pull "
        "hf://ORG/REPO",
    )


def _print(entry: dict[str, Any]) -> None:
    import sys

    error = entry.get("error")
    if error is None:
        print(f"{styled(clean(entry['ref']), 'bold')}: {entry['status']}, {clean(entry['source'] or entry['sha256'])}")
        return
    print(f"{styled('error:', 'red', sys.stderr)} {clean(entry['ref'])}: {clean(error['message'])}", file=sys.stderr)
    if error["fix"]:
        print(f"  {styled('try:', 'green', sys.stderr)}   {clean(error['fix'])}", file=sys.stderr)
