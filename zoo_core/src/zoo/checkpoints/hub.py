"""The Hugging Face Hub: its cache, its settings, its tokens and its answers are those its users know.

A file is used where the Hub's cache has it; otherwise it arrives in our store, from where an earlier arrival broke
off. Either way it is compared with the declared digest and with the Hub's own (the SHA-256 of a large file, the git
hash of a small one). What the Hub says of a file is asked through its own client, which reads some of its settings
when it is imported; endpoint and cache are therefore read here at each call.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import NamedTuple
from urllib.parse import unquote

import huggingface_hub
from huggingface_hub import constants, errors
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # re-exported without saying so

from zoo.checkpoints.connections import Remote
from zoo.checkpoints.delivery import Delivery, Progress, Wanted, offline
from zoo.checkpoints.headers import Header
from zoo.checkpoints.store import Store, read_chunks
from zoo.checkpoints.web import download, peek
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
    """The file where the Hub's cache has it, otherwise in the store, downloaded and verified.

    Raises:
        SourceError: not there, not allowed (with how to log in), or the connection failed.
        OfflineError: not in the cache, and the network is switched off.
        DigestError: not the promised bytes, by the declared digest or by the Hub's own.
    """
    place = parse(source)
    cached = _cached(place)
    if cached and (offline() or (wanted.sha256 and store.digest(cached) == wanted.sha256)):
        return _adopted(source, place, cached, wanted, store)
    if offline():
        raise _offline(source, place)
    try:
        facts = _facts(place)
    except CLIENT_ERRORS as error:
        told = _told(source, place, error)
        if told.unreachable and cached:
            return _adopted(source, place, cached, wanted, store)
        raise told.error from error
    if wanted.sha256 and _SHA256.fullmatch(facts.etag) and facts.etag != wanted.sha256:
        raise wanted.broken(source, f"sha256 {facts.etag}, says the Hub", f"sha256 {wanted.sha256}")
    place = place._replace(revision=facts.commit)
    cached = _cached(place) or _cached_under(place, facts.etag)
    if cached and _is_what_the_hub_has(cached, facts.etag, store):
        return _adopted(source, place, cached, wanted, store)
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
    except CLIENT_ERRORS as error:
        raise _told(source, place, error).error from error
    digest = facts.etag if _SHA256.fullmatch(facts.etag) else None
    return str(place._replace(revision=facts.commit)), digest, facts.size


def peek_hub(source: str) -> Header:
    """The safetensors header of a file on the Hub, without its body. Raises `SourceError` as `deliver_hub` does."""
    place = parse(source)
    if offline():
        raise _offline(source, place)
    try:
        return peek(_remote(source, place))
    except SourceError as error:
        raise _refused(source, error) from error


def _remote(source: str, place: HubFile) -> Remote:
    """Where the file's bytes are asked for. The token goes to the Hub, never to where it redirects us."""
    try:
        url = huggingface_hub.hf_hub_url(place.repo, place.file, revision=place.revision, endpoint=endpoint())
        headers = build_hf_headers()
    except CLIENT_ERRORS as error:  # no name for a repository or a file
        raise _told(source, place, error).error from error
    patience = None if os.environ.get("ZOO_TIMEOUT") else float(constants.HF_HUB_DOWNLOAD_TIMEOUT)
    return Remote(source, url, headers, patience)


def _refused(source: str, error: SourceError) -> SourceError:
    reason = error.message.removeprefix(f"{source}: ")
    return type(error)(f"{source}: the Hub did not deliver: {reason}", asked=source, found=error.found, fix=_BE_PATIENT)


CLIENT_ERRORS = (errors.HTTPError, OSError, ValueError, RuntimeError)  # type: ignore[attr-defined]  # as above
"""What the client raises: HTTP and transport errors, broken connections, invalid names, uploads that failed."""

_BE_PATIENT = "try again; a slow link may need HF_HUB_DOWNLOAD_TIMEOUT=60, a mirror HF_ENDPOINT=https://…"


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
        fix = f"accept the terms at {endpoint() or constants.ENDPOINT}/{place.repo}, then: HF_TOKEN=… or hf auth login"
    elif isinstance(error, errors.RevisionNotFoundError):
        why, fix = f"{place.repo} has no revision {place.revision!r}", f"hf://{place.repo}/{place.file}"
    elif isinstance(error, errors.EntryNotFoundError) and status == 404:
        why = f"{place.repo} has no file {place.file!r} at {place.revision}"
        fix = f"check the name: {endpoint() or constants.ENDPOINT}/{place.repo}/tree/{place.revision}"
    elif status == 401 and not isinstance(error, errors.RepositoryNotFoundError):
        why, fix = "the Hub does not know your token", "hf auth login, or another HF_TOKEN=…, or none for public files"
    elif isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        why = f"the Hub has no repository {place.repo!r}, or none that you may see"
        fix = "check the name; for a private or gated one: HF_TOKEN=… or hf auth login"
    elif isinstance(error, ValueError):
        why, fix = f"not a name on the Hub: {error}", "hf://org/repo[@revision]/file"
    else:
        busy = status is None or status >= 500 or status == 429
        what = f"HTTP {status}" if status else f"{type(error).__name__}: {error}".splitlines()[0][:200]
        return Told(SourceError(f"{source}: the Hub did not deliver: {what}", asked=source, fix=_BE_PATIENT), busy)
    return Told(SourceError(f"{source}: {why}", asked=source, fix=fix), False)


