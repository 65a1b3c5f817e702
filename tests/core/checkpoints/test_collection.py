"""Collecting: what anybody needs stays, what nobody needs goes, whoever else is at work and whenever it is killed."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from zoo.checkpoints import collection
from zoo.checkpoints.collection import BROKEN_OFF, GRACE, RECORD, UNEXPLAINED, UNUSED, collect
from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.holdings import holdings, locked
from zoo.checkpoints.leaving import USE_NOTED_EVERY
from zoo.checkpoints.lock import Lock, LockedFile, LockedModel, in_force, write
from zoo.checkpoints.store import Blob, Store
from zoo.errors import CheckpointError, OfflineError

DAY = 86_400.0
OLD = 40 * DAY


def age(path: str, seconds: float) -> None:
    """Let a file's last change have been that long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def old_blob(store: Store, content: bytes, seconds: float = OLD) -> Blob:
    blob = store.put([content])
    age(blob.path, seconds)
    return blob


def names(collected: collection.Collected, kind: str) -> set[str]:
    return {one.sha256 for one in collected.of(kind)}


def is_here(blob: Blob) -> bool:
    return os.path.exists(blob.path)


@contextmanager
def keeping(*digests: str) -> Iterator[frozenset[str]]:
    """A keeper of these."""
    yield frozenset(digests)


def test_by_default_only_what_nothing_explains_goes(store: Store, tmp_path: Path) -> None:
    unexplained, pinned, converted, registered, locks = (old_blob(store, bytes([n])) for n in range(5))
    store.remember_pin("hf://a/b/c", pinned.sha256, "hf://a/b@1/c")
    store.remember_conversion("a" * 64, "torch-1", converted.sha256)
    (tmp_path / "zoo.lock").write_text(f'{{"files": [{{"sha256": "{locks.sha256}"}}]}}')
    store.note_lock(str(tmp_path / "zoo.lock"))
    done = collect(store, [keeping(registered.sha256)])
    assert [(one.kind, one.sha256, one.size) for one in done.taken] == [(UNEXPLAINED, unexplained.sha256, 1)]
    assert done.freed == 1
    assert not is_here(unexplained)
    assert all(map(is_here, (pinned, converted, registered, locks)))
    assert not os.path.exists(store.trash.folder)


def test_what_can_be_had_again_goes_once_it_is_asked_for_and_long_unused(store: Store, tmp_path: Path) -> None:
    pinned, recent, converted, registered, locks = (old_blob(store, bytes([n])) for n in range(5))
    for number, blob in enumerate((pinned, recent, registered, locks)):
        store.remember_pin(f"hf://a/b/{number}", blob.sha256, f"hf://a/b@1/{number}")
    store.remember_conversion(pinned.sha256, "torch-1", converted.sha256)
    (tmp_path / "zoo.lock").write_text(locks.sha256.upper())
    store.note_lock(str(tmp_path / "zoo.lock"))
    age(recent.path, 10 * DAY)
    done = collect(store, [keeping(registered.sha256)], unused_for=30 * DAY)
    assert names(done, UNUSED) == {pinned.sha256, converted.sha256}
    assert all(map(is_here, (recent, registered, locks)))
    assert store.pin("hf://a/b/0") is not None  # it still says which bytes are right
    assert store.conversion(pinned.sha256, "torch-1") is None
    assert names(collect(store, [keeping(registered.sha256)], everything=True), UNUSED) == {recent.sha256}


def test_without_a_network_nothing_goes_that_would_have_to_be_fetched(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned, unexplained = old_blob(store, b"1"), old_blob(store, b"2")
    store.remember_pin("hf://a/b/c", pinned.sha256, "hf://a/b@1/c")
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(OfflineError, match="could not be fetched again"):
        collect(store, [], everything=True)
    assert names(collect(store, []), UNEXPLAINED) == {unexplained.sha256}
    assert is_here(pinned)


def test_what_was_just_stored_or_asked_for_stays(store: Store) -> None:
    stored, found, gone = store.put([b"1"]), old_blob(store, b"2"), old_blob(store, b"3")
    assert store.find(found.sha256) == found
    done = collect(store, [])
    assert names(done, UNEXPLAINED) == {gone.sha256}
    assert {one.sha256 for one in done.recent} == {stored.sha256, found.sha256}
    for path in (stored.path, os.path.join(store.uses.folder, found.sha256)):
        age(path, GRACE + 60)
    assert names(collect(store, []), UNEXPLAINED) == {stored.sha256, found.sha256}


def test_a_use_is_noted_without_a_change_to_the_blob(store: Store) -> None:
    blob = old_blob(store, b"1")
    before = os.stat(blob.path)
    store.find(blob.sha256)
    after = os.stat(blob.path)
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)
    note = os.path.join(store.uses.folder, blob.sha256)
    assert time.time() - os.stat(note).st_mtime < 60
    age(note, USE_NOTED_EVERY / 2)
    noted = os.stat(note).st_mtime
    store.find(blob.sha256)
    assert os.stat(note).st_mtime == noted  # not again so soon
    age(note, USE_NOTED_EVERY + 1)
    store.find(blob.sha256)
    assert os.stat(note).st_mtime > noted


