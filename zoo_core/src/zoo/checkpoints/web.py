"""Plain web servers: https, resumed after a cut, redirected only to https again. Nothing a server says is believed."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.error import HTTPError, URLError

from zoo.checkpoints.arrivals import Arrival, discard
from zoo.checkpoints.connections import Remote, check_allowed, open_remote
from zoo.checkpoints.delivery import Delivery, Progress, Wanted, shown_progress
from zoo.checkpoints.headers import Header, peek_header
from zoo.checkpoints.store import CHUNK, Blob, Store
from zoo.errors import CheckpointError, DigestError, SourceError

RETRIES = 3
"""Attempts in a row that may bring nothing before a download is given up."""

WORTHWHILE = 1024
"""Bytes that an attempt must bring to count as more than nothing."""

BUSY = (408, 425, 429)
_COUNT = re.compile(r"[0-9]{1,18}")
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


def deliver_web(source: str, wanted: Wanted, store: Store, progress: Progress | None) -> Delivery:
    """Download into the store, from where an earlier download of the same file broke off.

    Raises:
        SourceError: not there, not allowed, or the connection failed.
        OfflineError: the network is switched off. DigestError: other bytes than promised.
    """
    check_allowed(source)
    blob = download(Remote(source, source), wanted, store, progress)
    return Delivery(blob.path, blob.sha256, source)


def download(
    remote: Remote,
    wanted: Wanted,
    store: Store,
    progress: Progress | None,
    check: Callable[[str], None] | None = None,
) -> Blob:
    """A file into the store. check: see `Arrival.finish`. Raises as `deliver_web` does."""
    with shown_progress(progress, remote.source) as show:
        for last in (False, True):
            with Arrival(store, wanted, remote.source) as arrival:
                arrival.resume()
                here = store.find(wanted.sha256, wanted.size) if wanted.sha256 and not arrival.reached else None
                if here is not None:  # another arrival has just ended
                    return here
                try:
                    _fill(arrival, remote, show)
                    return arrival.finish(check)
                except DigestError:
                    if last or not arrival.inherited:
                        raise
                    discard(store, arrival.key)  # what lay there was of another file: once more from the start
    raise AssertionError("the last attempt returns or raises")


def peek_web(source: str) -> Header:
    """The safetensors header of a remote file, without its body."""
    check_allowed(source)
    return peek(Remote(source, source))


def peek(remote: Remote) -> Header:
    """The safetensors header of a remote file, without its body. Raises `SourceError`, `FormatError`."""

    def read(begin: int, end: int) -> tuple[bytes, int | None]:
        with closing(open_remote(remote, {"Range": f"bytes={begin}-{end - 1}"})) as reply:
            _check_reply(reply, remote, begin, ranged=True)
            if reply.status == 206:
                return _exactly(reply, end - begin), _total(reply)
            return _exactly(reply, end)[begin:], _total(reply)

    try:
        return peek_header(read, remote.source)
    except (OSError, http.client.HTTPException) as error:
        raise _cut(remote.source, error) from error


def _exactly(reply: Any, count: int) -> bytes:
    """The first `count` bytes of a reply, or all there are."""
    taken = b""
    while len(taken) < count and (piece := reply.read1(min(CHUNK, count - len(taken)))):
        taken += piece
    return taken


def _fill(arrival: Arrival, remote: Remote, show: Progress) -> None:
    """Add the bytes that are still missing, reconnecting where the link breaks."""
    failures, total = 0, arrival.wanted.size
    while total is None or arrival.reached < total:
        before = arrival.reached
        try:
            with closing(open_remote(remote, _resuming(arrival))) as reply:
                total = _continued(reply, arrival, remote, total)
                most = _room(arrival, total, remote.source)
                while chunk := reply.read1(CHUNK):
                    if arrival.reached + len(chunk) > most:
                        arrival.restart()
                        raise _too_much(remote.source, most)
                    arrival.add(chunk)
                    show(arrival.reached, total)
            if total is None:
                return
            broken: Exception = ConnectionError("the connection was closed early")
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, HTTPError) and error.code == 416 and _is_all(error, arrival):
                return
            if isinstance(error, HTTPError) and error.code < 500 and error.code not in BUSY:
                raise _cut(remote.source, error) from error
            broken = error
        failures = failures + 1 if arrival.reached < before + WORTHWHILE else 0
        if failures >= RETRIES:
            raise _cut(remote.source, broken) from broken
        if total is None or arrival.reached < total:
            time.sleep(0.1 * 2**failures)


def _is_all(error: HTTPError, arrival: Arrival) -> bool:
    """Whether nothing follows what is here already, or the digest will tell."""
    whole = error.headers.get("Content-Range", "") == f"bytes */{arrival.reached}"
    return arrival.reached > 0 and (whole or arrival.wanted.sha256 is not None)


def _resuming(arrival: Arrival) -> dict[str, str]:
    """Where a digest is promised it decides; otherwise only the same file may be continued."""
    if not arrival.reached:
        return {}
    condition = {} if arrival.wanted.sha256 or not arrival.validator else {"If-Range": arrival.validator}
    return {"Range": f"bytes={arrival.reached}-", **condition}


def _continued(reply: Any, arrival: Arrival, remote: Remote, total: int | None) -> int | None:
    """The file's size, from a reply that now stands at byte `arrival.reached`, also where the server began anew."""
    _check_reply(reply, remote, arrival.reached, ranged=arrival.reached > 0)
    wanted, tag, stated = arrival.wanted, _strong(reply.headers.get("ETag", "")), _total(reply)
    if wanted.size is not None and stated not in (None, wanted.size):
        raise wanted.broken(remote.source, f"{stated} bytes", f"{wanted.size} bytes")
    same = bool(tag) and tag == arrival.validator and (total is None or stated in (None, total))
    if arrival.reached and not wanted.sha256 and not same:  # without a digest nobody would notice a mixture
        begun_here = arrival.reached > arrival.inherited
        arrival.restart()
        if begun_here or reply.status == 206:
            raise SourceError(
                f"{remote.source}: the connection broke off, and the server cannot resume", fix="try again"
            )
    skip = arrival.reached if reply.status != 206 else 0
    while skip:
        skipped = len(reply.read(min(skip, CHUNK)))
        if not skipped:
            raise ConnectionError("the connection was closed early")
        skip -= skipped
    arrival.validator = tag
    return total if stated is None else stated


