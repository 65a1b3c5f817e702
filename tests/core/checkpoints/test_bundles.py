"""Bundles: the same models give the same bytes, and what a bundle says of itself is not believed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loopback_hub import LoopbackHub
from zoo.checkpoints.bundles import BundledFile, bundled, take, write_folder, write_zip
from zoo.checkpoints.collection import collect
from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.sources import fetch, stored
from zoo.checkpoints.store import Blob, Store
from zoo.errors import CheckpointError, DigestError, FormatError, SourceError

DATA, OTHER = os.urandom(100_000), os.urandom(3_000)
SHA, SHA_OTHER = (hashlib.sha256(data).hexdigest() for data in (DATA, OTHER))
SOURCES = ("hf://acme/model/weights.safetensors", "https://example.com/w.safetensors")
RESOLVED = "hf://acme/model@" + "a" * 40 + "/weights.safetensors"


@pytest.fixture
def files(store: Store) -> list[BundledFile]:
    """Two files in this machine's store."""
    store.put([DATA])
    store.put([OTHER])
    return [
        BundledFile("weights.safetensors", SHA, len(DATA), SOURCES, RESOLVED),
        BundledFile(
            "config.json", SHA_OTHER, len(OTHER), ("hf://acme/model/config.json",), "hf://acme/model/config.json"
        ),
    ]


@pytest.fixture
def other(tmp_path: Path) -> Store:
    """The store of a machine without network."""
    return Store(str(tmp_path / "elsewhere" / "home"))


def everything(store: Store) -> list[str]:
    """Every file of a store."""
    return [os.path.join(root, name) for root, _, names in os.walk(store.root) for name in names]


