"""Connections to servers: https, redirected only to https again, and never waited for without end."""

from __future__ import annotations

import functools
import http.client
import io
import os
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from zoo.checkpoints.delivery import offline
from zoo.errors import OfflineError, SourceError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
SLOWEST = 64
"""Bytes a second, over the time that `ZOO_TIMEOUT` allows for silence, below which a server counts as silent."""


class Remote(NamedTuple):
    """A file on a server. source: its name for the user. url: where to ask. headers: for that server alone.

    patience: seconds of silence; None for `ZOO_TIMEOUT`.
    """

    source: str
    url: str
    headers: Mapping[str, str] = {}
    patience: float | None = None


def open_remote(remote: Remote, headers: Mapping[str, str]) -> Any:
    """The server's reply to a GET with these headers beside the remote's own.

    Raises:
        SourceError: an address that is none, or a redirect to where no weights may come from.
        OSError, http.client.HTTPException: the connection failed, or the server answers with an error.
    """
    request = Request(remote.url, headers={"User-Agent": "zoo", "Accept-Encoding": "identity", **headers})
    for name, value in remote.headers.items():
        request.add_unredirected_header(name, value)
    patience = _patience() if remote.patience is None else remote.patience
    opener = build_opener(_Redirects(remote), _Handler(), _SecureHandler(context=_context()))
    try:
        return opener.open(request, timeout=patience)
    except ValueError as error:  # a name that is none, here or in a redirect
        raise SourceError(f"{remote.source}: not an address: {str(error)[:200]}") from error


@functools.cache
def _context() -> ssl.SSLContext:
    """Made once: reading the authorities takes longer than many a request."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Steady(io.RawIOBase):
    """A connection's bytes, which must keep coming: a server that feeds single bytes for ever counts as silent."""

    def __init__(self, raw: Any, patience: float) -> None:
        self.raw, self.patience = raw, patience
        self.since, self.bytes = time.monotonic(), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count: int | None = self.raw.readinto(buffer)
        self.bytes += count or 0
        if count and time.monotonic() - self.since > self.patience:
            if self.bytes < SLOWEST * self.patience:
                raise TimeoutError(f"timed out: only {self.bytes} bytes in {self.patience:g} s")
            self.since, self.bytes = time.monotonic(), 0
        return count

    def close(self) -> None:
        self.raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, debuglevel: int = 0, method: str | None = None, url: str | None = None) -> None:
        super().__init__(sock, debuglevel, method, url)
        patience = sock.gettimeout()
        if patience:
            self.fp = io.BufferedReader(_Steady(self.fp.detach(), patience))


class _Connection(http.client.HTTPConnection):
    response_class = _Response


class _SecureConnection(http.client.HTTPSConnection):
    response_class = _Response


class _Handler(HTTPHandler):
    def http_open(self, req: Request) -> Any:
        return self.do_open(_Connection, req)


class _SecureHandler(HTTPSHandler):
    def https_open(self, req: Request) -> Any:
        return self.do_open(_SecureConnection, req, context=_context())


def _patience() -> float:
    text = os.environ.get("ZOO_TIMEOUT") or "20"
    with suppress(ValueError):
        if 0 < float(text) <= 86_400:
            return float(text)
    raise SourceError(f"ZOO_TIMEOUT is a number of seconds, not {text!r}", fix="ZOO_TIMEOUT=60")


class _Redirects(HTTPRedirectHandler):
    """Follows redirects to https, and to plain http on this machine only while they have never left it: a server
    elsewhere may not send us to what listens on loopback. Headers for one server alone stay with it."""

    def __init__(self, remote: Remote) -> None:
        self.remote, self.never_left = remote, is_loopback(remote.url)

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        fp.close()  # or its body, which may be endless, would be read
        self.never_left = self.never_left and is_loopback(req.full_url)
        near = _origin(newurl) == _origin(req.full_url)
        if not near or self.never_left:
            check_allowed(newurl, loopback=self.never_left)
        followed = super().redirect_request(req, fp, code, msg, headers, newurl)
        if followed is not None and near:
            for name in self.remote.headers:
                if req.has_header(name.capitalize()):
                    followed.add_unredirected_header(name, self.remote.headers[name])
        return followed


def is_loopback(url: str) -> bool:
    """Whether an address is on this machine."""
    return urlsplit(url).hostname in LOOPBACK


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def check_allowed(source: str, loopback: bool = True) -> None:
    """Raise `SourceError` or `OfflineError` unless this address may be asked.

    Args:
        loopback: plain http will do on this machine.
    """
    parts = urlsplit(source)
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback and is_loopback(source)):
        raise SourceError(f"{source}: weights come over https only", fix=f"https://{parts.netloc}{parts.path}")
    if offline():
        raise OfflineError(
            f"{source} is not on this machine, and the network is switched off",
            asked=source,
            fix="run the same command once without ZOO_OFFLINE and HF_HUB_OFFLINE",
        )
