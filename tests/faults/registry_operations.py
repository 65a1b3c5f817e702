"""Registering, promoting, rolling back, collecting: each killed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import torch
from killing import Answer
from operations import nothing, operation
from stones import stone, value_of

import zoo
from zoo.checkpoints.collection import collect
from zoo.checkpoints.conversion import CONVERTER, convert
from zoo.checkpoints.store import Store, digest_of
from zoo.versions.keeping import registered_blobs


def three_versions() -> None:
    for number in range(3):
        zoo.register_model(stone(number), name="m", version=f"0.{number}.0", tags=["old"])
        zoo.ModelRegistry().promote("m", f"0.{number}.0", "production")


def registry_right(said: Sequence[tuple[str, str]]) -> None:
    """Facts are (what, version); a version `x.y.z` holds a stone of value x * 100 + y."""
    registry = zoo.ModelRegistry()
    listed = [record.version for record in registry.list("m")]
    assert {"0.0.0", "0.1.0", "0.2.0", *(version for what, version in said if what == "registered")} <= set(listed)
    for version in listed:
        major, minor, _ = version.split(".")
        assert value_of(registry.load("m", version)) == int(major) * 100 + int(minor)
        assert registry.show("m", version).tags == ("old" if major == "0" else "new",)
    history = [change.version for change in registry.history("m", "production")]
    assert history[:3] == ["0.0.0", "0.1.0", "0.2.0"]
    told = [version for version, _ in groupby(version for what, version in said if what == "changed")]
    assert is_part_of(told, history[3:]), (told, history)
    assert registry.show("m", "production").version == history[-1]


def is_part_of(told: Sequence[str], history: Sequence[str]) -> bool:
    """Whether all of it is in the history, in that order; between may be what nobody was told of."""
    rest = iter(history)
    return all(entry in rest for entry in told)


@operation("register", before=three_versions, check=registry_right)
def registering(answer: Answer) -> None:
    zoo.register_model(stone(100.0), name="m", version="1.0.0", tags=["new"])
    answer(("registered", "1.0.0"))


def first_right(said: Sequence[str]) -> None:
    listed = {record.version for record in zoo.ModelRegistry().list()}
    assert set(said) <= listed <= {"1.0.0"}
    for version in listed:
        assert value_of(zoo.create(f"local/m@{version}")) == 100.0


@operation("the first register", before=nothing, check=first_right)
def registering_first(answer: Answer) -> None:
    answer(zoo.register_model(stone(100.0), name="m", version="1.0.0", tags=["new"]).version)


@operation("promote", before=three_versions, check=registry_right)
def promoting(answer: Answer) -> None:
    registry = zoo.ModelRegistry()
    for version in ("0.0.0", "0.1.0"):
        answer(("changed", registry.promote("m", version, "production").version))


@operation("rollback", before=three_versions, check=registry_right)
def rolling_back(answer: Answer) -> None:
    registry = zoo.ModelRegistry()
    if registry.show("m", "production").version == "0.2.0":
        answer(("changed", registry.rollback("m", "production").version))


# Collecting

LONG_AGO = 1_000_000_000  # seconds since 1970
KEPT = {"pinned": b"pinned" * 9999, "locked": b"locked" * 9999, "young": b"young" * 9999}
NEEDLESS = [bytes([number]) * 50_000 for number in range(3)]


def a_store_to_collect() -> None:
    """Blobs that are registered, pinned, locked, converted or young, and three that nothing needs."""
    store = Store()
    three_versions()
    kept = {name: store.put([body]).sha256 for name, body in KEPT.items()}
    store.remember_pin("https://example.org/weights", kept["pinned"], "https://example.org/weights")
    Path("zoo.lock").write_text(json.dumps({"of a newer layout": kept["locked"]}))
    store.note_lock(os.path.abspath("zoo.lock"))
    torch.save({"weight": torch.arange(5000.0)}, "published.pth")
    convert(digest_of("published.pth"), "published.pth", store)
    for body in NEEDLESS:
        store.put([body])
    for path in Path("home/blobs").rglob("*"):
        if path.name != kept["young"]:
            os.utime(path, (LONG_AGO, LONG_AGO))
    left = Path(store.temp_path("f" * 64))
    left.write_bytes(b"broken off" * 999)
    os.utime(left, (LONG_AGO, LONG_AGO))


def collected_right(said: Sequence[list[str] | None]) -> None:
    registry_right([])
    store = Store()
    for body in KEPT.values():
        assert store.verify(sha256_of(body))
    assert store.conversion(digest_of("published.pth"), CONVERTER)
    needless = {sha256_of(body) for body in NEEDLESS}
    for told in filter(None, said):
        assert set(told) <= needless
        assert not any(map(store.holds, told))
    assert None not in said or not any(map(store.holds, needless))


def sha256_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@operation("gc", before=a_store_to_collect, check=collected_right)
def collecting(answer: Answer) -> None:
    answer([one.sha256 for one in collect(Store(), [registered_blobs()], grace=3600.0).taken if one.sha256])
    if os.access(Store().root, os.W_OK):
        answer(None)  # nothing is left to collect
