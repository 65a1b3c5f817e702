"""The Hugging Face Hub, through its own client: its cache, its settings and its tokens stay those its users know.

A file is used where the Hub's cache has it; it is hashed once and compared with the declared digest and with the Hub's
own (the SHA-256 of a large file, the git hash of a small one). The client reads some of its settings when it is
imported; endpoint and cache are therefore read here at each call.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import unquote

import huggingface_hub
from huggingface_hub import constants, errors
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # re-exported without saying so
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from zoo.checkpoints.delivery import Delivery, Progress, Wanted, offline, shown_progress
from zoo.checkpoints.headers import PEEK, Header, peek_header
from zoo.checkpoints.store import Store
from zoo.checkpoints.web import ranged
from zoo.errors import DigestError, OfflineError, SourceError

_SOURCE = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(?:@(?P<revision>refs/(?:pr|convert)/[^/]+|[^/]+))?/(?P<file>.+)")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HEX40 = re.compile(r"[0-9a-f]{40}")


class HubFile(NamedTuple):
    """A parsed `hf://org/repo[@revision]/file`."""

    repo: str
    revision: str
    file: str

    def __str__(self) -> str:
        return f"hf://{self.repo}@{self.revision}/{self.file}"


class Facts(NamedTuple):
    """What the Hub says of a file: its commit, content digest (SHA-256 or git hash) and size in bytes."""

    commit: str
    etag: str
    size: int | None


def deliver_hub(source: str, wanted: Wanted, store: Store, progress: Progress | None) -> Delivery:
    """The file in the Hub's cache, downloaded if need be, and verified.

    Raises:
        SourceError: not there, not allowed (with how to log in), or the connection failed.
        OfflineError: not in the cache, and the network is switched off.
        DigestError: not the promised bytes, by the declared digest or by the Hub's own; not left in the cache.
    """
    place = parse(source)
    cached = _cached(place)
    if cached and (offline() or (wanted.sha256 and store.digest(cached) == wanted.sha256)):
        return _verified(source, place, cached, wanted, store)
    if offline():
        raise _offline(source, place)
    try:
        facts = _facts(place)
    except _CLIENT_ERRORS as error:
        told = _told(source, place, error)
        if told.unreachable and cached:
            return _verified(source, place, cached, wanted, store)
        raise told.error from error
    if wanted.sha256 and _SHA256.fullmatch(facts.etag) and facts.etag != wanted.sha256:
        raise wanted.broken(source, f"sha256 {facts.etag}, says the Hub", f"sha256 {wanted.sha256}")
    return _downloaded(source, place, facts, wanted, store, progress)


def parse(source: str) -> HubFile:
    """Parse a Hub source. Raises `SourceError` for another form."""
    match = _SOURCE.fullmatch(source)
    if not match:
        raise SourceError(f"{source!r} names no file on the Hub", fix="hf://org/repo[@revision]/model.safetensors")
    return HubFile(match["repo"], unquote(match["revision"] or "main"), match["file"])


def look_up(source: str) -> tuple[str, str | None, int | None]:
    """What the Hub says of a file without sending it: the source at its commit, its SHA-256 if told, its size in bytes.

    Raises `SourceError` as `deliver_hub` does.
    """
    place = parse(source)
    if offline():
        raise _offline(source, place)
    try:
        facts = _facts(place)
    except _CLIENT_ERRORS as error:
        raise _told(source, place, error).error from error
    digest = facts.etag if _SHA256.fullmatch(facts.etag) else None
    return str(place._replace(revision=facts.commit)), digest, facts.size


def peek_hub(source: str) -> Header:
    """The safetensors header of a file on the Hub, without its body. Raises `SourceError` as `deliver_hub` does."""
    place = parse(source)
    if offline():
        raise _offline(source, place)
    url = huggingface_hub.hf_hub_url(place.repo, place.file, revision=place.revision, endpoint=_endpoint())

    def read(begin: int, end: int) -> tuple[bytes, int | None]:
        headers = {**build_hf_headers(), "Range": f"bytes={begin}-{end - 1}", "Accept-Encoding": "identity"}
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as reply:
            hf_raise_for_status(reply)
            return ranged(_reader(reply), reply.status_code, reply.headers, begin, end)

    try:
        return peek_header(read, source)
    except _CLIENT_ERRORS as error:
        raise _told(source, place, error).error from error


def _reader(reply: Any) -> Any:
    def read(count: int) -> bytes:
        taken = b""
        for chunk in reply.iter_bytes(PEEK):
            taken += chunk
            if len(taken) >= count:
                break
        return taken[:count]

    return read


_CLIENT_ERRORS = (errors.HTTPError, OSError, ValueError, RuntimeError)  # type: ignore[attr-defined]
"""What the client raises: HTTP and transport errors, broken connections, invalid names, its xet library's errors."""


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