def _offline(source: str, place: HubFile) -> OfflineError:
    return OfflineError(
        f"{source} is not on this machine, and the network is switched off",
        asked=source,
        fix=f"with the network on: hf download {place.repo} {place.file} --revision {place.revision}",
    )


def _facts(place: HubFile) -> Facts:
    url = huggingface_hub.hf_hub_url(place.repo, place.file, revision=place.revision, endpoint=endpoint())
    try:
        seen = huggingface_hub.get_hf_file_metadata(url, endpoint=endpoint(), timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except errors.HfHubHTTPError as error:
        if error.response.status_code < 500 and error.response.status_code != 429:
            raise
        seen = huggingface_hub.get_hf_file_metadata(url, endpoint=endpoint(), retry_on_errors=True)
    if not seen.commit_hash or not seen.etag:
        raise OSError("it answers, but not as a Hugging Face Hub does; check HF_ENDPOINT")
    return Facts(seen.commit_hash, seen.etag, seen.size)


def _downloaded(
    source: str, place: HubFile, facts: Facts, wanted: Wanted, store: Store, progress: Progress | None
) -> Delivery:
    """The file of that commit, into the store, held against what the Hub says of it on the way."""
    promised = Wanted(wanted.sha256, wanted.size if wanted.size is not None else facts.size, wanted.pin)
    if _SHA256.fullmatch(facts.etag):
        promised = promised._replace(sha256=facts.etag)

    def check(path: str) -> None:
        if not _is_what_the_hub_has(path, facts.etag, store):
            raise wanted.broken(source, "other bytes", f"digest {facts.etag}, says the Hub")

    large = wanted.sha256 or promised.sha256
    try:
        blob = download(_remote(str(place), place), promised, store, progress, None if large else check)
    except DigestError as error:
        if wanted.sha256:
            raise
        raise DigestError(
            f"{source}: the bytes that arrived are not those the Hub has",
            asked=f"digest {facts.etag}",
            found=error.found,
            fix="try again; nothing of it was kept",
        ) from error
    except SourceError as error:
        raise _refused(source, error) from error
    wanted.check(blob.sha256, blob.size, source)
    return Delivery(blob.path, blob.sha256, str(place))


def _adopted(source: str, place: HubFile, path: str, wanted: Wanted, store: Store) -> Delivery:
    """A file of the client's cache, used where it is."""
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
            digest = hashlib.sha1(b"blob %d\0" % os.fstat(file.fileno()).st_size, usedforsecurity=False)
            for chunk in read_chunks(file):
                digest.update(chunk)
        return digest.hexdigest() == etag
    return True  # another server's own kind of tag says nothing about content


def _cached(place: HubFile) -> str | None:
    try:
        found = huggingface_hub.try_to_load_from_cache(
            place.repo, place.file, cache_dir=_cache_dir(), revision=place.revision
        )
    except ValueError as error:  # no name for a repository or a file
        raise _told(str(place), place, error).error from error
    return found if isinstance(found, str) else None


def _cached_under(place: HubFile, etag: str) -> str | None:
    """The same content in the client's cache, from another commit or under another name."""
    folder = repo_folder_name(repo_id=place.repo, repo_type="model")
    path = os.path.join(_cache_dir(), folder, "blobs", etag)
    named = _SHA256.fullmatch(etag) or _HEX40.fullmatch(etag)  # anything else is no file name of ours
    return path if named and os.path.isfile(path) else None


def endpoint() -> str | None:
    """The address of the Hub that `HF_ENDPOINT` names now; None for the client's own."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or None


def _cache_dir() -> str:
    chosen = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if not chosen and os.environ.get("HF_HOME"):
        chosen = os.path.join(os.environ["HF_HOME"], "hub")
    return os.path.expandvars(os.path.expanduser(chosen or constants.HF_HUB_CACHE))
