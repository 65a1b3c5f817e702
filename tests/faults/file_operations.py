"""Storing, converting, adopting, locking; weights files and saved models; the catalogue: each killed."""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from killing import Answer
from operations import nothing, operation
from stones import Stone, stone, value_of

from synthetic_plugins import Site
from zoo.build.pretrained import load_pretrained, save_pretrained
from zoo.catalog import open_catalog
from zoo.checkpoints import lock
from zoo.checkpoints.conversion import CONVERTER, convert
from zoo.checkpoints.files import read_tensors
from zoo.checkpoints.sources import fetch
from zoo.checkpoints.store import Store, digest_of
from zoo.checkpoints.writing import write_weights

# The store

OLD, NEW = b"old" * 20_000, b"new" * 50_000


def an_old_blob() -> None:
    Store().put([OLD])


def stored_whole(said: Sequence[str]) -> None:
    """Blobs are right wherever they are (`soundness.flaws`); here: those that were acknowledged are there."""
    store = Store()
    assert store.find(hashlib.sha256(OLD).hexdigest())
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


# Locks

LOCKED = {name: lock.LockedModel(ref=f"acme/{name}", kind="model", spec="0" * 64) for name in ("old", "new")}


def an_old_lock() -> None:
    lock.write("zoo.lock", lock.Lock({"old": LOCKED["old"]}))
    Store().note_lock(os.path.abspath("zoo.lock"))


def locked_right(said: Sequence[list[str]]) -> None:
    found = lock.read("zoo.lock").models
    assert found in ({"old": LOCKED["old"]}, LOCKED)
    assert not said or found == LOCKED


@operation("lock", before=an_old_lock, check=locked_right)
def locking(answer: Answer) -> None:
    lock.write("zoo.lock", lock.Lock(LOCKED))
    answer(list(LOCKED))


# Weights files, saved models


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


@operation("save_pretrained", before=nothing, check=saved_or_not)
def saving(answer: Answer) -> None:
    if not os.path.isdir("saved"):
        save_pretrained(stone(3.0), "saved")
    answer("saved")


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
