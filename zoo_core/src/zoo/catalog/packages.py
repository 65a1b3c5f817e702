"""The installed packages that a model's code needs, and the licences they state. From metadata; no code is imported."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from importlib import metadata
from typing import NamedTuple

from zoo.catalog.licenses import classify

_NAME = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_TEXT = re.compile(r"(licen[cs]e|copying|notice)", re.IGNORECASE)
_LONGEST = 100  # characters; a longer `License` field is the licence's whole text
_STATED = {
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
"""What packages wrote before SPDX expressions became usual, where it can mean one licence only."""
_FAMILIES = {"bsd": "permissive", "bsd license": "permissive"}
"""Names that leave open which licence of a family is meant, all of one class."""


class Package(NamedTuple):
    """An installed distribution. license: as stated, in SPDX where that is certain; `unknown` where it states none.

    texts: paths of the licence files it brings along.
    """

    name: str
    version: str
    license: str
    license_class: str
    texts: tuple[str, ...]


def packages_of(distributions: Iterable[str]) -> list[Package]:
    """These distributions and everything they require that is installed, by name. Absent ones are left out."""
    found: dict[str, Package] = {}
    waiting = [_normal(name) for name in distributions]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            distribution = metadata.distribution(name)
        except (metadata.PackageNotFoundError, ValueError):
            continue
        found[name] = _package(name, distribution)
        waiting += _required(distribution)
    return [package for _, package in sorted(found.items())]


def read_text(path: str) -> str:
    """A licence file; empty where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def _package(name: str, distribution: metadata.Distribution) -> Package:
    license = _license(distribution)
    license_class = _FAMILIES.get(license.casefold()) or classify(license)
    files = [file for file in distribution.files or () if _TEXT.search(file.name) and ".dist-info" in str(file)]
    paths = [str(file.locate()) for file in files]
    return Package(name, distribution.version, license, license_class, tuple(sorted(filter(os.path.isfile, paths))))


def _license(distribution: metadata.Distribution) -> str:
    """The licence expression; or the older field, where it is a name; or the classifiers."""
    about = distribution.metadata
    fields = ("License-Expression", "License")
    stated, older = (str(about[name] or "").strip() if name in about else "" for name in fields)
    older = "" if older.casefold() in ("unknown", "other") else older
    if not stated and older and len(older) <= _LONGEST and "\n" not in older:
        stated = older
    if not stated or stated.casefold() in _FAMILIES:
        classifiers = [str(c) for c in about.get_all("Classifier") or () if str(c).startswith("License ::")]
        names = [c.rpartition("::")[2].strip() for c in classifiers]
        stated = stated or " AND ".join(_STATED.get(name.casefold(), name) for name in names)
    return _STATED.get(stated.casefold(), stated) or "unknown"


def _required(distribution: metadata.Distribution) -> list[str]:
    """Names of what it requires, extras left out. Markers for other systems lead to what is not installed here."""
    named = []
    for requirement in distribution.requires or ():
        text, _, marker = requirement.partition(";")
        match = _NAME.match(text)
        if match and "extra" not in marker:
            named.append(_normal(match[1]))
    return named


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
