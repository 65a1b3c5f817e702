"""What is killed: each thing the zoo writes, with what is there before, and what must be true whatever happened.

All run in a working folder that is theirs, with `$ZOO_HOME` at `home` in it.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch
from killing import Answer
from stones import Stone, stone, value_of

import zoo
from synthetic_plugins import Site
from zoo.build.pretrained import load_pretrained, save_pretrained
from zoo.catalog import open_catalog
from zoo.checkpoints.conversion import CONVERTER, convert
from zoo.checkpoints.files import read_tensors
from zoo.checkpoints.sources import fetch
from zoo.checkpoints.store import Store, digest_of
from zoo.checkpoints.writing import write_weights

ALL: list[Operation] = []
"""Every operation, in the order in which they are defined."""


class Operation(NamedTuple):
    """prepare: what is there before. act: what is killed; it answers what it was told is done. check: takes the answers
    of a life, and fails unless all of them hold and nothing is half there; it is called by the next process."""

    name: str
    prepare: Callable[[], object]
    act: Callable[[Answer], object]
    check: Callable[[Sequence[Any]], object]


def operation(name: str, *, before: Callable[[], object], check: Callable[[Sequence[Any]], object]) -> Any:
    """Decorates `act` and adds the operation to `ALL`."""

    def add(act: Callable[[Answer], object]) -> Callable[[Answer], object]:
        ALL.append(Operation(name, before, act, check))
        return act

    return add


# The store

OLD, NEW = b"old" * 20_000, b"new" * 50_000


def an_old_blob() -> None:
    Store().put([OLD])


def stored_whole(said: Sequence[str]) -> None:
    """Blobs are right wherever they are (`soundness.flaws`); here: those that were acknowledged are there."""
    store = Store()
    assert store.find(store.put([OLD]).sha256)
    for sha256 in said:
        assert store.verify(sha256)


@operation("put", before=an_old_blob, check=stored_whole)
def put(answer: Answer) -> None:
    answer(Store().put([NEW[:70_000], NEW[70_000:]]).sha256)
    answer(Store().put([OLD]).sha256)  # over the one that is there


def a_torch_file() -> None:
    torch.save({"state_dict": {"weight": torch.arange(5000.0)}, "epoch": 3}, "published.pth")


def converted_whole(said: Sequence[str]) -> None:
    store = Store()
    known = store.conversion(digest_of("published.pth"), CONVERTER)
    for sha256 in {*said, *([known.sha256] if known else [])}:
        assert torch.equal(read_tensors(store.blob_path(sha256)).tensors["weight"], torch.arange(5000.0))


@operation("conversion", before=a_torch_file, check=converted_whole)
def converting(answer: Answer) -> None:
    answer(convert(digest_of("published.pth"), "published.pth", Store()).sha256)


def a_file() -> None:
    Path("weights").write_bytes(OLD)
    os.utime("weights", (1, 1))


def adopted_right(said: Sequence[str]) -> None:
    store = Store()
    for sha256 in said:
        assert sha256 == digest_of("weights")
        assert store.pin("hf://org/repo/weights") is None or store.pin("hf://org/repo/weights").sha256 == sha256


@operation("adoption and pin", before=a_file, check=adopted_right)
def adopting(answer: Answer) -> None:
    store = Store()
    fetched = fetch(["file://weights"], sha256=digest_of("weights"), store=store)
    store.remember_pin("hf://org/repo/weights", fetched.sha256, "hf://org/repo@1/weights")
    answer(fetched.sha256)


# Models in files


def a_weights_file() -> None:
    write_weights("model.safetensors", {"a": torch.full((5000,), 1.0)})


def one_or_the_other(said: Sequence[float]) -> None:
    values = set(read_tensors("model.safetensors").tensors["a"].tolist())
    assert len(values) == 1
    assert values <= {1.0, 2.0}
    assert not said or values == {2.0}


@operation("weights file over another", before=a_weights_file, check=one_or_the_other)
def writing_weights(answer: Answer) -> None:
    write_weights("model.safetensors", {"a": torch.full((5000,), 2.0)})
    answer(2.0)


def saved_or_not(said: Sequence[str]) -> None:
    for name in {*said, *(["saved"] if os.path.isdir("saved") else [])}:
        assert value_of(load_pretrained(Stone, name)) == 3.0


@operation("save_pretrained", before=lambda: None, check=saved_or_not)
def saving(answer: Answer) -> None:
    if not os.path.isdir("saved"):
        save_pretrained(stone(3.0), "saved")
    answer("saved")


# The registry


def three_versions() -> None:
    open_catalog().plugins()
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


def an_empty_registry() -> None:
    open_catalog().plugins()


def first_right(said: Sequence[str]) -> None:
    listed = {record.version for record in zoo.ModelRegistry().list()}
    assert set(said) <= listed <= {"1.0.0"}
    for version in listed:
        assert value_of(zoo.create(f"local/m@{version}")) == 100.0


@operation("the first register", before=an_empty_registry, check=first_right)
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


# The catalogue


def a_plugin() -> None:
    installed("acme").listing()
    installed("best")


def installed(*namespaces: str) -> Catalogue:
    """A catalogue of plugins in a folder of our own, and of nothing else."""
    site = Site(Path("site"))
    for namespace in namespaces:
        models = [{"name": f"model_{i}", "factory": f"zoo_{namespace}.tiny:Tiny"} for i in range(50)]
        site.plugin(namespace, models=models)
        site.age()
    bare = [path for path in sys.path if not path.endswith("site-packages") and "/src" not in path]
    sys.path[:] = [str(site.folder.resolve()), *bare]
    return Catalogue()


class Catalogue:
    """What is listed, by plugin."""

    def listing(self) -> dict[str, int]:
        """The number of each installed plugin's models."""
        return dict(Counter(row.ref.partition("/")[0] for row in open_catalog().list_models(installed=True)))


def listed_right(said: Sequence[dict[str, int]]) -> None:
    expected = {"acme": 50, "best": 50}
    assert [*said, installed().listing()] == [expected] * (len(said) + 1)


@operation("catalogue rebuild", before=a_plugin, check=listed_right)
def rebuilding(answer: Answer) -> None:
    answer(installed().listing())
