"""`zoo lock` and `zoo pull` as they are typed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from synthetic_plugins import Site, manifest_of
from zoo.checkpoints.lock import read
from zoo.checkpoints.store import Store, digest_of
from zoo_command import Outcome, zoo

HEAVY = "import sys; from zoo.cli import main; c = main(sys.argv[1:]); sys.exit(c or ('torch' in sys.modules) * 99)"


class Shop:
    """A folder with a plugin whose weights lie beside it, and the command run there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.site = folder, Site(folder / "site")
        (folder / "weights.safetensors").write_bytes(b"weights")
        self.publish()

    def publish(self, **checkpoint: object) -> None:
        manifest = manifest_of("acme")
        row = {"name": "v1", "sources": [f"file://{self.folder}/weights.safetensors"], "license": "MIT"}
        manifest["models"][0]["checkpoints"] = [{**row, **checkpoint}]
        self.site.plugin("acme", manifest)

    def zoo(self, *words: str, **env: str) -> Outcome:
        settings = {"ZOO_PLUGINS": "acme", **env}
        return zoo(*words, site=self.site.folder, cwd=self.folder, env=settings)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_the_whole_story_on_the_command_line(shop: Shop) -> None:
    told = shop.zoo("lock", "acme/tiny", "classifier")
    assert told.code == 0, told.err
    assert told.out.splitlines() == [
        "acme/tiny: acme/tiny.v1@1, zoo-acme 1.0, 1 file, 0.0 MB, MIT",
        f"classifier: core/classifier@1, zoo-core {read(str(shop.folder / 'zoo.lock')).zoo_core}",
        "zoo.lock: 2 references",
    ]
    assert shop.zoo("lock").out == "zoo.lock: 2 references, nothing has changed\n"
    assert shop.zoo("lock", "--check") == (0, "zoo.lock: as locked\n", "")
    assert shop.zoo("pull", "--lock").out.splitlines()[-1] == "zoo.lock: 1 file, all here"
    shop.publish(config={"width": 8}, license="gemma")
    before = (shop.folder / "zoo.lock").read_bytes()
    checked = shop.zoo("lock", "--check")
    assert checked.code == 1
    assert "acme/tiny: weights licence MIT -> gemma" in checked.out
    assert "acme/tiny: spec " in checked.out
    assert checked.out.splitlines()[-1].endswith("2 things are not as locked; zoo lock -o zoo.lock accepts that")
    assert (shop.folder / "zoo.lock").read_bytes() == before, "a check changes nothing"
    refreshed = shop.zoo("lock")
    assert refreshed.code == 0
    assert "acme/tiny: weights licence MIT -> gemma" in refreshed.out
    assert shop.zoo("lock", "--check").code == 0


def test_a_lock_grows_and_keeps_what_it_has(shop: Shop) -> None:
    assert shop.zoo("lock", "acme/tiny", "-o", "other.lock").code == 0
    assert shop.zoo("lock", "classifier", ZOO_LOCK="other.lock").code == 0
    assert set(read(str(shop.folder / "other.lock")).models) == {"acme/tiny", "classifier"}
    assert not (shop.folder / "zoo.lock").exists()
    assert shop.zoo("lock", "--check", "classifier", "-o", "other.lock").code == 0
    missing = shop.zoo("lock", "--check", "resnet50", "-o", "other.lock")
    assert missing.code == 1
    assert "zoo lock resnet50 -o other.lock" in missing.err


def test_a_reference_that_leads_nowhere_leaves_the_lock_as_it_was(shop: Shop) -> None:
    shop.zoo("lock", "acme/tiny")
    before = (shop.folder / "zoo.lock").read_bytes()
    for words in (("lock", "classifier", "acme/tinny"), ("lock", "file://absent.safetensors"), ("lock", "local/none")):
        told = shop.zoo(*words)
        assert (told.code, told.out) == (1, "")
        assert told.err.startswith("error: ")
    assert (shop.folder / "zoo.lock").read_bytes() == before
    assert sorted(os.listdir(shop.folder)) == ["site", "weights.safetensors", "zoo.lock"]


@pytest.mark.parametrize(
    "words", [("lock",), ("lock", "--check"), ("pull", "--lock"), ("licenses", "--lock", "zoo.lock")]
)
@pytest.mark.parametrize("content", [None, b"[" * 10_000])
def test_a_lock_that_is_absent_or_spoilt_is_an_error_with_a_way_out(
    shop: Shop, words: tuple[str, ...], content: bytes | None
) -> None:
    if content is not None:
        (shop.folder / "zoo.lock").write_bytes(content)
    told = shop.zoo(*words)
    assert (told.code, told.out) == (1, "")
    assert "zoo.lock" in told.err
    assert "try:" in told.err
    assert "Traceback" not in told.err


