"""The lock file as data: one canonical text, nothing believed, written whole or not at all."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

import zoo
from zoo.checkpoints.lock import (
    KINDS,
    MAX_BYTES,
    Lock,
    LockedFile,
    LockedModel,
    chosen_path,
    compare,
    dump,
    held,
    in_force,
    parse,
    read,
    set_aside,
    write,
)
from zoo.checkpoints.sources import fetch, stored
from zoo.checkpoints.store import Store

A, B = "a" * 64, "b" * 64
SOURCE = "hf://timm/resnet18@" + "1" * 40 + "/model.safetensors"
MODEL = LockedModel(
    ref="cnn/resnet18.a1_in1k@1",
    kind="model",
    distribution="zoo-cnn",
    version="0.1.0",
    spec=B,
    contract=1,
    license="Apache-2.0",
    code_license="Apache-2.0",
    files=(LockedFile(A, 12, (SOURCE,)),),
)
LOCK = Lock({"resnet18": MODEL}, "0.1.0")

texts = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=20)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
names = texts.filter(bool)
schemes = st.sampled_from(["hf", "https", "pkg", "file", "s3"])
addresses = st.builds("{}://{}".format, schemes, st.text("abcxyz0189-_/", min_size=1, max_size=20))
files = st.builds(
    LockedFile,
    digests,
    st.none() | st.integers(0, 2**63 - 1),
    st.lists(addresses, max_size=3).map(tuple),
)
models = st.builds(
    LockedModel,
    ref=names,
    kind=st.sampled_from(KINDS),
    distribution=texts,
    version=texts,
    spec=st.just("") | digests,
    contract=st.integers(0, 2**63 - 1),
    license=texts,
    code_license=texts,
    files=st.lists(files, max_size=3).map(tuple),
    plugins=st.dictionaries(names, names, max_size=2).map(lambda plugins: tuple(sorted(plugins.items()))),
)


def consistent(lock: Lock) -> bool:
    """Whether no source has two digests, which no lock file may say."""
    said: dict[str, str] = {}
    pairs = [(s, f.sha256) for m in lock.models.values() for f in m.files for s in f.sources]
    return all(said.setdefault(source, sha256) == sha256 for source, sha256 in pairs)


locks = st.builds(Lock, st.dictionaries(names, models, max_size=4), texts).filter(consistent)


@given(locks)
def test_what_is_written_is_read_back_and_order_does_not_matter(lock: Lock) -> None:
    text = dump(lock)
    assert parse(text.encode()) == lock
    backwards = Lock(dict(reversed(list(lock.models.items()))), lock.zoo_core)
    assert dump(backwards) == text
    assert not compare(lock, backwards)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just("hf://a/../../b"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inside for place in places(item, (*path, key)))]


@given(st.data())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_change_of_a_lock_is_an_error_or_is_kept_to_the_letter(data: st.DataObject) -> None:
    record = json.loads(dump(LOCK))
    place = data.draw(st.sampled_from(places(record)[1:]))
    owner = record
    for key in place[:-1]:
        owner = owner[key]
    if data.draw(st.booleans()):
        owner[place[-1]] = data.draw(anything)
    elif isinstance(owner, dict):
        owner["added" if data.draw(st.booleans()) else place[-1] + " "] = owner.pop(place[-1])
    else:
        del owner[place[-1]]
    text = json.dumps(record)
    try:
        understood = parse(text.encode())
    except zoo.LockError:
        return
    assert json.loads(dump(understood)) == json.loads(text)
    assert bool(compare(LOCK, understood)) == (understood != LOCK)


@given(st.binary(max_size=200))
@example(b"\xff\xfe")
@example(b"")
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b"9" * 10_000)
@example(b"null")
def test_bytes_that_are_no_lock_are_refused(data: bytes) -> None:
    with pytest.raises(zoo.LockError):
        parse(data)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"zoo_lock": 1', '"zoo_lock": 2', "newer zoo"),
        ('"zoo_lock": 1', '"zoo_lock": true', "number of a layout"),
        ('"zoo_lock": 1', '"zoo_lock": 1.0', "number of a layout"),
        (f'"{A}"', f'"{A.upper()}"', "no SHA-256"),
        (f'"{A}"', f'"../{A[3:]}"', "no SHA-256"),
        ('"size": 12', '"size": -1', "whole number"),
        ('"size": 12', '"size": 1e2', "whole number"),
        ('"size": 12', '"size": NaN', "NaN"),
        ('"size": 12', '"size": 12, "size": 13', "twice"),
        ('"contract": 1', '"contract": 99999999999999999999', "whole number"),
        ('"kind": "model"', '"kind": "module"', "kind is none of"),
        ('"models": {', '"models": {"resnet18": 5, ', "twice"),
        ('"version": "0.1.0"', '"version": "\\u001b[31m"', "no plain text"),
        ('"version": "0.1.0"', '"version": "\\ud800"', "surrogates"),
        ('"version": "0.1.0"', '"version": null', "no plain text"),
        ('"kind": "model",', "", "lacks its `kind`"),
        ('"version": "0.1.0"', '"version": "0.1.0", "run": "rm"', "unknown `run`"),
        (SOURCE, "hf://timm/resnet18/../../../etc/passwd", "climbs out"),
        (SOURCE, "pkg://zoo-cnn/%2e%2e/%2e%2e/secret", "climbs out"),
        (SOURCE, "file://..\\\\..\\\\secret", "climbs out"),
        (SOURCE, "/etc/passwd", "no address"),
        ("{", "<<<<<<< HEAD\n{", "not JSON"),
    ],
)
def test_what_somebody_wrote_by_hand_is_named(before: str, after: str, said: str) -> None:
    text = dump(LOCK)
    assert before in text
    with pytest.raises(zoo.LockError, match=said) as raised:
        parse(text.replace(before, after, 1).encode(), "here/zoo.lock")
    assert "here/zoo.lock" in str(raised.value)
    assert raised.value.fix


def test_a_source_with_two_digests_is_refused() -> None:
    other = MODEL._replace(files=(LockedFile(B, 12, (SOURCE,)),))
    with pytest.raises(zoo.LockError, match="two digests"):
        parse(dump(Lock({"resnet18": MODEL, "other": other}, "")).encode())


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "zoo.lock"
    with open(path, "wb") as file:
        file.truncate(MAX_BYTES * 1000)
    with pytest.raises(zoo.LockError, match="larger than"):
        read(str(path))


@pytest.mark.parametrize("name", ["absent.lock", "folder", "no\0name"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(zoo.LockError) as raised:
        read(str(tmp_path / name))
    assert "zoo lock" in str(raised.value.fix)


def test_every_field_that_differs_is_a_difference() -> None:
    changed = {
        "ref": "cnn/resnet18.a2_in1k@1",
        "kind": "backbone",
        "distribution": "zoo-other",
        "version": "0.2.0",
        "spec": A,
        "contract": 2,
        "license": "MIT",
        "code_license": "MIT",
        "files": (),
        "plugins": (("zoo-timm", "1.0"),),
    }
    assert changed.keys() == set(LockedModel._fields)
    for name, value in changed.items():
        after = Lock({"resnet18": MODEL._replace(**{name: value})}, "0.1.0")
        assert len(compare(LOCK, after)) == 1, name
    for file in (LockedFile(B, 12, (SOURCE,)), LockedFile(A, 13, (SOURCE,)), LockedFile(A, 12, ())):
        assert len(compare(LOCK, Lock({"resnet18": MODEL._replace(files=(file,))}, "0.1.0"))) == 1
    assert [str(d) for d in compare(LOCK, Lock({}, "0.2.0"))] == [
        "zoo-core: version 0.1.0 -> 0.2.0",
        "resnet18: meaning cnn/resnet18.a1_in1k@1 -> none",
    ]


# Written


def test_a_lock_is_written_once_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "zoo.lock"
    assert write(str(path), LOCK)
    first = path.stat()
    assert not write(str(path), LOCK)
    assert path.stat().st_mtime_ns == first.st_mtime_ns
    assert write(str(path), Lock({}, "0.2.0"))
    assert read(str(path)) == Lock({}, "0.2.0")
    assert os.listdir(tmp_path) == ["zoo.lock"]


def test_a_link_to_a_lock_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "zoo.lock").symlink_to(tmp_path / "real" / "zoo.lock")
    write(str(tmp_path / "zoo.lock"), LOCK)
    assert (tmp_path / "zoo.lock").is_symlink()
    assert read(str(tmp_path / "real" / "zoo.lock")) == LOCK


def test_where_nothing_can_be_written_the_old_lock_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "zoo.lock")
    write(path, LOCK)

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(zoo.LockError, match="No space left"):
        write(path, Lock({}, "9"))
    assert read(path) == LOCK
    assert os.listdir(tmp_path) == ["zoo.lock"]
    with pytest.raises(zoo.LockError, match="cannot be written"):
        write(str(tmp_path / "absent" / "zoo.lock"), LOCK)


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(zoo.LockError):
        write(str(tmp_path / "zoo.lock"), Lock({"a\nb": MODEL}, ""))
    assert not os.listdir(tmp_path)


def test_a_lock_is_an_ordinary_readable_file(tmp_path: Path) -> None:
    write(str(tmp_path / "zoo.lock"), LOCK)
    before = os.umask(0)
    os.umask(before)
    assert stat.S_IMODE((tmp_path / "zoo.lock").stat().st_mode) == 0o666 & ~before


# In force


def test_the_command_line_the_variable_then_the_folder_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_path() == "zoo.lock"
    monkeypatch.setenv("ZOO_LOCK", "other.lock")
    assert chosen_path() == "other.lock"
    assert chosen_path("given.lock") == "given.lock"


def test_a_lock_in_force_is_read_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert in_force() is None
    path = tmp_path / "zoo.lock"
    monkeypatch.setenv("ZOO_LOCK", str(path))
    with pytest.raises(zoo.LockError, match="no lock file"):
        in_force()
    write(str(path), LOCK)
    assert in_force() == LOCK
    assert in_force() is in_force()
    write(str(path), Lock({}, "0.2.0"))
    assert in_force() == Lock({}, "0.2.0")
    with set_aside():
        assert in_force() is None
    path.unlink()
    with pytest.raises(zoo.LockError, match="no lock file"):
        in_force()


def test_a_file_without_a_digest_is_held_to_the_locks(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"locked")
    source = f"file://{weights}"
    digest = store.digest(str(weights))
    write(str(tmp_path / "zoo.lock"), Lock({source: MODEL._replace(files=(LockedFile(digest, 6, (source,)),))}, ""))
    monkeypatch.setenv("ZOO_LOCK", str(tmp_path / "zoo.lock"))
    assert held((source,), None, None) == (digest, 6)
    assert held(("file:///another",), None, None) == (None, None)
    assert fetch((source,), store=store).sha256 == digest
    weights.write_bytes(b"others")
    assert stored((source,), store=store) is None
    with pytest.raises(zoo.DigestError):
        fetch((source,), store=store)
    with pytest.raises(zoo.LockError, match="locked to other bytes"):
        fetch((source,), sha256=B, store=store)
