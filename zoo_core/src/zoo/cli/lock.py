"""`zoo lock [REF…]`: which plugin, which record and which bytes every reference means, written down."""

from __future__ import annotations

from zoo.cli.arguments import Arguments, Command, Option, UsageError
from zoo.cli.terminal import clean, styled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from zoo.checkpoints.lock import Difference, Lock, LockedModel

COMMAND = Command(
    "lock",
    operands=("REF…?",),
    options=(
        Option("--output", "the lock file (that of ZOO_LOCK, or zoo.lock)", value="FILE", short="-o"),
        Option("--remove", "forget a reference that is in it", value="REF", repeat=True),
        Option("--check", "change nothing; name what is not as locked, and end with exit code 1 if anything is"),
        Option("--files", "with --check: a locked file that is not here, or damaged, counts too"),
        Option("--json", "one JSON object for machines"),
    ),
    notes=(
        "With REFs, they are added to the lock, or locked anew. Without, everything in it is locked anew, and what "
        "changed is told. A REF is what zoo.create takes, also local/NAME@ALIAS, hf://ORG/REPO and file://FOLDER; or "
        "the address of a weights file. The parts of a composed model are REFs of their own.",
        "ZOO_LOCK=FILE in the environment makes zoo.create refuse everything that is not as locked.",
    ),
    examples=(
        ("zoo lock resnet50 local/pets@production", "write down what they mean now"),
        ("zoo lock --check", "in continuous integration"),
        ("zoo lock", "accept what changed, and see it"),
        ("zoo pull --lock", "elsewhere: get the very same files"),
    ),
)


def run(arguments: Arguments) -> int:
    """Lock, lock anew, or compare."""
    from zoo.checkpoints.lock import chosen_path

    path, refs = chosen_path(arguments.text("output")), arguments.operands
    as_json, unwanted = arguments.flag("json"), arguments.texts("remove")
    if unwanted and (refs or arguments.flag("check")):
        raise UsageError("--remove stands alone", fix=f"zoo lock --remove {unwanted[0]}")
    if unwanted:
        return _remove(path, unwanted, as_json)
    if arguments.flag("check"):
        return _check(path, refs, arguments.flag("files"), as_json)
    if arguments.flag("files"):
        raise UsageError("--files goes with --check", fix="zoo lock --check --files")
    return _lock(path, refs, as_json)


def _lock(path: str, refs: Sequence[str], as_json: bool) -> int:
    import os

    from zoo.build.locking import lock_ref, zoo_version
    from zoo.checkpoints.lock import Lock, compare, read, update
    from zoo.checkpoints.store import Store

    _check_folder(path)
    before = read(path) if not refs or os.path.lexists(path) else Lock()
    with _watched() as step:
        now: dict[str, LockedModel] = {}
        for ref in refs or sorted(before.models):
            step(ref)
            now[ref] = lock_ref(ref)

    def change(meanwhile: Lock) -> Lock:
        # What somebody else has locked since stays, and what was forgotten since is not locked anew.
        kept = {ref: model for ref, model in now.items() if refs or ref in meanwhile.models}
        return Lock({**meanwhile.models, **kept}, zoo_version())

    before, after, written = update(path, change)
    changes = compare(before, after) if before.zoo_core else []
    Store().note_lock(path)
    if as_json:
        _print_json({"lock": path, "written": written, "locked": sorted(now), "changes": _plain(changes)})
        return 0
    for ref in refs:
        print(_told(ref, now[ref]))
    changes = [change for change in changes if change.before or change.what != "meaning"]  # additions are told above
    _print_differences(changes)
    count = f"{len(after.models)} reference{'' if len(after.models) == 1 else 's'}"
    print(f"{clean(path)}: {count}" + ("" if written else ", nothing has changed"))
    return 0


def _check_folder(path: str) -> None:
    """Refuse a lock in a folder that is not there, before anything is fetched for it."""
    import os

    from zoo.errors import LockError

    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise LockError(f"there is no folder {folder} to write the lock into", asked=path, fix=f"mkdir -p {folder}")


def _remove(path: str, unwanted: Sequence[str], as_json: bool) -> int:
    from zoo.checkpoints.lock import compare, read, update

    _known(unwanted, read(path), path)
    before, after, written = update(
        path, lambda now: now._replace(models={r: model for r, model in now.models.items() if r not in unwanted})
    )
    changes = compare(before, after)
    if as_json:
        _print_json({"lock": path, "written": written, "locked": [], "changes": _plain(changes)})
    else:
        _print_differences(changes)
    return 0


def _known(refs: Sequence[str], lock: Lock, path: str) -> None:
    """Refuse references that are not in the lock."""
    from zoo.errors import LockError

    absent = next((ref for ref in refs if ref not in lock.models), None)
    if absent is not None:
        raise LockError(
            f"{absent} is not in {path}",
            asked=absent,
            found=", ".join(sorted(lock.models)) or "nothing",
            fix=f"zoo lock {absent} -o {path}",
        )


def _check(path: str, refs: Sequence[str], files: bool, as_json: bool) -> int:
    from zoo.build.locking import check
    from zoo.checkpoints.lock import Lock, read

    lock = read(path)
    _known(refs, lock, path)
    chosen = {ref: lock.models[ref] for ref in refs} if refs else lock.models
    found = check(Lock(chosen, lock.zoo_core), files=files)
    if as_json:
        _print_json({"lock": path, "ok": not found, "differences": _plain(found)})
    elif found:
        _print_differences(found)
        verb = "thing is" if len(found) == 1 else "things are"
        print(f"{clean(path)}: {len(found)} {verb} not as locked; zoo lock -o {clean(path)} accepts that")
    else:
        print(f"{clean(path)}: {styled('as locked', 'green')}")
    return 1 if found else 0


def _watched() -> Any:
    """A progress line for what has to be fetched: a context that gives a function to say which reference is next."""
    from contextlib import contextmanager

    from zoo.checkpoints.delivery import watched_by
    from zoo.cli.progress import Progress

    @contextmanager
    def watched() -> Any:
        with Progress("locking") as progress:

            def watch(name: str) -> Any:
                progress.step(f"fetching {name}", unit="B")
                return progress.advance

            with watched_by(watch):
                yield lambda ref: progress.step(f"locking {ref}")

    return watched()


def _told(ref: str, entry: LockedModel) -> str:
    """`resnet50: cnn/resnet50.a1_in1k@1, zoo-cnn 0.1.0, 1 file, 102.5 MB, Apache-2.0`"""
    sizes = [file.size for file in entry.files]
    parts = [entry.ref, f"{entry.distribution} {entry.version}".strip()]
    if sizes:
        parts.append(f"{len(sizes)} file{'' if len(sizes) == 1 else 's'}")
        parts += [] if None in sizes else [f"{sum(filter(None, sizes)) / 1e6:.1f} MB"]
    parts.append(entry.license)
    return f"{styled(clean(ref), 'bold')}: " + ", ".join(clean(part) for part in parts if part)


def _print_differences(found: Sequence[Difference]) -> None:
    for difference in found:
        print(clean(str(difference)))


def _plain(found: Sequence[Difference]) -> list[dict[str, Any]]:
    return [difference._asdict() for difference in found]


def _print_json(value: Any) -> None:
    import json

    print(json.dumps(value, indent=2, ensure_ascii=False))
