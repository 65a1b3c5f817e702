"""Exports that lie: clear errors, nothing registered, nothing written outside, no more memory than the bounds say."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import stat
import struct
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from registered_models import pebble, register

import zoo
from zoo.checkpoints import carried
from zoo.checkpoints.receiving import receive
from zoo.versions import archives, portable

FOLDER = "m/1.0.0"


@pytest.fixture
def exported(registry: zoo.ModelRegistry, tmp_path: Path) -> Path:
    """An exported folder with one version."""
    registry.register(name="m", version="1.0.0", model=pebble(1.0), tags=["kept"], metrics={"top1": 0.5})
    registry.promote("m", "1.0.0", "production")
    registry.export("m", tmp_path / "x")
    return tmp_path / "x"


@pytest.fixture
def there(tmp_path: Path) -> zoo.ModelRegistry:
    """A registry that must stay empty."""
    return zoo.ModelRegistry(tmp_path / "there")


def packed(folder: Path, *more: tuple[str, bytes], like: zipfile.ZipInfo | None = None) -> Path:
    """The folder as an archive, with more members."""
    target = folder.with_suffix(".zip")
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
        for name, data in more:
            archive.writestr(name, data)
        if like is not None:
            archive.writestr(like, b"/etc/passwd")
    return target


def refused(
    there: zoo.ModelRegistry, path: Path, match: str | None = None, kind: type[Exception] = zoo.CheckpointError
) -> None:
    """The import fails in words, and leaves neither a version nor a file outside the registry's folder."""
    before = sorted(path.parent.rglob("*")) + sorted(path.parent.parent.iterdir())
    with pytest.raises(kind, match=match) as caught:
        there.import_from(path)
    assert isinstance(caught.value, zoo.ZooError)
    assert not there.list()
    after = sorted(path.parent.rglob("*")) + sorted(path.parent.parent.iterdir())
    assert [p for p in after if p not in before and not p.is_relative_to(there.path)] == []


