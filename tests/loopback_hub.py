"""A small Hugging Face Hub on this machine, over real HTTP, for the genuine huggingface_hub client.

Two servers, as in life: the hub resolves names and redirects large files to a CDN, another origin, which knows nothing
of tokens. Point the client at it with `HF_ENDPOINT=hub.endpoint` and an own `HF_HOME`. Each answer takes one fault, in
the order they were set; every request is recorded with the bytes it was answered with.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from loopback_hub_uploads import READER, Uploads

TOKEN = "hf_loopback"
"""The one token that opens private and gated repositories."""


@dataclass
class Repo:
    """A repository: files of each commit, and what its branches point to."""

    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False


@dataclass
class File:
    """A file: the bytes it should have, and the bytes that are really sent."""

    data: bytes
    sent: bytes
    lfs: bool

    @property
    def etag(self) -> str:
        """SHA-256 for large files, the git blob hash for others, as the Hub has it."""
        if self.lfs:
            return hashlib.sha256(self.data).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.data) + self.data).hexdigest()


@dataclass
class Seen:
    """A request that was answered. `bytes` counts the body."""

    server: str
    method: str
    path: str
    headers: dict[str, str]
    status: int = 0
    bytes: int = 0

    @property
    def range(self) -> str | None:
        """Its Range header."""
        return self.headers.get("range")


@dataclass
class Fault:
    """What goes wrong with one answer. cut_after: body bytes before the connection dies. status: instead of an answer.
    stall: seconds of silence first. slow: seconds between pieces of 16 KiB. no_ranges: ignore the Range header.
    raw: these very bytes instead, headers and all; drip: seconds between single bytes of it; endless: then this, until
    the client hangs up."""

    cut_after: int | None = None
    status: int | None = None
    stall: float = 0.0
    slow: float = 0.0
    no_ranges: bool = False
    raw: bytes | None = None
    drip: float = 0.0
    endless: bytes = b""


class LoopbackHub:
    """The hub and its CDN. Use as `with running_hub() as hub`."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.seen: list[Seen] = []
        self.hub_faults: list[Fault] = []
        self.cdn_faults: list[Fault] = []
        self.upload_faults: dict[str, list[Fault]] = {}  # by what is uploaded: create, preupload, batch, upload, …
        self.large: dict[str, bytes] = {}  # files that were uploaded and verified, by digest
        self.arrived: dict[str, bytes] = {}
        self.damaged_uploads = 0
        self.lock = threading.Lock()
        self.closing = threading.Event()
        self._servers = [_server(self, "hub"), _server(self, "cdn")]
        self.endpoint, self.cdn = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def add(
        self, repo: str, file: str, data: bytes, *, sent: bytes | None = None, lfs: bool = True, branch: str = "main"
    ) -> str:
        """Commit a file to a branch. `sent`: other bytes than the promised ones. Returns the commit's hash."""
        kept = self.repos.setdefault(repo, Repo())
        before = kept.commits.get(kept.branches.get(branch, ""), {})
        files = {**before, file: File(data, data if sent is None else sent, lfs)}
        listing = repr(sorted((name, f.etag) for name, f in files.items())) + repo
        commit = hashlib.sha1(listing.encode()).hexdigest()
        kept.commits[commit], kept.branches[branch] = files, commit
        return commit

    def serve(self, path: str, data: bytes) -> str:
        """A plain file on the CDN, for `https://` sources. Returns its address."""
        self.files[path] = data
        return self.cdn + path

    def redirect(self, path: str, target: str) -> str:
        """A redirect on the CDN. Returns its address."""
        self.redirects[path] = target
        return self.cdn + path

    def of(self, server: str, method: str) -> list[Seen]:
        """The requests of one kind to one server (`hub` or `cdn`), in order."""
        return [request for request in self.seen if (request.server, request.method) == (server, method)]

    @property
    def body_bytes(self) -> int:
        """All body bytes sent so far."""
        return sum(request.bytes for request in self.seen)

    def close(self) -> None:
        """Stop both servers and let stalled answers go."""
        self.closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()


@contextmanager
def running_hub() -> Iterator[LoopbackHub]:
    """A hub for as long as the block runs."""
    hub = LoopbackHub()
    try:
        yield hub
    finally:
        hub.close()


def _server(hub: LoopbackHub, name: str) -> ThreadingHTTPServer:
    handler = type(f"{name}Handler", (_Handler,), {"hub": hub, "name": name})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


