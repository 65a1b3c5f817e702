"""Forked processes that are killed: before the k-th change they make to the disk, for every k, or after a while.

A kill leaves what was written. A power cut is worse: what was not synced is gone. It is played by emptying, after the
kill, every file whose bytes were never synced, and by undoing every rename whose folder was not.
"""

from __future__ import annotations

import functools
import gc
import os
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch
from syscalls import Change, change_of, install_filter, ptrace, stopped_at, supported, write_half

Answer = Callable[[Any], None]
"""Given to a child: what it says reaches us even if the very next thing is its death."""

_SEIZE, _CONT, _EVENT_SECCOMP = 0x4206, 7, 7
_OPTIONS = 0x8 | 0x80 | 0x100000  # stop at clone and at what the filter names; die with the tracer
_WALL = 0x40000000  # wait for threads too


class Life(NamedTuple):
    """What a child did before its end.

    said: its answers, in order. killed: whether it died of SIGKILL. changes: those it made; of a killed one the last
    was not carried out.
    """

    said: list[Any]
    killed: bool
    changes: list[Change]


class End(NamedTuple):
    """How a child is to die. at: before that change, from 0. torn: but half of it is done, where it is a write.
    power_cut: and what was not synced is lost."""

    at: int
    torn: bool = False
    power_cut: bool = False


class ChildFailed(AssertionError):
    """The child raised; its traceback is the message."""


@functools.cache
def untraceable() -> str:
    """Why children cannot be stopped at their system calls here; empty where they can."""
    if not supported():
        return "counting system calls needs Linux on x86-64 or 64-bit ARM"
    with tempfile.TemporaryDirectory() as folder:
        try:
            life = traced(lambda answer: os.mkdir(os.path.join(folder, "made")), folder)
        except (OSError, ChildFailed) as error:
            return f"ptrace and seccomp are not allowed here: {error}"
    return "" if [change.path for change in life.changes] == ["made"] else "ptrace does not report here"


def lived(act: Callable[[Answer], None]) -> list[Any]:
    """Run `act(answer)` in a forked child to its end; what it said.

    Raises:
        ChildFailed: it raised.
    """
    process, out = _forked(act, None)
    try:
        return _received(out)
    finally:
        os.waitpid(process, 0)


def killed_after(act: Callable[[Answer], None], seconds: float) -> Life:
    """Run `act(answer)` in a forked child and kill it after a while, counted from its first answer."""
    process, out = _forked(act, None)
    said = [out.recv()]
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    try:
        said += _received(out)
    finally:
        _, status = os.waitpid(process, 0)
    return Life(said, os.WIFSIGNALED(status), [])


def traced(act: Callable[[Answer], None], root: str, end: End | None = None) -> Life:
    """Run `act(answer)` in a forked child and follow what it changes below `root`.

    Raises:
        ChildFailed: it raised. OSError: it cannot be traced.
    """
    root = os.path.realpath(root)
    gate, opened = os.pipe()
    process, out = _forked(act, gate)
    os.close(gate)
    power = _Power(root) if end and end.power_cut else None
    changes: list[Change] = []
    try:
        ptrace(_SEIZE, process, _OPTIONS)
        os.write(opened, b"x")
        status = _followed(process, root, changes, end, power)
    except BaseException:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, _WALL)
        raise
    finally:
        os.close(opened)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if power:
        power.cut(changes[:-1] if killed else changes)
    return Life(_received(out), killed, changes)


def unsynced(changes: Sequence[Change]) -> list[str]:
    """Files that these changes made and wrote, and whose bytes were not synced since, by the names they have now."""
    made: set[str] = set()
    dirty: set[str] = set()
    for change in changes:
        if change.name in ("open", "openat", "creat"):
            made.add(change.path)
        elif change.name in ("fsync", "fdatasync", "unlink", "unlinkat"):
            dirty.discard(change.path)
        elif change.name.startswith("rename") and change.target:
            made, dirty = ({_moved(path, change) for path in paths} for paths in (made, dirty))
        elif change.path in made and change.name not in ("fchmod", "chmod", "fchmodat", "link", "linkat"):
            dirty.add(change.path)
    return sorted(dirty)


