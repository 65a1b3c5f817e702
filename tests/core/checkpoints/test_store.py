"""The store: a blob is complete, verified and unchanging, whatever happens while it is written."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from zoo.checkpoints import receiving
from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.store import Store, digest_of, read_chunks
from zoo.errors import CheckpointError, DigestError

DATA = os.urandom(3_000_000)
SHA = hashlib.sha256(DATA).hexdigest()


def files(store: Store) -> list[str]:
    """Every file below `blobs`, temporary ones included."""
    return [os.path.join(root, name) for root, _, names in os.walk(f"{store.root}/blobs") for name in names]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=3000), max_size=8))
def test_a_blob_is_what_arrived_under_its_digest(store: Store, chunks: list[bytes]) -> None:
    blob = store.put(iter(chunks))
    assert Path(blob.path).read_bytes() == b"".join(chunks)
    assert blob.sha256 == hashlib.sha256(b"".join(chunks)).hexdigest() == digest_of(blob.path)
    assert store.find(blob.sha256) == blob
    assert blob.path == os.path.join(store.root, "blobs", "sha256", blob.sha256[:2], blob.sha256)


def test_a_blob_is_read_only(store: Store) -> None:
    assert os.stat(store.put([DATA]).path).st_mode & 0o777 == 0o444


@pytest.mark.parametrize("wanted", [Wanted("0" * 64), Wanted(SHA, len(DATA) + 1)])
def test_other_bytes_than_promised_leave_nothing(store: Store, wanted: Wanted) -> None:
    with pytest.raises(DigestError):
        store.put([DATA], wanted)
    assert files(store) == []
    assert store.find(SHA) is None


@pytest.mark.parametrize(
    "bad",
    ["../../../etc/passwd", "abc", "g" * 64, "", SHA + "0"],
    ids=["climbs", "short", "no hex", "empty", "long"],
)
def test_what_is_no_digest_never_becomes_a_path(store: Store, bad: str) -> None:
    with pytest.raises(DigestError, match="not a SHA-256"):
        store.find(bad)


def test_a_digest_in_capitals_is_the_same_digest(store: Store) -> None:
    assert store.find(store.put([DATA]).sha256.upper()) is not None


class Broken(Exception):
    """The stream's own error."""


def breaking(after: int) -> Iterator[bytes]:
    """A stream that raises its own kind of error midway."""
    yield DATA[:after]
    raise Broken


def test_a_stream_that_breaks_off_leaves_nothing(store: Store) -> None:
    with pytest.raises(Broken):
        store.put(breaking(1000), Wanted(SHA))
    assert files(store) == []


def test_a_writer_whose_file_was_tidied_away_is_content_with_the_blob_that_is_there(store: Store) -> None:
    def overtaken() -> Iterator[bytes]:
        yield DATA
        store.put([DATA], Wanted(SHA))
        for name in os.listdir(f"{store.root}/blobs/tmp"):
            os.unlink(f"{store.root}/blobs/tmp/{name}")  # the other writer's file, from under it

    assert store.put(overtaken(), Wanted(SHA)).path == store.blob_path(SHA)
    assert digest_of(store.blob_path(SHA)) == SHA


def test_many_writers_of_one_blob_agree(store: Store) -> None:
    start = threading.Barrier(8)

    def write(_: int) -> str:
        start.wait()
        return store.put([DATA[:1_000_000], DATA[1_000_000:]], Wanted(SHA)).path

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write, range(8))) == {store.blob_path(SHA)}
    assert files(store) == [store.blob_path(SHA)]
    assert digest_of(store.blob_path(SHA)) == SHA


WRITER = """
import sys
from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.store import Store
seed, count = int(sys.argv[1]), 0
print("ready", flush=True)
while True:
    body = [bytes([seed, count % 256, i]) * 20_000 for i in range(40)]
    Store().put(body)
    count += 1
"""


