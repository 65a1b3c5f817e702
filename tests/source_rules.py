"""The rules about code, as functions: a source file in, its faults out, each `path:line: what is wrong`.

`test_architecture.py` applies them to every first-party file, and each to a piece of code that breaks it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
MAX_FILE, MAX_FUNCTION = 400, 50
VAGUE = {"utils", "util", "misc", "helpers", "helper", "common", "base", "tools", "stuff", "lib"}
IMPORT_NAMES = {"PIL": "pillow", "google": "protobuf", "sklearn": "scikit-learn", "yaml": "pyyaml"}
"""Where the name of an import is not the distribution's."""
UNPICKLERS = {"pickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}


class Source(NamedTuple):
    """One file of Python: where it is, its dotted module name, its text."""

    path: str
    module: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def fault(self, line: int, what: str) -> str:
        return f"{self.path}:{line}: {what}"


class Import(NamedTuple):
    """One imported module. scope: `module` (on import), `function` (when called), `typing` (never at run time)."""

    target: str
    name: str | None
    line: int
    scope: str


def core_sources() -> list[Source]:
    """Every file of `zoo`."""
    return _sources(ROOT / "zoo_core" / "src")


def plugin_sources() -> dict[str, list[Source]]:
    """Every file of every first-party plugin, by import name."""
    found = {p.name: _sources(p / "src") for p in sorted((ROOT / "plugins").iterdir()) if (p / "src").is_dir()}
    assert len(found) >= 2
    return found


def all_sources() -> list[Source]:
    """Core and plugins."""
    return core_sources() + [source for sources in plugin_sources().values() for source in sources]


def _sources(root: Path) -> list[Source]:
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Source(str(path.relative_to(ROOT)), module, path.read_text(encoding="utf-8")))
    assert found, f"no source under {root}"
    return found


# Imports


def imports(source: Source) -> list[Import]:
    """Every import of a file: statements, relative ones too, and `import_module("literal")`."""
    return list(_imports(source, source.tree, "module"))


def _imports(source: Source, node: ast.AST, scope: str) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, None, child.lineno, scope) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(source, child)
            yield from (Import(base, alias.name, child.lineno, scope) for alias in child.names)
        elif isinstance(child, ast.Call) and _called(child) == "import_module" and child.args:
            if isinstance(child.args[0], ast.Constant):
                yield Import(str(child.args[0].value), None, child.lineno, scope)
            yield from _imports(source, child, scope)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for statement in child.body:
                yield from _imports(source, ast.Module([statement], []), "typing")
            for statement in child.orelse:
                yield from _imports(source, ast.Module([statement], []), scope)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _imports(source, child, "function" if scope == "module" else scope)
        else:
            yield from _imports(source, child, scope)


