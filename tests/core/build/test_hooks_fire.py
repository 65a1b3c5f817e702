"""create() asks plugins: one brings weights from an address only it knows, one looks at what was built."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

import zoo
from synthetic_plugins import Site

HOOKS = """
    import shutil
    from zoo.plugin.hooks import hookimpl

    seen = []

    @hookimpl
    def checkpoint_source(event):
        if not event.address.startswith("shelf://"):
            return None
        return shutil.copy(event.address.removeprefix("shelf://"), event.folder)

    @hookimpl
    def model_created(event):
        seen.append(event.ref)
        event.model.seen_by = "acme"
"""


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A plugin that knows `shelf://`, and weights on that shelf."""
    site = Site(tmp_path / "site")
    site.plugin("acme", hooks=("checkpoint_source", "model_created"), files={"hooks.py": HOOKS})
    monkeypatch.syspath_prepend(str(site.folder))
    torch.manual_seed(3)
    save_file(timm.create_model("resnet18", num_classes=7).state_dict(), tmp_path / "mine.safetensors")
    yield tmp_path / "mine.safetensors"
    sys.modules.pop("zoo_acme.hooks", None)
    sys.modules.pop("zoo_acme", None)


def fetch(address: str) -> nn.Module:
    return zoo.create("resnet18", checkpoint=address, format="timm", num_classes=7, allow_licenses="unknown")


def test_weights_come_by_a_scheme_of_a_plugins_own_and_are_kept(shelf: Path) -> None:
    model = fetch(f"shelf://{shelf}")
    os.rename(shelf, shelf.with_name("gone"))
    again = fetch(f"shelf://{shelf}")
    assert torch.equal(again.encoder.fc.weight, model.encoder.fc.weight)
    assert again.provenance.source == f"shelf://{shelf}"
    assert again.provenance.pinned == "first-use"


def test_other_bytes_under_the_same_address_are_refused(shelf: Path, zoo_home: Path) -> None:
    fetch(f"shelf://{shelf}")
    for blob in (zoo_home / "blobs" / "sha256").rglob("*"):
        if blob.is_file():
            blob.unlink()
    save_file(timm.create_model("resnet18", num_classes=7).state_dict(), shelf)
    with pytest.raises(zoo.DigestError, match="pinned here on first use"):
        fetch(f"shelf://{shelf}")


def test_a_scheme_nobody_knows_is_named(shelf: Path) -> None:
    with pytest.raises(zoo.SourceError, match="no scheme the zoo knows"):
        fetch(f"attic://{shelf}")


def test_offline_no_plugin_is_asked(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(zoo.OfflineError, match="switched off"):
        fetch(f"shelf://{shelf}")


def test_every_model_that_is_created_is_shown_to_who_asked(shelf: Path) -> None:
    model = zoo.create("resnet18.a1_in1k")
    assert model.seen_by == "acme"
    assert sys.modules["zoo_acme.hooks"].seen == ["cnn/resnet18.a1_in1k@1"]
