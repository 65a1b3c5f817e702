"""Arrivals: what came before a cut, a kill or a power cut is verified and not fetched again, and nothing else is."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from loopback_hub import Fault, LoopbackHub
from zoo.checkpoints import arrivals
from zoo.checkpoints.arrivals import JOURNAL, Arrival, Partial, partials
from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.sources import fetch
from zoo.checkpoints.store import Store
from zoo.errors import CheckpointError, DigestError, SourceError

SPAN = 50_000
DATA = os.urandom(8 * SPAN)
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def short_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans short enough for small files."""
    monkeypatch.setattr(arrivals, "SPAN", SPAN)


@contextmanager
def broken_off(store: Store, wanted: Wanted, source: str) -> Iterator[Arrival]:
    """An arrival that breaks off at the end of the block."""
    with suppress(ConnectionError), Arrival(store, wanted, source) as arrival:
        yield arrival
        raise ConnectionError


def left_by(store: Store, data: bytes, wanted: Wanted, source: str, validator: str = "") -> Partial:
    """What an arrival of these bytes leaves when it breaks off."""
    with broken_off(store, wanted, source) as arrival:
        arrival.validator = validator
        for begin in range(0, len(data), SPAN):
            arrival.add(data[begin : begin + SPAN])
    return partials(store, arrival.key)[0]


def half(store: Store) -> Partial:
    """The first half of the file, left by an arrival that broke off."""
    return left_by(store, DATA[: 4 * SPAN], Wanted(SHA), "elsewhere")


def arriving(store: Store) -> list[str]:
    """Everything in the folder of what is still arriving."""
    return os.listdir(f"{store.root}/blobs/tmp")


def edit(path: str, change: Callable[[bytearray], None]) -> None:
    """Change a file's bytes."""
    content = bytearray(Path(path).read_bytes())
    change(content)
    Path(path).write_bytes(content)


@pytest.mark.parametrize("cut", [1, SPAN - 1, SPAN, SPAN + 1, 5 * SPAN, 8 * SPAN - 1])
def test_wherever_a_download_was_cut_the_next_one_fetches_the_rest_alone(
    hub: LoopbackHub, store: Store, cut: int
) -> None:
    url = hub.serve("/w", DATA)
    hub.cdn_faults = [Fault(cut_after=cut), *[Fault(status=503)] * 3]
    with pytest.raises(SourceError, match="HTTP 503"):
        fetch([url], sha256=SHA, store=store)
    assert store.find(SHA) is None
    got = fetch([url], sha256=SHA, store=store)
    assert Path(got.path).read_bytes() == DATA
    assert hub.seen[-1].range == f"bytes={cut}-"
    assert hub.body_bytes == len(DATA)
    assert arriving(store) == []


FETCHER = f"""
import sys
from zoo.checkpoints import arrivals
from zoo.checkpoints.sources import fetch
arrivals.SPAN = {SPAN}
print(fetch([sys.argv[1]], sha256=sys.argv[2] or None).sha256)
"""


def fetcher(store: Store, url: str, sha256: str) -> subprocess.Popen[str]:
    """A process of its own that downloads."""
    environment = {**os.environ, "ZOO_HOME": store.root}
    command = [sys.executable, "-c", FETCHER, url, sha256]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("sha256", [SHA, ""], ids=["declared", "first use"])
def test_a_download_that_was_killed_is_resumed(hub: LoopbackHub, store: Store, sha256: str) -> None:
    url = hub.serve("/w", DATA)
    key = sha256 or arrivals.record_key(url)
    hub.cdn_faults = [Fault(slow=0.05)]
    with fetcher(store, url, sha256) as killed:
        deadline = time.monotonic() + 30
        while not any(p.size >= 2 * SPAN for p in partials(store, key)) and time.monotonic() < deadline:
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
    left = partials(store, key)[0].size
    assert left >= 2 * SPAN
    assert store.find(SHA) is None
    got = fetch([url], sha256=sha256 or None, store=store)
    assert Path(got.path).read_bytes() == DATA
    assert hub.seen[-1].range == f"bytes={left}-"
    assert hub.seen[-1].bytes == len(DATA) - left
    assert arriving(store) == []


def test_from_a_flipped_byte_onward_it_is_fetched_again(hub: LoopbackHub, store: Store) -> None:
    partial = half(store)

    def flip(content: bytearray) -> None:
        content[2 * SPAN + 17] ^= 1

    edit(partial.path, flip)
    got = fetch([hub.serve("/w", DATA)], sha256=SHA, store=store)
    assert Path(got.path).read_bytes() == DATA
    assert hub.seen[-1].range == f"bytes={2 * SPAN}-"
    assert hub.body_bytes == len(DATA) - 2 * SPAN


