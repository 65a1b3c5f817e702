"""When a blob may leave the store: the note of its last use, and the trash that it can still come back from.

A collector renames a blob into the trash, then looks at the note; whoever asks for a blob writes the note, then looks
for the blob, in the trash too. So of a collector and a reader at the same moment at least one sees the other, and no
lock is needed. Both work by single renames, links and unlinks, so that a kill between two of them loses nothing.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress

USE_NOTED_EVERY = 3600.0
"""Seconds within which a further use of a blob is not noted."""


class Uses:
    """When blobs were last asked for: an empty file each, whose time it is.

    Not the blob's own time: that is part of its stamp, and a blob whose stamp has changed is hashed again.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def last(self, sha256: str, stored: float) -> float:
        """Of a blob that was stored then; to within `USE_NOTED_EVERY`, in seconds since 1970."""
        try:
            return max(stored, os.stat(os.path.join(self.folder, sha256)).st_mtime)
        except OSError:
            return stored

    def note(self, sha256: str, stored: float) -> bool:
        """Note a use now, unless one within `USE_NOTED_EVERY` is noted; whether that was needed."""
        now = time.time()
        if 0 <= now - stored < USE_NOTED_EVERY or 0 <= now - self.last(sha256, 0.0) < USE_NOTED_EVERY:
            return False
        path = os.path.join(self.folder, sha256)
        with suppress(OSError):  # a store that cannot be written is not collected either
            try:
                os.utime(path)
            except FileNotFoundError:
                os.makedirs(self.folder, exist_ok=True)
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
                os.utime(path)
        return True


class Trash:
    """Blobs on their way out, under their digest and a random suffix."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def throw(self, path: str) -> str:
        """Move a blob in; gives its new path. Raises `OSError`."""
        trash = os.path.join(self.folder, f"{os.path.basename(path).partition('.')[0]}.{secrets.token_hex(8)}")
        try:
            os.rename(path, trash)
        except FileNotFoundError:  # the trash itself, most likely
            os.makedirs(self.folder, exist_ok=True)
            os.rename(path, trash)
        return trash

    def tidy(self) -> None:
        """Remove the folder if it is empty: it is looked into wherever a blob is not found."""
        with suppress(OSError):
            os.rmdir(self.folder)

    def of(self, sha256: str) -> Iterator[str]:
        """Where blobs of that digest lie in it."""
        with suppress(OSError):
            for name in os.listdir(self.folder):
                if name.startswith(sha256):
                    yield os.path.join(self.folder, name)

    def bring_back(self, trash: str, path: str) -> None:
        """Give a blob its name again, unless it has been stored anew."""
        try:
            os.link(trash, path)  # unlike a rename it never replaces
        except FileExistsError:
            pass
        except OSError:  # gone, or a file system without links
            if not os.path.exists(path):
                with suppress(OSError):
                    os.rename(trash, path)
                return
        with suppress(OSError):
            os.unlink(trash)