def test_the_grace_is_longer_than_a_use_may_go_unnoted() -> None:
    assert GRACE > USE_NOTED_EVERY + 3600


def test_a_dry_run_says_the_same_and_does_nothing(store: Store) -> None:
    old_blob(store, b"1")
    pinned = old_blob(store, b"2")
    store.remember_pin("hf://a/b/c", pinned.sha256, "hf://a/b@1/c")
    broken = store.temp_path("a" * 64)
    Path(broken).write_bytes(b"x" * 10)
    age(broken, 2 * DAY)
    before = sorted(str(path) for path in Path(store.root).rglob("*"))
    said = collect(store, [], everything=True, dry_run=True)
    assert sorted(str(path) for path in Path(store.root).rglob("*")) == before
    done = collect(store, [], everything=True)
    assert (said.taken, said.freed) == (done.taken, done.freed)
    assert said.freed == 12


def test_a_dry_run_spares_what_was_used_lately_too(store: Store) -> None:
    found = old_blob(store, b"1")
    store.find(found.sha256)
    said = collect(store, [], dry_run=True)
    assert (said.taken, [one.sha256 for one in said.recent]) == ((), [found.sha256])


def test_broken_off_downloads_go_and_live_ones_stay(store: Store) -> None:
    old, young, pair = store.temp_path("a" * 64), store.temp_path(None), store.temp_path("b" * 64)
    for path in (old, f"{old}.journal", young, pair, f"{pair}.journal"):
        Path(path).write_bytes(b"12345")
    for path in (old, f"{old}.journal", pair):
        age(path, 2 * DAY)
    done = collect(store, [])
    assert {one.path for one in done.of(BROKEN_OFF)} == {old, f"{old}.journal"}
    assert done.freed == 10
    assert all(map(os.path.exists, (young, pair, f"{pair}.journal")))


def test_a_writer_whose_file_was_taken_is_told_so_and_nothing_wrong_is_stored(store: Store) -> None:
    def stalled() -> Iterator[bytes]:
        yield b"first half"
        (arriving,) = os.listdir(store.arrivals_folder)
        age(os.path.join(store.arrivals_folder, arriving), 2 * DAY)
        assert len(collect(store, []).of(BROKEN_OFF)) == 1

    with pytest.raises(CheckpointError, match="removed from the store while it was being written") as caught:
        store.put(stalled())
    assert "try again" in str(caught.value)
    assert holdings(store).blobs == ()


def test_records_of_what_is_gone_go_and_pins_stay(store: Store, tmp_path: Path) -> None:
    for name in ("gone", "changed", "here"):
        (tmp_path / name).write_bytes(name.encode())
        store.adopt(str(tmp_path / name), Wanted(), name)
    (tmp_path / "gone").unlink()
    (tmp_path / "changed").write_bytes(b"something else")
    store.remember_conversion("a" * 64, "torch-1", "b" * 64)
    store.remember_pin("hf://a/b/c", "c" * 64, "hf://a/b@1/c")
    torn = Path(store.records.path("pins", "d" * 64) + ".0123abcd")
    torn.parent.mkdir()
    torn.write_text("{")
    for path in Path(store.root, "records").rglob("*.json*"):
        age(str(path), 2 * DAY)
    done = collect(store, [])
    gone = {os.path.relpath(one.path, store.records.root).split(os.sep)[0] for one in done.of(RECORD)}
    assert gone == {"digests", "places", "conversions", "pins"}
    assert len(done.of(RECORD)) == 5  # the torn one, one digest, two places, one conversion
    assert not torn.exists()
    assert store.pin("hf://a/b/c") is not None
    assert store.find(hashlib.sha256(b"here").hexdigest()) is not None


def test_the_note_of_a_use_goes_after_its_blob(store: Store) -> None:
    gone, here = old_blob(store, b"1"), old_blob(store, b"2")
    store.remember_pin("hf://a/b/c", here.sha256, "hf://a/b@1/c")
    for blob in (gone, here):
        store.find(blob.sha256)
        age(os.path.join(store.uses.folder, blob.sha256), GRACE + 60)
    collect(store, [])
    assert os.listdir(store.uses.folder) == [here.sha256]


