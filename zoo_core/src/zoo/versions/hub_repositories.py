"""Registered versions in a repository on the Hugging Face Hub, in the same layout as in a folder.

A push is one commit on top of the one that was looked at. Where somebody else was faster, it is looked at anew: what is
in the repository already is never overwritten, neither by another machine's version nor by another order of pushing.
Where the answer to a commit is lost, the branch tells whether it is there.
What goes over the network goes through the Hub's own client, with its endpoint, its token and its uploads.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from huggingface_hub import CommitOperationAdd, HfApi, constants, errors
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # re-exported without saying so
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

from zoo.checkpoints.delivery import Wanted, offline
from zoo.checkpoints.hub import CLIENT_ERRORS, endpoint, look_up
from zoo.checkpoints.sources import fetch
from zoo.checkpoints.store import Store, read_chunks
from zoo.errors import CheckpointError, DigestError, FormatError, OfflineError, SourceError, ZooError
from zoo.versions import filing, selection
from zoo.versions.exporting import Chosen, What, choose, small_files
from zoo.versions.importing import take
from zoo.versions.model_card import CARD, model_card
from zoo.versions.portable import CONTENTS, MAX_CONTENTS, MAX_RECORD, RECORD, WEIGHTS, Contents, Entry, parse_record
from zoo.versions.records import AliasMeaning, Transfer, VersionRecord
from zoo.versions.semver import Version
from zoo.versions.shelf import Shelf

_PLACE = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>refs/(?:pr|convert)/[^/@]+|[^/@]+))?/?", re.ASCII)
_MOVED_ON = (409, 412)
_TRIES = 8
_ASKED_AT_ONCE = 500


class Place(NamedTuple):
    """A repository, and a branch, tag or commit of it."""

    repo: str
    revision: str = constants.DEFAULT_REVISION

    def __str__(self) -> str:
        return f"hf://{self.repo}@{self.revision}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """From `hf://org/repo[@revision]`. Raises `SourceError`."""
        found = _PLACE.fullmatch(text) if isinstance(text, str) else None
        if found is None:
            raise SourceError(
                "not a repository on the Hub", asked=repr(text)[:200], fix="hf://org/repo, or hf://org/repo@revision"
            )
        return cls(found["repo"], found["revision"] or constants.DEFAULT_REVISION)


class HubExport:
    """Exported versions in a repository at one commit; see `archives.Export`."""

    def __init__(self, place: Place, store: Store) -> None:
        """Raises `SourceError`: no such repository, or no versions in it; `OfflineError`."""
        self._store = store
        self._here: dict[str, str] = {}
        pinned, _, size = look_up(f"{place}/{CONTENTS}")
        self._root = pinned.removesuffix(f"/{CONTENTS}")
        self._sizes = {CONTENTS: size}
        self.label = self._root

    def read(self, name: str, limit: int) -> bytes:
        """A small file: asked for its size, fetched once, held against the Hub's digest."""
        if name not in self._here:
            size = self._sizes[name] if name in self._sizes else look_up(f"{self._root}/{name}")[2]
            if size is None or size > limit:
                raise FormatError(f"{self.label}/{name} has more than the {limit:,} bytes that are read of it")
            self._here[name] = fetch((f"{self._root}/{name}",), size=size, store=self._store).path
        with open(self._here[name], "rb") as file:
            return file.read(limit)

    def deliver(self, name: str, wanted: Wanted, store: Store) -> None:
        """A large file, into the store itself: what the Hub's cache has may be cleared by its owner any day."""
        found = fetch((f"{self._root}/{name}",), sha256=wanted.sha256, size=wanted.size, store=store)
        if store.own(found.sha256) is None:
            with open(found.path, "rb") as file:
                store.put(read_chunks(file), wanted)


def pull(shelf: Shelf, repository: str, what: What | None, *, every: bool, aliases: bool) -> Transfer:
    """Register versions of a repository; see `ModelRegistry.pull`."""
    return take(shelf, HubExport(Place.parse(repository), shelf.store), what, every=every, aliases=aliases)