def _check_reply(reply: Any, remote: Remote, begin: int, *, ranged: bool) -> None:
    """Raise `SourceError` unless the reply is the file's plain bytes from byte `begin`, or from its first one."""
    encoding = reply.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise SourceError(f"{remote.source}: the server sends it packed ({encoding[:40]!r}), though asked not to")
    if reply.status == 200:
        return
    if reply.status != 206 or not ranged:
        what = "a part of the file, though asked for all" if reply.status == 206 else f"HTTP {reply.status}"
        raise SourceError(f"{remote.source}: the server answers with {what}", fix="another address for the same file")
    span = reply.headers.get("Content-Range", "")
    match = _RANGE.fullmatch(span)
    if not match or int(match[1]) != begin:
        raise SourceError(
            f"{remote.source}: the server answers with another part than asked for",
            asked=f"from byte {begin}",
            found=f"Content-Range: {span[:80]}",
            fix="another address for the same file",
        )


def _total(reply: Any) -> int | None:
    """The whole file's size in bytes, as the reply states it."""
    if reply.status == 206:
        match = _RANGE.fullmatch(reply.headers.get("Content-Range", ""))
        return int(match[3]) if match and match[3] != "*" else None
    length = reply.headers.get("Content-Length", "")
    chunked = "chunked" in reply.headers.get("Transfer-Encoding", "").lower()
    return int(length) if _COUNT.fullmatch(length) and not chunked else None


def _strong(tag: str) -> str:
    """A tag that stands for these very bytes; empty for a weak one or none."""
    return tag if re.fullmatch(r'"[\x21\x23-\x7e]{1,200}"', tag) else ""


def _room(arrival: Arrival, total: int | None, source: str) -> int:
    """The most bytes the file may have: those stated; of an unstated size, what half of the free space takes."""
    place = arrival.store.root
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    free = shutil.disk_usage(place).free
    if total is None:
        return arrival.reached + free // 2
    if total - arrival.reached > free:
        raise CheckpointError(
            f"{source}: there is no room for it",
            asked=f"{total - arrival.reached:,} bytes more",
            found=f"{free:,} bytes free in {place}",
            fix="free some space, or choose another folder: ZOO_HOME=/path/with/space",
        )
    return total if arrival.wanted.size is None else 1 << 62  # `Arrival.add` holds to the promised size


def _too_much(source: str, most: int) -> SourceError:
    return SourceError(
        f"{source}: the server sends more than it may: it announced {most:,} bytes, or none and there is no more room",
        fix="another address for the same file",
    )


def _cut(source: str, error: Exception) -> SourceError:
    if isinstance(error, HTTPError):
        reasons = {401: "asks for a login", 403: "refuses access", 404: "has no such file", 410: "has it no more"}
        what = reasons.get(error.code, "cannot deliver just now" if error.code >= 500 else "refuses the request")
        if 300 <= error.code < 400:
            what = "sends us in a circle, or to where no weights may come from"
        return SourceError(f"{source}: the server {what} (HTTP {error.code})", fix="check the address in a browser")
    reason = error.reason if isinstance(error, URLError) else error
    return SourceError(
        f"{source}: the connection failed: {str(reason)[:200] or type(reason).__name__}",
        fix="try again; what has arrived is kept. A slow link may need more patience: ZOO_TIMEOUT=60",
    )