def test_records_that_cannot_be_read_keep_what_they_might_explain(store: Store) -> None:
    blob = old_blob(store, b"1")
    store.remember_pin("hf://a/b/c", blob.sha256, "hf://a/b@1/c")
    pin = store.pin_path("hf://a/b/c")
    Path(pin).write_bytes(b"\x00" * 100)
    done = collect(store, [])
    assert (done.taken, done.unreadable) == ((), (pin,))
    assert is_here(blob)


def test_a_lock_that_cannot_be_read_stops_the_collection(store: Store, tmp_path: Path) -> None:
    blob = old_blob(store, b"1")
    (tmp_path / "zoo.lock").mkdir()
    store.note_lock(str(tmp_path / "zoo.lock"))
    with pytest.raises(CheckpointError, match="what it needs is unknown"):
        collect(store, [])
    assert is_here(blob)
    (tmp_path / "zoo.lock").rmdir()  # a lock that is gone needs nothing
    assert locked(store) == {}
    assert len(collect(store, []).taken) == 1


def test_a_keeper_that_fails_stops_the_collection(store: Store) -> None:
    blob = old_blob(store, b"1")

    @contextmanager
    def failing() -> Iterator[frozenset[str]]:
        raise CheckpointError("the registry cannot be read")
        yield frozenset()

    with pytest.raises(CheckpointError, match="registry"):
        collect(store, [keeping(), failing()])
    assert is_here(blob)


def test_no_store_is_an_empty_one_and_is_not_made(tmp_path: Path) -> None:
    done = collect(Store(str(tmp_path / "nowhere")), [])
    assert done == ((), (), ())
    assert not (tmp_path / "nowhere").exists()


def test_what_is_no_blob_is_left_alone(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"1")
    shard = Path(store.blobs_folder, "ab")
    shard.mkdir(parents=True)
    (shard / "notes.txt").write_text("mine")
    (shard / ("cd" + "0" * 62)).write_text("in the wrong folder")
    (shard / ("ab" + "0" * 62)).symlink_to(outside)
    (shard / ("ab" + "1" * 62)).mkdir()
    Path(store.blobs_folder, "cd").symlink_to(shard)
    for path in shard.iterdir():
        os.utime(path, (0, 0), follow_symlinks=False)
    assert collect(store, [], everything=True).taken == ()
    assert len(list(shard.iterdir())) == 4
    assert outside.read_bytes() == b"1"


# What others do at the same moment


class Interrupting(Store):
    """A store in which something happens right before a blob is thrown into the trash, or right after."""

    def __init__(self, root: str, before: Sequence[object] = (), after: Sequence[object] = ()) -> None:
        super().__init__(root)
        throw = self.trash.throw

        def interrupted(path: str) -> str:
            for step in before:
                step()  # type: ignore[operator]  # called for what it does
            trash = throw(path)
            for step in after:
                step()
            return trash

        self.trash.throw = interrupted


def test_what_is_stored_anew_at_the_last_moment_stays(store: Store) -> None:
    blob = old_blob(store, b"1")
    done = collect(Interrupting(store.root, before=[lambda: Store().put([b"1"])]), [])
    assert done.taken == ()
    assert Path(blob.path).read_bytes() == b"1"
    assert not os.path.exists(store.trash.folder)


def test_what_is_stored_anew_while_the_old_one_leaves_stays(store: Store) -> None:
    blob = old_blob(store, b"1")
    collect(Interrupting(store.root, after=[lambda: Store().put([b"1"])]), [])
    assert Path(blob.path).read_bytes() == b"1"
    assert not os.path.exists(store.trash.folder)


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_is_asked_for_at_the_last_moment_stays(store: Store, when: str) -> None:
    blob = old_blob(store, b"1")
    found: list[Blob | None] = []
    steps = {when: [lambda: found.append(Store().find(blob.sha256))]}
    done = collect(Interrupting(store.root, **steps), [])
    assert found == [blob]
    assert done.taken == ()
    assert is_here(blob)
    assert not os.path.exists(store.trash.folder)


def test_a_blob_that_leaves_right_before_its_use_is_noted_is_brought_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    blob = old_blob(store, b"1")

    def note(sha256: str, stored: float) -> bool:
        store.trash.throw(blob.path)
        return True

    monkeypatch.setattr(store.uses, "note", note)
    assert store.find(blob.sha256) == blob
    assert is_here(blob)


