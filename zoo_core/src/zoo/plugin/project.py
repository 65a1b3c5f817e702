"""Where an author's plugin is: its package, its `catalog.py` and its `zoo.json`, by module name or by folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import invalidate_caches
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple

from zoo.errors import NotFoundError

_BUILTIN = "zoo.builtin"


class Project(NamedTuple):
    """One plugin in source form.

    catalog: the module that declares it (`zoo_cnn.catalog`). package: the folder of its package, where `zoo.json`
    lies. root: the folder that must be on `sys.path` to import it. folder: the one with its `pyproject.toml`, empty
    where there is none (an installed plugin).
    """

    catalog: str
    package: str
    root: str
    folder: str

    @property
    def manifest(self) -> str:
        """The path of its compiled manifest."""
        return os.path.join(self.package, "zoo.json")


def find_project(target: str) -> Project:
    """The plugin that `zoo_cnn.catalog`, the package name `zoo_cnn`, the namespace `cnn` or a project folder names.

    Raises:
        NotFoundError: there is no catalogue there, or more than one.
    """
    if _is_folder(target):
        return _in_folder(os.path.abspath(target))
    catalog, package = _package_of(target) or ("", "")
    if not package:
        raise NotFoundError(
            f"no plugin catalogue at {target!r}",
            fix="name a project folder, a module such as zoo_cnn.catalog, or an installed namespace such as cnn",
        )
    root = package
    for _ in catalog.split(".")[:-1]:
        root = os.path.dirname(root)
    return Project(catalog, package, root, _folder_above(root))


@contextmanager
def importable(project: Project) -> Iterator[None]:
    """Within, the project's own package is the one that is imported, its catalogue freshly read.

    Afterwards a project that is not on `sys.path` is forgotten again, and a package it hid is back.
    """
    top = project.catalog.partition(".")[0]
    home = os.path.join(project.root, top)
    installed = project.root in map(os.path.abspath, sys.path)
    sys.modules.pop(project.catalog, None)  # rows may have been edited since they were read
    hidden = {} if (getattr(sys.modules.get(top), "__file__", None) or home).startswith(home) else _forget(top)
    invalidate_caches()
    sys.path.insert(0, project.root)
    try:
        yield
    finally:
        sys.path.remove(project.root)
        if not installed:
            _forget(top)
        sys.modules.update(hidden)


def _forget(top: str) -> dict[str, ModuleType]:
    """Take a package with all its modules out of `sys.modules`."""
    names = [name for name in sys.modules if name == top or name.startswith(top + ".")]
    return {name: sys.modules.pop(name) for name in names}


def _package_of(name: str) -> tuple[str, str] | None:
    """(catalogue module, package folder) by module, package or namespace; nothing but parent packages is imported."""
    if name in ("core", "zoo", "zoo-core"):
        name = _BUILTIN
    package = name.replace("-", "_")
    wanted = [package, f"{package}.catalog", f"zoo_{package}.catalog"]
    for catalog in wanted[0 if "." in package else 1 :]:
        top, *rest = catalog.split(".")
        spec = find_spec(top) if top.isidentifier() else None
        for location in (spec and spec.submodule_search_locations) or ():
            file = os.path.join(location, *rest) + ".py"
            if os.path.isfile(file):
                return catalog, os.path.dirname(file)
    return None


def _is_folder(target: str) -> bool:
    """Whether a folder is meant: `zoo-acme` is, where its source lies here, also if it is installed elsewhere."""
    if not os.path.isdir(target):
        return False
    project = os.path.isfile(os.path.join(target, "pyproject.toml"))
    return project or os.sep in target or "/" in target or not _package_of(target)


def _in_folder(folder: str) -> Project:
    found: list[str] = []
    for parent in (os.path.join(folder, "src"), folder):
        names = filter(str.isidentifier, sorted(os.listdir(parent)) if os.path.isdir(parent) else [])
        found += [package for name in names if _has_catalog(package := os.path.join(parent, name))]
    if not found and os.path.basename(folder).isidentifier() and _has_catalog(folder):
        found = [folder]
    if len(found) != 1:
        what = "no catalog.py" if not found else f"{len(found)} catalogues"
        raise NotFoundError(
            f"{what} in {folder}", found=", ".join(found), fix="a project has src/<package>/catalog.py with a PLUGIN"
        )
    package = found[0]
    root, name = os.path.split(package)
    return Project(f"{name}.catalog", package, root, _folder_above(root))


def _has_catalog(package: str) -> bool:
    return os.path.isfile(os.path.join(package, "catalog.py"))


def _folder_above(root: str) -> str:
    for folder in (root, os.path.dirname(root)):
        if os.path.isfile(os.path.join(folder, "pyproject.toml")):
            return folder
    return ""
