"""Disks of a few megabytes, filled or read-only; mounted in a namespace of their own, so that nobody need be root."""

from __future__ import annotations

import ctypes
import functools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from killing import Answer, ChildFailed, lived

_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x00020000
_READ_ONLY, _REMOUNT, _PRIVATE = 1, 32, 0x40000 | 0x4000  # of everything below, too
_DETACH = 2


@functools.cache
def unmountable() -> str:
    """Why no disk can be mounted here; empty where it can."""

    def mount(answer: Answer) -> None:
        enter_namespace()
        with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder), 1 << 20) as disk:
            (disk / "file").write_bytes(b"written")
            set_read_only(disk)
            try:
                (disk / "file").unlink()
            except OSError:
                answer("mounted")

    try:
        return "" if lived(mount) == ["mounted"] else "a mounted disk cannot be made read-only here"
    except (ChildFailed, OSError, AttributeError) as error:
        return f"no disk can be mounted here: {str(error).strip().splitlines()[-1]}"


def enter_namespace() -> None:
    """Let this process, which has one thread, mount what nobody else sees. Raises `OSError`."""
    user, group = os.getuid(), os.getgid()
    _checked(_libc().unshare(_NEW_USER | _NEW_MOUNTS), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _checked(_libc().mount(b"none", b"/", None, ctypes.c_ulong(_PRIVATE), None), "mount")


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """An empty disk of that many bytes, in place of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={size}".encode()
    _checked(_libc().mount(b"none", os.fsencode(folder), b"tmpfs", ctypes.c_ulong(0), options), "mount")
    try:
        yield folder
    finally:
        _checked(_libc().umount2(os.fsencode(folder), _DETACH), "umount")


def set_read_only(disk: Path) -> None:
    """From now on nothing can be written there, by nobody."""
    flags = ctypes.c_ulong(_READ_ONLY | _REMOUNT)
    _checked(_libc().mount(b"none", os.fsencode(disk), b"tmpfs", flags, None), "remount")


@contextmanager
def filled(disk: Path, free: int) -> Iterator[None]:
    """Within, only that many bytes are free, in whole pages."""
    filler = disk / ".filler"
    seen = os.statvfs(disk)
    with open(filler, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, seen.f_bavail * seen.f_bsize - free)
    try:
        yield
    finally:
        filler.unlink()


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
