"""A lock written on one machine gives the same models, from the same bytes, on another; anything else is an error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file, save
from torch import nn

import zoo
from loopback_hub import LoopbackHub
from synthetic_plugins import MODEL, Site, manifest_of
from zoo.build.descriptions import is_saved
from zoo.build.gathering import gather
from zoo.build.locking import changed, check, lock_ref, spec_digest, zoo_version
from zoo.checkpoints.lock import Lock, LockedModel, dump, read, write
from zoo.checkpoints.store import Store
from zoo.cli import main
from zoo.specs import ModelSpec
from zoo_command import zoo as command

IN_PARTS = (
    MODEL.replace("width: int = 4", "width: int = 4\n        in_chans: int = 3")
    .replace("    class Tiny(", "    class TinyMaps(Maps):\n        Config = TinyConfig\n\n    class Tiny(")
    .replace('type("TinyMaps", (Maps,), {"Config": TinyConfig})(config)', "TinyMaps(config)")
)
SCHEMA = {"properties": {name: {"type": "integer"} for name in ("width", "in_chans", "num_classes")}}
PUBLISHED = "hf://acme/tiny@main/model.safetensors"


def weights(seed: int, classes: int = 3) -> bytes:
    """A file that fits the synthetic plugin's model."""
    torch.manual_seed(seed)
    stem, head = nn.Conv2d(3, 4, 4, stride=4), nn.Linear(4, classes)
    state = {**{f"stem.{k}": v for k, v in stem.state_dict().items()}}
    return save(state | {f"head.{k}": v for k, v in head.state_dict().items()})


class Acme:
    """The synthetic plugin, which can be published anew with other contents."""

    def __init__(self, folder: Path) -> None:
        self.site, self.installed = Site(folder), Path()

    def publish(self, version: str = "1.0", **checkpoint: Any) -> None:
        """Install it; the fields of its one checkpoint may be others."""
        if self.installed.name:
            (self.installed / "METADATA").unlink()
            (self.installed / "entry_points.txt").unlink()
            self.installed.rmdir()
        manifest = manifest_of("acme")
        row = {"name": "v1", "sources": [PUBLISHED], "license": "MIT", "num_classes": 3, **checkpoint}
        manifest["models"][0]["checkpoints"] = [row]
        manifest["schemas"] = {"zoo_acme.tiny:Tiny": SCHEMA}
        self.site.plugin("acme", manifest, files={"tiny.py": IN_PARTS})
        self.installed = self.site.folder / "zoo_acme-1.0.dist-info"
        if version != "1.0":
            moved = self.installed.with_name(f"zoo_acme-{version}.dist-info")
            self.installed.rename(moved)
            metadata = (moved / "METADATA").read_text().replace("Version: 1.0", f"Version: {version}")
            (moved / "METADATA").write_text(metadata)
            self.installed = moved


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Acme]:
    """A plugin with a model whose weights are on the hub, of no declared digest."""
    published = Acme(tmp_path / "site")
    published.publish()
    monkeypatch.syspath_prepend(str(published.site.folder))
    monkeypatch.setenv("ZOO_PLUGINS", "acme")
    yield published
    for name in [name for name in sys.modules if name.partition(".")[0] == "zoo_acme"]:
        del sys.modules[name]


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "zoo.lock"