def test_a_reference_is_forgotten_when_asked(shop: Shop) -> None:
    shop.zoo("lock", "acme/tiny", "classifier")
    absent = shop.zoo("lock", "--remove", "acme/tinny")
    assert (absent.code, absent.out) == (1, "")
    assert "acme/tiny" in absent.err
    told = shop.zoo("lock", "--remove", "acme/tiny", ZOO_NO_PLUGINS="1")
    assert (told.code, told.out) == (0, "acme/tiny: meaning acme/tiny.v1@1 -> none\n")
    assert set(read(str(shop.folder / "zoo.lock")).models) == {"classifier"}
    assert shop.zoo("lock", "--remove", "classifier", "acme/tiny").code == 2


def test_machines_get_json(shop: Shop) -> None:
    done = json.loads(shop.zoo("lock", "acme/tiny", "--json").out)
    assert (done["written"], done["locked"]) == (True, ["acme/tiny"])
    assert json.loads(shop.zoo("lock", "--check", "--json").out) == {"lock": "zoo.lock", "ok": True, "differences": []}
    shop.publish(license="gemma")
    (difference,) = json.loads(shop.zoo("lock", "--check", "--json").out)["differences"]
    assert difference == {"ref": "acme/tiny", "what": "weights licence", "before": "MIT", "after": "gemma"}
    (change,) = json.loads(shop.zoo("lock", "--json").out)["changes"]
    assert change == difference
    pulled = json.loads(shop.zoo("pull", "--lock", "--json").out)
    digest = digest_of(str(shop.folder / "weights.safetensors"))
    assert pulled["ok"] is True
    assert [(file["ref"], file["sha256"], file["status"]) for file in pulled["files"]] == [
        ("acme/tiny", digest, "here")
    ]
    assert json.loads(shop.zoo("lock", "nope/nope", "--json").out)["error"]["fix"]


def test_what_is_missing_is_named_and_the_rest_is_pulled(shop: Shop) -> None:
    (shop.folder / "second.safetensors").write_bytes(b"second")
    shop.zoo("lock", "acme/tiny", "file://second.safetensors")
    (shop.folder / "weights.safetensors").write_bytes(b"changed")
    told = shop.zoo("pull", "--lock", ZOO_HOME=str(shop.folder / "elsewhere"))
    assert told.code == 1
    assert "acme/tiny" in told.err
    assert "file://second.safetensors: here" in told.out
    assert told.out.splitlines()[-1] == "zoo.lock: 2 files, 1 missing"
    checked = shop.zoo("lock", "--check", "--files", ZOO_HOME=str(shop.folder / "elsewhere"))
    assert "not here" in checked.out
    assert shop.zoo("lock", "--check", ZOO_HOME=str(shop.folder / "third")).code == 1, "the file here is another"


def test_locks_are_noted_so_that_their_files_are_kept(shop: Shop, zoo_home: Path) -> None:
    shop.zoo("lock", "acme/tiny")
    assert Store().noted_locks() == (str(shop.folder / "zoo.lock"),)
    elsewhere = shop.folder / "elsewhere"
    shop.zoo("pull", "--lock", ZOO_HOME=str(elsewhere))
    assert Store(str(elsewhere)).noted_locks() == (str(shop.folder / "zoo.lock"),)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("lock", "--files"), "--check"),
        (("pull",), "zoo pull --lock"),
        (("pull", "other.lock"), "zoo pull --lock other.lock"),
        (("lock", "--chek"), "--check"),
    ],
)
def test_a_line_that_cannot_be_understood_names_the_right_one(shop: Shop, words: tuple[str, ...], said: str) -> None:
    told = shop.zoo(*words)
    assert told.code == 2
    assert said in told.err


def test_neither_locking_nor_licences_need_torch(shop: Shop) -> None:
    import sys

    for words in (("lock", "acme/tiny"), ("lock", "--check", "--files"), ("pull", "--lock"), ("licenses",)):
        env = {"ZOO_PLUGINS": "acme"}
        told = zoo("-c", HEAVY, *words, site=shop.site.folder, cwd=shop.folder, env=env, executable=sys.executable)
        assert told.code == 0, (words, told)


def test_what_somebody_else_locks_meanwhile_stays(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from zoo.build import locking
    from zoo.checkpoints.lock import Lock, LockedModel, write
    from zoo.cli import main

    path = str(tmp_path / "zoo.lock")
    assert main(["lock", "classifier", "-o", path]) == 0
    entry = read(path).models["classifier"]

    def slow(ref: str) -> LockedModel:
        now = read(path)
        write(path, Lock({**now.models, "other": entry}, now.zoo_core))
        return entry

    monkeypatch.setattr(locking, "lock_ref", slow)
    assert main(["lock", "third", "-o", path]) == 0
    assert set(read(path).models) == {"classifier", "other", "third"}


def test_a_folder_that_is_not_there_is_named_before_anything_is_fetched(shop: Shop) -> None:
    told = shop.zoo("lock", "nope/nope", "-o", "nodir/zoo.lock")
    assert told.code == 1
    assert "there is no folder" in told.err
    assert f"mkdir -p {shop.folder}/nodir" in told.err
