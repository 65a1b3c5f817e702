"""`zoo licenses [REF…]`: what an application that uses models has to know of licences."""

from __future__ import annotations

from zoo.cli.arguments import Arguments, Command, Option, UsageError
from zoo.cli.terminal import clean, styled, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo.build.licensing import LicensedModel, LicenseReport

COMMAND = Command(
    "licenses",
    operands=("REF…?",),
    options=(
        Option("--lock", "the models of a lock file", value="FILE"),
        Option("--format", "text (the default), markdown or json; of a FILE by its ending", value="FORMAT"),
        Option("--json", "the same as --format json"),
        Option("--texts", "with the packages' licence files, word for word"),
        Option("--output", "write it to a file", value="FILE", short="-o"),
    ),
    notes=(
        "Without REFs and --lock: the models of the lock file that ZOO_LOCK names, or of zoo.lock here; where there is "
        "neither, the published weights in this machine's store and everything in your registry.",
        "What needs attention stands on top: licences that are not permissive or that nobody states, terms to be "
        "accepted at a host, training data with terms of its own. It sorts facts and is no legal advice.",
    ),
    examples=(
        ("zoo licenses resnet50 local/pets@production", "of these models"),
        ("zoo licenses --lock zoo.lock --texts -o THIRD_PARTY.md", "the report for an application"),
        ("zoo licenses --json", "for machines"),
    ),
)
_FORMATS = ("text", "markdown", "json")
_ENDINGS = {".md": "markdown", ".markdown": "markdown", ".json": "json"}


def run(arguments: Arguments) -> int:
    """Write the report."""
    from zoo.build.licensing import report

    path = arguments.text("output")
    kind = _format(arguments, path)
    found = report(_models(arguments))
    texts = arguments.flag("texts")
    if kind == "text" and path is None:
        _print(found)
        for line in _texts(found, "=" * 78) if texts else ():
            print(line)
        return 0
    written = _as_json(found, texts) if kind == "json" else "\n".join(_markdown(found, texts)) + "\n"
    if path is None:
        print(written, end="")
        return 0
    _write(path, written)
    count = f"{len(found.models)} model{'' if len(found.models) == 1 else 's'}"
    things = f"{len(found.attention)} thing{'' if len(found.attention) == 1 else 's'}"
    print(f"{clean(path)}: {count}, {things} to look at")
    return 0


def _format(arguments: Arguments, path: str | None) -> str:
    import os

    if arguments.flag("json"):
        return "json"
    kind = arguments.text("format") or (_ENDINGS.get(os.path.splitext(path)[1].lower(), "text") if path else "text")
    if kind not in _FORMATS:
        raise UsageError(f"--format is one of {', '.join(_FORMATS)}", asked=kind, fix="--format markdown")
    return kind


def _models(arguments: Arguments) -> list[LicensedModel]:
    import os

    from zoo.build.licensing import of_lock, of_refs, of_this_machine
    from zoo.checkpoints.lock import DEFAULT, VARIABLE, read

    refs, lock = arguments.operands, arguments.text("lock")
    if not refs and lock is None:
        lock = os.environ.get(VARIABLE) or (DEFAULT if os.path.exists(DEFAULT) else None)
        if lock is None:
            return of_this_machine()
    locked = of_lock(read(lock)) if lock is not None else []
    return locked + of_refs([ref for ref in refs if ref not in {model.asked for model in locked}])


def _print(found: LicenseReport) -> None:
    if found.attention:
        print(styled(f"to look at ({len(found.attention)})", "bold"))
        for line in found.attention:
            print(f"  {clean(line)}")
    else:
        print(styled("nothing that needs attention", "green"))
    print()
    if found.models:
        rows = [("MODEL", "WEIGHTS", "CLASS", "CODE", "PLUGIN", "TRAINED ON")]
        table([*rows, *(_row(model) for model in found.models)])
    else:
        print("no models; zoo licenses REF… names some")
    print()
    packages = [("PACKAGE", "VERSION", "CLASS", "LICENCE")]
    table([*packages, *((p.name, p.version, p.license_class, p.license) for p in found.packages)])


def _row(model: LicensedModel) -> tuple[str, ...]:
    plugin = f"{model.distribution} {model.version}".strip()
    trained = ", ".join(data.name for data in model.data)
    return (model.asked, model.license or "-", model.license_class, model.code_license or "-", plugin or "-", trained)


def _markdown(found: LicenseReport, texts: bool) -> Iterator[str]:
    """The report as a document; it reads as plain text too."""
    yield "# Licences of the models and of their code"
    yield ""
    yield "Facts as the catalogue and the packages state them; no legal advice."
    yield ""
    yield "## To look at"
    yield ""
    yield from [f"- {_inline(line)}" for line in found.attention] or ["Nothing that needs attention."]
    yield ""
    yield "## Models"
    for model in found.models:
        yield ""
        yield f"### {_inline(model.asked)}"
        yield ""
        yield from (f"- {what}: {_inline(said)}" for what, said in _facts(model) if said)
    yield ""
    yield "## Packages"
    yield ""
    yield "| package | version | licence | class |"
    yield "|---|---|---|---|"
    yield from (
        f"| {' | '.join(_inline(cell) for cell in (p.name, p.version, p.license, p.license_class))} |"
        for p in found.packages
    )
    if texts:
        yield ""
        yield "## Licence files"
        yield from _texts(found, "```")


def _facts(model: LicensedModel) -> Iterator[tuple[str, str]]:
    yield "is", model.ref if model.ref != model.asked else ""
    yield "weights", f"{model.license} ({model.license_class})" if model.license else model.license_class
    yield "at the host", "terms to be accepted" if model.gated else ""
    yield "code", model.code_license
    yield "plugin", f"{model.distribution} {model.version}".strip()
    for data in model.data:
        source = f" ({data.source})" if data.source else ""
        yield f"trained on {data.name}", f"{data.license_class}: {data.terms}{source}"
    yield "paper", model.paper
    yield "note", model.notes
    for file in model.files:
        yield "sha256", file.sha256
        for source in file.sources:
            yield "source", source


def _texts(found: LicenseReport, fence: str) -> Iterator[str]:
    from zoo.catalog.packages import read_text

    for package in found.packages:
        for path in package.texts:
            said = read_text(path).strip()
            if said:
                yield ""
                yield f"{package.name} {package.version}"
                yield ""
                yield fence
                yield said.replace(fence, "")
                yield fence


def _as_json(found: LicenseReport, texts: bool) -> str:
    import json

    from zoo.catalog.packages import read_text

    record = found.to_dict()
    for package in record["packages"]:
        paths = package.pop("texts")
        if texts:
            package["texts"] = [read_text(path) for path in paths]
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def _inline(text: str) -> str:
    """One line that nothing in it can turn into another cell or another paragraph."""
    return clean(text).replace("|", "\\|")


def _write(path: str, text: str) -> None:
    """Put the report in place of the file, whole or not at all."""
    import os
    import secrets

    from zoo.errors import ZooError

    temp = f"{os.path.realpath(path)}.{secrets.token_hex(6)}.tmp"
    try:
        try:
            with open(temp, "x", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
            os.replace(temp, os.path.realpath(path))
        finally:
            if os.path.exists(temp):
                os.unlink(temp)
    except OSError as error:
        raise ZooError(f"{path} cannot be written: {error.strerror or error}", fix="-o another/file.md") from None
