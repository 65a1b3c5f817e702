"""Sharded checkpoints: one model in several files, wherever they lie, and an index that is believed in nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from loopback_hub import LoopbackHub
from zoo.checkpoints.files import read_tensors
from zoo.checkpoints.headers import TensorInfo
from zoo.checkpoints.opening import FileFact, files_of, is_here, open_checkpoint, peek_structure
from zoo.checkpoints.sharding import beside, read_index
from zoo.checkpoints.store import Store
from zoo.checkpoints.writing import serialize, write_sharded
from zoo.errors import FormatError, OfflineError, SourceError
from zoo.specs import CheckpointSpec

INDEX = "model.safetensors.index.json"
A, B = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
STATE = {"embed.weight": torch.randn(64, 32), "steps": torch.tensor(3), "head.weight": torch.randn(64, 32)}
STRUCTURE = {name: TensorInfo("I64" if name == "steps" else "F32", tuple(STATE[name].shape)) for name in STATE}


def written(folder: Path, tensors: dict[str, Tensor] = STATE) -> Path:
    """A folder of shards."""
    folder.mkdir(parents=True, exist_ok=True)
    assert write_sharded(str(folder), tensors, {"note": "hello"}, max_bytes=9000) == INDEX
    return folder


def record(*sources: str, **values: Any) -> CheckpointSpec:
    """A checkpoint's record."""
    return CheckpointSpec(name="x", sources=sources, **values)


def is_state(tensors: dict[str, Tensor]) -> bool:
    """Whether these are `STATE`."""
    return tensors.keys() == STATE.keys() and all(torch.equal(tensors[name], STATE[name]) for name in STATE)


def publish(hub: LoopbackHub, folder: Path, repo: str = "acme/model") -> str:
    """The folder on the hub. Returns its commit."""
    return [hub.add(repo, p.name, p.read_bytes(), lfs=p.suffix != ".json") for p in sorted(folder.iterdir())][-1]


