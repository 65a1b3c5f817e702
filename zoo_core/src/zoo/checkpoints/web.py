"""Plain web servers: https, resumed after a cut, redirected only to https again."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from zoo.checkpoints.delivery import Delivery, Progress, Wanted, offline, shown_progress
from zoo.checkpoints.headers import Header, peek_header
from zoo.checkpoints.store import CHUNK, Store, read_chunks
from zoo.errors import DigestError, OfflineError, SourceError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
RETRIES = 3
"""Attempts in a row that may bring nothing before a download is given up."""


def deliver_web(source: str, wanted: Wanted, store: Store, progress: Progress | None) -> Delivery:
    """Download into the store, from where an earlier download of the same digest broke off.

    Raises:
        SourceError: not there, not allowed, or the connection failed.
        OfflineError: the network is switched off. DigestError: other bytes than promised.
    """
    _check_allowed(source)
    earlier = store.partials(wanted.sha256) if wanted.sha256 else []
    with shown_progress(progress, source) as show:
        if earlier:
            try:
                return _download(source, wanted, store, show, earlier[0])
            except DigestError:  # what lay there was damaged, or of another file: once more from the start
                store.discard_partials(str(wanted.sha256))
        return _download(source, wanted, store, show, None)


def peek_web(source: str) -> Header:
    """The safetensors header of a remote file, without its body."""
    _check_allowed(source)

    def read(begin: int, end: int) -> tuple[bytes, int | None]:
        with closing(_open(source, {"Range": f"bytes={begin}-{end - 1}"})) as reply:
            return ranged(reply.read, reply.status, reply.headers, begin, end)

    try:
        return peek_header(read, source)
    except (OSError, http.client.HTTPException) as error:
        raise _cut(source, error) from error


def ranged(read: Any, status: int, headers: Any, begin: int, end: int) -> tuple[bytes, int | None]:
    """Bytes [begin, end) of a reply to a range request, also from a server that ignores ranges, and the file's size."""
    if status == 206:
        total = headers.get("Content-Range", "").rpartition("/")[2]
        return read(end - begin), int(total) if total.isdigit() else None
    total = headers.get("Content-Length", "")
    return read(end)[begin:], int(total) if total.isdigit() else None


def _download(source: str, wanted: Wanted, store: Store, show: Progress, earlier: str | None) -> Delivery:
    blob = store.put(_arriving(source, wanted, show, earlier), wanted, keep_partial=wanted.sha256 is not None)
    if wanted.sha256:
        store.discard_partials(wanted.sha256)
    return Delivery(blob.path, blob.sha256, source)


def _arriving(source: str, wanted: Wanted, show: Progress, earlier: str | None) -> Iterator[bytes]:
    """The file's bytes: first what an earlier download left, then the rest, reconnecting where the link breaks."""
    reached, failures, total, validator = 0, 0, wanted.size, ""
    if earlier:
        with suppress(FileNotFoundError), open(earlier, "rb") as file:
            for chunk in read_chunks(file):
                reached += len(chunk)
                yield chunk
    while total is None or reached < total:
        before = reached
        try:
            with closing(_open(source, _resuming(reached, validator))) as reply:
                validator, total = _continued(reply, reached, validator, wanted, source)
                while chunk := reply.read1(CHUNK):
                    reached += len(chunk)
                    show(reached, total)
                    yield chunk
            if total is None:
                return
            broken: Exception = ConnectionError("the connection was closed early")
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, HTTPError) and error.code == 416 and reached:
                return  # nothing follows what is here already; the digest decides
            if isinstance(error, HTTPError) and error.code < 500:
                raise _cut(source, error) from error
            broken = error
        failures = failures + 1 if reached == before else 0
        if failures >= RETRIES:
            raise _cut(source, broken) from broken
        if total is None or reached < total:
            time.sleep(0.1 * 2**failures)


def _resuming(reached: int, validator: str) -> dict[str, str]:
    if not reached:
        return {}
    return {"Range": f"bytes={reached}-", **({"If-Range": validator} if validator else {})}


def _continued(reply: Any, reached: int, validator: str, wanted: Wanted, source: str) -> tuple[str, int | None]:
    """(validator, total size) of a reply, read on to byte `reached` where the server began anew."""
    length = reply.headers.get("Content-Length", "")
    tag = reply.headers.get("ETag", "")
    if reached and reply.status != 206:
        if not wanted.sha256 and (not tag or tag != validator):  # without a digest nobody would notice a mixture
            raise SourceError(f"{source}: the connection broke off, and the server cannot resume", fix="try again")
        while reached:
            reached -= len(reply.read(min(reached, CHUNK)) or b"." * reached)
        return tag, int(length) if length.isdigit() else None
    return "" if tag.startswith("W/") else tag, reached + int(length) if length.isdigit() else None


def _open(source: str, headers: dict[str, str]) -> Any:
    request = Request(source, headers={"User-Agent": "zoo", "Accept-Encoding": "identity", **headers})
    return build_opener(_Redirects(source)).open(request, timeout=_patience())


def _patience() -> float:
    text = os.environ.get("ZOO_TIMEOUT") or "20"
    try:
        return float(text)
    except ValueError:
        raise SourceError(f"ZOO_TIMEOUT is a number of seconds, not {text!r}", fix="ZOO_TIMEOUT=60") from None


class _Redirects(HTTPRedirectHandler):
    """Follows redirects to https, and to plain http on this machine only while they have never left it: a server
    elsewhere may not send us to what listens on loopback."""

    def __init__(self, source: str) -> None:
        self.never_left = _is_loopback(source)

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        self.never_left = self.never_left and _is_loopback(req.full_url)
        _check_allowed(newurl, loopback=self.never_left)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_loopback(source: str) -> bool:
    return urlsplit(source).hostname in LOOPBACK


def _check_allowed(source: str, loopback: bool = True) -> None:
    """loopback: plain http will do on this machine."""
    parts = urlsplit(source)
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback and _is_loopback(source)):
        raise SourceError(f"{source}: weights come over https only", fix=f"https://{parts.netloc}{parts.path}")
    if offline():
        raise OfflineError(
            f"{source} is not on this machine, and the network is switched off",
            asked=source,
            fix="run the same command once without ZOO_OFFLINE and HF_HUB_OFFLINE",
        )


def _cut(source: str, error: Exception) -> SourceError:
    if isinstance(error, HTTPError):
        reasons = {401: "asks for a login", 403: "refuses access", 404: "has no such file", 410: "has it no more"}
        what = reasons.get(error.code, "cannot deliver just now" if error.code >= 500 else "refuses the request")
        return SourceError(f"{source}: the server {what} (HTTP {error.code})", fix="check the address in a browser")
    reason = error.reason if isinstance(error, URLError) else error
    return SourceError(
        f"{source}: the connection failed: {reason}",
        fix="try again; what has arrived is kept. A slow link may need more patience: ZOO_TIMEOUT=60",
    )
