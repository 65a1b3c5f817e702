"""One checkpoint's folder, complete or not there: written aside, synced, renamed once.

Aside is `.saving-…` in the run's folder. Its writer holds a lock on the folder itself, which the system lets go of
when the writer dies, however it dies: so what a dead writer left can be told from what a live one is writing.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import NamedTuple

from zoo.checkpoints.store import sync_folder
from zoo.checkpoints.training.folders import NAME, File, folder_name
from zoo.errors import CheckpointError

try:
    import fcntl
except ImportError:  # Windows: age alone tells
    fcntl = None  # type: ignore[assignment]  # asked for before every use

ASIDE, REMOVED = ".saving-", ".removed-"
SURELY_DEAD = 24 * 3600.0
"""Seconds without a change after which what is aside is nobody's, where the file system has no locks."""


class Aside(NamedTuple):
    """A folder that is being written, and its open descriptor, which holds the lock; -1 where there is none."""

    path: str
    descriptor: int


def make_run_folder(root: str) -> None:
    """Make the run's folder and those above it, for good. Raises `CheckpointError`."""
    if os.path.isdir(root):
        return
    missing = root
    if os.path.lexists(root):
        what = "a file" if os.path.exists(root) else "a link to nothing"
        raise CheckpointError(f"a run needs a folder; this is {what}", asked=root, fix='another place: path="…"')
    try:
        os.makedirs(root, exist_ok=True)
    except OSError as error:
        raise unwritable(root, error) from None
    while os.path.dirname(missing) != missing:
        missing = os.path.dirname(missing)
        sync_folder(missing)
        if os.path.ismount(missing):
            break


@contextmanager
def aside(root: str) -> Iterator[Aside]:
    """A fresh locked folder to write in. It is gone at the end, unless `commit` has given it a name.

    Raises:
        CheckpointError: it cannot be written; the folder and the reason are named.
    """
    try:
        made = _make(root)
    except OSError as error:
        raise unwritable(root, error) from None
    try:
        yield made
    except OSError as error:
        raise unwritable(root, error) from error
    finally:
        shutil.rmtree(made.path, ignore_errors=True)
        if made.descriptor >= 0:
            os.close(made.descriptor)


def commit(made: Aside, root: str, epoch: int, step: int | None) -> str:
    """Give what is aside the next free name of that epoch, at once and for good. Raises `OSError`."""
    sync_folder(made.path)
    attempt = 1
    while True:
        target = os.path.join(root, folder_name(epoch, step, attempt))
        if not os.path.lexists(target):
            try:
                os.rename(made.path, target)  # onto a filled folder of another writer this fails; it becomes the next
            except OSError:
                if not os.path.lexists(target):
                    raise
            else:
                sync_folder(root)
                return target
        attempt += 1


def write_file(folder: str, name: str, chunks: Iterable[memoryview | bytes]) -> File:
    """Write and sync one file, hashed on the way. Raises `OSError`."""
    digest, size = hashlib.sha256(), 0
    # One thread hashes a piece while this one writes it.
    with open(os.path.join(folder, name), "xb", buffering=0) as file, ThreadPoolExecutor(1) as hasher:
        for chunk in chunks:
            hashing = _hashing(hasher, digest.update, chunk)
            rest = memoryview(chunk)
            while rest:  # an unbuffered write may stop early
                rest = rest[file.write(rest) :]
            if hashing is not None:
                hashing.result()
            size += len(chunk)
        os.fsync(file.fileno())
    return File(digest.hexdigest(), size)


def clean(root: str) -> None:
    """Remove what dead writers left aside, and what was on its way out. A live writer's is never touched."""
    with suppress(OSError):
        for name in os.listdir(root):
            path = os.path.join(root, name)
            if name.startswith(REMOVED) and NAME.fullmatch(name.removeprefix(REMOVED).partition("~")[0]):
                shutil.rmtree(path, ignore_errors=True)
            elif name.startswith(ASIDE):
                _remove_if_dead(path)


def put_away(path: str) -> None:
    """Remove a checkpoint: out of sight by one rename, then file by file. Raises `OSError`."""
    root, name = os.path.split(path)
    away = os.path.join(root, f"{REMOVED}{name}~{secrets.token_hex(4)}")
    os.rename(path, away)
    sync_folder(root)
    shutil.rmtree(away, ignore_errors=True)


def unwritable(root: str, error: OSError) -> CheckpointError:
    """The error for a run's folder that cannot be written."""
    return CheckpointError(
        f"the checkpoint cannot be written: {error.strerror or error}",
        asked=root,
        fix='free some space, or choose another folder: path="…"',
    )


def _hashing(
    hasher: ThreadPoolExecutor, update: Callable[[memoryview | bytes], None], chunk: memoryview | bytes
) -> Future[None] | None:
    try:
        return hasher.submit(update, chunk)
    except RuntimeError:  # the program is at its end: what it saved last is still written, in this thread alone
        update(chunk)
        return None


def _make(root: str) -> Aside:
    while True:
        path = os.path.join(root, ASIDE + secrets.token_hex(8))
        os.mkdir(path)
        descriptor = _locked(path)
        if descriptor is not None:
            return Aside(path, descriptor)


def _locked(path: str) -> int | None:
    """The descriptor that holds the lock; -1 where folders cannot be locked; None if a cleaner was faster."""
    if fcntl is None:
        return -1
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(descriptor, path):
            return descriptor
    except BlockingIOError:
        pass
    except OSError:  # a file system without such locks
        os.close(descriptor)
        return -1
    os.close(descriptor)
    return None


def _remove_if_dead(path: str) -> None:
    try:
        if fcntl is None:
            raise OSError
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        if fcntl is None and _age(path) > SURELY_DEAD:
            shutil.rmtree(path, ignore_errors=True)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(descriptor, path):  # else it was given its name meanwhile
            shutil.rmtree(path, ignore_errors=True)
    except BlockingIOError:
        pass
    except OSError:  # a file system without such locks
        if _age(path) > SURELY_DEAD:
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: str) -> bool:
    with suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    return False


def _age(path: str) -> float:
    """Seconds since anything in the folder changed."""
    try:
        newest = max(os.lstat(p).st_mtime for p in [path, *(os.path.join(path, n) for n in os.listdir(path))])
    except OSError:
        return 0.0
    return time.time() - newest
