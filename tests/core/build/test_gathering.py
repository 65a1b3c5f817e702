"""From a machine with network to one without: what is missing is named, fetched, bundled, and used there."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

import zoo
from loopback_hub import LoopbackHub
from synthetic_plugins import Site
from zoo.build.gathering import gather
from zoo.checkpoints.bundles import bundled, take, write_zip
from zoo.checkpoints.delivery import MissingFile
from zoo.checkpoints.store import Store
from zoo_command import zoo as zoo_command

HOOKS = """
    import os, shutil
    from zoo.plugin.hooks import hookimpl

    @hookimpl
    def checkpoint_source(event):
        scheme, _, path = event.address.partition("://")
        if scheme == "shelf":
            return shutil.copy(path, event.folder)
        if scheme == "broken":
            raise KeyError("shelf")
        if scheme == "empty":
            return os.path.join(event.folder, "nothing")
"""
IN_PARTS = "hf://acme/parts/model.safetensors.index.json"


def checkpoint(name: str, source: str, license: str = "MIT") -> dict[str, Any]:
    """A row of published weights."""
    return {"name": name, "sources": [source], "license": license}


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zoo_home: Path) -> Iterator[Path]:
    """A plugin with a tiny model, whose weights lie on a hub, in parts, and where only the plugin can get them."""
    site = Site(tmp_path / "site")
    rows = [
        checkpoint("hub", "hf://acme/tiny/model.safetensors"),
        checkpoint("parts", IN_PARTS),
        checkpoint("shelf", f"shelf://{tmp_path}/shelf.safetensors"),
        checkpoint("broken", "broken://x/w.safetensors"),
        checkpoint("empty", "empty://x/w.safetensors"),
        checkpoint("restricted", "hf://acme/tiny/model.safetensors", license="CC-BY-NC-4.0"),
    ]
    model = {"name": "tiny", "factory": "zoo_acme.tiny:Tiny", "params": 211, "checkpoints": rows}
    site.plugin("acme", hooks=("checkpoint_source",), files={"hooks.py": HOOKS}, models=[model])
    monkeypatch.syspath_prepend(str(site.folder))
    yield site.folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "zoo_acme"]:
        del sys.modules[name]


@pytest.fixture
def weights(acme: Path) -> dict[str, torch.Tensor]:
    """The tiny model's weights."""
    torch.manual_seed(5)
    return {name: tensor.clone() for name, tensor in zoo.create("acme/tiny").state_dict().items()}


@pytest.fixture
def filled(hub: LoopbackHub, weights: dict[str, torch.Tensor], tmp_path: Path) -> LoopbackHub:
    """The hub and the shelf with those weights."""
    hub.add("acme/tiny", "model.safetensors", save(weights))
    (tmp_path / "shelf.safetensors").write_bytes(save(weights))
    parts = {f"model-0000{n}-of-00004.safetensors": [name] for n, name in enumerate(weights, start=1)}
    for file, names in parts.items():
        hub.add("acme/parts", file, save({name: weights[name] for name in names}))
    index = {"metadata": {}, "weight_map": {name: file for file, names in parts.items() for name in names}}
    hub.add("acme/parts", "model.safetensors.index.json", json.dumps(index).encode(), lfs=False)
    return hub


@pytest.fixture
def sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network by the variable, and no socket by force."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setenv("ZOO_OFFLINE", "1")
    for name in ("socket", "create_connection", "getaddrinfo", "socketpair"):
        monkeypatch.setattr(socket, name, refuse)