def test_a_file_of_ones_own_is_bundled_from_where_it_lies(store: Store, other: Store, tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes(DATA)
    file = bundled([f"file://{own}"], fetch([f"file://{own}"], store=store))
    write_folder(str(tmp_path / "bundle"), ["own"], [file], store)
    take(str(tmp_path / "bundle"), other)
    assert other.owns(SHA)
    own.write_bytes(OTHER)
    with pytest.raises(DigestError, match=r"own\.safetensors"):
        write_folder(str(tmp_path / "another"), ["own"], [file], store)
    own.unlink()
    with pytest.raises(SourceError, match="no such file"):
        write_folder(str(tmp_path / "another"), ["own"], [file], store)


def test_what_a_bundle_brings_lies_in_the_store_even_if_a_package_has_it(
    store: Store, other: Store, files: list[BundledFile], tmp_path: Path
) -> None:
    (tmp_path / "site").write_bytes(DATA)
    other.adopt(str(tmp_path / "site"), Wanted(SHA), "pkg://x/weights")
    write_folder(str(tmp_path / "bundle"), ["m"], files, store)
    take(str(tmp_path / "bundle"), other)
    (tmp_path / "site").unlink()  # pip uninstall
    assert other.find(SHA) is not None


def test_a_blob_that_a_collector_moves_away_before_it_is_copied_is_looked_for_again(
    store: Store, files: list[BundledFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, moved = store.find, []

    def overtaken(sha256: str, size: int | None = None) -> Blob | None:
        found = find(sha256, size)
        if found is not None and not moved:
            moved.append(store.trash.throw(found.path))
        return found

    monkeypatch.setattr(store, "find", overtaken)
    write_folder(str(tmp_path / "bundle"), ["m"], files, store)
    assert moved
    assert (tmp_path / "bundle" / "files" / SHA).read_bytes() == DATA


@pytest.mark.parametrize("write", [write_folder, write_zip])
def test_what_was_bundled_is_used_elsewhere_without_network(
    store: Store, other: Store, files: list[BundledFile], tmp_path: Path, write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "bundle")
    write(path, ["acme/model"], files, store)
    assert [file.name for file in take(path, other)] == ["config.json", "weights.safetensors"]
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    for source in SOURCES:
        got = fetch([source], store=other)
        assert Path(got.path).read_bytes() == DATA
        assert got.source == RESOLVED
    assert stored(["https://unknown.example/w"], sha256=SHA, store=other) is not None


def test_what_a_bundle_brought_is_no_blob_that_nothing_explains(store: Store, other: Store, tmp_path: Path) -> None:
    store.put([DATA])
    packaged = "pkg://some-weights/weights.safetensors"
    write_folder(
        str(tmp_path / "bundle"), ["m"], [BundledFile("w.safetensors", SHA, len(DATA), (packaged,), packaged)], store
    )
    take(str(tmp_path / "bundle"), other)
    assert not collect(other, [], grace=-60.0).taken
    assert other.find(SHA) is not None


def test_a_bundle_does_not_depend_on_when_where_and_in_which_order(
    store: Store, other: Store, files: list[BundledFile], tmp_path: Path
) -> None:
    write_zip(str(tmp_path / "a.zip"), ["b", "a"], files, store)
    take(str(tmp_path / "a.zip"), other)
    os.utime(other.blob_path(SHA), (1, 1))
    write_zip(str(tmp_path / "b.zip"), ["a", "b", "a"], files[::-1] + files, other)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert sorted(archive.namelist()) == sorted(["zoo-files.json", f"files/{SHA}", f"files/{SHA_OTHER}"])
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.testzip() is None


def test_a_file_that_two_models_share_is_there_once(store: Store, files: list[BundledFile], tmp_path: Path) -> None:
    again = files[0]._replace(sources=("https://elsewhere.example/w",))
    write_folder(str(tmp_path / "b"), ["a"], [*files, again], store)
    index = json.loads((tmp_path / "b" / "zoo-files.json").read_text())
    assert [entry["sha256"] for entry in index["files"]] == sorted([SHA, SHA_OTHER])
    shared = next(entry for entry in index["files"] if entry["sha256"] == SHA)
    assert shared["sources"] == sorted([*SOURCES, "https://elsewhere.example/w"])


def test_a_bundle_says_where_each_file_came_from(hub: LoopbackHub, store: Store) -> None:
    commit = hub.add("acme/model", "weights.safetensors", DATA)
    sources = ["hf://acme/model/weights.safetensors"]
    file = bundled(sources, fetch(sources, store=store))
    assert file == (
        "weights.safetensors",
        SHA,
        len(DATA),
        tuple(sources),
        f"hf://acme/model@{commit}/weights.safetensors",
    )


def test_nothing_is_left_of_a_bundle_that_could_not_be_written(
    store: Store, files: list[BundledFile], tmp_path: Path
) -> None:
    path = store.blob_path(SHA)
    os.chmod(path, 0o644)
    Path(path).write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))  # damaged since it was fetched
    for write in (write_folder, write_zip):
        with pytest.raises(DigestError):
            write(str(tmp_path / "out" / "bundle"), ["a"], files, store)
        assert os.listdir(tmp_path / "out") == []
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match="cannot write"):
        write_zip(str(tmp_path / "file" / "bundle"), [], [], store)