def unsynced_renames(changes: Sequence[Change]) -> list[int]:
    """The numbers of the renames after which the folder was not synced."""
    pending: dict[int, str] = {}
    for number, change in enumerate(changes):
        if change.name.startswith("rename") and change.target:
            pending[number] = os.path.dirname(change.target)
        elif change.name == "fsync":
            pending = {n: folder for n, folder in pending.items() if folder != change.path}
    return sorted(pending)


# inside


class _Power:
    """What is needed to play a power cut: what renames replaced is kept until then."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.kept = tempfile.mkdtemp(dir=os.path.dirname(root))

    def before(self, number: int, change: Change) -> None:
        """Keep what that change is about to replace."""
        if change.name.startswith("rename") and change.target and not change.made:
            there = os.path.join(self.root, change.target)
            if os.path.isfile(there):
                os.link(there, os.path.join(self.kept, str(number)))

    def cut(self, changes: Sequence[Change]) -> None:
        """Lose what was not synced."""
        for path in unsynced(changes):
            lost = os.path.join(self.root, path)
            if os.path.isfile(lost):
                os.chmod(lost, 0o644)
                os.truncate(lost, 0)
        for number in reversed(unsynced_renames(changes)):
            change, kept = changes[number], os.path.join(self.kept, str(number))
            path, target = (os.path.join(self.root, name) for name in (change.path, change.target))
            if os.path.lexists(target) and os.path.isdir(os.path.dirname(path)) and not os.path.lexists(path):
                os.rename(target, path)
                if os.path.exists(kept):
                    os.rename(kept, target)
        shutil.rmtree(self.kept)


def _moved(path: str, change: Change) -> str:
    inside = path == change.path or path.startswith(change.path + os.sep)
    return change.target + path[len(change.path) :] if inside else path


def _forked(act: Callable[[Answer], None], gate: int | None) -> tuple[int, Connection]:
    out, answers = Pipe(duplex=False)
    gc.freeze()  # what is here now is nothing to look at: a child's collections would copy every page of it
    process = os.fork()
    if process:
        gc.unfreeze()
        answers.close()
        os.setpgid(process, process)
        return process, out
    status = 1
    try:
        out.close()
        torch.set_num_threads(1)
        if gate is not None:
            os.read(gate, 1)
            install_filter()
        act(answers.send)
        status = 0
    except BaseException:
        answers.send(ChildFailed(traceback.format_exc()))
    finally:
        os._exit(status)


def _received(out: Connection) -> list[Any]:
    said = []
    with out:
        while True:
            try:
                said.append(out.recv())
            except EOFError:
                return said
            if isinstance(said[-1], ChildFailed):
                raise said[-1]


def _followed(process: int, root: str, changes: list[Change], end: End | None, power: _Power | None) -> int:
    """Let the child run from change to change, to its end; its exit status."""
    while True:
        thread, status = os.waitpid(-process, _WALL)  # its group: its threads too, and nobody else's children
        if not os.WIFSTOPPED(status):
            if thread == process:
                return status
            continue
        event, passed_on = status >> 16, 0
        if event == _EVENT_SECCOMP:
            name, arguments = stopped_at(thread)
            change = change_of(thread, name, arguments, root)
            if change is not None:
                changes.append(change)
                if end and len(changes) - 1 == end.at:
                    if end.torn and name in ("write", "pwrite64"):
                        write_half(thread, name, arguments)
                    os.kill(process, signal.SIGKILL)
                    continue
                if power:
                    power.before(len(changes) - 1, change)
        elif not event:
            passed_on = os.WSTOPSIG(status)
        try:
            ptrace(_CONT, thread, passed_on)
        except ProcessLookupError:  # a thread that went with its process
            continue
