"""What the registry needs of the store: the weights of every version, which no collector may take."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from zoo.paths import home
from zoo.versions.ledger import FILE, Ledger


@contextmanager
def registered_blobs(root: str | None = None, *, hold: bool = True) -> Iterator[frozenset[str]]:
    """The digests of every registered version's weights. While it is open, nobody can register one.

    A registry that is not there has no versions, and is not made by asking.

    Args:
        root: the store's folder, by default `$ZOO_HOME`.
        hold: False for whoever removes nothing: it waits for nobody, holds nobody up and writes nothing.

    Raises:
        ZooError: the registry cannot be read or locked; what it needs is then unknown.
    """
    with ExitStack() as opened:
        digests: set[str] = set()
        for ledger in _ledgers(root or home()):
            connection = opened.enter_context(ledger.writing() if hold else ledger.reading())
            digests.update(row[0] for row in connection.execute("SELECT sha256 FROM blobs"))
        yield frozenset(digests)


def registered_versions(root: str | None = None) -> Mapping[str, tuple[str, ...]]:
    """`name@version` of every registered version, by the digest of its weights. Raises `ZooError`."""
    versions: dict[str, list[str]] = {}
    for ledger in _ledgers(root or home()):
        with ledger.reading() as connection:
            for digest, name, version in connection.execute("SELECT blob, name, version FROM versions ORDER BY id"):
                versions.setdefault(digest, []).append(f"{name}@{version}")
    return {digest: tuple(names) for digest, names in versions.items()}


def _ledgers(root: str) -> list[Ledger]:
    """The registries whose weights are in the store at `root`: the user's own, or one made at a path of its own."""
    folders = (os.path.join(root, "registry"), root)
    return [Ledger(folder) for folder in folders if os.path.exists(os.path.join(folder, FILE))]