def push(shelf: Shelf, what: What, repository: str, *, every: bool, private: bool | None, aliases: bool) -> Transfer:
    """Add versions to a repository; see `ModelRegistry.push`."""
    place = Place.parse(repository)
    with shelf.ledger.reading() as connection:
        chosen = choose(connection, what, every=every)
    if offline():
        raise OfflineError("the network is switched off", asked=str(place), fix="unset ZOO_OFFLINE and HF_HUB_OFFLINE")
    api = HfApi(endpoint=endpoint())
    unanswered: Transfer | None = None
    for attempt in range(_TRIES):
        plan: _Plan | None = None
        try:
            head = _head(api, place, private)
            plan = _plan(api, shelf, chosen, place._replace(revision=head), aliases=aliases)
            if plan.operations:
                unanswered = None  # not there, and since the branch moved on it never will be
                head = _committed(api, place, plan, head)
            return replace(unanswered or plan.done, place=str(place._replace(revision=head)))
        except CLIENT_ERRORS as error:
            again = _status(error) in _MOVED_ON
            if plan is not None and plan.operations and _is_open(error):
                now = _head_now(api, place)
                again = now not in (None, head)
                unanswered = None if now == head else plan.done
            if not again or attempt + 1 == _TRIES:
                raise _unknown(place, error) if unanswered else _told(place, error) from error
            time.sleep(random.uniform(0, 0.1 * 2**attempt))
    raise AssertionError  # the last try returns or raises


class _Plan(NamedTuple):
    """What is committed, and what the caller is told of it."""

    operations: list[CommitOperationAdd]
    message: str
    done: Transfer


def _committed(api: HfApi, place: Place, plan: _Plan, head: str) -> str:
    """Upload and commit, if the branch is still where it was. Draws bars on a terminal only."""
    quiet = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        done = api.create_commit(
            place.repo,
            plan.operations,
            commit_message=plan.message,
            revision=place.revision,
            parent_commit=head,
        )
        return str(done.oid)
    finally:
        if quiet:
            enable_progress_bars()


def _head(api: HfApi, place: Place, private: bool | None) -> str:
    """The commit that a branch is at; of a new repository where there is none."""
    try:
        found = api.repo_info(place.repo, revision=place.revision)
    except errors.RevisionNotFoundError:
        raise
    except errors.RepositoryNotFoundError:
        api.create_repo(place.repo, private=private, exist_ok=True)
        found = api.repo_info(place.repo, revision=place.revision)
    return str(found.sha)


def _head_now(api: HfApi, place: Place) -> str | None:
    """The commit that a branch is at; None where nobody answers."""
    try:
        return str(api.repo_info(place.repo, revision=place.revision).sha)
    except CLIENT_ERRORS:
        return None


def _plan(api: HfApi, shelf: Shelf, chosen: Chosen, at: Place, *, aliases: bool) -> _Plan:
    mine = chosen.contents
    there = _there(api, at, [CONTENTS, CARD, *(entry.folder for entry in mine.entries)])
    export = HubExport(at, shelf.store) if CONTENTS in there else None
    raw = export.read(CONTENTS, MAX_CONTENTS) if export is not None else b""
    theirs = Contents.parse(raw, f"{at}/{CONTENTS}") if export is not None else Contents((), ())
    known = {_key(entry): entry for entry in theirs.entries}
    added: dict[Entry, dict[str, Any]] = {}
    for number, entry in zip(chosen.rows, mine.entries, strict=True):
        with shelf.ledger.reading() as connection:  # for a moment each: whoever reads holds up whoever writes
            values = selection.text_of(connection, number)
        if _key(entry) not in known:
            added[entry] = values
        elif known[_key(entry)].record != entry.record:
            assert export is not None  # it knows an entry
            _check_same(export, known[_key(entry)], VersionRecord.from_dict(values))
    for entry in added:
        if entry.folder in there:
            raise ZooError(f"{at} has files in {entry.folder} that no push put there", fix="another repository")
    meanings, moved = _merged(theirs.meanings, mine.meanings, aliases=aliases)
    contents = Contents((*theirs.entries, *added), meanings).to_bytes()
    operations = [op for entry, values in added.items() for op in _files(shelf, entry, values)]
    if contents != raw:
        operations.append(CommitOperationAdd(CONTENTS, contents))
    if operations and CARD not in there:
        operations.append(CommitOperationAdd(CARD, model_card(list(added.values()), at.repo)))
    names = [f"{entry.name} {entry.version}" for entry in added]
    message = (
        f"Register {', '.join(names) if len(names) < 4 else f'{len(names)} versions'}" if names else "Move aliases"
    )
    done = Transfer(
        place=str(at),
        added=tuple(f"local/{entry.name}@{entry.version}" for entry in added),
        unchanged=tuple(f"local/{entry.name}@{entry.version}" for entry in mine.entries if entry not in added),
        aliases=meanings,
        moved=moved,
    )
    return _Plan(operations, message, done)


