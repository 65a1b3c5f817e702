"""Servers that lie: a clear error, no byte where it could be taken for a file, and no more taken than there is room."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from loopback_hub import TOKEN, Fault, LoopbackHub
from zoo.checkpoints import web
from zoo.checkpoints.sources import fetch
from zoo.checkpoints.store import Store
from zoo.checkpoints.web import peek_web
from zoo.errors import CheckpointError, DigestError, SourceError

DATA = os.urandom(200_000)
SHA = hashlib.sha256(DATA).hexdigest()
OK = b"HTTP/1.1 200 OK\r\n"


def left(store: Store) -> list[str]:
    """Every file below the store's blobs."""
    return [name for _, _, names in os.walk(f"{store.root}/blobs") for name in names]


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with a megabyte left."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10_000_000, 9_000_000, 1_000_000))


def test_redirects_in_a_circle_end(hub: LoopbackHub, store: Store) -> None:
    hub.redirect("/a", hub.cdn + "/b")
    with pytest.raises(SourceError, match="in a circle"):
        fetch([hub.redirect("/b", hub.cdn + "/a")], store=store)
    for hop in range(50):
        hub.redirect(f"/{hop}", f"{hub.cdn}/{hop + 1}")
    with pytest.raises(SourceError, match="in a circle"):
        fetch([hub.cdn + "/0"], store=store)
    assert len(hub.seen) < 40
    assert left(store) == []


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://127.0.0.1/w", "http://example.com/w", "data:,x", "http://[", "https://[::1", "//"],
)
def test_a_redirect_to_where_no_weights_may_come_from_is_refused(hub: LoopbackHub, store: Store, target: str) -> None:
    with pytest.raises(SourceError):
        fetch([hub.redirect("/w", target)], store=store)
    assert left(store) == []


def test_the_body_of_a_redirect_is_not_read(hub: LoopbackHub, store: Store) -> None:
    url = hub.serve("/w", DATA)
    raw = b"HTTP/1.1 302 Found\r\nLocation: " + url.encode() + b"\r\n\r\n"
    hub.cdn_faults = [Fault(raw=raw, endless=b"x" * 65536)]
    assert fetch([hub.cdn + "/old"], store=store).sha256 == SHA


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        (b"Content-Length: 5\r\nContent-Encoding: gzip\r\n\r\nabcde", "packed"),
        (b"Content-Length: 5\r\nContent-Encoding: br\r\n\r\nabcde", "packed"),
    ],
)
def test_packed_bytes_are_refused(hub: LoopbackHub, store: Store, headers: bytes, why: str) -> None:
    hub.cdn_faults = [Fault(raw=OK + headers)]
    with pytest.raises(SourceError, match=why):
        fetch([hub.cdn + "/w"], sha256=SHA, store=store)
    assert left(store) == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 1000,
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 999999 What\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/5\r\nContent-Length: 5\r\n\r\nabcde",
    ],
)
def test_what_is_no_answer_to_the_question_is_an_error_of_ours(hub: LoopbackHub, store: Store, raw: bytes) -> None:
    hub.cdn_faults = [Fault(raw=raw)] * 3
    with pytest.raises(SourceError):
        fetch([hub.cdn + "/w"], store=store)
    assert left(store) == []


@pytest.mark.parametrize("length", [b"-5", b"\xb2", b"9" * 40, b"0x10", b"1_0", b"5, 5"])
def test_a_length_that_is_none_is_not_believed(hub: LoopbackHub, store: Store, length: bytes) -> None:
    hub.cdn_faults = [Fault(raw=OK + b"Content-Length: " + length + b"\r\n\r\n" + DATA)] * 3
    try:
        assert Path(fetch([hub.cdn + "/w"], sha256=SHA, store=store).path).read_bytes() == DATA
    except CheckpointError:
        assert store.find(SHA) is None


@pytest.mark.parametrize(
    "span",
    [
        b"bytes 0-199999/200000",
        b"bytes 99999-199999/200000",
        b"bytes 100001-199999/200000",
        b"bytes 100000-199999/99999999",
        b"bytes",
        b"bytes */200000",
        b"bytes \xb2-5/6",
        b"items 100000-199999/200000",
    ],
)
def test_another_part_than_asked_for_is_refused(hub: LoopbackHub, store: Store, span: bytes) -> None:
    url = hub.serve("/w", DATA)
    raw = b"HTTP/1.1 206 Partial Content\r\nContent-Range: " + span + b"\r\nContent-Length: 100000\r\n\r\n"
    hub.cdn_faults = [Fault(cut_after=100_000), Fault(raw=raw + DATA[:100_000])]
    with pytest.raises(CheckpointError):
        fetch([url], sha256=SHA, size=len(DATA), store=store)
    assert store.find(SHA) is None
    assert fetch([url], sha256=SHA, size=len(DATA), store=store).sha256 == SHA


def test_more_bytes_than_promised_are_cut_short(hub: LoopbackHub, store: Store) -> None:
    hub.cdn_faults = [Fault(raw=OK + b"\r\n", endless=b"x" * 65536)]
    with pytest.raises(DigestError, match="not the promised file"):
        fetch([hub.cdn + "/w"], sha256=SHA, size=len(DATA), store=store)
    assert left(store) == []


def test_another_size_than_promised_is_refused_before_it_comes(hub: LoopbackHub, store: Store) -> None:
    hub.cdn_faults = [Fault(raw=OK + b"Content-Length: 999999999\r\n\r\n", endless=b"x" * 65536)]
    with pytest.raises(DigestError, match="not the promised file"):
        fetch([hub.cdn + "/w"], sha256=SHA, size=len(DATA), store=store)
    assert left(store) == []


