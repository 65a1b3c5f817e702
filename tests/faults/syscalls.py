"""The system calls that change files: the kernel stops a process before each of them, and they are read as changes.

A seccomp filter names the calls and ptrace reports them, whoever makes them: Python, SQLite or torch.
Linux on x86-64 or 64-bit ARM.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import struct
from typing import NamedTuple

_NUMBERS = {  # on x86-64 and on 64-bit ARM, where the older ones are missing
    "open": (2, None), "openat": (257, 56), "creat": (85, None), "write": (1, 64), "pwrite64": (18, 68),
    "writev": (20, 66), "pwritev": (296, 70), "sendfile": (40, 71), "copy_file_range": (326, 285),
    "fallocate": (285, 47), "truncate": (76, 45), "ftruncate": (77, 46), "fsync": (74, 82), "fdatasync": (75, 83),
    "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276), "link": (86, None), "linkat": (265, 37),
    "symlink": (88, None), "symlinkat": (266, 36), "unlink": (87, None), "unlinkat": (263, 35), "rmdir": (84, None),
    "mkdir": (83, None), "mkdirat": (258, 34), "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53),
}  # fmt: skip
_OF_DESCRIPTOR = {
    **dict.fromkeys(("write", "pwrite64", "writev", "pwritev", "fallocate", "ftruncate"), 0),
    **dict.fromkeys(("fsync", "fdatasync", "fchmod", "sendfile"), 0),
    "copy_file_range": 2,
}
_PLACES = {  # of the paths among the arguments; those of the `…at` calls follow the descriptor of a folder
    **dict.fromkeys(("open", "creat", "truncate", "unlink", "rmdir", "mkdir", "chmod"), (0,)),
    **dict.fromkeys(("openat", "unlinkat", "mkdirat", "fchmodat", "symlink"), (1,)),
    **dict.fromkeys(("rename", "link"), (0, 1)),
    **dict.fromkeys(("renameat", "renameat2", "linkat"), (1, 3)),
    "symlinkat": (2,),
}
_SYSCALL_INFO = 0x420E


class Change(NamedTuple):
    """A system call that changes something below the watched folder.

    path: below that folder; empty for the folder itself. target: of a rename or link the new path. made: whether an
    `open` makes or empties a file, or a rename or link puts a name where none was.
    """

    name: str
    path: str
    target: str = ""
    made: bool = False

    def __str__(self) -> str:
        parts = (self.target or self.path).split(os.sep)
        return f"{self.name} {os.sep.join('*' if _is_random(part) else part for part in parts)}"


def _is_random(part: str) -> bool:
    """Whether a part of a path is a digest, the beginning of one, or has a random suffix."""
    return len(part) >= 20 or len(part) == 2


def install_filter() -> None:
    """Let the kernel stop this process at those calls, and at no others. Raises `OSError`."""

    def instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
        return struct.pack("<HBBI", code, if_true, if_false, value)

    program = instruction(0x20, 0, 0, 0)  # load the call's number
    for number in _names():
        program += instruction(0x15, 0, 1, number) + instruction(0x06, 0, 0, 0x7FF00000)  # equal: stop
    program += instruction(0x06, 0, 0, 0x7FFF0000)  # go on
    code = ctypes.create_string_buffer(program, len(program))
    head = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    nothing = [ctypes.c_ulong(0)] * 2
    no_new_privileges = libc.prctl(38, ctypes.c_ulong(1), *nothing, ctypes.c_ulong(0))
    if no_new_privileges or libc.prctl(22, ctypes.c_ulong(2), ctypes.c_ulong(ctypes.addressof(head)), *nothing):
        raise OSError(ctypes.get_errno(), "seccomp filters are not allowed")


def ptrace(request: int, process: int, data: int, address: int = 0) -> None:
    """The system call. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.restype = ctypes.c_long
    if libc.ptrace(request, process, ctypes.c_void_p(address), ctypes.c_void_p(data)) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def stopped_at(thread: int) -> tuple[str, tuple[int, ...]]:
    """The call before which the filter has stopped a thread, and its arguments."""
    info = ctypes.create_string_buffer(88)
    ptrace(_SYSCALL_INFO, thread, ctypes.addressof(info), len(info))
    number, *arguments = struct.unpack_from("<7Q", info.raw, 24)
    return _names()[number], tuple(arguments)


def change_of(thread: int, name: str, arguments: tuple[int, ...], root: str) -> Change | None:
    """The call as a change below a folder; None where it changes nothing there."""
    try:
        if name in _OF_DESCRIPTOR:
            paths = [os.readlink(f"/proc/{thread}/fd/{arguments[_OF_DESCRIPTOR[name]]}")]
        else:
            paths = [_path_in(thread, arguments, place, name) for place in _PLACES[name]]
    except OSError:
        return None  # the call is about to fail too
    made = len(paths) == 2 and not os.path.lexists(paths[1])
    if name in ("open", "openat", "creat"):
        flags = os.O_CREAT | os.O_TRUNC if name == "creat" else arguments[1 + (name == "openat")]
        made = bool(flags & os.O_TRUNC or (flags & os.O_CREAT and not os.path.exists(paths[0])))
        if not made:
            return None
    inside = [path[len(root) + 1 :] for path in paths if (path + os.sep).startswith(root + os.sep)]
    return Change(name, inside[0], inside[1] if len(inside) == 2 else "", made) if inside else None


def write_half(thread: int, name: str, arguments: tuple[int, ...]) -> None:
    """Carry out the first half of the write before which a thread has stopped."""
    descriptor, address, size = arguments[:3]
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        half = memory.read(size // 2)
    with open(f"/proc/{thread}/fdinfo/{descriptor}") as file:
        place = arguments[3] if name == "pwrite64" else int(file.readline().split()[1])
    target = os.open(f"/proc/{thread}/fd/{descriptor}", os.O_WRONLY)
    try:
        os.pwrite(target, half, place)
    finally:
        os.close(target)


def supported() -> bool:
    """Whether the numbers above are those of this machine."""
    return platform.system() == "Linux" and platform.machine() in ("x86_64", "aarch64")


def _path_in(thread: int, arguments: tuple[int, ...], place: int, name: str) -> str:
    """The path in an argument, made absolute."""
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
        memory.seek(arguments[place])
        text = os.fsdecode(memory.read(4096 - arguments[place] % 4096).partition(b"\0")[0])
    folder = -100  # the working directory
    if "at" in name and name not in ("creat", "truncate"):
        folder = ctypes.c_int(arguments[place - 1]).value
    if not os.path.isabs(text):
        start = os.readlink(f"/proc/{thread}/cwd" if folder == -100 else f"/proc/{thread}/fd/{folder}")
        text = os.path.normpath(os.path.join(start, text))
    return os.path.join(os.path.realpath(os.path.dirname(text)), os.path.basename(text))


@functools.cache
def _names() -> dict[int, str]:
    column = 0 if platform.machine() == "x86_64" else 1
    return {numbers[column]: name for name, numbers in _NUMBERS.items() if numbers[column] is not None}
