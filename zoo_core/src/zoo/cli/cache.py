"""`zoo cache`: what is on this machine, whether it is sound, and what can go."""

from __future__ import annotations

from zoo.cli.arguments import Arguments, Command, Option, UsageError, nearest
from zoo.cli.terminal import clean, styled, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from zoo.checkpoints.collection import Collected
    from zoo.checkpoints.holdings import Holding
    from zoo.checkpoints.repair import Damage, Repair
    from zoo.checkpoints.store import Store

COMMAND = Command(
    "cache",
    operands=("ACTION", "WHAT…?"),
    options=(
        Option("--unused-for", "with gc: also what can be fetched again and was not used for so long", value="30d"),
        Option("--all", "with gc: also everything that can be fetched again"),
        Option("--dry-run", "with gc: only say what would go"),
        Option("--json", "one JSON document for machines"),
    ),
    notes=(
        "ACTION is ls, du, verify, repair, gc or add. It is about $ZOO_HOME; files that are used where they are (in "
        "the Hub's cache, in installed packages) are listed and verified, and never removed.",
        "gc removes broken-off downloads, records that point to nothing, and files that nothing explains. What is "
        "registered or named by a lock file stays, and so does what was used within the last hours; other processes "
        "may go on working meanwhile. verify and gc end with exit code 1 only where something is wrong.",
        "repair moves damaged files aside, to blobs/damaged, and gets them again from where they came from.",
        "add takes a bundle, as a folder or a zip, or a copy of a single file that something here needs.",
    ),
    examples=(
        ("zoo cache ls resnet", "what there is whose address, name or digest has resnet in it"),
        ("zoo cache du", "how much room it takes"),
        ("zoo cache gc --unused-for 30d --dry-run", "what could go"),
        ("zoo cache verify", "hash every file"),
        ("zoo cache add weights.zip", "take what zoo bundle or zoo fetch -o brought from another machine"),
    ),
)
_USAGES = {
    "ls": "zoo cache ls [TEXT]",
    "du": "zoo cache du",
    "verify": "zoo cache verify",
    "repair": "zoo cache repair",
    "add": "zoo cache add FOLDER|FILE…",
    "gc": "zoo cache gc [--unused-for 30d] [--all] [--dry-run]",
}
_KINDS = {"unexplained": "nothing explains it", "unused": "converted from another file"}
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_MAX_DIGITS = 9  # a number of thousands of them is no float, and time itself is shorter


def run(arguments: Arguments) -> int:
    """Do what the action says."""
    action, *words = arguments.operands
    _check(action, words, arguments)
    as_json = arguments.flag("json")
    if action == "ls":
        return _list(words[0] if words else "", as_json)
    if action == "du":
        return _sum_up(as_json)
    if action == "verify":
        return _verify(as_json)
    if action == "add":
        return _add(words, as_json)
    if action == "repair":
        return _repair(as_json)
    return _collect(arguments.text("unused-for"), arguments.flag("all"), arguments.flag("dry-run"), as_json)


def _check(action: str, words: Sequence[str], arguments: Arguments) -> None:
    asked = " ".join(("zoo cache", action, *words))
    if action not in _USAGES:
        meant = nearest(action, _USAGES)
        hint = f"; did you mean {meant!r}?" if meant else f": there are {', '.join(_USAGES)}"
        raise UsageError(f"no action {action!r}{hint}", asked=asked, fix=_USAGES[meant or "ls"])
    most = {"ls": 1, "add": len(words)}.get(action, 0)
    if action == "add" and not words:
        raise UsageError("zoo cache add lacks its FOLDER or FILE", asked=asked, fix=_USAGES["add"])
    if len(words) > most:
        raise UsageError(f"zoo cache {action} takes no {words[most]!r}", asked=asked, fix=_USAGES[action])
    for option in ("unused-for", "all", "dry-run"):
        if action != "gc" and (arguments.flag(option) or arguments.text(option)):
            raise UsageError(f"--{option} goes with gc", asked=asked, fix=_USAGES["gc"])


def _list(text: str, as_json: bool) -> int:
    from zoo.checkpoints.holdings import adopted, holdings, locked
    from zoo.checkpoints.store import Store
    from zoo.versions.keeping import registered_versions

    store = Store()
    registered, locks = registered_versions(store.root), locked(store)
    here = [_facts(blob, registered, locks) for blob in holdings(store).blobs]
    here += [
        {"sha256": one.sha256, "size": one.size, "path": one.path, "used": None, "adopted": True,
         "sources": [], "converted_from": [], "registered": [], "locked_by": []}
        for one in adopted(store)
    ]  # fmt: skip
    shown = [facts for facts in here if text.lower() in " ".join((facts["sha256"], _explained(facts))).lower()]
    if as_json:
        _print_json(shown)
    elif shown:
        rows = [("SIZE", "USED", "DIGEST", "WHAT")]
        rows += [(_size(f["size"]), (f["used"] or "-")[:10], f["sha256"][:12], _explained(f)) for f in shown]
        table(rows, right=(0,))
    else:
        print(f"nothing that has {text!r} in it" if here else f"nothing yet: {store.root} fills as models are created")
    return 0


