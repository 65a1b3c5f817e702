"""`zoo plugin compile|check`: from a plugin's `catalog.py` to its `zoo.json`, and what an author has to mend."""

from __future__ import annotations

from zoo.cli.arguments import Arguments, Command, Option, UsageError, nearest
from zoo.cli.progress import Progress
from zoo.cli.terminal import clean, styled, wrapped

COMMAND = Command(
    "plugin",
    operands=("ACTION", "WHERE?"),
    options=(
        Option("--full", "measure every model again, also those whose row has not changed"),
        Option("--json", "with check: one JSON list of what is wrong, for machines"),
    ),
    notes=(
        "ACTION is compile, which writes zoo.json next to catalog.py, or check, which writes nothing, names everything "
        "that is to be mended before the plugin can be published, and then ends with exit code 1.",
        "WHERE is a project folder (this one, if left out), a module such as zoo_acme.catalog, or an installed plugin.",
    ),
    examples=(
        ("zoo plugin compile", "after every change of catalog.py"),
        ("zoo plugin check zoo-acme/", "in continuous integration"),
    ),
)
_ACTIONS = ("compile", "check")


def run(arguments: Arguments) -> int:
    """Compile, or check."""
    action, where = arguments.operands[0], (arguments.operands[1:] or ["."])[0]
    if action not in _ACTIONS:
        raise UsageError(
            f"zoo plugin compiles or checks; it does not know {action!r}",
            fix=f"zoo plugin {nearest(action, _ACTIONS) or 'check'} {where}",
        )
    full = arguments.flag("full")
    return _compile(where, full) if action == "compile" else _check(where, full, arguments.flag("json"))


def _compile(where: str, full: bool) -> int:
    from zoo.plugin.compile import write_compiled

    with Progress(f"measuring the models of {where}"):
        compiled = write_compiled(where, full=full)
    done = "written to" if compiled.changed else "unchanged in"
    print(f"{compiled.spec.distribution}: {_models(len(compiled.spec.models))} {done} {compiled.path}")
    return 0


def _check(where: str, full: bool, as_json: bool) -> int:
    from zoo.plugin.check import check

    with Progress(f"checking {where}"):
        findings = check(where, full=full)
    if as_json:
        import json

        print(json.dumps([finding._asdict() for finding in findings], indent=2, ensure_ascii=False))
    elif not findings:
        print(f"{styled('ok', 'green')}  {clean(where)} may be published")
    for finding in [] if as_json else findings:
        print(f"{styled(finding.rule, 'red')}")
        print(wrapped(finding.message, "  "))
        print(f"  {styled('try:', 'green')} {clean(finding.fix)}")
    return int(bool(findings))


def _models(count: int) -> str:
    return f"{count} model{'s' if count != 1 else ''}"
