"""What `zoo predict` is given: files, folders, globs, URLs, and `-` for standard input, as one list of images."""

from __future__ import annotations

import glob
import os
import sys

from zoo.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2",
    ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico",
)  # fmt: skip
"""What a file in a folder must be called to be taken for an image. A file that is named is opened in any case."""
WEB = ("http://", "https://")


class Source:
    """One image to be looked at, or the reason why there is none.

    shown: what to call it. image: its path, URL or bytes. error: why it cannot be had.
    """

    __slots__ = ("error", "image", "shown")

    def __init__(self, shown: str, image: str | bytes = "", error: InputError | None = None) -> None:
        self.shown, self.image, self.error = shown, image, error

    @property
    def stem(self) -> str:
        """A file name for what is made from it, without suffix."""
        path = self.shown.split("?")[0].split("#")[0].rstrip("/")
        return os.path.splitext(os.path.basename(path))[0] or "image"


def expand(operands: Sequence[str], stdin: BinaryIO | None = None) -> tuple[list[Source], list[str]]:
    """Every image the operands name, in their order, and notes for the reader. What is not there becomes an error
    in its place, so that the others are still answered."""
    sources: list[Source] = []
    notes: list[str] = []
    for operand in operands:
        if operand == "-":
            sources += _from_stdin((stdin or sys.stdin.buffer).read(), notes)
        else:
            sources += _named(operand, notes, globs=True)
    return sources, notes


def _from_stdin(data: bytes, notes: list[str]) -> list[Source]:
    """Text is a list of paths, one a line; anything else is an image."""
    if not data.strip():
        return [Source("-", error=InputError("nothing came in on standard input", fix="zoo predict MODEL - < cat.jpg"))]
    text = None if b"\0" in data else _decoded(data)
    if text is None:
        return [Source("stdin", data)]
    lines = [line.rstrip("\r") for line in text.split("\n")]
    return [source for line in lines if line.strip() for source in _named(line, notes, globs=False)]


def _decoded(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _named(name: str, notes: list[str], *, globs: bool) -> list[Source]:
    if name.lower().startswith(WEB):
        return [Source(name, name)]
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        return _in_folder(path, notes)
    if os.path.exists(path):
        return [Source(name, path)]
    if globs and glob.has_magic(path):
        found = [p for p in sorted(glob.glob(path, recursive=True)) if _is_image(p)]
        if found:
            return [Source(p, p) for p in found]
        return [Source(name, error=InputError("no image matches this pattern", fix="quote it, and see `ls`"))]
    return [Source(name, error=InputError("no such file or folder"))]


def _in_folder(folder: str, notes: list[str]) -> list[Source]:
    with os.scandir(folder) as entries:
        inside = sorted(entries, key=lambda entry: entry.name)
    paths = [os.path.normpath(entry.path) for entry in inside]  # `cat.jpg`, not `./cat.jpg`
    images = [path for path in paths if _is_image(path)]
    deeper = sum(entry.is_dir() for entry in inside)
    if deeper:
        pattern = os.path.normpath(os.path.join(folder, "**"))
        notes.append(f"{folder} has {deeper} folder{'s' if deeper > 1 else ''} inside; '{pattern}' looks there too")
    if images:
        return [Source(path, path) for path in images]
    kinds = " ".join(SUFFIXES[:5])
    return [Source(folder, error=InputError("no image in this folder", found=f"no file that ends in {kinds} …"))]


def _is_image(path: str) -> bool:
    return path.lower().endswith(SUFFIXES) and os.path.isfile(path)