@pytest.mark.parametrize(
    "name",
    [
        "../evil", "/evil", "m/../../evil", "m/./evil", "m//evil", "..\\evil", "C:/evil", "C:evil",
        "m/\x00evil", "\x1b[2J",
        "m/1.0.0/record.json", "M/1.0.0/Record.json", "zoo-registry.json",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_with_a_hostile_name_is_refused(exported: Path, there: zoo.ModelRegistry, name: str) -> None:
    member = zipfile.ZipInfo("placeholder")
    member.filename = name
    refused(there, packed(exported, like=member), "is no archive that the registry exported")


def test_a_link_in_an_archive_is_refused(exported: Path, there: zoo.ModelRegistry) -> None:
    link = zipfile.ZipInfo("m/2.0.0")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    refused(there, packed(exported, like=link), "is a link")


def test_a_compressed_archive_is_refused_before_anything_of_it_is_read(
    exported: Path, there: zoo.ModelRegistry
) -> None:
    bomb = exported.with_suffix(".zip")
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("zoo-registry.json", "w") as out:
        for _ in range(200):
            out.write(bytes(1 << 20))
    refused(there, bomb, "is compressed")


def test_members_on_top_of_each_other_and_lying_sizes_are_refused(exported: Path, there: zoo.ModelRegistry) -> None:
    whole = packed(exported).read_bytes()
    with zipfile.ZipFile(exported.with_suffix(".zip")) as archive:
        member = archive.getinfo(f"{FOLDER}/model.safetensors")
    entry = whole.rindex(f"{FOLDER}/model.safetensors".encode()) - 46  # in the central directory
    for change in (1 << 30, 7):  # far more than there is, and less
        lying = bytearray(whole)
        for at in (20, 24):
            lying[entry + at : entry + at + 4] = change.to_bytes(4, "little")
        path = exported.parent / f"lying{change}.zip"
        path.write_bytes(lying)
        assert member.file_size != change
        refused(there, path)
    for cut in (0, 10, 200, len(whole) - 30):
        path = exported.parent / f"cut{cut}.zip"
        path.write_bytes(whole[:cut])
        refused(there, path)


@pytest.mark.parametrize(
    "part", ["m", FOLDER, f"{FOLDER}/record.json", f"{FOLDER}/model.safetensors", "zoo-registry.json"]
)
def test_a_link_in_a_folder_is_not_followed(exported: Path, there: zoo.ModelRegistry, part: str) -> None:
    (exported / part).rename(exported.parent / "elsewhere")
    (exported / part).symlink_to(exported.parent / "elsewhere")
    refused(there, exported, "is a link")


@pytest.mark.parametrize("part", [f"{FOLDER}/record.json", f"{FOLDER}/model.safetensors", "zoo-registry.json"])
def test_what_is_no_file_is_refused_and_nobody_waits_for_it(
    exported: Path, there: zoo.ModelRegistry, part: str
) -> None:
    (exported / part).unlink()
    os.mkfifo(exported / part)
    refused(there, exported)
    (exported / part).unlink()
    (exported / part).mkdir()
    refused(there, exported)
    (exported / part).rmdir()
    refused(there, exported)


def rewritten(exported: Path, change: Callable[[dict[str, Any]], object], *, config: bool = True) -> None:
    """The record changed, with its digest in the contents as it then is."""
    record = exported / FOLDER / "record.json"
    values = json.loads(record.read_text())
    change(values)
    record.write_text(json.dumps(values))
    if config and isinstance(values.get("saved"), dict):
        (exported / FOLDER / "config.json").write_text(json.dumps(values["saved"]))
    contents = json.loads((exported / "zoo-registry.json").read_text())
    contents["versions"][0]["record"] = hashlib.sha256(record.read_bytes()).hexdigest()
    (exported / "zoo-registry.json").write_text(json.dumps(contents))


RECORD_LIES: list[Callable[[dict[str, Any]], object]] = [
    lambda v: v.update(name="other"),
    lambda v: v.update(version="1.0.1"),
    lambda v: v.update(version="1.0"),
    lambda v: v.update(name="../m"),
    lambda v: v.update(sha256="../../etc/passwd"),
    lambda v: v.update(sha256="0" * 64),
    lambda v: v.update(size=-1),
    lambda v: v.update(size=True),
    lambda v: v.update(size=1e9),
    lambda v: v.update(size=v["size"] + 1),
    lambda v: v.update(size=v["size"] - 1),
    lambda v: v.update(size=1 << 80),
    lambda v: v.update(tags="kept"),
    lambda v: v.update(tags=["Kept!"]),
    lambda v: v.update(tags=[["kept"]]),
    lambda v: v.update(metrics={"top1": "0.5"}),
    lambda v: v.update(metrics={"top1": float("nan")}),
    lambda v: v.update(metrics=[1]),
    lambda v: v.update(author="\x1b[31m"),
    lambda v: v.update(author="x" * 10_000),
    lambda v: v.update(created=None),
    lambda v: v.update(data=["x"]),
    lambda v: v.update(parent="m@1.0.0"),
    lambda v: v.update(parent={"sha256": "x"}),
    lambda v: v.update(saved=None),
    lambda v: v.update(saved=[]),
    lambda v: v["saved"].update(factory=["os:system"]),
    lambda v: v["saved"].update(config=[["num_classes", 3]]),
    lambda v: v["saved"].update(zoo="1"),
    lambda v: v["saved"].update(config={"weights": "https://evil.example/x.pth"}),
    lambda v: v["saved"].update(config={"backbone": {"pretrained": True}}),
    lambda v: v["saved"].update(labels={"names": 7}),
    lambda v: v["saved"].update(input=[1]),
    lambda v: v.pop("saved"),
    lambda v: v.pop("size"),
    lambda v: v.pop("zoo_registry"),
    lambda v: v.update(zoo_registry="1"),
    lambda v: v.update(future=float("nan")),  # what a newer zoo may say is kept, but it must be JSON
    lambda v: v["saved"]["config"].update(width=float("inf")),
]


@pytest.mark.parametrize("number", range(len(RECORD_LIES)))
def test_a_record_that_cannot_be_is_refused(exported: Path, there: zoo.ModelRegistry, number: int) -> None:
    rewritten(exported, RECORD_LIES[number])
    refused(there, exported)


def test_a_config_that_says_another_thing_than_the_record_is_refused(exported: Path, there: zoo.ModelRegistry) -> None:
    rewritten(exported, lambda values: values["saved"]["config"].update(width=5), config=False)
    refused(there, exported, "says another thing")


CONTENTS_LIES: list[Callable[[dict[str, Any]], object]] = [
    lambda v: v["versions"][0].update(name="../m"),
    lambda v: v["versions"][0].update(name="/m"),
    lambda v: v["versions"][0].update(name="M"),
    lambda v: v["versions"][0].update(name=7),
    lambda v: v["versions"][0].update(version="../1.0.0"),
    lambda v: v["versions"][0].update(version="1.0.0/.."),
    lambda v: v["versions"][0].update(version="v1.0.0"),
    lambda v: v["versions"][0].update(record="x"),
    lambda v: v["versions"][0].update(record="0" * 64),
    lambda v: v["versions"][0].update(tags=7),
    lambda v: v["versions"][0].pop("record"),
    lambda v: v["versions"].append(v["versions"][0]),
    lambda v: v["versions"].append({**v["versions"][0], "version": "1.0.0+b"}),
    lambda v: v["versions"].extend({**v["versions"][0], "version": text} for text in ("2.0.0-RC", "2.0.0-rc")),
    lambda v: v["versions"].append({**v["versions"][0], "version": "3.0.0"}),
    lambda v: v["versions"].append("m"),
    lambda v: v.update(versions={}),
    lambda v: v.update(versions=None),
    lambda v: v.update(zoo_registry=2),
    lambda v: v.update(zoo_registry=None),
    lambda v: v.update(aliases=[1]),
    lambda v: v["aliases"][0].update(alias="latest"),
    lambda v: v["aliases"][0].update(version="x"),
    lambda v: v["aliases"][0].update(history=[{"alias": "production"}]),
    lambda v: v["aliases"][0]["history"][0].update(by="\x1b[2J"),
    lambda v: v["aliases"][0]["history"][0].update(at=7),
]


@pytest.mark.parametrize("number", range(len(CONTENTS_LIES)))
def test_contents_that_cannot_be_are_refused(exported: Path, there: zoo.ModelRegistry, number: int) -> None:
    path = exported / "zoo-registry.json"
    values = json.loads(path.read_text())
    before = json.dumps(values)
    CONTENTS_LIES[number](values)
    assert json.dumps(values) != before
    path.write_text(json.dumps(values))
    refused(there, exported)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "7", "null", '"x"', "\udcff", '{"zoo_registry": 1, "zoo_registry": 1}', "[" * 100_000,
        '{"a":' * 100_000, '{"zoo_registry": ' + "9" * 10_000 + "}", '{"x":' + "[" * 100 + "]" * 100 + "}",
        '{"x": NaN}', '{"x": [-Infinity]}', '{"x": 1e999}',
    ],
)  # fmt: skip
@pytest.mark.parametrize("part", ["zoo-registry.json", f"{FOLDER}/record.json", f"{FOLDER}/config.json"])
def test_what_is_no_sound_json_is_refused(exported: Path, there: zoo.ModelRegistry, part: str, text: str) -> None:
    raw = text.encode("utf-8", "surrogateescape")
    (exported / part).write_bytes(raw)
    contents = json.loads((exported / "zoo-registry.json").read_text()) if part != "zoo-registry.json" else None
    if contents and part.endswith("record.json"):
        contents["versions"][0]["record"] = hashlib.sha256(raw).hexdigest()
        (exported / "zoo-registry.json").write_text(json.dumps(contents))
    refused(there, exported)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", ["config", "later"])