@pytest.mark.parametrize("sha256", [SHA, None], ids=["declared", "first use"])
def test_a_body_without_an_end_does_not_fill_the_disk(
    hub: LoopbackHub, store: Store, little_room: None, sha256: str | None
) -> None:
    for headers in (b"\r\n", b'ETag: "abc"\r\n\r\n'):
        hub.cdn_faults = [Fault(raw=OK + headers, endless=b"x" * 65536)]
        with pytest.raises(SourceError, match="more than it may"):
            fetch([hub.cdn + "/w"], sha256=sha256, store=store)
        assert left(store) == []


def test_an_endless_chunked_body_does_not_fill_the_disk(hub: LoopbackHub, store: Store, little_room: None) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    hub.cdn_faults = [Fault(raw=OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", endless=chunk)]
    with pytest.raises(SourceError, match="more than it may"):
        fetch([hub.cdn + "/w"], store=store)
    assert left(store) == []


def test_a_file_for_which_there_is_no_room_is_not_begun(hub: LoopbackHub, store: Store, little_room: None) -> None:
    hub.cdn_faults = [Fault(raw=OK + b"Content-Length: 5000000\r\n\r\n", endless=b"x" * 65536)]
    with pytest.raises(CheckpointError, match="no room") as caught:
        fetch([hub.cdn + "/w"], store=store)
    assert "ZOO_HOME" in str(caught.value.fix)
    assert left(store) == []


@pytest.mark.parametrize("raw", [OK + b"\r\n", OK + b"Content-Length: 200000\r\n\r\n", b""])
def test_a_server_that_feeds_single_bytes_is_given_up(
    hub: LoopbackHub, store: Store, monkeypatch: pytest.MonkeyPatch, raw: bytes
) -> None:
    monkeypatch.setenv("ZOO_TIMEOUT", "0.3")
    monkeypatch.setattr(web, "RETRIES", 2)
    headers = b"" if raw else OK + b"X: " + b"y" * 60_000
    hub.cdn_faults = [Fault(raw=headers or raw, drip=0.05 if headers else 0.0, endless=b"")] * 2
    if raw:
        hub.cdn_faults = [Fault(raw=raw + bytes(60_000), drip=0.05)] * 2
    with pytest.raises(SourceError, match="timed out"):
        fetch([hub.cdn + "/w"], store=store)
    assert len(hub.seen) == 2
    assert left(store) == []


def test_a_header_that_does_not_end_is_not_waited_for(hub: LoopbackHub) -> None:
    hub.cdn_faults = [Fault(raw=OK + b"\r\n" + b"\xff" * 7 + b"\x7f", endless=b"x" * 65536)]
    with pytest.raises(CheckpointError, match="header"):
        peek_web(hub.cdn + "/w.safetensors")
    assert hub.body_bytes < 50_000_000


BIG = """
import resource, sys
from zoo.checkpoints.sources import fetch
from zoo.errors import ZooError
import zoo.checkpoints.web
resource.setrlimit(resource.RLIMIT_AS, (450_000_000, 450_000_000))
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000_000, 600_000_000))
try:
    fetch([sys.argv[1]], sha256="0" * 64, size=300_000_000)
except ZooError as error:
    print(error.code)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit to memory")
def test_what_arrives_is_never_all_in_memory(hub: LoopbackHub, store: Store) -> None:
    hub.cdn_faults = [Fault(raw=OK + b"\r\n", endless=b"x" * (1 << 20))]
    environment = {**os.environ, "ZOO_HOME": store.root, "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", BIG, hub.cdn + "/w"], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout == "digest\n", done.stderr
    assert left(store) == []


def test_a_hub_whose_cdn_lies_is_told_apart(hub: LoopbackHub, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("acme/model", "w.safetensors", DATA)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    source = "hf://acme/model/w.safetensors"
    for raw, error in (
        (OK + b"Content-Length: 7\r\n\r\nabcdefg", DigestError),
        (b"HTTP/1.1 302 Found\r\nLocation: http://example.com/w\r\nContent-Length: 0\r\n\r\n", SourceError),
        (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n", SourceError),
    ):
        hub.cdn_faults = [Fault(raw=raw)]
        with pytest.raises(error, match="hf://acme/model"):
            fetch([source], store=store)
        assert left(store) == []
    assert all("authorization" not in request.headers for request in hub.of("cdn", "GET"))
    assert fetch([source], store=store).sha256 == SHA


def test_a_token_follows_a_redirect_within_the_hub_and_no_further(
    hub: LoopbackHub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("acme/model", "w.safetensors", DATA)
    hub.repos["acme/model"].private = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    commit = hub.repos["acme/model"].branches["main"]
    moved = f"{hub.endpoint}/acme/model/resolve/{commit}/w.safetensors"
    raw = b"HTTP/1.1 307 Moved\r\nContent-Length: 0\r\nLocation: "
    hub.hub_faults = [Fault(), Fault(raw=raw + moved.encode() + b"\r\n\r\n")]  # HEAD, then the first GET
    assert fetch(["hf://acme/model/w.safetensors"], store=store).sha256 == SHA
    assert [r.headers.get("authorization") for r in hub.of("hub", "GET")] == [f"Bearer {TOKEN}"] * 2
    assert all("authorization" not in request.headers for request in hub.of("cdn", "GET"))