class Told(NamedTuple):
    """A client's error in our words. unreachable: the Hub did not answer, so what the cache has may serve."""

    error: SourceError
    unreachable: bool


def _told(source: str, place: HubFile, error: Exception) -> Told:
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else None
    if isinstance(error, errors.OfflineModeIsEnabled):
        return Told(_offline(source, place), False)
    if isinstance(error, errors.GatedRepoError) or status == 403:
        why = f"{place.repo} asks you to accept its terms or gives you no access"
        fix = f"accept the terms at {_endpoint() or constants.ENDPOINT}/{place.repo}, then: HF_TOKEN=… or hf auth login"
    elif isinstance(error, errors.RevisionNotFoundError):
        why, fix = f"{place.repo} has no revision {place.revision!r}", f"hf://{place.repo}/{place.file}"
    elif isinstance(error, errors.EntryNotFoundError) and status == 404:
        why = f"{place.repo} has no file {place.file!r} at {place.revision}"
        fix = f"check the name: {_endpoint() or constants.ENDPOINT}/{place.repo}/tree/{place.revision}"
    elif status == 401 and not isinstance(error, errors.RepositoryNotFoundError):
        why, fix = "the Hub does not know your token", "hf auth login, or another HF_TOKEN=…, or none for public files"
    elif isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        why = f"the Hub has no repository {place.repo!r}, or none that you may see"
        fix = "check the name; for a private or gated one: HF_TOKEN=… or hf auth login"
    elif isinstance(error, OSError) and error.errno in _DISK:
        why, fix = (
            f"the Hub's cache cannot be written: {error.strerror}",
            "free some space, or: HF_HOME=/path/with/space",
        )
    elif isinstance(error, ValueError):
        why, fix = f"not a name on the Hub: {error}", "hf://org/repo[@revision]/file"
    else:
        busy = status is None or status >= 500 or status == 429
        what = f"HTTP {status}" if status else f"{type(error).__name__}: {error}".splitlines()[0][:200]
        fix = "try again; a slow link may need HF_HUB_DOWNLOAD_TIMEOUT=60, a mirror HF_ENDPOINT=https://…"
        return Told(SourceError(f"{source}: the Hub did not deliver: {what}", asked=source, fix=fix), busy)
    return Told(SourceError(f"{source}: {why}", asked=source, fix=fix), False)


def _offline(source: str, place: HubFile) -> OfflineError:
    return OfflineError(
        f"{source} is not on this machine, and the network is switched off",
        asked=source,
        fix=f"with the network on: hf download {place.repo} {place.file} --revision {place.revision}",
    )