def test_no_number_that_could_not_be_written_again_is_taken(
    exported: Path, there: zoo.ModelRegistry, place: str, value: float
) -> None:
    rewritten(exported, lambda v: (v["saved"]["config"] if place == "config" else v).update(later=value))
    refused(there, exported, "is not JSON")


@pytest.mark.parametrize("part", ["zoo-registry.json", f"{FOLDER}/record.json", f"{FOLDER}/config.json"])
def test_a_huge_file_is_not_read(exported: Path, there: zoo.ModelRegistry, part: str) -> None:
    os.truncate(exported / part, 1 << 40)  # a terabyte that takes no room
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(there, exported, "has more than the")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_weights_are_not_read_further_than_was_promised(
    exported: Path, there: zoo.ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    promised = (exported / FOLDER / "model.safetensors").stat().st_size
    os.truncate(exported / FOLDER / "model.safetensors", 1 << 40)
    taken: list[int] = []

    def counted(temp: str, chunks: Iterable[bytes]) -> Any:
        return receive(temp, (taken.append(len(chunk)) or chunk for chunk in chunks))  # type: ignore[func-returns-value]  # appends

    monkeypatch.setattr("zoo.checkpoints.store.receive", counted)
    refused(there, exported, "not the promised file", zoo.DigestError)
    assert sum(taken) <= promised
    assert sum(path.stat().st_size for path in Path(there.path).rglob("*") if path.is_file()) < 1 << 20


def test_a_small_file_may_have_as_many_bytes_as_allowed_and_not_one_more(exported: Path) -> None:
    raw = (exported / FOLDER / "record.json").read_bytes()
    for path in (exported, packed(exported)):
        with archives.opened_export(str(path)) as export:
            assert export.read(f"{FOLDER}/record.json", len(raw)) == raw
            with pytest.raises(zoo.FormatError, match="has more than the"):
                export.read(f"{FOLDER}/record.json", len(raw) - 1)


@pytest.mark.parametrize("kind", ["folder", "archive"])
@pytest.mark.parametrize(
    "change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b""]
)
def test_other_weights_than_promised_are_refused(
    exported: Path, there: zoo.ModelRegistry, change: Callable[[bytes], bytes], kind: str
) -> None:
    path = exported / FOLDER / "model.safetensors"
    path.write_bytes(change(path.read_bytes()))
    refused(there, exported if kind == "folder" else packed(exported), "not the promised file", zoo.DigestError)


def test_weights_that_are_no_safetensors_file_are_refused(exported: Path, there: zoo.ModelRegistry) -> None:
    path = exported / FOLDER / "model.safetensors"
    body = b"\x80\x04cos\nsystem\n(S'touch evil'\ntR."
    path.write_bytes(body)
    rewritten(exported, lambda v: v.update(sha256=hashlib.sha256(body).hexdigest(), size=len(body)))
    refused(there, exported, None, zoo.FormatError)


def test_one_bad_version_among_good_ones_keeps_all_of_them_out(
    registry: zoo.ModelRegistry, there: zoo.ModelRegistry, tmp_path: Path
) -> None:
    register(registry, *(f"1.0.{number}" for number in range(4)))
    registry.export("m", tmp_path / "x", every=True)
    os.truncate(tmp_path / "x/m/1.0.3/model.safetensors", 100)
    refused(there, tmp_path / "x", "not the promised file", zoo.DigestError)
    assert there.import_from(tmp_path / "x", "m@<1.0.3").added == ("local/m@1.0.2",)


def test_what_is_no_export_is_named(there: zoo.ModelRegistry, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no archive")
    for name, said in (("empty", "zoo-registry.json"), ("text.zip", "no archive"), ("nowhere", "cannot be read")):
        with pytest.raises(zoo.CheckpointError, match=said):
            there.import_from(tmp_path / name)


def test_what_would_not_be_read_back_is_not_written(
    registry: zoo.ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(registry, "1.0.0", "2.0.0-rc", "2.0.0-RC")
    with pytest.raises(zoo.ZooError, match="are one"):
        registry.export("m", tmp_path / "x", every=True)
    monkeypatch.setattr(portable, "MAX_RECORD", 100)
    with pytest.raises(zoo.FormatError, match="at most 100 are read back"):
        registry.export("m@1.0.0", tmp_path / "x")
    monkeypatch.undo()
    monkeypatch.setattr(portable, "MAX_CONTENTS", 100)
    with pytest.raises(zoo.FormatError, match="fewer versions"):
        registry.export("m@1.0.0", tmp_path / "x")
    assert not [path for path in os.listdir(tmp_path) if path.startswith((".zoo", "x"))]


def many_members(path: Path, count: int) -> None:
    """A zip that lists one small member again and again, as little as the format allows for each."""
    name = b"00000000"
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0) + name
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0)
    listed = b"".join(entry + b"%08x" % number for number in range(count))
    at = len(local)
    end = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(listed), at)
    end += struct.pack("<4sIQI", b"PK\6\7", 0, at + len(listed), 1)
    end += struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(local + listed + end)