def test_a_folder_that_holds_something_is_not_written_over(store: Store, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_bytes(b"")
    with pytest.raises(CheckpointError, match="not empty"):
        write_folder(str(tmp_path / "full"), [], [], store)


# hostile bundles


def index_of(files: list[BundledFile], **changes: Any) -> bytes:
    """An index, with changes to its first file's entry."""
    entries = [file._asdict() for file in files]
    entries[0] |= changes
    return json.dumps({"zoo-files": 1, "refs": [], "files": entries}).encode()


def zipped(path: Path, index: bytes, **others: bytes) -> str:
    """A zip of the two files with this index and further entries by name."""
    contents = {"zoo-files.json": index, f"files/{SHA}": DATA, f"files/{SHA_OTHER}": OTHER, **others}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return str(path)


@pytest.mark.parametrize(
    "index",
    [
        b"",
        b"\xff",
        b"[" * 1_000_000,
        b"[1]",
        b'{"zoo-files": 2, "files": []}',
        b'{"zoo-files": 1, "files": {}}',
        b'{"zoo-files": 1, "files": [7]}',
        b'{"zoo-files": 1, "files": [' + b"{}," * 20_000 + b"{}]}",
        b" " * 5_000_000,
        b'{"zoo-files": 1, "files": [{"size": ' + b"9" * 6000 + b"}]}",
    ],
)
def test_an_index_that_is_none_is_refused(files: list[BundledFile], other: Store, tmp_path: Path, index: bytes) -> None:
    with pytest.raises(FormatError, match="not a sound bundle"):
        take(zipped(tmp_path / "b.zip", index), other)
    folder = tmp_path / "folder"
    (folder / "files").mkdir(parents=True)
    (folder / "zoo-files.json").write_bytes(index)
    with pytest.raises(FormatError, match="not a sound bundle"):
        take(str(folder), other)
    assert everything(other) == []


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "../../../etc/passwd"},
        {"sha256": SHA.upper()},
        {"sha256": None},
        {"sha256": SHA_OTHER},
        {"size": len(DATA) - 1},
        {"size": len(DATA) + 1},
        {"size": -1},
        {"size": True},
        {"size": 1 << 60},
        {"sources": []},
        {"sources": ["no address"]},
        {"sources": ["hf://a/b\n/c"]},
        {"sources": ["hf://a/b/c"] * 100},
        {"sources": "hf://a/b/c"},
        {"source": 3},
        {"source": "hf://" + "a" * 5000},
        {"name": "a\x1b[2J"},
        {"name": 5},
    ],
)
def test_an_index_that_lies_is_refused(
    files: list[BundledFile], other: Store, tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(FormatError, match="not a sound bundle"):
        take(zipped(tmp_path / "b.zip", index_of(files, **change)), other)
    assert everything(other) == []


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "files/../x", "files\\x", "x", f"files/{'0' * 64}"])
def test_what_the_index_does_not_name_is_refused(
    files: list[BundledFile], other: Store, tmp_path: Path, name: str
) -> None:
    with pytest.raises(FormatError, match="does not name"):
        take(zipped(tmp_path / "b.zip", index_of(files), **{name: b"x"}), other)
    assert everything(other) == []
    assert not list(tmp_path.rglob("escaped"))


def wrong_bytes(entries: list[tuple[zipfile.ZipInfo | str, bytes]]) -> None:
    """A digest that does not match, behind a file whose digest does."""
    entries[2] = (f"files/{SHA_OTHER}", OTHER[::-1])


def a_link(entries: list[tuple[zipfile.ZipInfo | str, bytes]]) -> None:
    """A symbolic link, as zips of Unix have them."""
    entry = zipfile.ZipInfo(f"files/{SHA_OTHER}")
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    entries[2] = (entry, OTHER)


def a_bomb(entries: list[tuple[zipfile.ZipInfo | str, bytes]]) -> None:
    """A compressed entry."""
    entry = zipfile.ZipInfo(f"files/{SHA_OTHER}")
    entry.compress_type = zipfile.ZIP_DEFLATED
    entries[2] = (entry, OTHER)


def twice(entries: list[tuple[zipfile.ZipInfo | str, bytes]]) -> None:
    """The same name with other bytes."""
    entries.append((f"files/{SHA_OTHER}", OTHER[::-1]))


def a_bombed_index(entries: list[tuple[zipfile.ZipInfo | str, bytes]]) -> None:
    """An index that would be endless."""
    entry = zipfile.ZipInfo("zoo-files.json")
    entry.compress_type = zipfile.ZIP_DEFLATED
    entries[0] = (entry, b" " * 50_000_000)


def one_lacks(entries: list[tuple[zipfile.ZipInfo | str, bytes]]) -> None:
    """A file that is announced is not there."""
    entries.pop()


Spoil = Callable[[list[tuple[zipfile.ZipInfo | str, bytes]]], None]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (wrong_bytes, DigestError),
        (a_link, FormatError),
        (a_bomb, FormatError),
        (twice, FormatError),
        (a_bombed_index, FormatError),
        (one_lacks, FormatError),
    ],
)
def test_nothing_of_a_hostile_zip_is_taken(
    files: list[BundledFile], other: Store, tmp_path: Path, spoil: Spoil, error: type[CheckpointError]
) -> None:
    entries: list[tuple[zipfile.ZipInfo | str, bytes]] = [
        ("zoo-files.json", index_of(files)),
        (f"files/{SHA}", DATA),
        (f"files/{SHA_OTHER}", OTHER),
    ]
    spoil(entries)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for entry, data in entries:
            archive.writestr(entry, data)
    with pytest.raises(error):
        take(str(tmp_path / "b.zip"), other)
    assert everything(other) == []


