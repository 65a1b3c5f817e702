"""`zoo registry`: the versions of one's own models."""

from __future__ import annotations

from zoo.cli.arguments import Arguments, Command, Option, UsageError, nearest
from zoo.cli.terminal import clean, styled, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from zoo.versions.records import Parent, VersionRecord

COMMAND = Command(
    "registry",
    operands=("ACTION", "WHAT…?"),
    options=(
        Option("--tag", "with ls: only versions that bear it", value="WORD"),
        Option("--limit", "with ls: at most so many", value="N"),
        Option("--weights", "with diff: how far the numbers are apart"),
        Option("--all", "with export, import, push, pull: NAME is a pattern, and every version of it is meant"),
        Option("--aliases", "with import, push, pull: let aliases mean there what they mean here"),
        Option("--private", "with push: a new repository is private"),
        Option("--json", "one JSON document for machines"),
    ),
    notes=(
        "ACTION is ls, show, promote, rollback, diff, export, import, push or pull. A version is named NAME@VERSION, "
        "where VERSION is a version, a range such as ^1.2, latest, an alias or a tag.",
        "Models come into the registry by zoo.register_model in Python, and out of it by zoo.create('local/NAME@…').",
        "export writes versions to a new folder or .zip file, push to a repository on the Hub; import and pull take "
        "all of them or those that are named. Nothing registered is ever overwritten, here or there.",
    ),
    examples=(
        ('zoo registry ls "*classifier*" --tag production', "what there is"),
        ("zoo registry show my_model@1.2.0", "everything about one version, with its aliases' history"),
        ("zoo registry promote my_model@1.2.0 production", "let production mean it"),
        ("zoo registry rollback my_model production", "let production mean what it meant before"),
        ("zoo registry diff my_model@production my_model@latest", "what differs"),
        ("zoo registry export my_model@production models.zip", "for another machine"),
        ("zoo registry import models.zip", "on that machine"),
        ("zoo registry push my_model@1.2.0 hf://org/repo", "add a version to a repository on the Hub"),
        ("zoo registry pull hf://org/repo my_model@^1", "take one from there"),
    ),
)
_MANY = 100_000
_USAGES = {
    "ls": ((1, 2), "zoo registry ls [PATTERN] [--tag WORD]", ("tag", "limit")),
    "show": ((2,), "zoo registry show NAME[@VERSION]", ()),
    "promote": ((3,), "zoo registry promote NAME@VERSION ALIAS", ()),
    "rollback": ((3,), "zoo registry rollback NAME ALIAS", ()),
    "diff": ((3,), "zoo registry diff NAME@VERSION NAME@VERSION", ("weights",)),
    "export": ((3, _MANY), "zoo registry export NAME[@VERSION]… PATH", ("all",)),
    "import": ((2, _MANY), "zoo registry import PATH [NAME[@VERSION]…]", ("all", "aliases")),
    "push": ((3, _MANY), "zoo registry push NAME[@VERSION]… hf://ORG/REPO", ("all", "aliases", "private")),
    "pull": ((2, _MANY), "zoo registry pull hf://ORG/REPO[@REVISION] [NAME[@VERSION]…]", ("all", "aliases")),
}
"""How many operands each action takes, itself among them, how it is written, and which options it has."""


def run(arguments: Arguments) -> int:
    """List, show, promote, roll back, compare, or carry to another registry and back."""
    action, *words = arguments.operands
    _check(action, words)
    _check_options(action, arguments)
    as_json = arguments.flag("json")
    if action == "ls":
        _list(words[0] if words else "*", arguments, as_json)
    elif action == "show":
        _show(words[0], as_json)
    elif action == "diff":
        _diff(words[0], words[1], weights=arguments.flag("weights"), as_json=as_json)
    elif action in ("promote", "rollback"):
        _change(action, words[0], words[1], as_json)
    else:
        _carry(action, words, arguments, as_json)
    return 0