def test_an_archive_of_more_members_than_any_export_has_is_refused_before_they_are_read(
    there: zoo.ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_members(tmp_path / "many.zip", 160_000)
    monkeypatch.setattr(zipfile, "ZipInfo", None)  # nothing is made of any member
    refused(there, tmp_path / "many.zip", "its list of contents is too long")


def test_an_archive_of_so_many_members_is_not_written(
    registry: zoo.ModelRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(registry, "1.0.0")
    monkeypatch.setattr(carried, "MAX_LIST", 300)
    with pytest.raises(zoo.FormatError, match="would not be read back"):
        registry.export("m", tmp_path / "x.zip")
    assert not list(tmp_path.glob(".zoo*")) + list(tmp_path.glob("x*"))
    registry.export("m", tmp_path / "x")


def test_a_pipe_for_an_archive_is_refused_and_nobody_waits_for_it(there: zoo.ModelRegistry, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.zip")
    refused(there, tmp_path / "x.zip", "is no file")


def test_members_that_would_be_more_than_the_archive_are_refused(exported: Path, there: zoo.ModelRegistry) -> None:
    whole = packed(exported).read_bytes()
    at = whole.rindex(b"PK\5\6")
    begin = int.from_bytes(whole[at + 16 : at + 20], "little")
    listed, count = whole[begin:at], int.from_bytes(whole[at + 8 : at + 10], "little")
    spellings = [listed.replace(f"{FOLDER}/".encode(), f"m/1.{number}.0/".encode()) for number in range(9)]
    spellings = [text.replace(b"zoo-registry", b"zoo-registr%d" % number) for number, text in enumerate(spellings)]
    end = bytearray(whole[at:])
    for place, value in ((8, 9 * count), (10, 9 * count)):
        end[place : place + 2] = value.to_bytes(2, "little")
    end[12:16] = (9 * len(listed)).to_bytes(4, "little")
    (exported.parent / "on-top.zip").write_bytes(whole[:begin] + b"".join(spellings) + end)
    refused(there, exported.parent / "on-top.zip", "larger than itself")
