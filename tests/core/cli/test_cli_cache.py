"""`zoo cache` as it is typed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from torch import nn

import zoo as library
from loopback_hub import running_hub
from zoo.checkpoints.bundles import BundledFile, write_folder, write_zip
from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.sources import fetch
from zoo.checkpoints.store import Blob, Store
from zoo.cli import main
from zoo_command import Outcome

HEAVY = ("torch", "torchvision", "timm", "numpy", "pydantic", "pluggy", "huggingface_hub", "transformers")


class CatConfig(library.ModelConfig):
    num_classes: int = 2


class Cat(library.Classifier):
    """A model of a few bytes."""

    Config = CatConfig

    def __init__(self, config: CatConfig) -> None:
        super().__init__(config)
        self.fc = nn.Linear(3, config.num_classes)


def zoo(*words: str) -> Outcome:
    """The command in this process; that it also runs in one of its own is seen at the end."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(words)
    return Outcome(code, out.getvalue(), err.getvalue())


def old_blob(content: bytes, days: float = 40) -> Blob:
    blob = Store().put([content])
    then = time.time() - days * 86_400
    os.utime(blob.path, (then, then))
    return blob


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one registered model in it: registering takes longer than what is tested here."""
    home = tmp_path_factory.mktemp("registered")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_HOME", str(home))
        library.ModelRegistry().register(name="cats", version="1.0.0", model=Cat)
    return home


@pytest.fixture
def filled(tmp_path: Path, zoo_home: Path, registry: Path) -> dict[str, str]:
    """A store with a blob of each kind, all of them old; their digests by kind."""
    for part in ("registry", "blobs"):
        shutil.copytree(registry / part, zoo_home / part)
    store, hubs = Store(), tmp_path / "hub/models--org--repo/snapshots/abc"
    blobs = {kind: old_blob(kind.encode() * 100_000) for kind in ("fetched", "converted", "locked", "unexplained")}
    digests = {kind: blob.sha256 for kind, blob in blobs.items()}
    store.remember_pin("hf://org/repo/weights.pth", digests["fetched"], "hf://org/repo@1/weights.pth")
    store.remember_conversion(digests["fetched"], "torch-1", digests["converted"])
    (tmp_path / "zoo.lock").write_text(json.dumps({"files": [digests["locked"]]}))
    store.note_lock(str(tmp_path / "zoo.lock"))
    registered = library.ModelRegistry().show("cats").sha256
    os.utime(store.blob_path(registered), (0, 0))
    for name in ("in the Hub's cache", "elsewhere"):
        folder = hubs if "Hub" in name else tmp_path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "file").write_bytes(name.encode())
        digests[name] = store.adopt(str(folder / "file"), Wanted(), name).sha256
    return {**digests, "registered": registered}


def test_what_is_here_is_listed_with_what_explains_it(filled: dict[str, str], tmp_path: Path) -> None:
    listed = zoo("cache", "ls")
    assert listed.code == 0, listed.err
    rows = {line.split()[3]: line for line in listed.out.splitlines()[1:]}
    assert listed.out.split()[:4] == ["SIZE", "USED", "DIGEST", "WHAT"]
    said = {
        "fetched": "hf://org/repo/weights.pth",
        "converted": f"converted from {filled['fetched'][:12]}",
        "locked": f"locked by {tmp_path / 'zoo.lock'}",
        "unexplained": "nothing explains it",
        "registered": "local/cats@1.0.0",
        "elsewhere": f"used where it is: {tmp_path / 'file'}",
    }
    for kind, what in said.items():
        assert what in rows[filled[kind][:12]], kind
    assert len(rows) == 7
    assert "0.7 MB" in rows[filled["fetched"][:12]]
    (only,) = json.loads(zoo("cache", "ls", "CATS@1", "--json").out)
    assert (only["sha256"], only["registered"]) == (filled["registered"], ["cats@1.0.0"])
    assert zoo("cache", "ls", "no such thing").out == "nothing that has 'no such thing' in it\n"


def test_the_room_it_takes_is_summed_by_kind(filled: dict[str, str]) -> None:
    Path(Store().temp_path("a" * 64)).write_bytes(b"12345")
    told = json.loads(zoo("cache", "du", "--json").out)
    kinds = {kind: (sums["files"], sums["bytes"]) for kind, sums in told["kinds"].items()}
    size = os.stat(Store().blob_path(filled["registered"])).st_size
    assert kinds == {
        "fetched": (1, 700_000),
        "converted": (1, 900_000),
        "locked": (1, 600_000),
        "unexplained": (1, 1_100_000),
        "registered": (1, size),
        "arriving": (1, 5),
        "in the Hub's cache": (1, 18),
        "elsewhere": (1, 9),
    }
    assert told["total"] == 3_300_005 + size
    shown = zoo("cache", "du").out
    assert shown.splitlines()[-1].split()[:3] == ["total", "3.3", "MB"]
    assert "used where it is" in shown


def test_collecting_removes_what_it_said_it_would(filled: dict[str, str]) -> None:
    assert "would remove 1 file that nothing explained: 1.1 MB" in zoo("cache", "gc", "--dry-run").out
    done = zoo("cache", "gc")
    assert (done.code, done.err) == (0, "")
    assert "removed 1 file that nothing explained: 1.1 MB" in done.out
    assert zoo("cache", "gc").out == "nothing to remove\n"
    assert zoo("cache", "gc", "--unused-for", "50d").out == "nothing to remove\n"
    told = json.loads(zoo("cache", "gc", "--unused-for", "30d", "--json").out)
    assert {one["sha256"] for one in told["removed"] if one["sha256"]} == {filled["fetched"], filled["converted"]}
    assert told["freed"] >= 1_600_000
    assert Store().find(filled["registered"]) is not None
    assert Store().find(filled["locked"]) is not None
    assert Store().find(filled["elsewhere"]) is not None


def test_what_was_used_lately_is_told(filled: dict[str, str]) -> None:
    assert Store().find(filled["fetched"]) is not None
    assert "1 file (0.7 MB) used within the last 4 hours stay" in zoo("cache", "gc", "--all").out


def test_records_that_cannot_be_read_are_told(filled: dict[str, str]) -> None:
    Path(Store().pin_path("hf://org/repo/weights.pth")).write_bytes(b"{")
    told = zoo("cache", "gc")
    assert told.code == 1
    assert "1 record cannot be read" in told.out
    assert zoo("cache", "repair").code == 0
    assert "removed" in zoo("cache", "gc").out


def test_damage_is_found_mended_and_what_is_left_to_do_is_said(filled: dict[str, str]) -> None:
    assert zoo("cache", "verify").out.endswith("5 files, 3.3 MB: sound\n")
    store = Store()
    for kind in ("registered", "unexplained"):
        path = store.blob_path(filled[kind])
        os.chmod(path, 0o644)
        Path(path).write_bytes(b"spoilt")
    found = zoo("cache", "verify")
    assert found.code == 1
    assert "needed by cats@1.0.0" in found.out
    assert "zoo cache repair" in found.out
    told = json.loads(zoo("cache", "verify", "--json").out)
    assert not told["ok"]
    assert {one["sha256"] for one in told["damages"] if one["kind"] == "damaged"} == {
        filled["registered"],
        filled["unexplained"],
    }
    done = zoo("cache", "repair")
    assert done.code == 1
    assert "  try:   zoo cache add FILE, a copy of it from a backup" in done.out
    assert "nothing needs it" in done.out
    again = json.loads(zoo("cache", "repair", "--json").out)
    assert [(one["damage"]["kind"], one["mended"]) for one in again["repairs"]] == [("missing", False)]


def test_a_copy_of_a_lost_file_is_taken_back_and_a_strangers_is_not(filled: dict[str, str], tmp_path: Path) -> None:
    store = Store()
    backup, stranger = tmp_path / "backup.safetensors", tmp_path / "stranger.safetensors"
    backup.write_bytes(Path(store.blob_path(filled["registered"])).read_bytes())
    stranger.write_bytes(b"stranger")
    os.unlink(store.blob_path(filled["registered"]))
    assert zoo("cache", "verify").code == 1
    added = zoo("cache", "add", str(backup))
    assert (added.code, added.out.splitlines()[-1]) == (0, f"1 file added to {store.root}")
    assert zoo("cache", "verify").code == 0
    refused = zoo("cache", "add", str(stranger))
    assert refused.code == 1
    assert "not a sound bundle" in refused.err
    assert store.find(hashlib.sha256(b"stranger").hexdigest()) is None


@pytest.mark.parametrize("packed", [False, True])
def test_a_bundle_from_elsewhere_is_added(tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = Store(str(tmp_path / "elsewhere"))
    blob = elsewhere.put([b"weights"])
    source = "hf://org/repo/weights.bin"
    file = BundledFile("weights.bin", blob.sha256, blob.size, (source,), source)
    write = write_zip if packed else write_folder
    write(str(tmp_path / "bundle"), ["model"], [file], elsewhere)
    (told,) = json.loads(zoo("cache", "add", str(tmp_path / "bundle"), "--json").out)
    assert told == {"sha256": blob.sha256, "size": 7, "sources": [source]}
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    assert fetch([source]).sha256 == blob.sha256


def test_what_the_hub_still_has_is_fetched_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with running_hub() as hub:
        for name, value in (("HF_ENDPOINT", hub.endpoint), ("HF_HOME", str(tmp_path)), ("no_proxy", "127.0.0.1")):
            monkeypatch.setenv(name, value)
        hub.add("org/repo", "weights.bin", b"weights" * 1000)
        fetched = fetch(["hf://org/repo/weights.bin"])
        os.chmod(fetched.path, 0o644)
        os.truncate(fetched.path, 100)
        done = zoo("cache", "repair")
        assert done.code == 0, done.out
        assert "restored from hf://org/repo/weights.bin" in done.out
    assert hashlib.sha256(Path(fetched.path).read_bytes()).hexdigest() == fetched.sha256
    assert zoo("cache", "verify").code == 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("lss", "did you mean 'ls'?"),
        ("everything", "there are ls"),
        ("du there", "takes no 'there'"),
        ("add", "lacks its FOLDER or FILE"),
        ("ls --dry-run", "goes with gc"),
        ("verify --unused-for 3d", "goes with gc"),
        ("gc --unused-for often", "--unused-for 30d"),
        ("gc --unused-for 3y", "--unused-for 30d"),
        pytest.param(f"gc --unused-for {'9' * 400}d", "--unused-for 30d", id="no float"),
    ],
)
def test_a_mistake_says_what_to_type(line: str, said: str) -> None:
    outcome = zoo("cache", *line.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err


def test_no_network_is_no_time_to_remove_what_can_be_fetched(
    filled: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    outcome = zoo("cache", "gc", "--all")
    assert outcome.code == 1
    assert "unset ZOO_OFFLINE" in outcome.err


def test_an_empty_machine_is_no_mistake_and_stays_empty(zoo_home: Path) -> None:
    for action in ("ls", "du", "verify", "repair", "gc"):
        assert zoo("cache", action).code == 0
    assert not list(zoo_home.rglob("*"))


def test_looking_after_the_store_needs_nothing_heavy(filled: dict[str, str]) -> None:
    code = (
        "import sys; from zoo.cli import main\n"
        "for line in ('ls', 'du', 'verify', 'gc --all', 'repair'): assert main(['cache', *line.split()]) == 0, line\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