def _there(api: HfApi, at: Place, paths: list[str]) -> set[str]:
    """Which of these files and folders there are."""
    found: set[str] = set()
    for begin in range(0, len(paths), _ASKED_AT_ONCE):
        some = paths[begin : begin + _ASKED_AT_ONCE]
        found |= {info.path for info in api.get_paths_info(at.repo, some, revision=at.revision)}
    return found


def _check_same(export: HubExport, entry: Entry, mine: VersionRecord) -> None:
    """Refuse to push over a version of other content. The same, registered elsewhere or later, is the same."""
    where = f"{entry.folder}/{RECORD}"
    theirs = parse_record(export.read(where, MAX_RECORD), entry, f"{export.label}/{where}").record
    if filing.content_of(theirs) != filing.content_of(mine):
        raise ZooError(
            f"{export.label} has {theirs.name} {theirs.version} already, and nothing registered is overwritten",
            asked=mine.ref,
            found=f"registered {theirs.created} by {theirs.author}, with other {filing.differing(theirs, mine)}",
            fix="register yours under another version, and push that",
        )


def _files(shelf: Shelf, entry: Entry, values: dict[str, Any]) -> list[CommitOperationAdd]:
    record = VersionRecord.from_dict(values)
    weights = CommitOperationAdd(f"{entry.folder}/{WEIGHTS}", shelf.sound_blob(record).path)
    if weights.upload_info.sha256.hex() != record.sha256:  # read once more, at the last moment
        raise DigestError(f"the weights of {record.ref} are damaged", asked=record.sha256)
    small = small_files(values, entry.folder)
    return [*(CommitOperationAdd(name, raw) for name, raw in small.items()), weights]


def _merged(
    theirs: Sequence[AliasMeaning], mine: Sequence[AliasMeaning], *, aliases: bool
) -> tuple[tuple[AliasMeaning, ...], tuple[str, ...]]:
    """The repository's aliases with ours: new ones are added, others move only when asked. Which moved."""
    kept = {(meaning.name, meaning.alias): meaning for meaning in theirs}
    moved = []
    for meaning in mine:
        before = kept.get((meaning.name, meaning.alias))
        if before is None or (aliases and before.version != meaning.version):
            kept[meaning.name, meaning.alias] = meaning
            moved.append(f"{meaning.name}@{meaning.alias}")
    return tuple(kept.values()), tuple(moved)


def _key(entry: Entry) -> tuple[str, bytes]:
    return entry.name, Version.parse(entry.version).precedence


def _status(error: BaseException | None) -> int | None:
    """The HTTP status behind an error, which the client may have wrapped."""
    while error is not None:
        if isinstance(error, errors.HfHubHTTPError):
            return int(error.response.status_code)
        error = error.__cause__
    return None


def _is_open(error: Exception) -> bool:
    """Whether the Hub may have done what was asked: its answer was lost, or comes from something in front of it."""
    status = _status(error)
    return status is None or status >= 500


def _said(error: Exception) -> str:
    said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    with suppress(AttributeError):
        said = str(error.server_message or said)  # type: ignore[attr-defined]  # only HTTP errors have it
    return said


def _unknown(place: Place, error: Exception) -> CheckpointError:
    """The error where a commit got no answer, and nobody says whether it is there."""
    return SourceError(
        f"it is not known whether the push to {place} arrived: {_said(error)}",
        asked=str(place),
        fix="the same command again: what is there already is not pushed twice, and nothing is overwritten",
    )


def _told(place: Place, error: Exception) -> CheckpointError:
    """A client's error in our words."""
    status, said = _status(error), _said(error)
    fix = "try again; what has arrived is not sent twice"
    if isinstance(error, errors.RevisionNotFoundError):
        why, fix = f"it has no branch {place.revision!r}", f"hf://{place.repo}"
    elif status == 401 or isinstance(error, errors.RepositoryNotFoundError):
        why, fix = "the Hub does not let you in, or not with this token", "hf auth login, or HF_TOKEN=… that may write"
    elif status == 403:
        why, fix = f"you may not write there ({said})", "hf auth login with a token that may write, or: hf://you/repo"
    elif status in _MOVED_ON:
        why = "others kept pushing at the same moment"
    elif isinstance(error, ValueError) and status is None:
        why, fix = f"the Hub does not take it: {said}", "hf://org/repo"
    else:
        why = f"HTTP {status}: {said}" if status else said
    so_far = " so far" if _is_open(error) else ""  # a commit may still be under way
    return SourceError(f"nothing was pushed to {place}{so_far}: {why}", asked=str(place), fix=fix)
