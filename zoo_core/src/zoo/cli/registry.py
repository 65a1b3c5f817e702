"""`zoo registry`: the versions of one's own models."""

from __future__ import annotations

from zoo.cli.arguments import Arguments, Command, Option, UsageError, nearest
from zoo.cli.terminal import clean, styled, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from zoo.versions.records import VersionRecord

COMMAND = Command(
    "registry",
    operands=("ACTION", "WHAT?", "OTHER?"),
    options=(
        Option("--tag", "with ls: only versions that bear it", value="WORD"),
        Option("--json", "one JSON document for machines"),
    ),
    notes=(
        "ACTION is ls, show, promote, rollback or diff. A version is named NAME@VERSION, where VERSION is a version, "
        "a range such as ^1.2, latest, an alias or a tag.",
        "Models come into the registry by zoo.register_model in Python, and out of it by zoo.create('local/NAME@…').",
    ),
    examples=(
        ('zoo registry ls "*classifier*" --tag production', "what there is"),
        ("zoo registry show my_model@1.2.0", "everything about one version, with its aliases' history"),
        ("zoo registry promote my_model@1.2.0 production", "let production mean it"),
        ("zoo registry rollback my_model production", "let production mean what it meant before"),
        ("zoo registry diff my_model@production my_model@latest", "what differs"),
    ),
)
_USAGES = {
    "ls": ((1, 2), "zoo registry ls [PATTERN] [--tag WORD]"),
    "show": ((2,), "zoo registry show NAME[@VERSION]"),
    "promote": ((3,), "zoo registry promote NAME@VERSION ALIAS"),
    "rollback": ((3,), "zoo registry rollback NAME ALIAS"),
    "diff": ((3,), "zoo registry diff NAME@VERSION NAME@VERSION"),
}
"""How many operands each action takes, itself among them, and how it is written."""


def run(arguments: Arguments) -> int:
    """List, show, promote, roll back or compare."""
    action, *words = arguments.operands
    _check(action, words)
    tag = arguments.text("tag")
    if tag is not None and action != "ls":
        raise UsageError("--tag chooses what zoo registry ls lists", fix=_USAGES["ls"][1])
    as_json = arguments.flag("json")
    if action == "ls":
        _list(words[0] if words else "*", tag, as_json)
    elif action == "show":
        _show(words[0], as_json)
    elif action == "diff":
        _diff(words[0], words[1], as_json)
    else:
        _change(action, words[0], words[1], as_json)
    return 0


def _check(action: str, words: Sequence[str]) -> None:
    asked = " ".join(("zoo registry", action, *words))
    if action not in _USAGES:
        meant = nearest(action, _USAGES)
        hint = f"; did you mean {meant!r}?" if meant else f": there are {', '.join(_USAGES)}"
        raise UsageError(f"no action {action!r}{hint}", asked=asked, fix=_USAGES[meant or "ls"][1])
    counts, usage = _USAGES[action]
    if len(words) + 1 < counts[0]:
        missing = usage.split()[3 + len(words)]
        raise UsageError(f"zoo registry {action} lacks its {missing}", asked=asked, fix=usage)
    if len(words) + 1 > counts[-1]:
        extra = " ".join(words[counts[-1] - 1 :])
        hint = ' (a pattern stands in quotes: "*")' if action == "ls" else ""
        raise UsageError(f"zoo registry {action} takes no {extra!r}{hint}", asked=asked, fix=usage)


def _list(pattern: str, tag: str | None, as_json: bool) -> None:
    from zoo.versions.registry import ModelRegistry

    records = ModelRegistry().list(pattern, tag=tag)
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
    history = registry.history(record.name)
    if as_json:
        _print_json({**record.to_dict(), "history": [change._asdict() for change in history]})
        return
    print(styled(clean(record.ref), "bold"))
    table([row for row in _facts(record) if row[1]], heading=False, indent="  ", whole=True)
    if history:
        print()
        rows = [("ALIAS", "MEANS", "SINCE", "BY", "THROUGH")]
        table([*rows, *((c.alias, c.version, c.at, c.by, c.action) for c in reversed(history))], indent="  ")


def _facts(record: VersionRecord) -> list[tuple[str, str]]:
    import json

    parent, provenance = record.parent, record.saved.get("provenance") or {}
    return [
        ("class", record.factory),
        ("config", json.dumps(record.config, sort_keys=True, ensure_ascii=False)),
        ("metrics", _metrics(record.metrics)),
        ("tags", ", ".join(record.tags)),
        ("aliases", ", ".join(record.aliases)),
        ("data", record.data),
        ("parent", " ".join(filter(None, (parent.name, parent.version, parent.sha256))) if parent else ""),
        ("from", str(provenance.get("ref", ""))),
        ("licence", str(provenance.get("license", ""))),
        ("weights", f"{record.sha256}, {record.size:,} bytes"),
        ("plugin", f"{record.distribution} {record.plugin_version}".strip()),
        ("zoo", record.zoo_version),
        ("registered", f"{record.created} by {record.author}"),
    ]


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


def _diff(before: str, after: str, as_json: bool) -> None:
    from zoo.versions.registry import ModelRegistry

    found = ModelRegistry().diff(before, after)
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


def _said(value: object) -> str:
    return "-" if value is None else str(value)


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in metrics.items())


def _print_json(value: Any) -> None:
    import json

    print(json.dumps(value, indent=2, ensure_ascii=False))
