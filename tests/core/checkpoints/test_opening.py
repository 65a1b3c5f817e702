"""Opening checkpoints: from a record to tensors, and to a structure without the tensors."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from loopback_hub import LoopbackHub
from zoo.checkpoints.headers import TensorInfo
from zoo.checkpoints.opening import open_checkpoint, peek_structure
from zoo.checkpoints.sources import fetch
from zoo.checkpoints.store import Store
from zoo.checkpoints.writing import serialize
from zoo.errors import FormatError
from zoo.specs import CheckpointSpec

STATE = {"conv.weight": torch.randn(64, 32, 3, 3), "steps": torch.tensor(3)}
STRUCTURE = {"conv.weight": TensorInfo("F32", (64, 32, 3, 3)), "steps": TensorInfo("I64", ())}
SAFE = b"".join(serialize(STATE, {"note": "hello"}))


def record(*sources: str, **values: Any) -> CheckpointSpec:
    """A checkpoint's record."""
    return CheckpointSpec(name="x", sources=sources, **values)


def is_state(tensors: dict[str, Tensor]) -> bool:
    """Whether these are `STATE`."""
    return tensors.keys() == STATE.keys() and all(torch.equal(tensors[name], STATE[name]) for name in STATE)


@pytest.fixture
def torch_file(tmp_path: Path) -> Path:
    """A published `.pth` with `STATE`."""
    torch.save({"state_dict": STATE}, tmp_path / "net.pth")
    return tmp_path / "net.pth"


def test_a_checkpoint_from_the_hub_opens_with_its_identity(hub: LoopbackHub, store: Store) -> None:
    commit = hub.add("acme/model", "m.safetensors", SAFE)
    opened = open_checkpoint(record("hf://acme/model/m.safetensors"), store=store)
    assert is_state(opened.tensors)
    assert opened.metadata["note"] == "hello"
    assert opened[2:5] == (hashlib.sha256(SAFE).hexdigest(), f"hf://acme/model@{commit}/m.safetensors", "first-use")


def test_published_weights_never_come_from_a_file_of_the_callers(
    hub: LoopbackHub, store: Store, tmp_path: Path
) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes(SAFE)
    open_checkpoint(record(f"file://{own}"), store=store)
    published = record(hub.serve("/m.safetensors", SAFE), sha256=hashlib.sha256(SAFE).hexdigest())
    opened = open_checkpoint(published, store=store)
    own.write_bytes(b"\0" * len(SAFE))  # saved over in place, which a map would show
    assert is_state(opened.tensors)
    assert opened.path == store.blob_path(opened.sha256)


def test_a_torch_file_is_converted_once_and_keeps_its_own_digest(torch_file: Path, store: Store) -> None:
    spec = record(f"file://{torch_file}")
    first = open_checkpoint(spec, store=store)
    assert is_state(first.tensors)
    assert first.sha256 == hashlib.sha256(torch_file.read_bytes()).hexdigest() == first.metadata["zoo.origin_sha256"]
    assert first.path.startswith(store.root)
    inode = os.stat(first.path).st_ino
    assert open_checkpoint(spec, store=store).path == first.path
    assert os.stat(first.path).st_ino == inode


def test_a_file_of_the_callers_is_not_mapped(tmp_path: Path, store: Store) -> None:
    (tmp_path / "m.safetensors").write_bytes(SAFE)
    opened = open_checkpoint(record(f"file://{tmp_path}/m.safetensors"), store=store)
    (tmp_path / "m.safetensors").write_bytes(b"")  # saved over in place, as safetensors' own save_file does
    assert is_state(opened.tensors)


def test_a_file_of_another_format_is_offered_to_readers_in_turn(tmp_path: Path, store: Store) -> None:
    (tmp_path / "m.onnx").write_bytes(b"something")
    asked: list[str] = []

    def declines(path: str) -> None:
        asked.append(path)

    spec = record(f"file://{tmp_path}/m.onnx")
    opened = open_checkpoint(spec, readers=(declines, lambda path: STATE), store=store)
    assert is_state(opened.tensors)
    assert asked == [str(tmp_path / "m.onnx")]
    with pytest.raises(FormatError, match="no installed plugin reads"):
        open_checkpoint(spec, readers=(declines,), store=store)


