"""Verify finds every damage; repair mends what it can, loses nothing, and says what is left to do."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from loopback_hub import LoopbackHub
from zoo.checkpoints import repair as repairing
from zoo.checkpoints.conversion import CONVERTER, convert
from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.repair import (
    DAMAGED,
    FOREIGN,
    HARMLESS,
    LINK,
    MISSING,
    PERMISSIONS,
    PLACE,
    RECORD,
    STALE,
    UNFINISHED,
    Damage,
    Repair,
    repair,
    verify,
)
from zoo.checkpoints.sources import fetch
from zoo.checkpoints.store import Blob, Store, digest_of
from zoo.errors import SourceError

DATA = os.urandom(300_000)
SHA = hashlib.sha256(DATA).hexdigest()


def spoil(path: str, content: bytes | None = None) -> None:
    """Flip one bit of a blob, or give it other content; its times stay as they were."""
    before = os.stat(path)
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2] ^= 1
    os.chmod(path, 0o644)
    Path(path).write_bytes(data if content is None else content)
    os.chmod(path, 0o444)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def kinds(damages: Sequence[Damage]) -> list[str]:
    return [damage.kind for damage in damages]


def aside(store: Store) -> list[bytes]:
    """What was moved out of the way."""
    return [path.read_bytes() for path in sorted(Path(store.damaged_folder).iterdir())]


def test_a_sound_store_has_no_damage(store: Store, tmp_path: Path) -> None:
    for content in (DATA, b"", b"1"):
        store.put([content])
    (tmp_path / "file").write_bytes(b"elsewhere")
    store.adopt(str(tmp_path / "file"), Wanted(), "pkg://x/file")
    store.remember_pin("hf://a/b/c", SHA, "hf://a/b@1/c")
    Path(store.temp_path("a" * 64)).write_bytes(b"arriving")
    said: list[tuple[int, int]] = []
    assert verify(store, {SHA: ["cats@1.0.0"]}, progress=lambda done, total: said.append((done, total))) == []
    assert said[-1] == (len(DATA) + 1, len(DATA) + 1)
    assert verify(Store(str(tmp_path / "nowhere"))) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "has the digest"), (b"", "is empty"), (DATA[:-1], "299,999 bytes"), (DATA + b"1", "1 by")],
)
def test_a_changed_blob_is_found(store: Store, content: bytes | None, said: str) -> None:
    blob = store.put([DATA])
    spoil(blob.path, content)
    (damage,) = verify(store, {SHA: ["cats@1.0.0"]})
    assert damage[:2] == (DAMAGED, blob.path)
    assert said in damage.what
    assert (damage.sha256, damage.needed_by) == (SHA, ("cats@1.0.0",))


def test_everything_else_that_is_wrong_is_found_too(store: Store, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(DATA)
    blob = store.put([DATA])
    os.chmod(blob.path, 0o644)
    shard = Path(store.blobs_folder, "ab")
    shard.mkdir()
    (shard / ("ab" + "0" * 62)).symlink_to(tmp_path / "outside")
    (shard / "notes.txt").write_text("mine")
    (shard / ("cd" + "0" * 62)).write_text("in the wrong folder")
    Path(store.blobs_folder, "xyz").mkdir()
    Path(store.root, "blobs", "more").mkdir()
    for name in ("gone", "changed", "spoilt"):
        (tmp_path / name).write_bytes(name.encode() * 3)
        store.adopt(str(tmp_path / name), Wanted(), name)
    (tmp_path / "gone").unlink()
    (tmp_path / "changed").write_bytes(b"something else")
    store.remember_pin("hf://a/b/c", SHA, "hf://a/b@1/c")
    Path(store.pin_path("hf://a/b/c")).write_bytes(b"\x00" * 50)
    stalled = store.temp_path("a" * 64)
    Path(stalled).write_bytes(b"half")
    os.utime(stalled, (0, 0))
    (tmp_path / "zoo.lock").write_text(f'["{"e" * 64}", "{SHA}"]')
    store.note_lock(str(tmp_path / "zoo.lock"))
    found = verify(store, {"f" * 64: ["cats@1.0.0"]})
    assert kinds(found) == sorted([MISSING, LINK, PERMISSIONS, STALE, STALE, RECORD, UNFINISHED, *[FOREIGN] * 4])
    needs = {damage.kind: damage.needed_by for damage in found if damage.needed_by}
    assert needs == {MISSING: ("cats@1.0.0",), PERMISSIONS: (str(tmp_path / "zoo.lock"),)}


def test_an_adopted_file_that_rotted_where_it_is_is_found(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(DATA)
    store.adopt(str(path), Wanted(), "weights")
    record = Path(next(iter(store.records.files("digests"))))
    record.write_text(record.read_text().replace(SHA, "1" * 64))  # as if these bytes had once had another digest
    place = Path(next(iter(store.records.files("places"))))
    lie = Path(store.records.path("places", "1" * 64))
    lie.parent.mkdir()
    place.rename(lie)
    assert store.find("1" * 64) is not None
    (damage,) = verify(store)
    assert damage.kind == PLACE
    assert SHA in damage.what
    assert repair(store, [damage])[0].mended
    assert store.find("1" * 64) is None


def test_an_adopted_file_that_was_upgraded_harms_nobody_unless_it_is_needed(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(DATA)
    store.adopt(str(path), Wanted(SHA), "pkg://x/weights")
    path.write_bytes(b"the next release")
    assert [damage.kind in HARMLESS for damage in verify(store)] == [True]
    (tmp_path / "zoo.lock").write_text(f'["{SHA}"]')
    store.note_lock(str(tmp_path / "zoo.lock"))
    assert kinds(verify(store)) == [PLACE]
    store.put([DATA])  # now what the lock needs is in the store itself
    assert kinds(verify(store)) == [STALE]
    assert repair(store, verify(store))[0].mended
    assert verify(store) == []


def test_what_is_registered_is_missing_even_if_a_file_elsewhere_has_it(store: Store, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(DATA)
    store.adopt(str(tmp_path / "weights"), Wanted(SHA), "pkg://x/weights")
    found = verify(store, {SHA: ["cats@1.0.0"]})
    assert kinds(found) == [MISSING]
    (done,) = repair(store, found)
    assert done.mended
    (tmp_path / "weights").unlink()
    assert restored(store, Blob(SHA, len(DATA), ""))


def test_a_blob_that_vanishes_meanwhile_is_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = store.put([DATA])
    held = repairing.holdings(store)
    os.unlink(blob.path)
    monkeypatch.setattr(repairing, "holdings", lambda _: held)
    assert verify(store) == []


# Mending


def refetching(store: Store) -> repairing.Refetch:
    return lambda sources, sha256: fetch(sources, sha256=sha256, store=store)


def spoilt(store: Store, content: bytes = DATA) -> Blob:
    blob = store.put([content])
    spoil(blob.path)
    return blob


def restored(store: Store, blob: Blob) -> bool:
    found = store.find(blob.sha256)
    return found is not None and digest_of(found.path) == blob.sha256


def test_a_damaged_blob_is_fetched_again_and_nothing_is_lost(store: Store, hub: LoopbackHub) -> None:
    hub.add("org/repo", "weights.bin", DATA)
    fetched = fetch(["hf://org/repo/weights.bin"], store=store)
    spoil(store.blob_path(SHA))
    bad = Path(fetched.path).read_bytes()
    (without,) = repair(store, verify(store))
    assert not without.mended
    assert "zoo cache add FILE" in without.fix
    (done,) = repair(store, [Damage(MISSING, store.blob_path(SHA), "", SHA)], refetching(store))
    assert done.mended
    assert "restored from hf://org/repo/weights.bin" in done.done
    assert restored(store, Blob(SHA, len(DATA), ""))
    assert aside(store) == [bad]
    assert verify(store) == []


def test_what_cannot_be_fetched_is_told_with_those_that_need_it(store: Store, hub: LoopbackHub) -> None:
    spoilt(store)
    store.remember_pin("hf://org/gone/weights.bin", SHA, "hf://org/gone@1/weights.bin")
    (done,) = repair(store, verify(store, {SHA: ["cats@1.0.0"]}), refetching(store))
    assert not done.mended
    assert done.damage.needed_by == ("cats@1.0.0",)
    assert "hf://org/gone/weights.bin" in done.fix
    assert len(aside(store)) == 1
    assert store.find(SHA) is None


def test_a_blob_that_is_also_elsewhere_is_used_from_there(store: Store, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(DATA)
    store.adopt(str(tmp_path / "weights"), Wanted(SHA), "pkg://x/weights")
    blob = spoilt(store)
    (done,) = repair(store, verify(store))
    assert done.mended
    assert restored(store, blob)
    assert str(tmp_path / "weights") in done.done
    assert not os.path.exists(store.blob_path(SHA))


def test_a_damaged_blob_that_is_registered_is_restored_into_the_store_itself(store: Store, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(DATA)
    store.adopt(str(tmp_path / "weights"), Wanted(SHA), "pkg://x/weights")
    spoilt(store)
    (done,) = repair(store, verify(store, {SHA: ["cats@1.0.0"]}))
    assert done.mended
    assert store.find(SHA) == (SHA, len(DATA), store.blob_path(SHA))
    assert Path(store.blob_path(SHA)).read_bytes() == DATA


def test_what_the_hubs_cache_delivers_for_a_registered_blob_is_copied(store: Store, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(DATA)
    store.remember_pin("hf://a/b/c", SHA, "hf://a/b@1/c")
    spoilt(store)

    def refetch(sources: Sequence[str], sha256: str) -> None:
        store.adopt(str(tmp_path / "weights"), Wanted(sha256), sources[0])

    (done,) = repair(store, verify(store, {SHA: ["cats@1.0.0"]}), refetch)
    assert done.mended
    assert Path(store.blob_path(SHA)).read_bytes() == DATA


def test_a_conversion_is_made_again(store: Store, tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(3)}, tmp_path / "published.pth")
    origin = store.put([(tmp_path / "published.pth").read_bytes()])
    converted = convert(origin.sha256, origin.path, store)
    spoil(converted.path)
    (done,) = repair(store, verify(store))
    assert done.mended
    assert restored(store, converted)
    assert store.conversion(origin.sha256, CONVERTER) == converted


def test_a_conversion_whose_origin_is_damaged_as_well_is_made_from_what_is_fetched(
    store: Store, hub: LoopbackHub, tmp_path: Path
) -> None:
    torch.save({"weight": torch.ones(3)}, tmp_path / "published.pth")
    hub.add("org/repo", "published.pth", (tmp_path / "published.pth").read_bytes())
    origin = fetch(["hf://org/repo/published.pth"], store=store)
    converted = convert(origin.sha256, origin.path, store)
    for sha256 in (origin.sha256, converted.sha256):
        spoil(store.blob_path(sha256))
    assert [done.mended for done in repair(store, verify(store), refetching(store))] == [True, True]
    assert restored(store, converted)
    assert verify(store) == []


def test_the_published_file_of_a_conversion_is_fetched_if_it_is_gone(
    store: Store, hub: LoopbackHub, tmp_path: Path
) -> None:
    torch.save({"weight": torch.ones(3)}, tmp_path / "published.pth")
    hub.add("org/repo", "published.pth", (tmp_path / "published.pth").read_bytes())
    origin = fetch(["hf://org/repo/published.pth"], store=store)
    converted = convert(origin.sha256, origin.path, store)
    os.unlink(store.blob_path(origin.sha256))
    spoil(converted.path)
    (done,) = repair(store, verify(store), refetching(store))
    assert done.mended
    assert restored(store, converted)


def test_what_an_older_converter_made_is_not_made_again(store: Store, tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(3)}, tmp_path / "published.pth")
    origin = store.put([(tmp_path / "published.pth").read_bytes()])
    old = spoilt(store, b"made long ago")
    store.remember_conversion(origin.sha256, "torch-0", old.sha256)
    (done,) = repair(store, verify(store))
    assert done.mended
    assert "nothing needs it" in done.done
    assert store.conversion(origin.sha256, CONVERTER) is None


def test_a_blob_that_nothing_needs_is_moved_aside_and_that_is_all(store: Store) -> None:
    spoilt(store)
    (done,) = repair(store, verify(store))
    assert done.mended
    assert "nothing needs it" in done.done
    assert len(aside(store)) == 1


def test_a_blob_that_was_stored_anew_meanwhile_stays(store: Store) -> None:
    blob = spoilt(store)
    damages = verify(store)
    store.put([DATA])
    (done,) = repair(store, damages)
    assert done.mended
    assert restored(store, blob)
    assert not os.listdir(store.damaged_folder)


def test_a_link_is_replaced_by_a_copy_of_what_it_leads_to(store: Store, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(DATA)
    path = Path(store.blob_path(SHA))
    path.parent.mkdir(parents=True)
    path.symlink_to(os.path.relpath(tmp_path / "outside", path.parent))
    (done,) = repair(store, verify(store))
    assert done.mended
    assert not path.is_symlink()
    assert path.read_bytes() == DATA
    assert (tmp_path / "outside").read_bytes() == DATA
    assert verify(store) == []


def test_the_small_things_are_mended_and_what_is_not_ours_is_left(store: Store, tmp_path: Path) -> None:
    blob = store.put([DATA])
    os.chmod(blob.path, 0o666)
    notes = Path(blob.path).parent / "notes.txt"
    notes.write_text("mine")
    (tmp_path / "gone").write_bytes(b"1")
    store.adopt(str(tmp_path / "gone"), Wanted(), "gone")
    (tmp_path / "gone").unlink()
    store.remember_pin("hf://a/b/c", SHA, "hf://a/b@1/c")
    Path(store.pin_path("hf://a/b/c")).write_text("{")
    done: dict[str, Repair] = {one.damage.kind: one for one in repair(store, verify(store))}
    assert {kind for kind, one in done.items() if one.mended} == {PERMISSIONS, STALE, RECORD}
    assert not done[FOREIGN].mended
    assert notes.read_text() == "mine"
    assert os.stat(blob.path).st_mode & 0o777 == 0o444
    assert kinds(verify(store)) == [FOREIGN]


def test_a_fetch_that_fails_in_its_own_way_is_an_answer_and_the_next_damage_is_mended(store: Store) -> None:
    first, second = spoilt(store, b"first" * 100), spoilt(store, b"second" * 100)
    for number, blob in enumerate((first, second)):
        store.remember_pin(f"acme://{number}", blob.sha256, f"acme://{number}")

    def refetch(sources: Sequence[str], sha256: str) -> None:
        if sources == ("acme://0",):
            raise SourceError("acme is closed on Saturdays")
        store.put([b"second" * 100])

    done = {one.damage.sha256: one for one in repair(store, verify(store), refetch)}
    assert not done[first.sha256].mended
    assert "closed on Saturdays" in done[first.sha256].fix
    assert done[second.sha256].mended
    assert restored(store, second)


def test_verifying_is_no_use_of_a_blob(store: Store) -> None:
    blob = store.put([DATA])
    then = time.time() - 1e6
    os.utime(blob.path, (then, then))
    verify(store)
    assert store.uses.last(SHA, 0.0) == 0.0