def _facts(place: HubFile) -> Facts:
    url = huggingface_hub.hf_hub_url(place.repo, place.file, revision=place.revision, endpoint=_endpoint())
    try:
        seen = huggingface_hub.get_hf_file_metadata(url, endpoint=_endpoint(), timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except errors.HfHubHTTPError as error:
        if error.response.status_code < 500 and error.response.status_code != 429:
            raise
        seen = huggingface_hub.get_hf_file_metadata(url, endpoint=_endpoint(), retry_on_errors=True)
    if not seen.commit_hash or not seen.etag:
        raise OSError("it answers, but not as a Hugging Face Hub does; check HF_ENDPOINT")
    return Facts(seen.commit_hash, seen.etag, seen.size)


def _downloaded(
    source: str, place: HubFile, facts: Facts, wanted: Wanted, store: Store, progress: Progress | None
) -> Delivery:
    """The file, from the cache or fetched; a damaged one in the cache is fetched once more."""
    had = _cached(place._replace(revision=facts.commit)) is not None
    path = _client_download(source, place, progress, anew=False)
    commit = _commit(path, place)
    if commit and commit != facts.commit:  # the branch moved on between the two questions
        facts = _facts(place._replace(revision=commit))
    if had and not _is_what_the_hub_has(path, facts.etag, store):
        path = _client_download(source, place, progress, anew=True)
    if not _is_what_the_hub_has(path, facts.etag, store):
        found = store.digest(path)
        for name in (os.path.realpath(path), path):  # or the client would hand it out for ever
            with suppress(OSError):
                os.unlink(name)
        raise DigestError(
            f"{source}: the bytes that arrived are not those the Hub has",
            asked=f"digest {facts.etag}",
            found=f"sha256 {found}",
            fix="try again; nothing of it was kept",
        )
    return _verified(source, place, path, wanted, store)


def _client_download(source: str, place: HubFile, progress: Progress | None, *, anew: bool) -> str:
    with shown_progress(progress, source) as show:
        try:
            return str(
                huggingface_hub.hf_hub_download(
                    place.repo,
                    place.file,
                    revision=place.revision,
                    cache_dir=_cache_dir(),
                    endpoint=_endpoint(),
                    force_download=anew,
                    tqdm_class=_bar(show),
                )
            )
        except _CLIENT_ERRORS as error:
            raise _told(source, place, error).error from error


def _verified(source: str, place: HubFile, path: str, wanted: Wanted, store: Store) -> Delivery:
    blob = store.adopt(path, wanted, source)
    commit = _commit(path, place)
    return Delivery(blob.path, blob.sha256, str(place._replace(revision=commit) if commit else place))


def _commit(path: str, place: HubFile) -> str | None:
    """The commit of a file in the client's cache, which keeps it under `snapshots/<commit>/`."""
    relative = os.path.join(*place.file.split("/"))
    commit = os.path.basename(path[: -len(relative) - 1]) if path.endswith(os.sep + relative) else ""
    return commit if _HEX40.fullmatch(commit) else None


def _is_what_the_hub_has(path: str, etag: str, store: Store) -> bool:
    if _SHA256.fullmatch(etag):
        return store.digest(path) == etag
    if _HEX40.fullmatch(etag):  # a small file, kept by git itself
        with open(path, "rb") as file:
            content = file.read()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == etag
    return True  # another server's own kind of tag says nothing about content


def _cached(place: HubFile) -> str | None:
    try:
        found = huggingface_hub.try_to_load_from_cache(
            place.repo, place.file, cache_dir=_cache_dir(), revision=place.revision
        )
    except ValueError as error:  # no name for a repository or a file
        raise _told(str(place), place, error).error from error
    return found if isinstance(found, str) else None


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _cache_dir() -> str:
    chosen = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if not chosen and os.environ.get("HF_HOME"):
        chosen = os.path.join(os.environ["HF_HOME"], "hub")
    return os.path.expandvars(os.path.expanduser(chosen or constants.HF_HUB_CACHE))


def _bar(show: Progress) -> type[Any]:
    """The client's progress bar as a call to `show`; it draws nothing itself."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, total: float | None = None, initial: float = 0, **kwargs: Any) -> None:
            super().__init__(*args, total=total, initial=initial, **{**kwargs, "disable": True})
            self.reached, self.goal = int(initial), None if total is None else int(total)

        def update(self, n: float | None = 1) -> None:
            self.reached += int(n or 0)
            show(self.reached, self.goal)

    return Bar
