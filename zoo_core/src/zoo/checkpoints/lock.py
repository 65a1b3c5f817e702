"""The lock file: which plugin, which record and which bytes every reference means. Data only: nothing heavy is needed.

    zoo.lock    {"zoo_lock": 1, "zoo_core": "0.1.0", "models": {"resnet50": {…}, "local/pets@production": {…}}}

It is written in one canonical form, so that two machines that mean the same write the same bytes, and read as the work
of a stranger: whatever does not stand in the form below is refused with its place in the file. `ZOO_LOCK=FILE` lets
every file that is opened be held to it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, NamedTuple
from urllib.parse import unquote

from zoo.checkpoints import strict_json
from zoo.checkpoints.store import Store, sync_folder
from zoo.errors import CheckpointError, LockError

LAYOUT = 1
DEFAULT = "zoo.lock"
VARIABLE = "ZOO_LOCK"
MAX_BYTES = 16 << 20
KINDS = ("model", "backbone", "neck", "head", "registered", "saved", "file")
"""What a reference leads to: a model or a part of the catalogue, a version of the user's registry, a folder of
`save_pretrained` here or on the Hub, or one weights file."""

_HEX = re.compile(r"[0-9a-f]{64}")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,30}://.+")
_LONGEST = 4096  # characters of a name or an address


class LockedFile(NamedTuple):
    """One file: its digest, its size in bytes (None where nobody said), and where it comes from, revisions pinned.

    Without sources it is in this machine's registry, or nowhere.
    """

    sha256: str
    size: int | None
    sources: tuple[str, ...]


class LockedModel(NamedTuple):
    """What one reference means.

    ref: canonical and pinned. kind: one of `KINDS`. distribution, version: of the plugin that builds it; empty where
    none does. spec: SHA-256 of everything that decides what is built; empty for a file alone. contract: the model's
    contract version, 0 outside the catalogue. license, code_license: of the weights and of the code, empty where there
    are none or nobody published them. plugins: (distribution, version) of what else the parts of a saved model need.
    """

    ref: str
    kind: str
    distribution: str = ""
    version: str = ""
    spec: str = ""
    contract: int = 0
    license: str = ""
    code_license: str = ""
    files: tuple[LockedFile, ...] = ()
    plugins: tuple[tuple[str, str], ...] = ()


class Lock(NamedTuple):
    """A whole lock file: what each reference, as its user writes it, means; and the core it was written by."""

    models: Mapping[str, LockedModel] = {}
    zoo_core: str = ""


class Difference(NamedTuple):
    """What is not as it is locked. before, after: as locked, and as it is; None for nothing."""

    ref: str
    what: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        return f"{self.ref}: {self.what} {self.before or 'none'} -> {self.after or 'none'}"


# text


def dump(lock: Lock) -> str:
    """The canonical text: sorted, one value a line, no time stamps."""
    models = {ref: _plain(model) for ref, model in lock.models.items()}
    record = {"zoo_lock": LAYOUT, "zoo_core": lock.zoo_core, "models": models}
    return json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


def parse(data: bytes, where: str = DEFAULT) -> Lock:
    """The lock a file holds. Raises `LockError` with the place of whatever does not belong there."""
    try:
        record = strict_json.loads(data, MAX_BYTES)
    except ValueError as error:
        raise _spoilt(where, f"not JSON that can be read: {error}") from None
    layout = record.get("zoo_lock") if isinstance(record, dict) else None
    if type(layout) is int and layout > LAYOUT:
        raise LockError(f"{where} was written by a newer zoo", found=f"layout {layout}", fix="pip install -U zoo-core")
    if type(layout) is not int or layout != LAYOUT:
        raise _spoilt(where, "it is no zoo.lock: `zoo_lock` is not the number of a layout")
    try:
        return _lock(record)
    except _Fault as fault:
        raise _spoilt(where, str(fault)) from None


def compare(before: Lock, after: Lock) -> list[Difference]:
    """Everything in which two locks differ, in order."""
    cores = before.zoo_core, after.zoo_core
    found = [] if cores[0] == cores[1] else [Difference("zoo-core", "version", *cores)]
    for ref in sorted({*before.models, *after.models}):
        found += differences(ref, before.models.get(ref), after.models.get(ref))
    return found


def differences(ref: str, before: LockedModel | None, after: LockedModel | None) -> list[Difference]:
    """Everything in which two meanings of a reference differ."""
    if before is None or after is None:
        return [Difference(ref, "meaning", before and before.ref, after and after.ref)] if before or after else []
    names = {"ref": "meaning", "version": "plugin version", "license": "weights licence", "code_license": "licence"}
    found = [
        Difference(ref, names.get(name, name), str(one), str(other))
        for name, one, other in zip(LockedModel._fields, before, after, strict=True)
        if name not in ("files", "plugins") and one != other
    ]
    if before.plugins != after.plugins:
        shown = (", ".join(map(" ".join, model.plugins)) for model in (before, after))
        found.append(Difference(ref, "plugins of its parts", *shown))
    if len(before.files) != len(after.files):
        found.append(Difference(ref, "number of files", str(len(before.files)), str(len(after.files))))
    for one, other in zip(before.files, after.files, strict=False):
        fields = ("sha256", "size", "sources")
        for what, old, new in zip(fields, one, other, strict=True):
            if old != new:
                found.append(Difference(ref, what, _shown(old), _shown(new)))
    return found


# files


def chosen_path(given: str | None = None) -> str:
    """The lock file a command means: the one given, that of `ZOO_LOCK`, or `zoo.lock` here."""
    return given or os.environ.get(VARIABLE) or DEFAULT


def read(path: str) -> Lock:
    """Raises `LockError`: it is not there, cannot be read, or is no lock file."""
    try:
        with open(path, "rb") as file:
            return parse(file.read(MAX_BYTES + 1), path)
    except FileNotFoundError:
        raise LockError(
            f"there is no lock file {path}", asked=os.path.abspath(path), fix=f"zoo lock REF… -o {path}"
        ) from None
    except (OSError, ValueError) as error:
        raise LockError(f"{path} cannot be read: {error}", fix=f"zoo lock REF… -o {DEFAULT}") from None


def write(path: str, lock: Lock) -> bool:
    """Put a lock in place of the file, whole or not at all; tells whether that changed it. Raises `LockError`."""
    data = dump(lock).encode("utf-8")
    parse(data, path)  # what could not be read again is not written
    target = os.path.realpath(path)
    temp = f"{target}.{secrets.token_hex(6)}.tmp"
    try:
        if os.path.exists(target):
            with open(target, "rb") as file:
                if file.read(MAX_BYTES + 1) == data:
                    return False
        try:
            with open(temp, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temp, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temp)
            raise
        sync_folder(os.path.dirname(target))
        return True
    except OSError as error:
        raise LockError(
            f"the lock cannot be written: {error.strerror or error}", asked=path, fix=f"-o another/{DEFAULT}"
        ) from None


def update(path: str, change: Callable[[Lock], Lock]) -> tuple[Lock, Lock, bool]:
    """Change the lock as it is now, one process at a time. Gives it before and after, and whether the file has changed.

    Raises `LockError`.
    """
    with _alone(os.path.dirname(os.path.realpath(path))):
        before = read(path) if os.path.lexists(path) else Lock()
        after = change(before)
        return before, after, write(path, after)


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    """Within, no other process of this machine is; where folders cannot be locked, as anybody else."""
    descriptor = None
    with suppress(OSError, ImportError):
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


# the lock in force


class _InForce(NamedTuple):
    """The lock of `ZOO_LOCK`, its path and stamp, and its files by source."""

    path: str
    stamp: tuple[int, ...]
    lock: Lock
    files: Mapping[str, LockedFile]


_current: _InForce | None = None
_set_aside: ContextVar[bool] = ContextVar("set_aside", default=False)


@contextmanager
def set_aside() -> Iterator[None]:
    """Within, `ZOO_LOCK` is not in force: for what writes a lock, or follows another."""
    token = _set_aside.set(True)
    try:
        yield
    finally:
        _set_aside.reset(token)


def in_force() -> Lock | None:
    """The lock that `ZOO_LOCK` names; None where it names none. Raises `LockError` for one that cannot be read."""
    path = os.environ.get(VARIABLE)
    if not path or _set_aside.get():
        return None
    return _loaded(path).lock


def held(sources: Sequence[str], sha256: str | None, size: int | None) -> tuple[str | None, int | None]:
    """The digest and size a file must have: those of the lock in force where it knows one of the sources.

    Raises `LockError`: another digest is promised than the locked one.
    """
    path = os.environ.get(VARIABLE)
    if not path or _set_aside.get():
        return sha256, size
    files = _loaded(path).files
    locked = next((files[source] for source in sources if source in files), None)
    if locked is None:
        return sha256, size
    if sha256 and sha256.lower() != locked.sha256:
        raise LockError(
            f"{sources[0]} is locked to other bytes ({path})",
            asked=f"sha256 {locked.sha256}",
            found=f"sha256 {sha256}",
            fix=f"zoo lock --check {path}, and zoo lock to accept what changed",
        )
    return locked.sha256, locked.size if locked.size is not None else size


def _loaded(path: str) -> _InForce:
    global _current
    try:
        seen = os.stat(path)
        stamp: tuple[int, ...] = (seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)
    except OSError:
        stamp = ()
    now, path = _current, os.path.abspath(path)
    if now is None or not stamp or (now.path, now.stamp) != (path, stamp):
        lock = read(path)
        files = {source: file for model in lock.models.values() for file in model.files for source in file.sources}
        _current = now = _InForce(path, stamp, lock, files)
        with suppress(CheckpointError):  # a store that cannot be written collects nothing either
            Store().note_lock(path)
    return now


# inside


class _Fault(Exception):
    """What is wrong with a lock file, with its place."""


def _plain(model: LockedModel) -> dict[str, Any]:
    files = [{**file._asdict(), "sources": list(file.sources)} for file in model.files]
    plain = {**model._asdict(), "files": files, "plugins": dict(model.plugins)}
    return plain if model.plugins else {name: value for name, value in plain.items() if name != "plugins"}


def _lock(record: Any) -> Lock:
    _fields(record, ("zoo_lock", "zoo_core", "models"), "the file")
    if not isinstance(record["models"], dict):
        raise _Fault("`models` is no object")
    models = {_text(ref, f"the reference {ref[:60]!r}"): _model(value, ref) for ref, value in record["models"].items()}
    promised: dict[str, str] = {}
    for ref, model in models.items():
        for file in model.files:
            for source in file.sources:
                if promised.setdefault(source, file.sha256) != file.sha256:
                    raise _Fault(f"{ref}: the source {source} has two digests")
    return Lock(models, _text(record["zoo_core"], "zoo_core", empty=True))


def _model(value: Any, ref: str) -> LockedModel:
    where = f"models[{ref[:60]!r}]"
    value = {"plugins": {}, **value} if isinstance(value, dict) else value
    _fields(value, LockedModel._fields, where)
    if not isinstance(value["plugins"], dict):
        raise _Fault(f"{where}.plugins is no object")
    plugins = {_text(name, f"{where}.plugins"): _text(v, f"{where}.plugins") for name, v in value["plugins"].items()}
    if not isinstance(value["files"], list):
        raise _Fault(f"{where}.files is no list")
    files = tuple(_file(item, f"{where}.files[{i}]") for i, item in enumerate(value["files"]))
    words = {
        name: _text(value[name], f"{where}.{name}", empty=name not in ("ref", "kind"))
        for name in LockedModel._fields
        if name not in ("contract", "files", "plugins")
    }
    if words["kind"] not in KINDS:
        raise _Fault(f"{where}.kind is none of {', '.join(KINDS)}")
    if words["spec"] and not _HEX.fullmatch(words["spec"]):
        raise _Fault(f"{where}.spec is no SHA-256")
    contract = _count(value["contract"], f"{where}.contract")
    return LockedModel(contract=contract, files=files, plugins=tuple(sorted(plugins.items())), **words)


def _file(value: Any, where: str) -> LockedFile:
    _fields(value, LockedFile._fields, where)
    sha256, size, sources = value["sha256"], value["size"], value["sources"]
    if not isinstance(sha256, str) or not _HEX.fullmatch(sha256):
        raise _Fault(f"{where}.sha256 is no SHA-256")
    if not isinstance(sources, list):
        raise _Fault(f"{where}.sources is no list")
    size = None if size is None else _count(size, f"{where}.size")
    return LockedFile(sha256, size, tuple(_source(source, f"{where}.sources") for source in sources))


def _source(value: Any, where: str) -> str:
    source = _text(value, where)
    if not _SCHEME.fullmatch(source):
        raise _Fault(f"{where}: {source[:80]!r} is no address")
    if ".." in re.split(r"[/\\]", unquote(source)):
        raise _Fault(f"{where}: {source[:80]!r} climbs out of its folder")
    return source


def _fields(value: Any, names: Sequence[str], where: str) -> None:
    if not isinstance(value, dict):
        raise _Fault(f"{where} is no object")
    odd = sorted(value.keys() ^ set(names))
    if odd:
        raise _Fault(f"{where} {'has an unknown' if odd[0] in value else 'lacks its'} `{odd[0][:60]}`")


def _text(value: Any, where: str, *, empty: bool = False) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > _LONGEST or not (value or empty):
        raise _Fault(f"{where} is no plain text of {'0' if empty else '1'} to {_LONGEST} characters")
    return value


def _count(value: Any, where: str) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise _Fault(f"{where} is no whole number from 0")
    return value


def _shown(value: Any) -> str | None:
    return ", ".join(value) if isinstance(value, tuple) else None if value is None else str(value)


def _spoilt(where: str, why: str) -> LockError:
    return LockError(
        f"{where} is not a lock file that zoo lock wrote: {why}",
        fix=f"restore it from version control, or write it anew: rm {where}, then zoo lock REF… -o {where}",
    )