def _check_options(action: str, arguments: Arguments) -> None:
    for name in ("tag", "limit", "weights", "all", "aliases", "private"):
        if arguments.flag(name) and name not in _USAGES[action][2]:
            has = [other for other, (_, _, options) in _USAGES.items() if name in options]
            raise UsageError(
                f"zoo registry {action} has no --{name}; {' and '.join(has)} {'has' if len(has) == 1 else 'have'} it",
                fix=_USAGES[has[0]][1],
            )


def _check(action: str, words: Sequence[str]) -> None:
    asked = " ".join(("zoo registry", action, *words))
    if action not in _USAGES:
        meant = nearest(action, _USAGES)
        hint = f"; did you mean {meant!r}?" if meant else f": there are {', '.join(_USAGES)}"
        raise UsageError(f"no action {action!r}{hint}", asked=asked, fix=_USAGES[meant or "ls"][1])
    counts, usage, _ = _USAGES[action]
    if len(words) + 1 < counts[0]:
        missing = usage.split()[3 + len(words)]
        raise UsageError(f"zoo registry {action} lacks its {missing}", asked=asked, fix=usage)
    if len(words) + 1 > counts[-1]:
        extra = " ".join(words[counts[-1] - 1 :])
        hint = ' (a pattern stands in quotes: "*")' if action == "ls" else ""
        raise UsageError(f"zoo registry {action} takes no {extra!r}{hint}", asked=asked, fix=usage)


def _list(pattern: str, arguments: Arguments, as_json: bool) -> None:
    from zoo.versions.registry import ModelRegistry

    limit = arguments.number("limit", 100) if arguments.flag("limit") else None
    records = ModelRegistry().list(pattern, tag=arguments.text("tag"), limit=limit)
    if as_json:
        _print_json([record.to_dict() for record in records])
    elif records:
        rows = [("NAME", "VERSION", "ALIASES", "TAGS", "METRICS", "REGISTERED")]
        rows += [
            (r.name, r.version, ", ".join(r.aliases), ", ".join(r.tags), _metrics(r.metrics), r.created[:10])
            for r in records
        ]
        table(rows)
    else:
        print("nothing registered that fits; zoo.register_model(model, name=…, version=…) registers a model")


def _show(text: str, as_json: bool) -> None:
    from zoo.versions.addresses import Address
    from zoo.versions.registry import ModelRegistry

    registry = ModelRegistry()
    record = registry.show(*Address.parse(text))
    history, lineage = registry.history(record.name), registry.lineage(record.name, record.version)
    if as_json:
        told = {"history": [change._asdict() for change in history], "lineage": [_plain(parent) for parent in lineage]}
        _print_json({**record.to_dict(), **told})
        return
    print(styled(clean(record.ref), "bold"))
    facts = [*_facts(record), *(("made from", _parent(parent)) for parent in lineage)]
    table([fact for fact in facts if fact[1]], heading=False, indent="  ", whole=True)
    if history:
        print()
        rows = [("ALIAS", "MEANS", "SINCE", "BY", "THROUGH")]
        table([*rows, *((c.alias, c.version, c.at, c.by, c.action) for c in reversed(history))], indent="  ")


def _facts(record: VersionRecord) -> list[tuple[str, str]]:
    import json

    provenance, imported = record.saved.get("provenance") or {}, record.imported
    return [
        ("class", record.factory),
        ("config", json.dumps(record.config, sort_keys=True, ensure_ascii=False)),
        ("metrics", _metrics(record.metrics)),
        ("tags", ", ".join(record.tags)),
        ("aliases", ", ".join(record.aliases)),
        ("data", record.data),
        ("from", str(provenance.get("ref", ""))),
        ("licence", str(provenance.get("license", ""))),
        ("weights", f"{record.sha256}, {record.size:,} bytes"),
        ("plugin", f"{record.distribution} {record.plugin_version}".strip()),
        ("zoo", record.zoo_version),
        ("registered", f"{record.created} by {record.author}"),
        ("imported", f"{imported.at} by {imported.by} from {imported.source}" if imported else ""),
    ]