def test_the_hubs_own_switch_opens_no_socket_either(acme: Path, sealed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZOO_OFFLINE")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for ref in ("acme/tiny.hub", "acme/tiny.parts", "acme/tiny.shelf"):
        with pytest.raises(zoo.OfflineError) as caught:
            gather(ref, Store())
        assert caught.value.missing


@pytest.mark.parametrize("ref", ["acme/tiny.hub", "hf://acme/x", "hf://acme/x/model.safetensors"])
def test_gathering_offline_names_the_commands_that_get_the_files_elsewhere(acme: Path, sealed: None, ref: str) -> None:
    with pytest.raises(zoo.OfflineError) as caught:
        gather(ref, Store())
    assert caught.value.missing
    assert f"zoo bundle {ref}" in str(caught.value.fix)


def missing(ref: str, **options: Any) -> zoo.OfflineError:
    """The error of creating a model that is not all here."""
    with pytest.raises(zoo.OfflineError) as caught:
        zoo.create(ref, **options)
    return caught.value


def test_offline_the_missing_file_and_the_commands_that_get_it_elsewhere_are_named(acme: Path, sealed: None) -> None:
    error = missing("acme/tiny.hub", pretrained=True)
    assert error.missing == (MissingFile("model.safetensors", None, None, ("hf://acme/tiny/model.safetensors",)),)
    assert "acme/tiny.hub@1: 1 file is not on this machine" in error.message
    assert "model.safetensors, hf://acme/tiny/model.safetensors" in error.message
    for command in ("zoo bundle acme/tiny.hub@1 -o FILE.zip", "zoo cache add FILE.zip", "zoo fetch acme/tiny.hub@1 -o"):
        assert command in str(error.fix)


def test_size_and_digest_are_named_where_they_are_known(sealed: None) -> None:
    error = missing("resnet18.tv_in1k", pretrained=True)
    lost = error.missing[0]
    assert isinstance(lost, MissingFile)
    for text in (lost.name, *lost.sources, *([f"sha256 {lost.sha256}"] if lost.sha256 else [])):
        assert text in error.message
    known = str(MissingFile("w.pth", 12_345, "a" * 64, ("https://x.example/w.pth",)))
    assert known == f"w.pth, 12,345 bytes, sha256 {'a' * 64}, https://x.example/w.pth"


def test_a_file_of_ones_own_choice_is_named_by_its_address(acme: Path, sealed: None) -> None:
    source = "https://example.com/w.safetensors"
    error = missing("acme/tiny", checkpoint=source)
    assert error.missing == (MissingFile("w.safetensors", None, None, (source,)),)
    assert f"zoo bundle {source} -o FILE.zip" in str(error.fix)


def test_of_weights_in_parts_those_that_are_missing_are_named(
    filled: LoopbackHub, zoo_home: Path, request: pytest.FixtureRequest
) -> None:
    files = gather("acme/tiny.parts", Store())
    assert [file.new for file in files] == [True] * 5
    lost = [file.fetched.path for file in files[2:4]]
    for path in lost:
        os.unlink(path)
    request.getfixturevalue("sealed")
    error = missing("acme/tiny.parts", pretrained=True)
    names = [f.name for f in error.missing if isinstance(f, MissingFile)]
    assert names == ["model-00002-of-00004.safetensors", "model-00003-of-00004.safetensors"]
    assert "2 files are not on this machine" in error.message
    os.unlink(files[0].fetched.path)
    assert "and the files that this index names" in missing("acme/tiny.parts", pretrained=True).message


def test_of_a_saved_model_both_files_are_named(hub: LoopbackHub, acme: Path, sealed: None) -> None:
    error = missing("hf://acme/saved")
    assert [f.name for f in error.missing if isinstance(f, MissingFile)] == ["config.json", "model.safetensors"]
    assert "zoo bundle hf://acme/saved -o" in str(error.fix)


def carried_to_another_machine(refs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundle here, take there, and be there from now on."""
    store = Store()
    files = [file for ref in refs for file in gather(ref, store, allow_licenses="*")]
    path = str(tmp_path / "bundle.zip")
    write_zip(path, refs, [bundled(file.sources, file.fetched) for file in files], store)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "another-home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "another-hf-home"))
    take(path, Store())


@pytest.mark.parametrize("name", ["hub", "parts", "shelf"])
def test_what_was_bundled_is_created_without_network(
    filled: LoopbackHub,
    weights: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    name: str,
) -> None:
    carried_to_another_machine([f"acme/tiny.{name}"], tmp_path, monkeypatch)
    request.getfixturevalue("sealed")
    model = zoo.create(f"acme/tiny.{name}", pretrained=True)
    assert all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())


def test_a_saved_model_is_carried_too(
    hub: LoopbackHub,
    acme: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    model = zoo.create("acme/tiny").eval()
    model.save_pretrained(tmp_path / "saved")
    for name in os.listdir(tmp_path / "saved"):
        hub.add("acme/saved", name, (tmp_path / "saved" / name).read_bytes())
    with pytest.raises(zoo.LicenseError, match="no known licence"):
        gather("hf://acme/saved", Store())
    assert not any("safetensors" in request.path for request in hub.seen)  # refused before the weights came
    carried_to_another_machine(["hf://acme/saved"], tmp_path, monkeypatch)
    request.getfixturevalue("sealed")
    again = zoo.create("hf://acme/saved", allow_licenses="unknown")
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in model.state_dict().items())


def test_licences_hold_for_what_is_fetched(filled: LoopbackHub) -> None:
    with pytest.raises(zoo.LicenseError, match="CC-BY-NC-4"):
        gather("acme/tiny.restricted", Store())
    assert filled.seen == []
    assert gather("acme/tiny.restricted", Store(), allow_licenses=["CC-BY-NC-4.0"])[0].new


def test_what_is_here_is_not_fetched_again(filled: LoopbackHub) -> None:
    first, again = gather("acme/tiny.hub", Store()), gather("acme/tiny.hub", Store())
    assert [file.new for file in (*first, *again)] == [True, False]
    assert first[0].fetched == again[0].fetched


def test_what_has_no_files_to_fetch_is_told(hub: LoopbackHub, acme: Path) -> None:
    refused: dict[str, type[zoo.ZooError]] = {
        "local/mine@1.0.0": zoo.UnsupportedError,
        "acme/tiny.nothing": zoo.NotFoundError,
        "classifier": zoo.NotFoundError,
        "no_such_model": zoo.NotFoundError,
        "a b": zoo.RefError,
        "hf://acme/none": zoo.SourceError,
        "ftp://x/w.pth": zoo.SourceError,
    }
    for ref, error in refused.items():
        with pytest.raises(error) as caught:
            gather(ref, Store())
        assert caught.value.fix, ref


def test_a_plugin_that_fails_over_its_own_scheme_is_named(acme: Path) -> None:
    for name, why in (("broken", "its hook checkpoint_source raised KeyError"), ("empty", "which is no file")):
        with pytest.raises(zoo.SourceError, match=why) as caught:
            gather(f"acme/tiny.{name}", Store())
        assert "zoo-acme" in str(caught.value) or "acme" in str(caught.value.fix)


def test_the_commands_carry_a_file_from_one_home_to_another(filled: LoopbackHub, acme: Path, tmp_path: Path) -> None:
    def run(home: str, *words: str, **env: str) -> Any:
        settings = {"ZOO_HOME": str(tmp_path / home), "HF_HOME": str(tmp_path / home), **env}
        done = zoo_command(*words, "--json", site=acme, cwd=tmp_path, env=settings)
        assert (done.code, done.err) == (0, "")
        return json.loads(done.out)

    fetched = run("here", "fetch", "acme/tiny.hub", "-o", "folder")["files"]
    assert [file["fetched"] for file in fetched] == [True]
    run("here", "bundle", "acme/tiny.hub", "-o", "file.zip")
    for home, carried in (("there", "folder"), ("elsewhere", "file.zip")):
        run(home, "cache", "add", carried, ZOO_OFFLINE="1")
        (here,) = run(home, "fetch", "acme/tiny.hub", ZOO_OFFLINE="1")["files"]
        assert (here["fetched"], here["sha256"]) == (False, fetched[0]["sha256"])


def test_fetching_needs_no_torch(filled: LoopbackHub, acme: Path, tmp_path: Path) -> None:
    (acme / "torch").mkdir()
    (acme / "torch" / "__init__.py").write_text("raise SystemExit('torch was imported')")
    env = {"ZOO_HOME": str(tmp_path / "home")}
    done = zoo_command("fetch", "acme/tiny.parts", site=acme, env=env)
    assert (done.code, done.err) == (0, "")
    assert done.out.count("acme/tiny.parts@1: fetched, hf://acme/parts@") == 5