def zero_the_end(partial: Partial) -> None:
    """As a power cut leaves a file whose length was written before its bytes."""

    def zero(content: bytearray) -> None:
        content[3 * SPAN - 5 :] = bytes(len(content) - 3 * SPAN + 5)

    edit(partial.path, zero)


def zero_the_journals_end(partial: Partial) -> None:
    """The same, in the journal's third line."""

    def zero(content: bytearray) -> None:
        kept = sum(len(line) for line in bytes(content).splitlines(keepends=True)[:3])
        content[kept + 20 :] = bytes(len(content) - kept - 20)

    edit(partial.path + JOURNAL, zero)


def tear_the_journal(partial: Partial) -> None:
    """Its third line was half written."""
    journal = Path(partial.path + JOURNAL)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:3]) + lines[3][:30])


def cut_the_file(partial: Partial) -> None:
    """The journal is ahead of the bytes."""
    os.chmod(partial.path, 0o644)
    os.truncate(partial.path, 2 * SPAN + 3)


@pytest.mark.parametrize("damage", [zero_the_end, zero_the_journals_end, tear_the_journal, cut_the_file])
def test_after_a_power_cut_what_is_still_right_is_kept(
    hub: LoopbackHub, store: Store, damage: Callable[[Partial], None]
) -> None:
    damage(half(store))
    got = fetch([hub.serve("/w", DATA)], sha256=SHA, store=store)
    assert Path(got.path).read_bytes() == DATA
    assert hub.body_bytes == len(DATA) - 2 * SPAN
    assert arriving(store) == []


@pytest.mark.parametrize("journal", [b"", b"{}\n", b"[" * 9000, b"\0" * 500, b'{"key": 3}\n', None])
def test_bytes_without_a_sound_journal_are_not_believed(hub: LoopbackHub, store: Store, journal: bytes | None) -> None:
    partial = half(store)
    os.unlink(partial.path + JOURNAL)
    if journal is not None:
        Path(partial.path + JOURNAL).write_bytes(journal)
    got = fetch([hub.serve("/w", DATA)], sha256=SHA, store=store)
    assert Path(got.path).read_bytes() == DATA
    assert hub.body_bytes == len(DATA)


@pytest.mark.parametrize("length", [SPAN, 8 * SPAN, 9 * SPAN])
def test_a_foreign_file_under_our_name_is_found_out_and_forgotten(hub: LoopbackHub, store: Store, length: int) -> None:
    left_by(store, os.urandom(length), Wanted(SHA), "elsewhere")
    got = fetch([hub.serve("/w", DATA)], sha256=SHA, size=len(DATA), store=store)
    assert Path(got.path).read_bytes() == DATA
    assert arriving(store) == []


def test_a_foreign_file_is_forgotten_even_if_the_next_attempt_fails(hub: LoopbackHub, store: Store) -> None:
    left_by(store, os.urandom(SPAN), Wanted(SHA), "elsewhere")
    hub.cdn_faults = [Fault(), *[Fault(status=503)] * 3]
    with pytest.raises(SourceError, match="HTTP 503"):
        fetch([hub.serve("/w", DATA)], sha256=SHA, store=store)
    assert partials(store, SHA) == []


def test_a_complete_but_unpublished_download_needs_no_byte_more(hub: LoopbackHub, store: Store) -> None:
    left_by(store, DATA, Wanted(SHA), "elsewhere")
    assert fetch([hub.serve("/w", DATA)], sha256=SHA, store=store).sha256 == SHA
    assert hub.body_bytes == 0


