"""The same bytes under several names are one blob, for whoever opens them."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from safetensors.torch import save
from torch import nn

import zoo
from loopback_hub import LoopbackHub
from synthetic_plugins import Site, manifest_of
from zoo.checkpoints.collection import collect
from zoo.checkpoints.holdings import holdings
from zoo.checkpoints.store import Store
from zoo.versions.keeping import registered_blobs

FIELDS = {"properties": {name: {"type": "integer"} for name in ("width", "num_classes")}}


def weights() -> bytes:
    """A file that fits the synthetic plugin's model."""
    torch.manual_seed(1)
    parts = {"stem": nn.Conv2d(3, 4, 4, stride=4), "head": nn.Linear(4, 3)}
    return save({f"{part}.{name}": tensor for part, m in parts.items() for name, tensor in m.state_dict().items()})


DATA = weights()
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def published(tmp_path: Path, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A plugin whose model has two checkpoints with a digest and two without, all of them the same file elsewhere."""
    rows: list[dict[str, Any]] = []
    for name, digest in (("one", SHA), ("two", SHA), ("three", None), ("four", None)):
        hub.add(f"org/{name}", "model.safetensors", DATA)
        sources = [f"hf://org/{name}/model.safetensors"]
        rows.append({"name": name, "sources": sources, "license": "MIT", "num_classes": 3, "sha256": digest})
    manifest = manifest_of("acme")
    manifest["models"][0]["checkpoints"] = rows
    manifest["schemas"] = {manifest["models"][0]["factory"]: FIELDS}
    site = Site(tmp_path / "site")
    site.plugin("acme", manifest)
    monkeypatch.syspath_prepend(str(site.folder))
    monkeypatch.setenv("ZOO_PLUGINS", "acme")
    yield hub
    for name in [name for name in sys.modules if name.partition(".")[0] == "zoo_acme"]:
        del sys.modules[name]


def created(name: str) -> nn.Module:
    model = zoo.create(f"acme/tiny.{name}", pretrained=True)
    assert model.provenance.sha256 == SHA
    return model


def test_checkpoints_that_are_the_same_file_share_one_blob(published: LoopbackHub) -> None:
    models = [created("one")]
    published.seen.clear()
    models.append(created("two"))
    assert not published.seen, "its digest is here"
    models += [created(name) for name in ("three", "four")]
    assert [blob.sha256 for blob in holdings(Store()).blobs] == [SHA]
    for model in models[1:]:
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, models[0].state_dict()[name])


def test_a_shared_blob_stays_while_any_of_its_names_keeps_it(published: LoopbackHub) -> None:
    model = created("one")
    for name in ("three", "four"):
        created(name)
    kept = zoo.register_model(model, name="mine", version="1.0.0")
    store = Store()
    for blob in holdings(store).blobs:
        os.utime(blob.path, (0, 0))
    gone = collect(store, [registered_blobs()], everything=True)
    assert {one.sha256 for one in gone.taken if one.sha256} == {SHA} - {kept.sha256}
    assert zoo.create("local/mine@1.0.0") is not None
    created("two")  # fetched anew, where it has gone


def test_a_store_that_cannot_be_written_serves_what_it_has(
    published: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    created("one")
    created("three")
    store = Store()
    os.utime(store.blob_path(SHA), (0, 0))  # so that the use would be noted
    before = {str(path) for path in Path(store.root).rglob("*")}

    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    for name in ("utime", "makedirs", "mkdir", "open", "rename", "replace", "link", "unlink"):
        monkeypatch.setattr(os, name, refuse)
    try:
        for name in ("one", "three"):
            created(name)
    finally:
        monkeypatch.undo()
    assert {str(path) for path in Path(store.root).rglob("*")} == before
