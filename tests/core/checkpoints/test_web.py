"""`https://` sources, over plain http on loopback: resumed, redirected, refused."""

from __future__ import annotations

import hashlib
import io
import os
from itertools import pairwise
from pathlib import Path
from urllib.request import Request

import pytest

from loopback_hub import Fault, LoopbackHub
from zoo.checkpoints.connections import Remote, _Redirects
from zoo.checkpoints.sources import fetch
from zoo.checkpoints.store import Store
from zoo.errors import DigestError, OfflineError, SourceError

DATA = os.urandom(400_000)
SHA = hashlib.sha256(DATA).hexdigest()


def blobs(store: Store) -> list[str]:
    """The files below `blobs`."""
    return [name for _, _, names in os.walk(f"{store.root}/blobs") for name in names]


def test_a_file_comes_into_the_store(hub: LoopbackHub, store: Store) -> None:
    url = hub.serve("/weights.safetensors", DATA)
    got = fetch([url], sha256=SHA, size=len(DATA), store=store)
    assert got == (store.blob_path(SHA), SHA, url, "declared")
    assert Path(got.path).read_bytes() == DATA
    assert blobs(store) == [SHA]


def test_a_cut_connection_is_resumed_within_the_call(hub: LoopbackHub, store: Store) -> None:
    url = hub.serve("/w", DATA)
    hub.cdn_faults = [Fault(cut_after=100_000), Fault(cut_after=50_000)]
    assert fetch([url], store=store).sha256 == SHA
    assert [request.range for request in hub.seen] == [None, "bytes=100000-", "bytes=150000-"]


def test_a_download_given_up_is_resumed_by_the_next_call(hub: LoopbackHub, store: Store) -> None:
    url = hub.serve("/w", DATA)
    hub.cdn_faults = [Fault(cut_after=200_000), *[Fault(status=503)] * 3]
    with pytest.raises(SourceError, match="HTTP 503"):
        fetch([url], sha256=SHA, store=store)
    assert store.find(SHA) is None
    assert fetch([url], sha256=SHA, store=store).sha256 == SHA
    assert hub.seen[-1].range == "bytes=200000-"
    assert hub.body_bytes == len(DATA)
    assert blobs(store) == [SHA]


def test_a_time_limit_that_is_no_number_is_refused(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_TIMEOUT", "soon")
    with pytest.raises(SourceError, match="number of seconds"):
        fetch([hub.serve("/w", DATA)])


def test_a_server_without_ranges_is_read_again_up_to_the_break(hub: LoopbackHub, store: Store) -> None:
    url = hub.serve("/w", DATA)
    hub.cdn_faults = [Fault(cut_after=100_000), Fault(no_ranges=True)]
    got = fetch([url], sha256=SHA, store=store)
    assert Path(got.path).read_bytes() == DATA


def test_a_file_replaced_during_the_download_is_never_a_mixture(hub: LoopbackHub, store: Store) -> None:
    url = hub.serve("/w", DATA)
    hub.cdn_faults = [Fault(cut_after=100_000, slow=0.05)]

    def replace(done: int, total: int | None) -> None:
        if done >= 60_000:
            hub.serve("/w", DATA[::-1])

    with pytest.raises(SourceError, match="cannot resume"):
        fetch([url], store=store, progress=replace)
    assert blobs(store) == []


def test_wrong_bytes_stay_nowhere(hub: LoopbackHub, store: Store) -> None:
    url = hub.serve("/w", DATA[:-1] + b"X")
    with pytest.raises(DigestError, match="not the promised file"):
        fetch([url], sha256=hashlib.sha256(DATA).hexdigest(), store=store)
    assert blobs(store) == []


def test_redirects_are_followed_on_this_machine_only_to_where_it_is_safe(hub: LoopbackHub, store: Store) -> None:
    url = hub.serve("/w", DATA)
    assert fetch([hub.redirect("/old", url)], store=store).sha256 == SHA
    for target in ("http://example.com/w", "ftp://example.com/w"):
        with pytest.raises(SourceError, match="https only"):
            fetch([hub.redirect("/bad", target)], store=store)
    with pytest.raises(SourceError, match="HTTP 302"):
        fetch([hub.redirect("/bad", "file:///etc/passwd")], store=store)


def test_a_server_elsewhere_may_not_redirect_to_this_machine(hub: LoopbackHub) -> None:
    here = hub.serve("/w", DATA)

    def follow(*hops: str) -> None:
        redirects = _Redirects(Remote(hops[0], hops[0]))
        for hop, following in pairwise(hops):
            redirects.redirect_request(Request(hop), io.BytesIO(), 302, "Found", {}, following)

    follow(here, here)
    follow("https://example.com/w", "https://example.org/w")
    for way in (["https://example.com/w"], ["https://example.com/w", "https://localhost/w"], [here, "https://a.org/w"]):
        with pytest.raises(SourceError, match="https only"):
            follow(*way, here)


def test_plain_http_is_refused_beyond_this_machine(store: Store) -> None:
    with pytest.raises(SourceError, match="https only") as caught:
        fetch(["http://example.com/w.safetensors"], store=store)
    assert caught.value.fix == "https://example.com/w.safetensors"


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault(status=401), "asks for a login"),
        (Fault(status=403), "refuses access"),
        (Fault(status=404), "has no such file"),
        (Fault(status=418), "refuses the request"),
    ],
)
def test_a_refusal_is_explained_and_not_repeated(hub: LoopbackHub, store: Store, fault: Fault, why: str) -> None:
    url = hub.serve("/w", DATA)
    hub.cdn_faults = [fault]
    with pytest.raises(SourceError, match=why):
        fetch([url], store=store)
    assert len(hub.seen) == 1


def test_a_silent_server_is_given_up(hub: LoopbackHub, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_TIMEOUT", "0.2")
    url = hub.serve("/w", DATA)
    hub.cdn_faults = [Fault(stall=30)] * 5
    with pytest.raises(SourceError, match="timed out") as caught:
        fetch([url], store=store)
    assert "ZOO_TIMEOUT" in str(caught.value)


def test_offline_nobody_is_asked(hub: LoopbackHub, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    with pytest.raises(OfflineError, match="/w is not on this machine"):
        fetch([hub.serve("/w", DATA)], store=store)
    assert hub.seen == []


def test_progress_is_told(hub: LoopbackHub, store: Store) -> None:
    seen: list[tuple[int, int | None]] = []
    fetch([hub.serve("/w", DATA)], store=store, progress=lambda *now: seen.append(now))
    assert seen[-1] == (len(DATA), len(DATA))
    assert sorted(seen) == seen