def test_without_a_digest_the_same_file_is_continued_and_another_begun_anew(hub: LoopbackHub, store: Store) -> None:
    url = hub.serve("/w", DATA)
    for now, sent in ((DATA, len(DATA) // 2), (DATA[::-1], len(DATA))):
        left_by(store, DATA[: 4 * SPAN], Wanted(), url, validator=f'"{SHA[:16]}"')
        hub.serve("/w", now)
        hub.seen.clear()
        got = fetch([url], store=store)
        assert Path(got.path).read_bytes() == now
        assert hub.body_bytes == sent
        os.unlink(got.path)
        os.unlink(store.pin_path(url))
    assert arriving(store) == []


def test_what_no_tag_and_no_digest_stand_for_is_not_kept(store: Store) -> None:
    with broken_off(store, Wanted(), "https://example.com/w") as arrival:
        arrival.add(DATA)
    assert arriving(store) == []


def test_another_address_does_not_continue_a_file_nobody_promised(hub: LoopbackHub, store: Store) -> None:
    left_by(store, DATA[: 4 * SPAN], Wanted(), "https://example.com/w", validator=f'"{SHA[:16]}"')
    assert fetch([hub.serve("/w", DATA)], store=store).sha256 == SHA
    assert hub.body_bytes == len(DATA)


def test_two_processes_that_resume_the_same_file_at_once_both_end_right(hub: LoopbackHub, store: Store) -> None:
    half(store)
    url = hub.serve("/w", DATA)
    hub.cdn_faults = [Fault(slow=0.02)] * 4
    first, second = fetcher(store, url, SHA), fetcher(store, url, SHA)
    assert first.communicate()[0] == second.communicate()[0] == f"{SHA}\n"
    assert Path(store.blob_path(SHA)).read_bytes() == DATA
    begins = [int((request.range or "bytes=0-")[len("bytes=") : -1]) for request in hub.seen]
    assert all(begin >= 4 * SPAN for begin in begins)  # or more, where one took up what the other had just added
    assert arriving(store) == []


def test_one_at_work_is_copied_and_left_alone(store: Store) -> None:
    with Arrival(store, Wanted(SHA), "a") as first:
        for begin in range(0, 4 * SPAN, SPAN):
            first.add(DATA[begin : begin + SPAN])
        with Arrival(store, Wanted(SHA), "b") as second:
            second.resume()
            assert second.reached == second.inherited == 4 * SPAN
            assert len(partials(store, SHA)) == 2
            second.add(DATA[4 * SPAN :])
            second.finish()
        first.add(DATA[4 * SPAN :])
        assert first.finish().path == store.blob_path(SHA)
    assert Path(store.blob_path(SHA)).read_bytes() == DATA


def test_one_given_up_makes_room_once_it_was_copied(store: Store) -> None:
    given_up = half(store)
    with broken_off(store, Wanted(SHA), "b") as arrival:
        arrival.resume()
        assert not os.path.exists(given_up.path)
    assert [p.size for p in partials(store, SHA)] == [4 * SPAN]


def test_one_whose_file_was_tidied_away_still_ends_right(store: Store) -> None:
    with Arrival(store, Wanted(SHA), "a") as arrival:
        arrival.add(DATA)
        for name in arriving(store):
            os.unlink(f"{store.root}/blobs/tmp/{name}")
        assert Path(arrival.finish().path).read_bytes() == DATA


def test_of_several_the_one_that_goes_furthest_counts(store: Store) -> None:
    left_by(store, DATA[: 2 * SPAN], Wanted(SHA), "a")
    partial = half(store)
    edit(partial.path, lambda content: content.__setitem__(0, content[0] ^ 1))
    with broken_off(store, Wanted(SHA), "a") as arrival:
        arrival.resume()
    assert arrival.reached == 2 * SPAN
    assert Path(partials(store, SHA)[0].path).read_bytes() == DATA[: 2 * SPAN]


def test_more_bytes_than_promised_are_not_written(store: Store) -> None:
    with Arrival(store, Wanted(SHA, SPAN), "a") as arrival:
        arrival.add(DATA[:SPAN])
        with pytest.raises(DigestError, match="not the promised file"):
            arrival.add(b"x")
        assert os.path.getsize(partials(store, SHA)[0].path) == SPAN
    assert arriving(store) == []


LIMITED = f"""
import resource, signal
from zoo.checkpoints.arrivals import Arrival
from zoo.checkpoints.delivery import Wanted
from zoo.checkpoints.store import Store
from zoo.errors import CheckpointError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({2 * SPAN}, {2 * SPAN}))
try:
    with Arrival(Store(), Wanted("{SHA}"), "a") as arrival:
        for _ in range(10):
            arrival.add(b"x" * {SPAN - 1})
except CheckpointError as error:
    print(error.code, error.fix)
"""


def test_a_full_disk_is_an_error_of_ours(store: Store) -> None:
    environment = {**os.environ, "ZOO_HOME": store.root}
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.startswith("checkpoint free some space"), done.stderr


def test_a_store_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(CheckpointError, match="cannot be written"),
        Arrival(Store(str(tmp_path / "file")), Wanted(SHA), "a") as arrival,
    ):
        arrival.add(DATA)
