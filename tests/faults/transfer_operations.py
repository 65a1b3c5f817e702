"""Bundles and exports, written and taken: each killed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from killing import Answer
from operations import operation
from registry_operations import sha256_of
from stones import stone, value_of

import zoo
from zoo.checkpoints import bundles
from zoo.checkpoints.store import Store

BODIES = [b"first" * 9999, b"second" * 9999]
REFS = ["acme/model"]


def in_the_store() -> list[bundles.BundledFile]:
    """The files of a bundle, which are there."""
    files = []
    for number, body in enumerate(BODIES):
        blob = Store().put([body])
        source = f"https://example.org/{number}/weights"
        files.append(bundles.BundledFile("weights", blob.sha256, blob.size, (source,), source))
    return files


def bundle_whole(name: str) -> Callable[[Sequence[str]], None]:
    """A check: a bundle of that name has everything, or there is none."""

    def check(said: Sequence[str]) -> None:
        assert os.path.exists(name) or not said
        if os.path.exists(name):
            taken = bundles.take(name, Store(os.path.abspath("elsewhere")))
            assert {file.sha256 for file in taken} == {sha256_of(body) for body in BODIES}

    return check


@operation("bundle as a file", before=in_the_store, check=bundle_whole("bundle.zip"), check_writes=True)
def writing_a_zip(answer: Answer) -> None:
    bundles.write_zip("bundle.zip", REFS, in_the_store(), Store())
    answer("bundle.zip")


@operation("bundle as a folder", before=in_the_store, check=bundle_whole("bundle"), check_writes=True)
def writing_a_folder(answer: Answer) -> None:
    if not os.path.exists("bundle"):
        bundles.write_folder("bundle", REFS, in_the_store(), Store())
    answer("bundle")


def a_bundle() -> None:
    other = Store(os.path.abspath("other"))
    files = [file._replace(name=f"weights {number}") for number, file in enumerate(in_the_store())]
    for body in BODIES:
        other.put([body])
    bundles.write_zip("bundle.zip", REFS, files, other)
    for path in Path("home/blobs/sha256").rglob("*/*"):
        path.unlink()


def taken_right(said: Sequence[str]) -> None:
    store = Store()
    for number in range(len(BODIES)):  # a pin may be missing; a wrong one would refuse the right file for ever
        pin = store.pin(f"https://example.org/{number}/weights")
        assert pin is None or pin.sha256 == sha256_of(BODIES[number])
    for sha256 in said:
        assert store.verify(sha256)


@operation("taking a bundle", before=a_bundle, check=taken_right)
def taking(answer: Answer) -> None:
    for file in bundles.take("bundle.zip", Store()):
        answer(file.sha256)


# Exports of registered versions


def an_export() -> None:
    """Two versions elsewhere, with an alias, exported to a file; and a registry of our own with another."""
    elsewhere = zoo.ModelRegistry("elsewhere")
    for number in (1, 2):
        elsewhere.register(name="m", version=f"{number}.0.0", model=stone(number))
    elsewhere.promote("m", "2.0.0", "production")
    elsewhere.export("m", "export.zip", every=True)
    zoo.register_model(stone(0), name="m", version="0.1.0")


def imported_right(said: Sequence[tuple[str, ...]]) -> None:
    """All of it or none."""
    registry = zoo.ModelRegistry()
    versions = [record.version for record in registry.list("m")]
    assert versions in (["0.1.0"], ["2.0.0", "1.0.0", "0.1.0"])
    for version in versions:
        assert value_of(registry.load("m", version)) == int(version[0])
    assert not said or len(versions) == 3
    if len(versions) == 3:
        assert registry.show("m", "production").version == "2.0.0"


@operation("registry import", before=an_export, check=imported_right)
def importing(answer: Answer) -> None:
    answer(zoo.ModelRegistry().import_from("export.zip", aliases=True).added)


def exported_whole(said: Sequence[str]) -> None:
    assert os.path.exists("copy.zip") or not said
    if os.path.exists("copy.zip"):
        copy = zoo.ModelRegistry("copy of it")
        copy.import_from("copy.zip")
        assert value_of(copy.load("m", "0.1.0")) == 0.0


@operation("registry export", before=an_export, check=exported_whole, check_writes=True)
def exporting(answer: Answer) -> None:
    if not os.path.exists("copy.zip"):
        zoo.ModelRegistry().export("m@0.1.0", "copy.zip")
    answer("copy.zip")
