"""A stream of bytes onto the disk, hashed on the way, as fast as the machine hashes."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

PIECE = 1 << 20
"""Bytes that are hashed and written at a time: both find them in the processor's cache."""

AHEAD = 8
"""As many pieces may be written before they are hashed."""

SYNC_EVERY = 32 << 20
"""Bytes after which the disk begins to write what has arrived so far, so that little is left to wait for in the end."""

_sync = getattr(os, "fdatasync", os.fsync)


def receive(path: str, chunks: Iterable[bytes | memoryview]) -> tuple[str, int]:
    """Write a new read-only file, synced to the disk; gives its SHA-256 and its bytes.

    One thread hashes and one has the disk write while this one copies into the file and waits for the next chunk. What
    iterating raises passes through; `OSError` otherwise. The file is left as it is then.
    """
    digest, size, unsynced = hashlib.sha256(), 0, 0
    hashing: deque[Future[None]] = deque()
    syncing: Future[Any] | None = None
    with open(path, "xb", buffering=0) as file, ThreadPoolExecutor(1) as hasher, ThreadPoolExecutor(1) as syncer:
        for pieces in _batches(chunks):
            if len(hashing) == AHEAD:
                hashing.popleft().result()
            hashing.append(hasher.submit(_update, digest, pieces))
            for piece in pieces:
                write_all(file, piece)
            length = sum(map(len, pieces))
            size, unsynced = size + length, unsynced + length
            if unsynced >= SYNC_EVERY and (syncing is None or syncing.done()):
                if syncing is not None:
                    syncing.result()
                syncing, unsynced = syncer.submit(_sync, file.fileno()), 0
        for future in (*hashing, *filter(None, [syncing])):
            future.result()
        # Through the open file where the system can: a collector may have taken the name meanwhile.
        os.chmod(file.fileno() if os.chmod in os.supports_fd else path, 0o444)
        os.fsync(file.fileno())
    return digest.hexdigest(), size


def write_all(file: Any, chunk: bytes | memoryview) -> None:
    """Write every byte: an unbuffered write may stop early. Raises `OSError`."""
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) :]


def _batches(chunks: Iterable[bytes | memoryview]) -> Iterator[list[memoryview]]:
    """About `PIECE` bytes at a time: large chunks cut, small ones together, none copied."""
    batch: list[memoryview] = []
    length = 0
    for chunk in chunks:
        whole = memoryview(chunk)
        for begin in range(0, len(whole), PIECE):
            batch.append(whole[begin : begin + PIECE])
            length += len(batch[-1])
            if length >= PIECE:
                yield batch
                batch, length = [], 0
    if batch:
        yield batch


def _update(digest: Any, pieces: list[memoryview]) -> None:
    for piece in pieces:
        digest.update(piece)