class _Handler(Uploads, BaseHTTPRequestHandler):
    hub: LoopbackHub
    name: str
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.request_seen = Seen(self.name, self.command, self.path, headers)
        self.hub.seen.append(self.request_seen)
        faults = self.hub.hub_faults if self.name == "hub" else self.hub.cdn_faults
        self.fault = faults.pop(0) if faults else Fault()
        if self.fault.stall and self.hub.closing.wait(self.fault.stall):
            self.close_connection = True
            return
        if self.fault.raw is not None:
            self._raw(self.fault)
        elif self.fault.status:
            self._send(self.fault.status, {}, b"")
        elif self.name == "hub":
            self._hub(unquote(urlsplit(self.path).path))
        else:
            self._cdn(unquote(urlsplit(self.path).path))

    def _raw(self, fault: Fault) -> None:
        self.close_connection = True
        pieces = [fault.raw or b""] if not fault.drip else [bytes([byte]) for byte in fault.raw or b""]
        try:
            for piece in pieces:
                self.wfile.write(piece)
                if fault.drip and self.hub.closing.wait(fault.drip):
                    return
            while fault.endless and not self.hub.closing.wait(fault.drip):
                self.request_seen.bytes += len(fault.endless)
                self.wfile.write(fault.endless)
        except OSError:  # the client has seen enough
            pass

    # the hub

    def _hub(self, path: str) -> None:
        resolve = re.fullmatch(r"/([^/]+/[^/]+)/resolve/(refs/pr/\d+|[^/]+)/(.+)", path)
        info = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path)
        found = resolve or info
        if not found:
            return self._refuse(404, "", "Not Found")
        refused = self._door(found[1])
        if refused:
            return self._refuse(*refused)
        repo = self.hub.repos[found[1]]
        revision = found[2] or "main"
        commit = repo.branches.get(revision, revision)
        if commit not in repo.commits:
            return self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if info:
            listing = {"id": found[1], "sha": commit, "siblings": [{"rfilename": f} for f in repo.commits[commit]]}
            return self._send(200, {"Content-Type": "application/json"}, json.dumps(listing).encode())
        return self._resolve(commit, repo.commits[commit].get(found[3]))

    def _door(self, name: str) -> tuple[int, str, str] | None:
        """Why this repository stays closed, in the Hub's own words."""
        authorization = self.headers.get("Authorization")
        if authorization and authorization not in (f"Bearer {TOKEN}", f"Bearer {READER}"):
            return 401, "", "Invalid credentials in Authorization header"
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not authorization):
            # Without a login the Hub does not tell a private repository from none.
            return (404 if authorization else 401), "RepoNotFound", "Repository not found"
        if repo.gated and not authorization:
            return 401, "GatedRepo", f"Access to model {name} is restricted. You must be authenticated to access it."
        return None

    def _resolve(self, commit: str, file: File | None) -> None:
        common = {"X-Repo-Commit": commit}
        if file is None:
            return self._refuse(404, "EntryNotFound", "Entry not found", common)
        if not file.lfs:
            return self._body(file.sent, f'"{file.etag}"', common)
        linked = {"X-Linked-ETag": f'"{file.etag}"', "X-Linked-Size": str(len(file.data)), "ETag": f'"{commit}"'}
        self.hub.files[f"/lfs/{file.etag}"] = file.sent
        return self._send(302, {**common, **linked, "Location": f"{self.hub.cdn}/lfs/{file.etag}"}, b"")

    def _refuse(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})}, b"")

    # the CDN

    def _cdn(self, path: str) -> None:
        if path in self.hub.redirects:
            return self._send(302, {"Location": self.hub.redirects[path]}, b"")
        if path not in self.hub.files:
            return self._send(404, {}, b"")
        data = self.hub.files[path]
        return self._body(data, f'"{hashlib.sha256(data).hexdigest()[:16]}"', {})

    def _body(self, data: bytes, etag: str, headers: dict[str, str]) -> None:
        headers = {**headers, "ETag": etag, "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range", etag)
        if not wanted or self.fault.no_ranges or condition != etag:
            return self._send(200, headers, data)
        begin, end = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
        if begin >= len(data):
            return self._send(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
        headers["Content-Range"] = f"bytes {begin}-{end}/{len(data)}"
        return self._send(206, headers, data[begin : end + 1])

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.request_seen.status = status
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        stop = len(body) if self.fault.cut_after is None else min(self.fault.cut_after, len(body))
        try:
            for begin in range(0, stop, 16_384):
                piece = body[begin : min(begin + 16_384, stop)]
                self.request_seen.bytes += len(piece)  # before: the client may look at it as soon as it has them
                self.wfile.write(piece)
                if self.fault.slow:
                    time.sleep(self.fault.slow)
            if stop < len(body):
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # the client has seen enough
            self.close_connection = True