def _facts(
    blob: Holding, registered: Mapping[str, Sequence[str]], locks: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    return {
        "sha256": blob.sha256,
        "size": blob.size,
        "path": blob.path,
        "used": _when(blob.used),
        "adopted": False,
        "sources": list(blob.sources),
        "converted_from": list(blob.origins),
        "registered": list(registered.get(blob.sha256, ())),
        "locked_by": list(locks.get(blob.sha256, ())),
    }


def _explained(facts: Mapping[str, Any]) -> str:
    """What explains a file, in words."""
    words = [f"local/{name}" for name in facts["registered"]]
    words += facts["sources"]
    words += [f"converted from {origin[:12]}" for origin in facts["converted_from"]]
    words += [f"locked by {path}" for path in facts["locked_by"]]
    words += [f"used where it is: {facts['path']}"] if facts["adopted"] else []
    return ", ".join(words) or "nothing explains it"


def _sum_up(as_json: bool) -> int:
    from zoo.checkpoints.holdings import adopted, holdings, locked, stats
    from zoo.checkpoints.store import Store
    from zoo.versions.keeping import registered_versions

    store = Store()
    sums: dict[str, list[int]] = {}

    def add(kind: str, size: int) -> None:
        sums.setdefault(kind, []).append(size)

    registered, locks, trash = registered_versions(store.root), locked(store), store.trash.folder
    for blob in holdings(store).blobs:
        if not blob.path.startswith(trash):
            add(_kind(blob, registered, locks), blob.size)
    for kind, folder in (("arriving", store.arrivals_folder), ("leaving", trash), ("damaged", store.damaged_folder)):
        for _, seen in stats(folder):
            add(kind, seen.st_size)
    for one in adopted(store):
        add("in the Hub's cache" if one.in_hub_cache else "elsewhere", one.size)
    outside = ("in the Hub's cache", "elsewhere")
    total = sum(sum(sizes) for kind, sizes in sums.items() if kind not in outside)
    if as_json:
        kinds = {kind: {"files": len(sizes), "bytes": sum(sizes)} for kind, sizes in sums.items()}
        _print_json({"home": store.root, "kinds": kinds, "total": total})
        return 0
    rows = [("KIND", "FILES", "SIZE", "")]
    rows += [(k, str(len(v)), _size(sum(v)), "used where it is" if k in outside else "") for k, v in sums.items()]
    table([*rows, ("total", "", _size(total), f"in {store.root}")], right=(1, 2))
    return 0


def _kind(blob: Holding, registered: Mapping[str, object], locks: Mapping[str, object]) -> str:
    named = (
        ("registered", blob.sha256 in registered),
        ("locked", blob.sha256 in locks),
        ("fetched", blob.sources),
        ("converted", blob.origins),
    )
    return next((kind for kind, is_so in named if is_so), "unexplained")


def _collect(unused_for: str | None, everything: bool, dry_run: bool, as_json: bool) -> int:
    from zoo.checkpoints.collection import collect
    from zoo.checkpoints.store import Store
    from zoo.versions.keeping import registered_blobs

    store = Store()
    seconds = None if unused_for is None else _duration(unused_for)
    keepers = [registered_blobs(store.root, hold=not dry_run)]
    done = collect(store, keepers, unused_for=seconds, everything=everything, dry_run=dry_run)
    if as_json:
        _print_json(
            {
                "dry_run": dry_run,
                "removed": [one._asdict() for one in done.taken],
                "freed": done.freed,
                "recent": [one.sha256 for one in done.recent],
                "unreadable_records": done.unreadable,
            }
        )
    else:
        _print_collected(done, dry_run)
    return 1 if done.unreadable else 0


def _print_collected(done: Collected, dry_run: bool) -> None:
    from zoo.checkpoints.collection import BROKEN_OFF, GRACE, RECORD, UNEXPLAINED, UNUSED

    names = {
        BROKEN_OFF: "file of a broken-off download",
        RECORD: "record that pointed to nothing",
        UNEXPLAINED: "file that nothing explained",
        UNUSED: "file that can be had again",
    }
    rows = [
        (_size(one.size), one.sha256[:12], ", ".join(one.sources) or _KINDS[one.kind])
        for one in done.taken
        if one.sha256
    ]
    if rows:
        table([("SIZE", "DIGEST", "WHAT"), *rows], right=(0,))
    verb = "would remove" if dry_run else "removed"
    parts = [_count(len(done.of(kind)), name) for kind, name in names.items() if done.of(kind)]
    print(f"{verb} {', '.join(parts)}: {_size(done.freed)}" if parts else "nothing to remove")
    if done.recent:
        size, hours = _size(sum(one.size for one in done.recent)), int(GRACE / 3600)
        print(f"{_count(len(done.recent), 'file')} ({size}) used within the last {hours} hours stay")
    if done.unreadable:
        what = _count(len(done.unreadable), "record")
        print(f"{what} cannot be read, so that files that nothing explains were left alone; zoo cache repair")


def _verify(as_json: bool) -> int:
    from zoo.checkpoints.repair import HARMLESS
    from zoo.checkpoints.store import Store

    damages, count, size = _damages(Store())
    ok = all(damage.kind in HARMLESS for damage in damages)
    if as_json:
        _print_json({"ok": ok, "files": count, "bytes": size, "damages": [damage._asdict() for damage in damages]})
        return 0 if ok else 1
    for damage in damages:
        _print_damage(damage)
    checked = f"{_count(count, 'file')}, {_size(size)}"
    print(f"{checked}: {styled('sound', 'green')}" if ok else f"{checked}; zoo cache repair mends what can be mended")
    return 0 if ok else 1


def _repair(as_json: bool) -> int:
    from zoo.checkpoints.delivery import watched_by
    from zoo.checkpoints.lock import set_aside
    from zoo.checkpoints.repair import HARMLESS, repair
    from zoo.checkpoints.sources import fetch
    from zoo.checkpoints.store import Store
    from zoo.cli.progress import Progress

    store = Store()
    damages, count, size = _damages(store)

    def refetch(sources: Sequence[str], sha256: str) -> object:
        return fetch(sources, sha256=sha256, store=store, carriers=(_carry,))

    with Progress("repairing") as progress, set_aside():

        def watch(name: str) -> Any:
            progress.step(f"fetching {name}", unit="B")
            return progress.advance

        with watched_by(watch):
            done = repair(store, damages, refetch)
    ok = all(one.mended or one.damage.kind in HARMLESS for one in done)
    if as_json:
        _print_json({"ok": ok, "repairs": [{**one._asdict(), "damage": one.damage._asdict()} for one in done]})
        return 0 if ok else 1
    for one in done:
        _print_repair(one)
    if not done:
        print(f"{_count(count, 'file')}, {_size(size)}: {styled('sound', 'green')}")
    return 0 if ok else 1


def _add(paths: Sequence[str], as_json: bool) -> int:
    from zoo.checkpoints.bundles import take
    from zoo.checkpoints.repair import give_back
    from zoo.checkpoints.store import Store
    from zoo.cli.progress import Progress
    from zoo.errors import FormatError
    from zoo.versions.keeping import registered_versions

    store = Store()
    added: list[dict[str, Any]] = []
    with Progress("adding") as progress:
        for path in paths:
            progress.step(f"adding {path}")
            try:
                files = [(file.sha256, file.size, file.sources) for file in take(path, store)]
            except FormatError:  # no bundle
                blob = give_back(store, path, registered_versions(store.root))
                if blob is None:
                    raise
                files = [(blob.sha256, blob.size, ())]
            added += [dict(zip(("sha256", "size", "sources"), file, strict=True)) for file in files]
    if as_json:
        _print_json(added)
        return 0
    if added:
        rows = [(_size(one["size"]), one["sha256"][:12], ", ".join(one["sources"])) for one in added]
        table([("SIZE", "DIGEST", "WHAT"), *rows], right=(0,))
    print(f"{_count(len(added), 'file')} added to {store.root}")
    return 0


def _damages(store: Store) -> tuple[list[Damage], int, int]:
    """(what `verify` finds, how many files it hashed, their bytes)."""
    from zoo.checkpoints.holdings import holdings
    from zoo.checkpoints.repair import verify
    from zoo.cli.progress import Progress
    from zoo.versions.keeping import registered_versions

    sizes = [blob.size for blob in holdings(store).blobs]
    with Progress("verifying") as progress:
        progress.step("verifying", sum(sizes), "B")
        found = verify(store, registered_versions(store.root), progress=progress.advance)
    return found, len(sizes), sum(sizes)


def _print_damage(damage: Damage) -> None:
    from zoo.checkpoints.repair import HARMLESS

    label = styled(f"{damage.kind}:", "yellow" if damage.kind in HARMLESS else "red")
    print(f"{label} {clean(damage.path)} {clean(damage.what)}")
    if damage.needed_by:
        print(f"  needed by {clean(', '.join(damage.needed_by))}")


def _print_repair(one: Repair) -> None:
    _print_damage(one.damage)
    if one.done:
        print(f"  {clean(one.done)}")
    if not one.mended:
        print(f"  try:   {clean(one.fix)}")


def _carry(address: str, folder: str) -> str | None:
    """Asks plugins only about a scheme that nobody else knows."""
    from zoo.plugin.hooks import carry_checkpoint

    return carry_checkpoint(address, folder)


def _duration(text: str) -> float:
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in _SECONDS or len(number) > _MAX_DIGITS:
        raise UsageError("--unused-for takes a number and m, h, d or w", asked=text, fix="--unused-for 30d")
    return float(int(number) * _SECONDS[unit])


def _when(seconds: float) -> str:
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _count(number: int, what: str) -> str:
    """`3 files`; the first word takes the plural."""
    first, _, rest = what.partition(" ")
    return f"{number:,} {first}{'' if number == 1 else 's'} {rest}".rstrip()


def _print_json(value: Any) -> None:
    import json

    print(json.dumps(value, indent=2, ensure_ascii=False))