def test_a_kill_at_any_moment_leaves_whole_blobs_only(store: Store) -> None:
    environment = {**os.environ, "ZOO_HOME": store.root}
    for seed in range(20):
        command = [sys.executable, "-c", WRITER, str(seed % 3)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(0.003 * seed)  # a different byte each time
            writer.send_signal(signal.SIGKILL)
    blobs = [path for path in files(store) if f"{os.sep}sha256{os.sep}" in path]
    assert blobs
    for path in blobs:
        assert digest_of(path) == os.path.basename(path)
        assert os.stat(path).st_mode & 0o777 == 0o444


def test_a_truncated_blob_is_not_taken_for_the_whole(store: Store) -> None:
    path = store.put([DATA]).path
    os.chmod(path, 0o644)
    os.truncate(path, 1000)
    assert store.find(SHA, len(DATA)) is None
    assert not store.verify(SHA)
    assert store.put([DATA], Wanted(SHA)).path == path  # and is mended by the next delivery
    assert store.verify(SHA)


LIMITED = """
import resource, signal, sys
from zoo.checkpoints.store import Store
from zoo.errors import CheckpointError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
try:
    Store().put([b"x" * 100_000] * 10)
except CheckpointError as error:
    print(error.code, error.fix)
"""


def test_a_full_disk_is_an_error_of_ours_and_leaves_nothing(store: Store) -> None:
    environment = {**os.environ, "ZOO_HOME": store.root}
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.startswith("checkpoint free some space")
    assert files(store) == []


def test_a_store_that_cannot_be_written_says_how_to_choose_another(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = Store(str(tmp_path / "file"))
    with pytest.raises(CheckpointError, match="cannot be written") as caught:
        store.put([DATA])
    assert "ZOO_HOME=" in str(caught.value)
    adopted = tmp_path / "weights"
    adopted.write_bytes(DATA)
    assert store.adopt(str(adopted), Wanted(SHA), "file://weights").sha256 == SHA  # records only save work


@pytest.mark.parametrize("length", [10_000, 3_000_000])
def test_what_arrives_is_written_as_it_comes_and_not_gathered_in_memory(store: Store, length: int) -> None:
    chunk = os.urandom(length)
    seen: list[int] = []

    def arriving() -> Iterator[bytes]:
        for _ in range(6_000_000 // length):
            yield chunk
            (temp,) = os.listdir(store.arrivals_folder)
            seen.append(os.stat(os.path.join(store.arrivals_folder, temp)).st_size)

    store.put(arriving())
    behind = [length * (number + 1) - size for number, size in enumerate(seen)]
    assert max(behind) <= receiving.PIECE + length


@pytest.mark.parametrize("every", [1 << 20, 2 << 20])  # told before the last chunk, and after it
def test_a_disk_that_fails_while_it_writes_in_the_background_is_an_error(
    store: Store, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(receiving, "_sync", fail)
    monkeypatch.setattr(receiving, "SYNC_EVERY", every)
    with pytest.raises(CheckpointError, match="Input/output error"):
        store.put([DATA])
    assert files(store) == []


def test_an_adopted_file_is_found_where_it_is_and_not_copied(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(DATA)
    blob = store.adopt(str(path), Wanted(SHA, len(DATA)), "pkg://x/weights")
    assert blob.path == str(path)
    assert store.find(SHA) == blob
    assert files(store) == []


def test_an_adopted_file_is_not_the_stores_own(store: Store, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(DATA)
    store.adopt(str(tmp_path / "weights"), Wanted(SHA), "pkg://x/weights")
    assert store.holds(SHA)
    assert not store.owns(SHA)
    assert store.own(SHA) is None
    blob = store.put([DATA])
    assert store.own(SHA, len(DATA)) == blob
    assert store.own(SHA, 1) is None
    store.trash.throw(blob.path)
    assert store.owns(SHA)
    assert store.own(SHA) == blob


CUT_SHORT = """
import hashlib, os, sys
from zoo.checkpoints import store
from zoo.errors import CheckpointError

real = hashlib.sha256

def cutting(*data):
    if not any(isinstance(part, bytes) for part in data):  # not the name of a record
        os.truncate("weights", 1)  # as somebody does who saves over a file while it is read
    return real(*data)

store.hashlib.sha256 = cutting
try:
    store.Store("home").digest("weights")
except CheckpointError as error:
    print(error.message)
"""


def test_a_file_that_is_cut_short_while_it_is_hashed_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    with open(tmp_path / "weights", "wb") as file:
        file.truncate(1 << 20)
    os.utime(tmp_path / "weights", (1, 1))
    done = subprocess.run([sys.executable, "-c", CUT_SHORT], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "changed while it was being read" in done.stdout


def test_an_adopted_file_is_hashed_once(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(DATA)
    store.adopt(str(path), Wanted(SHA), "pkg://x/weights")
    # What the record says is believed without a look at the bytes: a lie in it comes through.
    records = [os.path.join(r, n) for r, _, names in os.walk(f"{store.root}/records/digests") for n in names]
    text = Path(records[0]).read_text()
    Path(records[0]).write_text(text.replace(SHA, "1" * 64))
    assert store.digest(str(path)) == "1" * 64


def test_a_file_edited_in_place_is_noticed_even_with_its_times_set_back(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(DATA)
    before = os.stat(path)
    store.adopt(str(path), Wanted(SHA), "pkg://x/weights")
    with open(path, "r+b") as file:
        file.write(b"changed")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.find(SHA) is None
    with pytest.raises(DigestError):
        store.adopt(str(path), Wanted(SHA), "pkg://x/weights")


def test_a_fresh_file_is_hashed_once_its_clock_has_moved_on(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"fresh")
    store.digest(str(path))  # from here on a change has another time than the one that was recorded
    assert time.time_ns() - os.stat(path).st_mtime_ns >= 20_000_000


def test_an_edit_right_after_hashing_is_noticed(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    for count in range(30):  # within one tick of the file system's clock, times alone would not tell
        content = b"%04d" % count
        with open(path, "r+b" if count else "w+b") as file:
            file.write(content)
        assert store.digest(str(path)) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("junk", [b"", b"{", b"[1]", b'{"path": 3}', b"\xff\xfe", b"[" * 100_000])
def test_a_torn_record_costs_only_the_work_it_saved(store: Store, tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "weights"
    path.write_bytes(DATA)
    store.adopt(str(path), Wanted(SHA), "pkg://x/weights")
    store.remember_pin("hf://a/b/c", SHA, "hf://a/b@1/c")
    for root, _, names in os.walk(f"{store.root}/records"):
        for name in names:
            Path(root, name).write_bytes(junk)
    assert store.find(SHA) is None
    assert store.pin("hf://a/b/c") is None
    assert store.adopt(str(path), Wanted(SHA), "pkg://x/weights").path == str(path)
    assert store.find(SHA) is not None


def test_a_conversion_is_found_by_its_origin(store: Store) -> None:
    blob = store.put([DATA])
    store.remember_conversion("a" * 64, "torch-1", blob.sha256)
    assert store.conversion("a" * 64, "torch-1") == blob
    assert store.conversion("a" * 64, "torch-2") is None
    assert store.conversion("b" * 64, "torch-1") is None


def test_a_file_that_is_read_in_chunks_is_stored_whole(store: Store, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(DATA)
    with open(tmp_path / "weights", "rb") as file:
        assert store.put(read_chunks(file)).sha256 == SHA


def test_storing_needs_no_torch() -> None:
    code = "import sys, zoo.checkpoints.store, zoo.checkpoints.sources, zoo.checkpoints.opening; " + (
        "print([name for name in ('torch', 'numpy', 'huggingface_hub', 'urllib.request') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_lock_file_is_noted_once_by_its_whole_path(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store.note_lock("zoo.lock")
    store.note_lock(str(tmp_path / "zoo.lock"))
    store.note_lock(str(tmp_path / "other.lock"))
    assert sorted(store.noted_locks()) == [str(tmp_path / "other.lock"), str(tmp_path / "zoo.lock")]