def machine(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine: nothing in its store, nothing in its hub cache."""
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / name / "zoo"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / name / "hf"))


def in_force(lock: Path, monkeypatch: pytest.MonkeyPatch, *refs: str) -> Lock:
    """Lock references, and hold this process to that."""
    written = Lock({ref: lock_ref(ref) for ref in refs}, zoo_version())
    write(str(lock), written)
    monkeypatch.setenv("ZOO_LOCK", str(lock))
    return written


def change(lock: Path, of: str, **fields: Any) -> None:
    """Let a lock say something else of a reference."""
    before = read(str(lock))
    write(str(lock), Lock({**before.models, of: before.models[of]._replace(**fields)}, before.zoo_core))


def rewrite_history(hub: LoopbackHub, repo: str, file: str) -> None:
    """A hub that has other bytes now, under the very same commits, and stands by them."""
    for files in hub.repos[repo].commits.values():
        if file in files:
            data = bytearray(files[file].data)
            data[-1] ^= 1
            files[file] = type(files[file])(bytes(data), bytes(data), lfs=True)


def same(model: nn.Module, data: bytes, tmp_path: Path) -> bool:
    (tmp_path / "expected.safetensors").write_bytes(data)
    expected = load_file(tmp_path / "expected.safetensors")
    return all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


# From one machine to another


def test_a_lock_brings_the_old_bytes_though_the_branch_moved_on(
    acme: Acme, hub: LoopbackHub, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = weights(1), weights(2)
    commit = hub.add("acme/tiny", "model.safetensors", old)
    machine("a", tmp_path, monkeypatch)
    assert main(["lock", "acme/tiny", "-o", str(lock)]) == 0
    (file,) = read(str(lock)).models["acme/tiny"].files
    assert file.sources == (f"hf://acme/tiny@{commit}/model.safetensors",)
    assert file.size == len(old)
    hub.add("acme/tiny", "model.safetensors", new)
    machine("b", tmp_path, monkeypatch)
    assert main(["pull", "--lock", str(lock)]) == 0
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setenv("ZOO_LOCK", str(lock))
    hub.seen.clear()
    model = zoo.create("acme/tiny", pretrained=True)
    assert same(model, old, tmp_path)
    assert model.provenance.source == file.sources[0]
    assert model.provenance.sha256 == file.sha256
    assert not hub.seen
    assert main(["lock", "--check", "--files"]) == 0
    machine("c", tmp_path, monkeypatch)
    monkeypatch.delenv("ZOO_OFFLINE")
    assert same(zoo.create("acme/tiny", pretrained=True), old, tmp_path), "without a pull too"
    monkeypatch.delenv("ZOO_LOCK")
    machine("d", tmp_path, monkeypatch)
    assert same(zoo.create("acme/tiny", pretrained=True), new, tmp_path), "and without a lock the branch decides"


def test_locking_downloads_nothing_where_the_hub_tells_the_digest(
    acme: Acme, hub: LoopbackHub, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("acme/tiny", "model.safetensors", weights(1))
    assert lock_ref("acme/tiny").files[0].sha256
    assert not hub.body_bytes
    hub.add("acme/tiny", "model.safetensors", weights(1), lfs=False)
    machine("b", tmp_path, monkeypatch)
    assert lock_ref("acme/tiny").files[0].size == len(weights(1))
    assert hub.body_bytes, "a small file's tag is no SHA-256"


def test_a_file_that_is_here_is_locked_as_it_is_here(acme: Acme, hub: LoopbackHub, tmp_path: Path) -> None:
    commit = hub.add("acme/tiny", "model.safetensors", weights(1))
    pinned = zoo.create("acme/tiny", pretrained=True).provenance.sha256
    hub.add("acme/tiny", "model.safetensors", weights(2))
    (file,) = lock_ref("acme/tiny").files
    assert file == (pinned, len(weights(1)), (f"hf://acme/tiny@{commit}/model.safetensors",))


def test_other_bytes_under_the_locked_name_are_an_error(
    acme: Acme, hub: LoopbackHub, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = weights(1)
    hub.add("acme/tiny", "model.safetensors", good)
    in_force(lock, monkeypatch, "acme/tiny")
    hub.add("acme/tiny", "model.safetensors", good, sent=weights(2))
    for commit in hub.repos["acme/tiny"].commits.values():
        commit["model.safetensors"].sent = weights(2)
    machine("b", tmp_path, monkeypatch)
    with pytest.raises(zoo.CheckpointError):
        zoo.create("acme/tiny", pretrained=True)
    assert main(["pull", "--lock"]) == 1


def test_a_pull_needs_no_plugin_and_no_torch(acme: Acme, hub: LoopbackHub, lock: Path, tmp_path: Path) -> None:
    hub.add("acme/tiny", "model.safetensors", weights(1))
    write(str(lock), Lock({"acme/tiny": lock_ref("acme/tiny")}, zoo_version()))
    code = (
        "import sys; from zoo.cli import main; code = main(sys.argv[1:]); "
        "heavy = {'torch', 'numpy', 'zoo_acme', 'pydantic'} & set(sys.modules); "
        "sys.exit(code or (f'imported {heavy}' if heavy else 0))"
    )
    env = {"ZOO_HOME": str(tmp_path / "b"), "HF_HOME": str(tmp_path / "hf-b"), "ZOO_NO_PLUGINS": "1"}
    done = command("-c", code, "pull", "--lock", str(lock), "--json", env=env, executable=sys.executable)
    assert done.code == 0, done.err
    (file,) = json.loads(done.out)["files"]
    assert file["status"] == "fetched"
    again = command("pull", "--lock", str(lock), env=env)
    assert (again.code, again.out.splitlines()[-1]) == (0, f"{lock}: 1 file, all here")


def test_a_sharded_checkpoint_is_locked_shard_by_shard(
    acme: Acme, hub: LoopbackHub, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = load(weights(1))
    names = sorted(old)
    shards = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    index = {"metadata": {}, "weight_map": {name: shard for shard, part in shards.items() for name in part}}
    for seed in (1, 2):
        state = load(weights(seed))
        for shard, part in shards.items():
            hub.add("acme/tiny", shard, save({name: state[name] for name in part}))
        commit = hub.add("acme/tiny", "model.safetensors.index.json", json.dumps(index).encode(), lfs=False)
        if seed == 1:
            acme.publish(sources=["hf://acme/tiny@main/model.safetensors.index.json"])
            written = in_force(lock, monkeypatch, "acme/tiny")
            files = written.models["acme/tiny"].files
            assert [file.sources[0] for file in files] == [
                f"hf://acme/tiny@{commit}/{name}" for name in ("model.safetensors.index.json", *shards)
            ]
    machine("b", tmp_path, monkeypatch)
    assert main(["pull", "--lock"]) == 0
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert same(zoo.create("acme/tiny", pretrained=True), weights(1), tmp_path)
    monkeypatch.delenv("ZOO_OFFLINE")
    rewrite_history(hub, "acme/tiny", min(shards))
    machine("c", tmp_path, monkeypatch)
    with pytest.raises(zoo.DigestError):
        zoo.create("acme/tiny", pretrained=True)


# Held to it


def test_what_is_locked_is_created_with_and_without_weights(
    acme: Acme, hub: LoopbackHub, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("acme/tiny", "model.safetensors", weights(1))
    in_force(lock, monkeypatch, "acme/tiny")
    assert same(zoo.create("acme/tiny", pretrained=True), weights(1), tmp_path)
    assert same(zoo.create("acme/tiny.v1@1", checkpoint="v1"), weights(1), tmp_path), "by another spelling"
    assert same(zoo.Classifier.from_pretrained("acme/tiny"), weights(1), tmp_path)
    assert zoo.create("acme/tiny", num_classes=5).head.out_features == 5
    assert zoo.create_backbone("acme/tiny").channels == (4,)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"version": "0.9"}, "version of zoo-acme"),
        ({"distribution": "zoo-other"}, "distribution"),
        ({"spec": "0" * 64}, "spec"),
        ({"contract": 2}, "contract"),
        ({"ref": "acme/tiny.v2@1"}, "meaning"),
        ({"kind": "neck", "ref": "acme/other@1"}, "not in the lock file"),
    ],
)
def test_whatever_is_not_as_locked_is_refused_before_anything_is_imported_or_fetched(
    acme: Acme,
    hub: LoopbackHub,
    lock: Path,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
    said: str,
) -> None:
    hub.add("acme/tiny", "model.safetensors", weights(1))
    in_force(lock, monkeypatch, "acme/tiny")
    change(lock, "acme/tiny", **fields)
    hub.seen.clear()
    for pretrained in (True, False):
        with pytest.raises(zoo.LockError, match=said) as raised:
            zoo.create("acme/tiny", pretrained=pretrained)
        assert "zoo lock acme/tiny -o" in str(raised.value.fix)
        assert raised.value.code == "lock"
    assert not hub.seen
    assert "zoo_acme.tiny" not in sys.modules


def test_what_is_not_in_the_lock_is_refused(
    acme: Acme, hub: LoopbackHub, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("acme/tiny", "model.safetensors", weights(1))
    in_force(lock, monkeypatch)
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(weights(3))
    for ref, options in (
        ("acme/tiny", {}),
        ("acme/tiny", {"pretrained": True}),
        ("acme/tiny", {"checkpoint": mine}),
        ("hf://acme/tiny", {}),
        (f"file://{tmp_path}", {}),
    ):
        with pytest.raises(zoo.LockError, match="not in the lock file"):
            zoo.create(ref, **options)
    assert not hub.body_bytes


def test_a_plugin_published_anew_is_noticed(
    acme: Acme, hub: LoopbackHub, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("acme/tiny", "model.safetensors", weights(1))
    written = in_force(lock, monkeypatch, "acme/tiny")
    assert not check(written)
    acme.publish("2.0")
    assert [str(d) for d in check(written)] == ["acme/tiny: plugin version 1.0 -> 2.0"]
    with pytest.raises(zoo.LockError, match="version") as raised:
        zoo.create("acme/tiny")
    assert "pip install zoo-acme==1.0" in str(raised.value.fix)
    acme.publish(config={"width": 8})
    assert [d.what for d in check(written)] == ["spec"]
    acme.publish(license="CC-BY-NC-4.0")
    assert [str(d) for d in check(written)] == ["acme/tiny: weights licence MIT -> CC-BY-NC-4.0"]
    acme.publish(sha256="0" * 64)
    assert [d.what for d in check(written)] == ["sha256"]
    with pytest.raises(zoo.LockError, match="digest of the weights"):
        zoo.create("acme/tiny", pretrained=True)
    acme.publish(name="v2")
    assert [d.what for d in check(written)] == ["meaning", "spec"]
    with pytest.raises(zoo.LockError, match="meaning"):
        zoo.create("acme/tiny", pretrained=True)


def test_a_mirror_or_a_metric_more_is_no_difference(
    acme: Acme, hub: LoopbackHub, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("acme/tiny", "model.safetensors", weights(1))
    written = in_force(lock, monkeypatch, "acme/tiny")
    metric = {"name": "top1", "value": 1.0, "dataset": "cats"}
    acme.publish(sources=[PUBLISHED, "https://example.org/tiny.safetensors"], metrics=[metric], notes="better said")
    assert not check(written)
    assert zoo.create("acme/tiny", pretrained=True).load_report.ok


def test_a_plugin_that_is_gone_is_a_difference_not_a_failure(
    acme: Acme, hub: LoopbackHub, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("acme/tiny", "model.safetensors", weights(1))
    written = in_force(lock, monkeypatch, "acme/tiny")
    monkeypatch.setenv("ZOO_NO_PLUGINS", "1")
    (found,) = check(written)
    assert (found.what, found.before) == ("meaning", "acme/tiny.v1@1")


def test_a_file_is_missed_or_found_damaged_only_when_files_are_asked_for(
    acme: Acme, hub: LoopbackHub, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("acme/tiny", "model.safetensors", weights(1))
    written = in_force(lock, monkeypatch, "acme/tiny")
    entry = written.models["acme/tiny"]
    assert not changed("acme/tiny", entry)
    assert [d.after for d in changed("acme/tiny", entry, files=True)] == ["not here"]
    zoo.create("acme/tiny", pretrained=True)
    assert not changed("acme/tiny", entry, files=True)
    blob = Path(zoo_home_blob(entry))
    blob.chmod(0o644)
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(bytes(data))
    assert [d.after for d in changed("acme/tiny", entry, files=True)] == ["damaged"]


def zoo_home_blob(entry: LockedModel) -> str:
    from zoo.checkpoints.store import Store

    found = Store().find(entry.files[0].sha256)
    assert found is not None
    return found.path


# Everything else zoo.create takes


def test_an_alias_of_the_registry_is_locked_to_a_version(
    acme: Acme, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = zoo.ModelRegistry()
    for version in ("1.0.0", "1.1.0"):
        zoo.register_model(zoo.create("acme/tiny"), name="pets", version=version)
    registry.promote("pets", "1.0.0", "production")
    written = in_force(lock, monkeypatch, "local/pets@production")
    assert written.models["local/pets@production"].ref == "local/pets@1.0.0"
    assert not check(written, files=True)
    for ref in ("local/pets@production", "local/pets@1.0.0"):
        assert zoo.create(ref).provenance.ref == "local/pets@1.0.0"
    with pytest.raises(zoo.LockError, match="not in the lock"):
        zoo.create("local/pets@1.1.0")
    registry.promote("pets", "1.1.0", "production")
    with pytest.raises(zoo.LockError, match="meaning") as raised:
        zoo.create("local/pets@production")
    assert (raised.value.asked, raised.value.found) == ("local/pets@1.0.0", "local/pets@1.1.0")
    assert zoo.create("local/pets@1.0.0").provenance.ref == "local/pets@1.0.0"
    assert "meaning" in [d.what for d in check(written)]
    acme.publish("2.0")
    with pytest.raises(zoo.LockError, match="version"):
        zoo.create("local/pets@1.0.0")
    machine("b", tmp_path, monkeypatch)
    told = command("pull", "--lock", str(lock))
    assert told.code == 1
    assert "zoo registry pull" in told.err


def test_a_saved_model_on_the_hub_is_locked_to_its_commit(
    acme: Acme, hub: LoopbackHub, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []
    for name in ("old", "new"):
        model = zoo.create("acme/tiny")
        model.save_pretrained(tmp_path / name)
        saved.append((tmp_path / name / "model.safetensors").read_bytes())
    for file in ("config.json", "model.safetensors"):
        commit = hub.add("acme/saved", file, (tmp_path / "old" / file).read_bytes(), lfs=file != "config.json")
    written = in_force(lock, monkeypatch, "hf://acme/saved")
    entry = written.models["hf://acme/saved"]
    assert (entry.ref, entry.distribution, entry.license) == (f"hf://acme/saved@{commit}", "zoo-acme", "unknown")
    hub.add("acme/saved", "model.safetensors", (tmp_path / "new" / "model.safetensors").read_bytes())
    machine("b", tmp_path, monkeypatch)
    assert main(["pull", "--lock"]) == 0
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    model = zoo.create("hf://acme/saved", allow_licenses="unknown")
    assert same(model, saved[0], tmp_path)
    assert model.provenance.ref == f"hf://acme/saved@{commit}"
    assert not check(written, files=True)
    with pytest.raises(zoo.LicenseError):
        zoo.create("hf://acme/saved")
    monkeypatch.delenv("ZOO_OFFLINE")
    rewrite_history(hub, "acme/saved", "model.safetensors")
    machine("c", tmp_path, monkeypatch)
    with pytest.raises(zoo.DigestError):
        zoo.create("hf://acme/saved", allow_licenses="unknown")
    acme.publish("2.0")
    with pytest.raises(zoo.LockError, match="version of zoo-acme"):
        zoo.create("hf://acme/saved", allow_licenses="unknown")


def test_a_saved_model_in_a_folder_of_a_repository_is_locked_fetched_and_created(
    acme: Acme, hub: LoopbackHub, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo.create("acme/tiny").save_pretrained(tmp_path / "saved")
    for file in ("config.json", "model.safetensors"):
        data = (tmp_path / "saved" / file).read_bytes()
        commit = hub.add("acme/pets", f"pets/1.2.0/{file}", data, lfs=file != "config.json")
    ref = "hf://acme/pets/pets/1.2.0"
    assert len(gather(ref, Store(), allow_licenses="unknown")) == 2
    entry = in_force(lock, monkeypatch, ref).models[ref]
    assert (entry.ref, entry.kind, len(entry.files)) == (f"hf://acme/pets@{commit}/pets/1.2.0", "saved", 2)
    assert zoo.create(ref, allow_licenses="unknown").load_report.ok


def test_an_address_on_the_hub_is_a_files_by_its_ending() -> None:
    folders = (
        "hf://a/b",
        "hf://a/b@main",
        "hf://a/b@refs/pr/1",
        "hf://a/b@refs/pr/1/c",
        "hf://a/b/c",
        "hf://a/b/c/1.2.0",
    )
    files = (
        "hf://a/b/c.safetensors",
        "hf://a/b@main/c/1.2.0.pt",
        "hf://a/b/x.safetensors.index.json",
        "hf://a/b/c.npz",
    )
    assert [ref for ref in (*folders, *files) if is_saved(ref)] == list(folders)


def test_a_folder_and_a_file_of_ones_own_are_held_to_their_bytes(
    acme: Acme, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo.create("acme/tiny").save_pretrained(tmp_path / "saved")
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(weights(3))
    monkeypatch.chdir(tmp_path)
    acme.publish(sha256="0" * 64)
    written = in_force(lock, monkeypatch, "file://saved", "file://mine.safetensors", "acme/tiny")
    assert not check(written)
    assert zoo.create("file://saved").load_report.ok
    assert zoo.create("acme/tiny", checkpoint=mine).load_report.ok
    assert zoo.create("acme/tiny", checkpoint="file://mine.safetensors").load_report.ok
    mine.write_bytes(weights(4))
    with pytest.raises(zoo.LockError, match=r"mine\.safetensors"):
        zoo.create("acme/tiny", checkpoint="file://mine.safetensors")
    (tmp_path / "saved" / "model.safetensors").write_bytes(weights(5))
    with pytest.raises(zoo.LockError, match=r"model\.safetensors"):
        zoo.create("file://saved")
    assert {d.ref for d in check(written)} == {"file://saved", "file://mine.safetensors"}


@pytest.mark.parametrize("spelling", ["./sh/model.safetensors.index.json", "./sh", "absolute"])
def test_every_shard_of_a_file_of_ones_own_is_held_however_the_file_is_spelt(
    acme: Acme, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    zoo.create("acme/tiny").save_pretrained(tmp_path / "sh", max_shard_size="100B")
    index, *shards = sorted((tmp_path / "sh").glob("model*"), key=lambda path: path.suffix != ".json")
    assert len(shards) > 1
    monkeypatch.chdir(tmp_path)
    acme.publish(sha256="0" * 64)
    in_force(lock, monkeypatch, f"file://{index}", "acme/tiny")
    named = f"file://{index}" if spelling == "absolute" else spelling
    assert zoo.create("acme/tiny", checkpoint=named).load_report.ok
    for shard in shards:
        before = shard.read_bytes()
        shard.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        with pytest.raises((zoo.LockError, zoo.DigestError)):
            zoo.create("acme/tiny", checkpoint=named)
        shard.write_bytes(before)
    assert zoo.create("acme/tiny", checkpoint=named).load_report.ok


def test_the_parts_of_a_composed_model_are_references_of_their_own(
    acme: Acme, hub: LoopbackHub, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stem = {name: tensor for name, tensor in load(weights(1)).items() if name.startswith("stem")}
    hub.add("acme/tiny", "model.safetensors", save(stem))
    part = {"name": "acme/tiny", "pretrained": True}
    in_force(lock, monkeypatch, "classifier", "acme/tiny")
    assert zoo.create("classifier", backbone=part, num_classes=2).provenance.license == "MIT"
    in_force(lock, monkeypatch, "classifier")
    with pytest.raises(zoo.LockError, match="acme/tiny"):
        zoo.create("classifier", backbone=part, num_classes=2)
    in_force(lock, monkeypatch, "acme/tiny")
    with pytest.raises(zoo.LockError, match="classifier"):
        zoo.create("classifier", backbone=part, num_classes=2)


def test_the_plugins_of_a_saved_models_parts_are_locked_with_it(
    acme: Acme, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme.publish(sha256="0" * 64)
    module = zoo.create_backbone("acme/tiny")
    part = {"factory": "zoo_acme.tiny:TinyMaps", "config": module.config.to_dict()}
    for name, backbone in (("byname", "acme/tiny"), ("bymodule", module)):
        zoo.register_model(zoo.create("classifier", backbone=backbone, num_classes=2), name=name, version="1.0.0")
    zoo.create("local/byname").save_pretrained(tmp_path / "saved")
    refs = ("local/byname", "local/bymodule", f"file://{tmp_path / 'saved'}")
    for ref in refs:
        written = in_force(lock, monkeypatch, ref)
        assert written.models[ref].plugins == (("zoo-acme", "1.0"),)
        assert not check(written)
        model = zoo.create(ref)
        model.save_pretrained(tmp_path / "again" / ref.rpartition("/")[2])
        with pytest.raises(zoo.LockError, match="acme/tiny"):
            zoo.create("acme/tiny")
    in_force(lock, monkeypatch, "classifier")
    with pytest.raises(zoo.LockError, match="zoo_acme"):
        zoo.create("classifier", backbone=part, num_classes=2)
    written = in_force(lock, monkeypatch, "classifier", *refs)
    assert zoo.create("classifier", backbone=part, num_classes=2) is not None
    acme.publish("2.0", sha256="0" * 64)
    assert {d.ref for d in check(written) if d.what == "plugins of its parts"} == set(refs)
    for ref in refs:
        with pytest.raises(zoo.LockError, match=r"zoo-acme|plugins of its parts"):
            zoo.create(ref)
    with pytest.raises(zoo.LockError, match="plugin version"):
        zoo.create("classifier", backbone=part, num_classes=2)


def test_a_record_with_other_files_is_a_difference(
    acme: Acme, hub: LoopbackHub, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("acme/tiny", "model.safetensors", weights(1))
    written = in_force(lock, monkeypatch, "acme/tiny")
    acme.publish(size=5)
    assert [d.what for d in check(written)] == ["size"]
    acme.publish(sources=["hf://acme/moved/model.safetensors"])
    assert [d.what for d in check(written)] == ["sources"]
    acme.publish()
    (file,) = written.models["acme/tiny"].files
    other = file._replace(sources=("https://example.org/b.safetensors",))
    change(lock, "acme/tiny", files=(file, other))
    assert [d.what for d in check(read(str(lock)))] == ["number of files"]


def test_a_head_is_held_to_its_plugins_locked_version(acme: Acme, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    acme.publish(sha256="0" * 64)
    in_force(lock, monkeypatch, "classifier", "acme/tiny")
    assert zoo.create("classifier", backbone="acme/tiny").head is not None
    from zoo.build.create import build_component

    change(lock, "classifier", version="0.0.1")
    with pytest.raises(zoo.LockError, match="plugin version"):
        build_component("classifier", "head", {}, {})


# The record's digest


def test_the_records_digest_counts_what_is_built_and_nothing_else() -> None:
    model = ModelSpec(name="a", factory="b:C", config={"x": 1, "y": 2})
    schema = {"properties": {"title": {"type": "string", "default": "a", "description": "b"}, "x": {"default": 1}}}
    one = spec_digest(model, None, schema)
    turned = {"properties": {"x": {"default": 1}, "title": {"description": "c", "default": "a", "type": "string"}}}
    same_spec = ModelSpec(name="a", factory="b:C", config={"y": 2, "x": 1}, summary="new", tags=("t",), params=5)
    assert spec_digest(same_spec, None, turned) == one
    others = [
        (ModelSpec(name="a", factory="b:C", config={"x": 1, "y": 3}), schema),
        (ModelSpec(name="a", factory="b:D", config={"x": 1, "y": 2}), schema),
        (ModelSpec(name="a", factory="b:C", config={"x": 1, "y": 2}, version=2), schema),
        (model, {"properties": {"x": {"default": 1}}}),
        (model, {"properties": {**schema["properties"], "x": {"default": 2}}}),
    ]
    assert len({one, *(spec_digest(*changed_spec[:1], None, changed_spec[1]) for changed_spec in others)}) == 6
    assert one == "ec967c02a72362c69c3f61feeb7294ffb2962dcd0b8306ba77c17b2a3d5c1974"


def test_a_first_party_lock_is_the_same_text_every_time() -> None:
    refs = ("mobilenetv2", "classifier")
    one, other = (dump(Lock({ref: lock_ref(ref) for ref in order}, "1")) for order in (refs, refs[::-1]))
    assert one == other


def test_a_row_made_of_parts_is_locked_with_the_plugins_of_these(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = in_force(lock, monkeypatch, "faster_rcnn")
    assert [distribution for distribution, _ in written.models["faster_rcnn"].plugins] == ["zoo-cnn"]
    assert zoo.create("faster_rcnn", num_classes=2, device="meta").num_classes == 2
    with pytest.raises(zoo.LockError, match="resnet18"):  # which the caller names, and the lock does not
        zoo.create("faster_rcnn", num_classes=2, backbone="resnet18", device="meta")
    change(lock, "faster_rcnn", plugins=(("zoo-cnn", "0.0.1"),))
    with pytest.raises(zoo.LockError, match="zoo-cnn"):
        zoo.create("faster_rcnn", num_classes=2, device="meta")