def _parent(parent: Parent) -> str:
    return " ".join(filter(None, (parent.name, parent.version, parent.sha256)))


def _plain(parent: Parent) -> dict[str, str]:
    return {"name": parent.name, "version": parent.version, "sha256": parent.sha256}


def _change(action: str, what: str, alias: str, as_json: bool) -> None:
    from zoo.versions.addresses import Address
    from zoo.versions.registry import ModelRegistry

    registry = ModelRegistry()
    name, selector = Address.parse(what)
    if action == "rollback" and "@" in what:
        raise UsageError("rollback takes a model's name alone", asked=what, fix=f"zoo registry rollback {name} {alias}")
    if action == "promote" and "@" not in what:
        raise UsageError(
            "promote takes a version", asked=what, fix=f"zoo registry promote {name}@VERSION {alias}, or {name}@latest"
        )
    done = registry.promote(name, selector, alias) if action == "promote" else registry.rollback(name, alias)
    if as_json:
        _print_json({"name": name, **done._asdict()})
    else:
        print(clean(f"{name}@{alias} means {done.version}"))


def _carry(action: str, words: Sequence[str], arguments: Arguments, as_json: bool) -> None:
    from zoo.versions.registry import ModelRegistry

    registry, every, aliases = ModelRegistry(), arguments.flag("all"), arguments.flag("aliases")
    place, what = (words[-1], words[:-1]) if action in ("export", "push") else (words[0], words[1:] or None)
    if action == "export":
        done = registry.export(what or (), place, every=every)
    elif action == "push":
        private = arguments.flag("private") or None
        done = registry.push(what or (), place, every=every, private=private, aliases=aliases)
    elif action == "import":
        done = registry.import_from(place, what, every=every, aliases=aliases)
    else:
        done = registry.pull(place, what, every=every, aliases=aliases)
    if as_json:
        _print_json(done.to_dict())
        return
    said = {"export": "written to", "push": "added to", "import": "registered from", "pull": "registered from"}[action]
    for ref in done.added:
        print(clean(f"{ref} {said} {done.place}"))
    for ref in done.unchanged:
        print(clean(f"{ref} is {'there' if action == 'push' else 'here'} already, the same"))
    for meaning in done.aliases if action != "export" else ():
        name = f"{meaning.name}@{meaning.alias}"
        moved = "now" if name in done.moved else "there; --aliases takes that over" if action != "push" else "there"
        print(clean(f"{name} means {meaning.version} {moved}"))
    for note in done.notes:
        print(clean(f"note: {note}"))


def _diff(before: str, after: str, *, weights: bool, as_json: bool) -> None:
    from zoo.versions.registry import ModelRegistry

    found = ModelRegistry().diff(before, after, weights=weights)
    if as_json:
        _print_json(found.to_dict())
        return
    shapes = {
        name: tuple(pair and f"{pair.dtype} {list(pair.shape)}" for pair in both)
        for name, both in found.tensors.items()
    }
    rows = [("class", *found.factory)] if found.factory else []
    for kind, entries in (("config", found.config), ("metrics", found.metrics), ("tensor", shapes)):
        rows += [(f"{kind} {name}", _said(one), _said(other)) for name, (one, other) in entries.items()]
    table([("", found.before, found.after), *rows], whole=True)
    print(f"the weights are {'the same bytes' if found.same_weights else 'different'}")
    if found.largest:
        table([("TENSOR", "LARGEST DIFFERENCE"), *((name, f"{value:g}") for name, value in found.largest.items())])


def _said(value: object) -> str:
    return "-" if value is None else str(value)


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in metrics.items())


def _print_json(value: Any) -> None:
    import json

    print(json.dumps(value, indent=2, ensure_ascii=False))