def test_shards_hold_what_the_index_says(tmp_path: Path) -> None:
    written(tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"]["total_size"] == 2 * 64 * 32 * 4 + 8
    assert index["weight_map"] == {"embed.weight": A, "steps": A, "head.weight": B}
    assert sorted(p.name for p in tmp_path.iterdir()) == [A, B, INDEX]
    assert read_tensors(str(tmp_path / A)).metadata["note"] == "hello"


def test_what_fits_one_file_is_one_file(tmp_path: Path) -> None:
    assert write_sharded(str(tmp_path), STATE, max_bytes=10_000_000) == "model.safetensors"
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_tied_names_share_a_shard_and_stay_tied(tmp_path: Path, store: Store) -> None:
    weight = torch.randn(64, 32)
    written(tmp_path, {"a": weight, "b": torch.randn(64, 32), "z": weight})
    assert json.loads((tmp_path / INDEX).read_text())["weight_map"] == {"a": A, "b": B}
    tensors = open_checkpoint(record(f"file://{tmp_path}/{INDEX}"), store=store).tensors
    assert tensors["z"] is tensors["a"]
    assert torch.equal(tensors["z"], weight)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_a_local_index_opens_its_shards(tmp_path: Path, store: Store, suffix: str) -> None:
    if suffix == ".bin":
        torch.save({name: STATE[name] for name in ("embed.weight", "steps")}, tmp_path / "p-1.bin")
        torch.save({"head.weight": STATE["head.weight"]}, tmp_path / "p-2.bin")
        weight_map = {"embed.weight": "p-1.bin", "steps": "p-1.bin", "head.weight": "p-2.bin"}
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    else:
        written(tmp_path)
    index = next(tmp_path.glob("*.index.json"))
    spec = record(f"file://{index}")
    assert peek_structure(spec, store=store) == STRUCTURE
    assert is_state(open_checkpoint(spec, store=store).tensors)


def test_a_hub_checkpoint_is_fetched_once_in_one_revision(hub: LoopbackHub, store: Store, tmp_path: Path) -> None:
    commit = publish(hub, written(tmp_path / "new"))
    spec = record(f"hf://acme/model/{INDEX}")
    assert files_of(spec, store) == [FileFact(spec.sources)]
    assert not is_here(spec, store)
    opened = open_checkpoint(spec, store=store)
    assert is_state(opened.tensors)
    assert (opened.source, opened.pinned) == (f"hf://acme/model@{commit}/{INDEX}", "first-use")
    assert opened.metadata["note"] == "hello"
    shards = [(f"hf://acme/model@{commit}/{name}", f"hf://acme/model/{name}") for name in (A, B)]
    assert [fact.sources for fact in files_of(spec, store)] == [spec.sources, *shards]
    assert is_here(spec, store)
    before = len(hub.seen)
    assert is_state(open_checkpoint(spec, store=store).tensors)
    assert peek_structure(spec, store=store) == STRUCTURE
    assert len(hub.seen) == before


def test_shards_come_from_the_revision_their_index_came_from(hub: LoopbackHub, store: Store, tmp_path: Path) -> None:
    publish(hub, written(tmp_path / "old"))
    spec = record(f"hf://acme/model/{INDEX}")
    peek_structure(spec, store=store)  # brings the index
    other = {name: torch.zeros_like(tensor) for name, tensor in STATE.items()}
    publish(hub, written(tmp_path / "new", other))
    assert is_state(open_checkpoint(spec, store=store).tensors)


def test_shards_on_a_server_are_mapped_from_the_store(hub: LoopbackHub, store: Store, tmp_path: Path) -> None:
    folder = written(tmp_path / "w")
    addresses = {p.name: hub.serve(f"/dir/{p.name}", p.read_bytes()) for p in folder.iterdir()}
    spec = record(addresses[INDEX])
    assert peek_structure(spec, store=store) == STRUCTURE
    tensors = open_checkpoint(spec, store=store).tensors
    assert is_state(tensors)
    with open("/proc/self/maps", encoding="utf-8") as maps:
        assert sum(store.root in line for line in maps) >= 2


def test_the_structure_of_shards_costs_only_their_headers(hub: LoopbackHub, store: Store, tmp_path: Path) -> None:
    tmp_path.joinpath("w").mkdir()
    large = {"a": torch.zeros(300_000), "b": torch.zeros(300_000)}
    write_sharded(str(tmp_path / "w"), large, max_bytes=1_200_000)
    publish(hub, tmp_path / "w")
    structure = peek_structure(record(f"hf://acme/model/{INDEX}"), store=store)
    assert structure == {"a": TensorInfo("F32", (300_000,)), "b": TensorInfo("F32", (300_000,))}
    assert hub.body_bytes < 60_000


def test_a_shard_that_is_not_there_is_named(hub: LoopbackHub, store: Store, tmp_path: Path) -> None:
    folder = written(tmp_path / "w")
    (folder / B).unlink()
    with pytest.raises(SourceError, match=B):
        open_checkpoint(record(f"file://{folder}/{INDEX}"), store=store)
    publish(hub, folder)
    with pytest.raises(SourceError, match=B):
        open_checkpoint(record(f"hf://acme/model/{INDEX}"), store=store)


def test_a_missing_shard_is_an_offline_error_without_network(
    hub: LoopbackHub, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(hub, written(tmp_path / "w"))
    spec = record(f"hf://acme/model/{INDEX}")
    peek_structure(spec, store=store)
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(OfflineError, match=A):
        open_checkpoint(spec, store=store)


@pytest.mark.parametrize(
    ("shards", "why"),
    [
        ({A: {"a": 1}, B: {"b": 1}}, "holds 'b', and the index says it is in model-00001"),
        ({A: {"a": 1, "b": 1}, B: {"c": 1, "d": 1}}, "holds 'd', and the index does not know it"),
        ({A: {"a": 1, "b": 1, "c": 1}, B: {}}, "holds 'c', and the index says it is in model-00002"),
        ({A: {"a": 1, "b": 1}, B: {"c": 1, "a": 1}}, "holds 'a', and the index says"),
        ({A: {"a": 1, "b": 1}, B: {}}, "'c' is not in model-00002"),
        ({A: {}, B: {"c": 1}}, "1 more are not where it says"),
    ],
)
def test_every_tensor_is_where_the_index_says(
    hub: LoopbackHub, store: Store, tmp_path: Path, shards: dict[str, dict[str, int]], why: str
) -> None:
    contents = {name: b"".join(serialize({n: torch.ones(4) for n in held})) for name, held in shards.items()}
    contents[INDEX] = json.dumps({"weight_map": {"a": A, "b": A, "c": B}}).encode()
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        address = hub.serve(f"/{name}", content)
    with pytest.raises(FormatError, match=why):
        open_checkpoint(record(f"file://{tmp_path}/{INDEX}"), store=store)
    with pytest.raises(FormatError, match=why):  # before anything but headers has come
        peek_structure(record(address), store=store)
    assert not is_here(record(address), store)


def index_of(*shards: Any) -> bytes:
    """An index that names these files."""
    return json.dumps({"weight_map": {f"t{i}": shard for i, shard in enumerate(shards)}}).encode()


ELSEWHERE = ["../a.safetensors", "/etc/a.safetensors", "d/a.safetensors", "d\\a.safetensors", "https://x.y/a.bin"]
ELSEWHERE += [
    "hf:a.bin",
    "..%2fa.safetensors",
    ".a.safetensors",
    "a.safetensors?x=1",
    "a.bin#b",
    "~a.bin",
    "",
    "a b.bin",
]
ELSEWHERE += ["a\0.bin", "a.safetensors\n", "model.safetensors.index.json", "a.py", "a" * 300 + ".bin", "ä.bin"]


@pytest.mark.parametrize("shard", [*ELSEWHERE, 3, None, ["a.bin"], {}])
def test_a_shard_is_a_plain_file_beside_the_index(tmp_path: Path, shard: Any) -> None:
    (tmp_path / INDEX).write_bytes(index_of("fine.safetensors", shard))
    with pytest.raises(FormatError, match="no weights file beside it"):
        read_index(str(tmp_path / INDEX))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b"null", b'{"weight_map": {}}', b'{"weight_map": []}', b"\xff\xfe", b"[" * 200_000,
     b'{"weight_map": {"\\ud800": "a.bin"}}',
     b'{"a":' * 50_000, b'{"weight_map": {"a": "a.bin", "a": "b.bin"}}', b'{"weight_map": 1' + b"0" * 9000 + b"}",
     index_of(*(f"{i}.bin" for i in range(4097)))],
    ids=range(14),
)  # fmt: skip
def test_what_is_no_index_is_a_format_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / INDEX).write_bytes(content)
    with pytest.raises(FormatError, match=r"model\.safetensors\.index\.json"):
        read_index(str(tmp_path / INDEX))


def test_a_huge_index_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / INDEX, "wb") as file:
        os.truncate(file.fileno(), 30_000_000)
    with pytest.raises(FormatError, match="larger than"):
        read_index(str(tmp_path / INDEX))


def test_an_index_says_what_metadata_it_likes(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"metadata": [1], "weight_map": {"a": "a.bin"}, "more": 1}))
    assert read_index(str(tmp_path / INDEX)) == ({"a": "a.bin"}, {})


@pytest.mark.parametrize(
    ("index", "shard"),
    [
        ("hf://acme/model@main/sub/i.index.json", "hf://acme/model@main/sub/a+b.bin"),
        ("file://i.index.json", "file://a+b.bin"),
        ("pkg://dist/pack/i.index.json", "pkg://dist/pack/a+b.bin"),
        ("https://h/d/i.index.json?download=true", "https://h/d/a%2Bb.bin?download=true"),
    ],
)
def test_a_shard_lies_beside_its_index_under_every_scheme(index: str, shard: str) -> None:
    assert beside(index, "a+b.bin") == shard