def test_wherever_a_zip_is_cut_or_a_byte_of_it_is_wrong_nothing_wrong_is_taken(
    store: Store, files: list[BundledFile], tmp_path: Path
) -> None:
    write_zip(str(tmp_path / "whole.zip"), ["a"], files, store)
    whole = (tmp_path / "whole.zip").read_bytes()
    tail = range(len(whole) - 600, len(whole), 7)  # the list of contents
    for at in (*range(0, 1200, 23), *tail, 50_000):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]):
            (tmp_path / "b.zip").write_bytes(damaged)
            home = Store(str(tmp_path / "homes" / "one"))
            try:
                taken = take(str(tmp_path / "b.zip"), home)
            except CheckpointError:
                assert everything(home) == []
                continue
            assert [file[1:4] for file in taken] == [file[1:4] for file in sorted(files)]
            shutil.rmtree(home.root)


@pytest.mark.skipif(sys.platform == "win32", reason="needs links and pipes")
def test_a_folders_links_and_pipes_are_not_followed(
    store: Store, files: list[BundledFile], other: Store, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(OTHER)

    def link(path: Path) -> None:
        path.symlink_to(tmp_path / "secret")

    for number, place in enumerate((link, os.mkfifo, Path.mkdir)):
        folder = tmp_path / f"bundle-{number}"
        write_folder(str(folder), ["a"], files, store)
        hidden = folder / "files" / SHA_OTHER
        hidden.unlink()
        place(hidden)
        with pytest.raises(FormatError):
            take(str(folder), other)
        assert everything(other) == []
    folder = tmp_path / "bundle-of-links"
    write_folder(str(folder), ["a"], files, store)
    (folder / "files").rename(tmp_path / "away")
    (folder / "files").symlink_to(tmp_path / "away")
    with pytest.raises(FormatError, match="link"):
        take(str(folder), other)


def test_a_bundle_does_not_change_what_a_source_is_known_to_deliver(
    store: Store, files: list[BundledFile], other: Store, tmp_path: Path
) -> None:
    write_zip(str(tmp_path / "b.zip"), ["a"], files, store)
    other.remember_pin(SOURCES[1], "0" * 64, SOURCES[1])
    before = everything(other)
    with pytest.raises(DigestError, match="pinned") as caught:
        take(str(tmp_path / "b.zip"), other)
    assert other.pin_path(SOURCES[1]) in str(caught.value)
    assert everything(other) == before


def test_what_is_no_bundle_is_named(other: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "junk").write_bytes(os.urandom(5000))
    for name in ("empty", "junk", "nothing"):
        with pytest.raises(FormatError, match=name):
            take(str(tmp_path / name), other)


HUGE = """
import resource, sys
from zoo.checkpoints.bundles import take
from zoo.checkpoints.store import Store
from zoo.errors import FormatError
resource.setrlimit(resource.RLIMIT_AS, (600_000_000, 600_000_000))
try:
    take(sys.argv[1], Store())
except FormatError as error:
    print("refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit to memory")
def test_a_list_of_contents_of_gigabytes_is_not_read_into_memory(store: Store, tmp_path: Path) -> None:
    size = 3_000_000_000
    with open(tmp_path / "b.zip", "wb") as file:
        file.truncate(size)
        file.seek(size)
        file.write(b"PK\x05\x06" + bytes(4) + b"\x01\0\x01\0" + size.to_bytes(4, "little") + bytes(4) + bytes(2))
    done = subprocess.run(
        [sys.executable, "-c", HUGE, str(tmp_path / "b.zip")],
        capture_output=True, text=True, env={**os.environ, "ZOO_HOME": store.root},
    )  # fmt: skip
    assert done.stdout == "refused\n", done.stderr
