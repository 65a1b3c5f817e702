"""Versions to another machine and back: nothing changes on the way, nothing that is there is overwritten."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from registered_models import Pebble, pebble, register, value_of

import zoo
from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.store import Store
from zoo.versions import importing, ledger
from zoo.versions.archives import Export
from zoo.versions.ledger import FILE
from zoo.versions.records import VersionRecord
from zoo.versions.shelf import Shelf

KINDS = pytest.mark.parametrize("kind", ["export", "export.zip"])


@pytest.fixture
def there(tmp_path: Path) -> zoo.ModelRegistry:
    """The registry of another machine."""
    return zoo.ModelRegistry(tmp_path / "another machine")


def told(registry: zoo.ModelRegistry) -> list[VersionRecord]:
    """Everything in a registry, but for what is true of one machine only."""
    return [replace(record, aliases=(), imported=None) for record in registry.list()]


def filled(registry: zoo.ModelRegistry) -> None:
    """A small family with tags, metrics, a note, a lineage, and an alias that has moved."""
    registry.register(
        name="m", version="1.0.0", model=pebble(1.0), tags=["kept"], data="naïve — 写真", metrics={"a": 0.5}
    )
    child = registry.load("m")
    with torch.no_grad():
        child.fc.bias += 1
    registry.register(name="m", version="1.1.0-rc.1+b7", model=child)
    registry.register(name="other", version="0.1.0", model=pebble(3.0, num_classes=7))
    registry.promote("m", "1.1.0-rc.1", "production")
    registry.promote("m", "1.0.0", "production")


@KINDS
def test_everything_arrives_as_it_was(
    registry: zoo.ModelRegistry, there: zoo.ModelRegistry, tmp_path: Path, kind: str
) -> None:
    filled(registry)
    went = registry.export("*", tmp_path / kind, every=True)
    came = there.import_from(tmp_path / kind)
    assert came.added == went.added == ("local/m@1.0.0", "local/m@1.1.0-rc.1+b7", "local/other@0.1.0")
    assert told(there) == told(registry)
    (note,) = came.notes  # once, whatever the number of versions
    assert note.startswith("local/m@1.0.0 and 2 more: needs registered_models:Pebble")
    for record in there.list():
        assert record.imported is not None
        assert record.imported.source == str(tmp_path / kind)
        mine, theirs = (r.load(record.name, record.version).state_dict() for r in (registry, there))
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert [parent.version for parent in there.lineage("m", "1.1.0-rc.1")] == ["1.0.0"]


@KINDS
def test_the_same_again_is_no_error_and_changes_nothing(
    registry: zoo.ModelRegistry, there: zoo.ModelRegistry, tmp_path: Path, kind: str
) -> None:
    filled(registry)
    registry.export("*", tmp_path / kind, every=True)
    there.import_from(tmp_path / kind)
    before = list(there.list())
    again = there.import_from(tmp_path / kind)
    assert (again.added, len(again.unchanged)) == ((), 3)
    assert registry.import_from(tmp_path / kind).added == ()
    assert there.list() == before
    assert all(record.imported is None for record in registry.list())


@KINDS
def test_other_content_under_a_taken_version_is_refused_and_nothing_of_the_import_is_there(
    registry: zoo.ModelRegistry, there: zoo.ModelRegistry, tmp_path: Path, kind: str
) -> None:
    register(registry, "1.0.0", "1.1.0", "1.2.0")
    mine = there.register(name="m", version="1.1.0", model=pebble(9.0))
    registry.export("m", tmp_path / kind, every=True)
    with pytest.raises(zoo.ZooError, match=r"m 1\.1\.0 is registered already.*overwritten") as caught:
        there.import_from(tmp_path / kind)
    assert "with other weights" in str(caught.value)
    assert list(there.list()) == [mine]
    assert value_of(there.load("m")) == 9.0
    assert there.import_from(tmp_path / kind, ["m@1.0.0", "m@1.2.0"]).added == ("local/m@1.0.0", "local/m@1.2.0")


def test_the_same_versions_are_the_same_bytes(
    registry: zoo.ModelRegistry, there: zoo.ModelRegistry, tmp_path: Path
) -> None:
    filled(registry)
    registry.export("m", tmp_path / "one.zip", every=True)
    registry.export(["m@1.1.0-rc.1", "m@production", "m@1.0.0"], tmp_path / "two.zip")
    there.import_from(tmp_path / "one.zip", aliases=True)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    there.export("m", tmp_path / "three", every=True)
    registry.export("m", tmp_path / "four", every=True)
    for name in ("record.json", "config.json", "model.safetensors"):
        path = Path("m", "1.0.0", name)
        with zipfile.ZipFile(tmp_path / "one.zip") as archive:
            assert (
                (tmp_path / "three" / path).read_bytes()
                == (tmp_path / "four" / path).read_bytes()
                == archive.read(str(path))
            )


def test_aliases_travel_and_move_only_when_asked(
    registry: zoo.ModelRegistry, there: zoo.ModelRegistry, tmp_path: Path
) -> None:
    filled(registry)
    registry.export("m", tmp_path / "x", every=True)
    there.register(name="m", version="0.1.0", model=pebble(8.0))
    there.promote("m", "0.1.0", "production")
    came = there.import_from(tmp_path / "x")
    assert there.show("m", "production").version == "0.1.0"
    (meaning,) = came.aliases
    assert (meaning.name, meaning.alias, meaning.version) == ("m", "production", "1.0.0")
    assert meaning.history == registry.history("m", "production")
    assert came.moved == ()
    assert there.import_from(tmp_path / "x", aliases=True).moved == ("m@production",)
    assert there.show("m", "production").version == "1.0.0"
    assert there.import_from(tmp_path / "x", aliases=True).moved == ()  # it does already
    assert there.rollback("m", "production").version == "0.1.0"
    json.dumps(came.to_dict())


def test_what_an_export_has_is_asked_for_as_in_a_registry(
    registry: zoo.ModelRegistry, there: zoo.ModelRegistry, tmp_path: Path
) -> None:
    filled(registry)
    registry.export("*", tmp_path / "x", every=True)
    for selector, version in (
        ("m", "1.0.0"), ("m@kept", "1.0.0"), ("m@>=1.1.0-rc.0", "1.1.0-rc.1+b7"), ("m@production", "1.0.0"),
    ):  # fmt: skip
        fresh = zoo.ModelRegistry(tmp_path / f"for {version} {selector[:3]}{len(selector)}")
        assert fresh.import_from(tmp_path / "x", selector).added == (f"local/m@{version}",)
    assert there.import_from(tmp_path / "x", "o*", every=True).added == ("local/other@0.1.0",)
    for selector in ("cats", "m@9.9.9", "m@staging"):
        with pytest.raises(zoo.NotFoundError, match=str(tmp_path / "x")):
            there.import_from(tmp_path / "x", selector)
    with pytest.raises(zoo.OptionError, match="which versions"):
        registry.export((), tmp_path / "y")
    with pytest.raises(zoo.NotFoundError, match="no model fits"):
        registry.export("cats*", tmp_path / "y", every=True)
    assert not (tmp_path / "y").exists()


def test_a_version_s_folder_opens_by_itself(registry: zoo.ModelRegistry, tmp_path: Path) -> None:
    registry.register(name="m", version="1.0.0", model=pebble(7.0, num_classes=5))
    registry.export("m", tmp_path / "x")
    opened = Pebble.from_pretrained(f"file://{tmp_path}/x/m/1.0.0")
    assert (value_of(opened), opened.num_classes) == (7.0, 5)


@KINDS
def test_nothing_that_is_there_is_written_over(registry: zoo.ModelRegistry, tmp_path: Path, kind: str) -> None:
    register(registry, "1.0.0")
    target = tmp_path / kind
    target.write_text("mine")
    with pytest.raises(zoo.CheckpointError, match="nothing exported is overwritten"):
        registry.export("m", target)
    assert target.read_text() == "mine"
    assert os.listdir(tmp_path) == [kind]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(zoo.CheckpointError, match="overwritten"):
        registry.export("m", tmp_path / "full")
    with pytest.raises(zoo.CheckpointError, match="cannot write"):
        registry.export("m", "/proc/nowhere/x")


@KINDS
def test_damaged_or_lost_weights_are_not_exported(
    registry: zoo.ModelRegistry, zoo_home: Path, tmp_path: Path, kind: str
) -> None:
    register(registry, "1.0.0")
    (blob,) = zoo_home.glob("blobs/sha256/*/*")
    body = bytearray(blob.read_bytes())
    body[-1] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(body)
    with pytest.raises(zoo.DigestError, match=r"local/m@1\.0\.0 are damaged"):
        registry.export("m", tmp_path / "x" / kind)
    blob.unlink()
    with pytest.raises(zoo.CheckpointError, match="not in the store"):
        registry.export("m", tmp_path / "x" / kind)
    assert os.listdir(tmp_path / "x") == []


@pytest.mark.parametrize("damaged", [False, True])
def test_lost_and_damaged_weights_come_back_with_an_import(
    registry: zoo.ModelRegistry, zoo_home: Path, tmp_path: Path, damaged: bool
) -> None:
    register(registry, "1.0.0")
    registry.export("m", tmp_path / "x")
    (blob,) = zoo_home.glob("blobs/sha256/*/*")
    body = blob.read_bytes()
    blob.unlink()
    if damaged:
        blob.write_bytes(body[:-1] + b"!")
    assert registry.import_from(tmp_path / "x").unchanged == ("local/m@1.0.0",)
    assert value_of(registry.load("m")) == 0.0


def test_lost_weights_come_back_with_an_import_even_if_a_package_has_the_same(
    registry: zoo.ModelRegistry, tmp_path: Path
) -> None:
    record = registry.register(name="m", version="1.0.0", model=pebble(1.0))
    registry.export("m", tmp_path / "x")
    shutil.move(blob := Store().blob_path(record.sha256), tmp_path / "site")
    Store().adopt(str(tmp_path / "site"), Wanted(record.sha256), "pkg://x/weights")
    registry.import_from(tmp_path / "x")
    assert os.path.exists(blob)


@pytest.mark.parametrize("times", [1, 9])
def test_weights_that_leave_before_they_are_registered_are_brought_again_while_others_may_write(
    registry: zoo.ModelRegistry, there: zoo.ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    register(registry, "1.0.0")
    registry.export("m", tmp_path / "x")
    bring, brought = importing._bring, []

    def overtaken(shelf: Shelf, export: Export, one: importing._Wanted) -> None:
        with shelf.ledger.writing():  # as another process does; it may take hours to bring weights
            brought.append(one.ref)
        bring(shelf, export, one)
        if len(brought) <= times:
            os.unlink(shelf.store.blob_path(one.sha256))

    monkeypatch.setattr(importing, "_bring", overtaken)
    monkeypatch.setattr(ledger, "_PATIENCE", 0.2)
    if times == 1:
        assert there.import_from(tmp_path / "x").added == ("local/m@1.0.0",)
        assert len(brought) == 2
        assert value_of(there.load("m")) == 0.0
    else:
        with pytest.raises(zoo.CheckpointError, match="again and again"):
            there.import_from(tmp_path / "x")
        assert there.list() == []


def test_a_newer_zoo_s_record_is_kept_and_handed_on(
    registry: zoo.ModelRegistry, there: zoo.ModelRegistry, tmp_path: Path
) -> None:
    register(registry, "1.0.0")
    with sqlite3.connect(Path(registry.path, FILE)) as connection:
        (text,) = connection.execute("SELECT record FROM versions").fetchone()
        values = json.loads(text)
        values |= {"zoo_registry": 2, "colour": "blue", "zoo_version": "9.0"}
        values["saved"]["zoo"] = 99
        connection.execute("DROP TRIGGER versions_UPDATE")
        connection.execute("UPDATE versions SET record = ?", [json.dumps(values)])
    registry.export("m", tmp_path / "x")
    came = there.import_from(tmp_path / "x")
    assert came.notes == ("local/m@1.0.0: came from a newer zoo, 9.0; to load it: pip install -U zoo-core",)
    with pytest.raises(zoo.ZooError, match="newer zoo"):
        there.load("m", cls=Pebble)
    there.export("m", tmp_path / "y")
    assert (tmp_path / "x/m/1.0.0/record.json").read_bytes() == (tmp_path / "y/m/1.0.0/record.json").read_bytes()


def test_an_import_runs_nobody_s_code_and_neither_does_loading_it(
    registry: zoo.ModelRegistry, there: zoo.ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sprung_trap.py").write_text("raise SystemExit('imported')\nclass Trap: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    register(registry, "1.0.0")
    for number, factory in enumerate(("sprung_trap:Trap", "os:system", "torch:nn.Module", "__main__:Pebble")):
        with sqlite3.connect(Path(registry.path, FILE)) as connection:
            (text,) = connection.execute("SELECT record FROM versions").fetchone()
            values = json.loads(text)
            values["saved"]["factory"] = factory
            connection.execute("DROP TRIGGER IF EXISTS versions_UPDATE")
            connection.execute("UPDATE versions SET record = ?", [json.dumps(values)])
        registry.export("m", tmp_path / f"x{number}")
        other = zoo.ModelRegistry(tmp_path / f"there{number}")
        (note,) = other.import_from(tmp_path / f"x{number}").notes
        assert factory in note
        with pytest.raises(zoo.ZooError):
            other.load("m")
    assert "sprung_trap" not in sys.modules


def test_a_class_of_one_s_own_is_found_where_the_program_has_imported_it(
    registry: zoo.ModelRegistry, there: zoo.ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(registry, "1.0.0")
    registry.export("m", tmp_path / "x")
    there.import_from(tmp_path / "x")
    assert isinstance(there.load("m"), Pebble)
    module = sys.modules["registered_models"]
    monkeypatch.delitem(sys.modules, "registered_models")
    with pytest.raises(zoo.PluginError, match="came from another registry"):
        there.load("m")
    assert "registered_models" not in sys.modules
    assert value_of(there.load("m", cls=module.Pebble)) == 0.0


def test_a_lineage_is_told_as_far_as_it_is_known(
    registry: zoo.ModelRegistry, there: zoo.ModelRegistry, tmp_path: Path
) -> None:
    model = pebble(0.0)
    registry.register(name="m", version="1.0.0", model=model, parent="ab" * 32)
    for number in range(1, 4):
        child = registry.load("m", f"1.0.{number - 1}")
        with torch.no_grad():
            child.fc.bias += 1
        registry.register(name="m", version=f"1.0.{number}", model=child)
    assert [p.version for p in registry.lineage("m")] == ["1.0.2", "1.0.1", "1.0.0", ""]
    assert registry.lineage("m")[-1].sha256 == "ab" * 32
    registry.export("m@1.0.3", tmp_path / "x")
    there.import_from(tmp_path / "x")
    assert [(p.name, p.version) for p in there.lineage("m")] == [("m", "1.0.2")]  # as it was noted
    registry.export(["m@1.0.2", "m@1.0.1"], tmp_path / "y")
    there.import_from(tmp_path / "y")
    assert there.lineage("m") == registry.lineage("m")[:3]


# Whatever there is

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["m", "other"]),
        st.sampled_from(["1.0.0", "1.0.1", "1.1.0-rc.1", "2.0.0"]),
        st.integers(0, 2),
        st.sets(st.sampled_from(["kept", "small"])),
    ),
    max_size=6,
)


def fill(
    registry: zoo.ModelRegistry, rows: list[tuple[str, str, int, set[str]]]
) -> dict[tuple[str, str], VersionRecord]:
    """The first of the rows for each version."""
    filed: dict[tuple[str, str], VersionRecord] = {}
    for name, version, value, tags in rows:
        if (name, version) not in filed:
            model = pebble(float(value))
            filed[name, version] = registry.register(name=name, version=version, model=model, tags=sorted(tags))
    return filed


def same(one: VersionRecord, other: VersionRecord) -> bool:
    return (one.sha256, one.tags) == (other.sha256, other.tags)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(mine=ROWS, theirs=ROWS, kind=st.sampled_from(["x", "x.zip"]))
def test_an_import_adds_all_that_is_new_or_nothing(
    mine: list[tuple[str, str, int, set[str]]], theirs: list[tuple[str, str, int, set[str]]], kind: str
) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        here, there, empty = (zoo.ModelRegistry(folder / name) for name in ("here", "there", "empty"))
        sent, had = fill(here, mine), fill(there, theirs)
        if not sent:
            return
        here.export("*", folder / kind, every=True)
        assert len(empty.import_from(folder / kind).added) == len(sent)
        assert told(empty) == told(here)
        before = list(there.list())
        if all(same(sent[key], had[key]) for key in sent.keys() & had.keys()):
            came = there.import_from(folder / kind)
            assert set(came.added) == {sent[key].ref for key in sent.keys() - had.keys()}
            assert {(r.name, r.version) for r in there.list()} == sent.keys() | had.keys()
            for key, record in had.items():
                assert there.show(*key) == record
        else:
            with pytest.raises(zoo.ZooError, match="overwritten"):
                there.import_from(folder / kind)
            assert list(there.list()) == before
    finally:
        shutil.rmtree(folder)