@pytest.mark.parametrize("name", ["net", "net.pkl", "net.tar", "net.pyth", "net.model"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_torch_file_is_known_by_its_bytes_where_its_name_says_nothing(
    tmp_path: Path, store: Store, name: str, legacy: bool
) -> None:
    torch.save({"state_dict": STATE}, tmp_path / name, _use_new_zipfile_serialization=not legacy)
    assert is_state(open_checkpoint(record(f"file://{tmp_path}/{name}"), store=store).tensors)


def test_a_file_of_another_kind_is_not_taken_for_torch_s(tmp_path: Path, store: Store) -> None:
    with zipfile.ZipFile(tmp_path / "some.npz", "w") as archive:
        archive.writestr("a.npy", b"1234")
    (tmp_path / "some.pkl").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "none").write_bytes(b"")
    for name in ("some.npz", "some.pkl", "none"):
        with pytest.raises(FormatError, match="no installed plugin reads"):
            open_checkpoint(record(f"file://{tmp_path}/{name}"), store=store)


@pytest.mark.parametrize("place", ["headers.open", "files.torch.UntypedStorage.from_file", "torch_files.open"])
def test_a_file_that_a_collector_had_in_its_hand_is_opened_all_the_same(
    hub: LoopbackHub, store: Store, torch_file: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Between the finding and the opening it lies in the trash, from where the next who asks brings it back."""
    hub.add("acme/model", "m.safetensors", SAFE)
    hub.add("acme/model", "m.pth", torch_file.read_bytes())
    name = "m.pth" if place == "torch_files.open" else "m.safetensors"
    spec = record(f"hf://acme/model/{name}")
    blob = store.blob_path(fetch(spec.sources, store=store).sha256)
    module, _, rest = place.partition(".")
    real = open if rest == "open" else torch.UntypedStorage.from_file
    thrown: list[str] = []

    def late(path: str, *more: Any, **options: Any) -> Any:
        if path == blob and not thrown:
            thrown.append(store.trash.throw(path))
        return real(path, *more, **options)  # type: ignore[operator]  # one of two functions

    monkeypatch.setattr(f"zoo.checkpoints.{module}.{rest}", late, raising=False)
    assert is_state(open_checkpoint(spec, store=store).tensors)
    assert thrown


def test_a_file_that_is_gone_is_a_format_error(hub: LoopbackHub, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("acme/model", "m.safetensors", SAFE)
    spec = record("hf://acme/model/m.safetensors")
    fetched = fetch(spec.sources, store=store)
    os.unlink(fetched.path)
    monkeypatch.setattr("zoo.checkpoints.opening.fetch", lambda *_, **__: fetched)
    with pytest.raises(FormatError, match="No such file"):
        open_checkpoint(spec, store=store)


def test_a_pickle_by_any_other_name_is_not_opened(tmp_path: Path, torch_file: Path, store: Store) -> None:
    torch_file.rename(tmp_path / "net.safetensors")
    with pytest.raises(FormatError, match="not a sound safetensors file"):
        open_checkpoint(record(f"file://{tmp_path}/net.safetensors"), store=store)


def test_a_structure_on_the_hub_costs_a_few_kilobytes(hub: LoopbackHub, store: Store) -> None:
    large = b"".join(serialize({"weight": torch.zeros(1_000_000)}))
    hub.add("acme/model", "m.safetensors", large)
    assert peek_structure(record("hf://acme/model/m.safetensors"), store=store) == {
        "weight": TensorInfo("F32", (1_000_000,))
    }
    assert 0 < hub.body_bytes < 20_000
    before = hub.body_bytes
    assert peek_structure(record(hub.serve("/m.safetensors", large)), store=store) is not None
    assert hub.body_bytes - before < 20_000


def test_a_structure_with_a_long_header_takes_one_more_look(hub: LoopbackHub, store: Store) -> None:
    state = {f"blocks.{i}.some.rather.long.name.weight": torch.zeros(1000) for i in range(800)}
    hub.add("acme/model", "m.safetensors", b"".join(serialize(state)))
    structure = peek_structure(record("hf://acme/model/m.safetensors"), store=store)
    assert structure is not None
    assert structure.keys() == state.keys()
    assert len(hub.of("cdn", "GET")) == 2
    assert hub.body_bytes < 120_000


def test_a_structure_that_is_on_this_machine_asks_nobody(hub: LoopbackHub, store: Store, torch_file: Path) -> None:
    (torch_file.parent / "m.safetensors").write_bytes(SAFE)
    remote = "hf://acme/model/m.safetensors"
    for name in ("m.safetensors", "net.pth"):
        assert peek_structure(record(f"file://{torch_file.parent}/{name}", remote), store=store) == STRUCTURE
    hub.add("acme/model", "m.safetensors", SAFE)
    open_checkpoint(record(remote), store=store)
    before = len(hub.seen)
    assert peek_structure(record("pkg://not-there/m.safetensors", remote), store=store) == STRUCTURE
    assert len(hub.seen) == before


def test_a_structure_that_cannot_be_known_is_none(
    hub: LoopbackHub, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("acme/model", "net.pth", SAFE)
    (tmp_path / "m.onnx").write_bytes(b"something")
    assert peek_structure(record("hf://acme/model/net.pth"), store=store) is None
    assert peek_structure(record(f"file://{tmp_path}/m.onnx"), store=store) is None
    assert peek_structure(record("pkg://not-there/m.safetensors"), store=store) is None
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert peek_structure(record("hf://acme/model/m.safetensors"), store=store) is None
    monkeypatch.delenv("ZOO_OFFLINE")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert peek_structure(record("hf://acme/model/m.safetensors"), store=store) is None


def test_a_source_that_has_no_structure_leaves_it_to_the_next(hub: LoopbackHub, store: Store, tmp_path: Path) -> None:
    nowhere = "hf://acme/none/m.safetensors"
    assert peek_structure(record(nowhere), store=store) is None  # opening it then says why
    assert peek_structure(record(nowhere, hub.serve("/m.safetensors", SAFE)), store=store) == STRUCTURE
    (tmp_path / "m.safetensors").write_bytes(SAFE)
    assert peek_structure(record(nowhere, f"file://{tmp_path}/m.safetensors"), store=store) == STRUCTURE


def test_a_hostile_header_on_the_hub_is_a_format_error(hub: LoopbackHub, store: Store) -> None:
    hub.add("acme/model", "m.safetensors", (20_000).to_bytes(8, "little") + b"{" * 50_000)
    with pytest.raises(FormatError):
        peek_structure(record("hf://acme/model/m.safetensors"), store=store)


WARM = """
import sys
from zoo.checkpoints.opening import open_checkpoint, peek_structure
from zoo.specs import CheckpointSpec
spec = CheckpointSpec(name="x", sources=(sys.argv[1],), sha256=sys.argv[2] or None)
assert peek_structure(spec) is not None
tensors = open_checkpoint(spec).tensors
print(sorted(tensors), "huggingface_hub" in sys.modules)
"""


@pytest.mark.parametrize("declared", [True, False])
def test_a_stored_checkpoint_opens_without_network_or_its_client(
    hub: LoopbackHub, store: Store, declared: bool
) -> None:
    hub.add("acme/model", "m.safetensors", SAFE)
    source = "hf://acme/model/m.safetensors"
    open_checkpoint(record(source), store=store)
    before = len(hub.seen)
    digest = hashlib.sha256(SAFE).hexdigest() if declared else ""
    environment = {**os.environ, "ZOO_HOME": store.root}
    done = subprocess.run(
        [sys.executable, "-c", WARM, source, digest], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout == "['conv.weight', 'steps'] False\n"
    assert len(hub.seen) == before