def _absolute(source: Source, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    inside = source.path.endswith("__init__.py")
    package = source.module.split(".")[: len(source.module.split(".")) - node.level + inside]
    return ".".join([*package, *([node.module] if node.module else [])])


def room(target: str, name: str | None, rooms: Mapping[str, object]) -> str | None:
    """The room of `zoo` an import leads to, `face` for `zoo` itself, None for other packages."""
    parts = target.split(".")
    if parts[0] != "zoo":
        return None
    if len(parts) == 1:
        return name if name in rooms else "face"
    return parts[1]


def direction_faults(source: Source, may: Mapping[str, set[str]], excused: Mapping[tuple[str, str], str]) -> list[str]:
    """Imports against the direction of the house. `excused` (module, room) pairs may do so inside functions."""
    own = source.module.split(".")[1] if "." in source.module else "face"
    if own not in may:
        return [source.fault(1, f"the room {own!r} has no place in the table of directions")]
    faults = []
    for found in imports(source):
        to = room(found.target, found.name, may)
        if to is None or to == own or to in may[own] or found.scope == "typing":
            continue
        if found.scope == "function" and (to == "face" or (source.module, to) in excused):
            continue
        faults.append(source.fault(found.line, f"{own} must not import {to} ({found.scope} scope)"))
    return faults


def forbidden_import_faults(source: Source, forbidden: set[str]) -> list[str]:
    """Imports of any of some top-level packages, anywhere in the file."""
    return [
        source.fault(found.line, f"{found.target} must not be imported here")
        for found in imports(source)
        if found.target.split(".")[0] in forbidden
    ]


def undeclared_import_faults(source: Source, declared: set[str]) -> list[str]:
    """Imports of packages that are neither in the standard library, nor the file's own, nor declared."""
    own = source.module.split(".")[0]
    faults = []
    for found in imports(source):
        top = found.target.split(".")[0]
        if top == own or top in sys.stdlib_module_names:
            continue
        if distribution(IMPORT_NAMES.get(top, top)) not in declared:
            faults.append(source.fault(found.line, f"{top} is imported but not declared as a dependency"))
    return faults


def distribution(requirement: str) -> str:
    """`zoo-core` of `zoo_core>=1,<2`; also of the import name `zoo`."""
    name = re.split(r"[\s\[<>=!~;]", requirement.strip(), maxsplit=1)[0].lower()
    name = re.sub(r"[-_.]+", "-", name)
    return "zoo-core" if name == "zoo" else name


def private_import_faults(source: Source) -> list[str]:
    """Names with a leading underscore taken from another first-party module."""
    return [
        source.fault(found.line, f"{found.name} is private to {found.target}")
        for found in imports(source)
        if found.name and found.name.startswith("_") and not found.name.startswith("__")
        and found.target.split(".")[0].startswith("zoo")
    ]  # fmt: skip


# Size and names


def file_size_faults(source: Source, excused: Mapping[str, str]) -> list[str]:
    """Files longer than `MAX_FILE` lines."""
    lines = len(source.text.splitlines())
    if lines <= MAX_FILE or source.module in excused:
        return []
    return [source.fault(lines, f"{lines} lines, at most {MAX_FILE}")]


def function_size_faults(source: Source, excused: Mapping[str, str]) -> list[str]:
    """Functions longer than `MAX_FUNCTION` lines, their docstring not counted."""
    faults = []
    for name, node in functions(source.tree, source.module):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        first = node.body[0]
        if ast.get_docstring(node) is not None:
            lines -= (first.end_lineno or first.lineno) - first.lineno + 1
        if lines > MAX_FUNCTION and name not in excused:
            faults.append(source.fault(node.lineno, f"{name} has {lines} lines, at most {MAX_FUNCTION}"))
    return faults


def functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function with its dotted name, nested ones and methods too."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{prefix}.{child.name}", child
            yield from functions(child, f"{prefix}.{child.name}")
        elif isinstance(child, ast.ClassDef):
            yield from functions(child, f"{prefix}.{child.name}")
        else:
            yield from functions(child, prefix)


def vague_name_faults(source: Source) -> list[str]:
    """Modules and packages whose name says nothing."""
    return [source.fault(1, f"{part!r} says nothing") for part in source.module.split(".") if part in VAGUE]


def tunnel_faults(source: Source, doors: Mapping[str, str]) -> list[str]:
    """`**` parameters anywhere but at the named doors."""
    return [
        source.fault(node.lineno, f"{name} takes **{node.args.kwarg.arg}: name the parameters")
        for name, node in functions(source.tree, source.module)
        if node.args.kwarg is not None and name not in doors
    ]


def missing_docstring_faults(source: Source) -> list[str]:
    """Modules, and public classes and functions at module level, that say nothing of themselves."""
    tree, faults = source.tree, []
    if tree.body and ast.get_docstring(tree) is None:
        faults.append(source.fault(1, "the module has no docstring"))
    faults += [
        source.fault(node.lineno, f"{node.name} has no docstring")
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name[0] != "_" and ast.get_docstring(node) is None
    ]
    return faults


# What must not be called


def unsafe_load_faults(source: Source) -> list[str]:
    """Anything that could run code out of a weights file: pickle modules, and torch.load unless weights_only."""
    loads = [n for n in ast.walk(source.tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "torch.load"]
    return forbidden_import_faults(source, UNPICKLERS) + [
        source.fault(node.lineno, "torch.load without weights_only=True")
        for node in loads
        if not any(k.arg == "weights_only" and getattr(k.value, "value", None) is True for k in node.keywords)
    ]


def duck_typing_faults(source: Source) -> list[str]:
    """`hasattr` in models: what a part can do is said by its interface."""
    return [
        source.fault(node.lineno, "hasattr: a class is an interface or it is final")
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and _called(node) == "hasattr"
    ]


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