@pytest.mark.parametrize("links", [True, False])
def test_what_comes_back_from_the_trash_never_replaces_what_was_stored_anew(
    store: Store, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "no links on this file system")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    blob = store.put([b"1"])
    trash = store.trash.throw(blob.path)
    Path(trash).chmod(0o644)
    Path(trash).write_bytes(b"2")  # damaged, say
    store.put([b"1"])
    store.trash.bring_back(trash, blob.path)
    assert Path(blob.path).read_bytes() == b"1"
    assert not os.path.exists(trash)
    os.unlink(blob.path)
    store.trash.bring_back(store.trash.throw(store.put([b"1"]).path), blob.path)
    assert Path(blob.path).read_bytes() == b"1"


class Killed(BaseException):
    """Nothing of ours catches it."""


def test_a_killed_collector_loses_nothing_and_the_next_clears_up(store: Store) -> None:
    wanted, unwanted = old_blob(store, b"1"), old_blob(store, b"2")

    def die() -> None:
        raise Killed

    for _ in range(2):
        with pytest.raises(Killed):
            collect(Interrupting(store.root, after=[die]), [])
    assert len(os.listdir(store.trash.folder)) + is_here(wanted) + is_here(unwanted) == 2
    assert store.find(wanted.sha256) == wanted
    assert is_here(wanted)
    assert names(collect(store, []), UNEXPLAINED) == {unwanted.sha256}
    assert not os.path.exists(store.trash.folder)
    assert is_here(wanted)


def test_what_a_killed_collector_left_in_the_trash_is_judged_anew(store: Store) -> None:
    registered, pinned, again = (old_blob(store, bytes([n])) for n in range(3))
    for blob in (registered, pinned, again):
        store.trash.throw(blob.path)
    store.put([b"\x02"])
    store.remember_pin("hf://a/b/c", pinned.sha256, "hf://a/b@1/c")
    assert store.holds(registered.sha256)
    assert names(collect(store, [keeping(registered.sha256)]), UNEXPLAINED) == {again.sha256}
    assert all(map(is_here, (registered, pinned, again)))
    assert not os.path.exists(store.trash.folder)


# Any mixture

ROOTS = ("registered", "locked", "pinned", "converted", "stored lately", "used lately")
FLEETING = {"pinned", "converted"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.lists(st.sets(st.sampled_from(ROOTS)), max_size=8), st.booleans(), st.booleans())
def test_nothing_rooted_goes_and_all_else_goes(
    tmp_path_factory: pytest.TempPathFactory, mixture: list[set[str]], everything: bool, in_trash: bool
) -> None:
    root = tmp_path_factory.mktemp("store")
    store, kept, lock = Store(str(root)), [], root / "zoo.lock"
    for number, roots in enumerate(mixture):
        blob = old_blob(store, number.to_bytes(2, "big"), 10 if "stored lately" in roots else OLD)
        if "registered" in roots:
            kept.append(blob.sha256)
        if "locked" in roots:
            with lock.open("a") as text:
                text.write(f'"{blob.sha256}", ')
        if "pinned" in roots:
            store.remember_pin(f"hf://a/b/{number}", blob.sha256, f"hf://a/b@1/{number}")
        if "converted" in roots:
            store.remember_conversion(hashlib.sha256(b"%d" % number).hexdigest(), "torch-1", blob.sha256)
        if in_trash:
            store.trash.throw(blob.path)
        if "used lately" in roots:
            store.uses.note(blob.sha256, 0.0)
    store.note_lock(str(lock))
    done = collect(store, [keeping(*kept)], everything=everything)
    for number, roots in enumerate(mixture):
        sha256 = hashlib.sha256(number.to_bytes(2, "big")).hexdigest()
        stays = bool(roots - FLEETING) if everything else bool(roots)
        assert os.path.exists(store.blob_path(sha256)) is stays
        assert (sha256 in {one.sha256 for one in done.taken}) is not stays
    assert done.freed >= 2 * sum(not roots for roots in mixture)


def test_what_the_lock_in_force_names_stays_and_the_lock_is_remembered(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zoo_home: Path
) -> None:
    blob, path = old_blob(store, b"locked"), str(tmp_path / "zoo.lock")
    source = "https://example.org/a.safetensors"
    entry = LockedModel(source, "file", files=(LockedFile(blob.sha256, 6, (source,)),))
    write(path, Lock({source: entry}, "1"))
    monkeypatch.setenv("ZOO_LOCK", path)
    assert locked(store) == {blob.sha256: (path,)}
    assert in_force() is not None
    monkeypatch.delenv("ZOO_LOCK")
    assert Store().noted_locks() == (path,)
