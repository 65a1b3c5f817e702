"""What is missing on a machine without network, and how it gets there. Needs no torch."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from zoo.checkpoints.delivery import MissingFile
from zoo.checkpoints.opening import FileFact
from zoo.checkpoints.sources import file_name, stored
from zoo.checkpoints.store import Store
from zoo.errors import CheckpointError, OfflineError


def missing_files(facts: Iterable[FileFact], store: Store | None = None) -> tuple[MissingFile, ...]:
    """Those of a model's files that this machine has not. Asks no network."""
    store = store or Store()
    found = []
    for fact in facts:
        here = None
        with suppress(CheckpointError):
            here = stored(fact.sources, sha256=fact.sha256, size=fact.size, store=store)
        if here is None:
            name = file_name(fact.sources[0]) if fact.sources else str(fact.sha256)
            found.append(MissingFile(name, fact.size, fact.sha256, tuple(fact.sources)))
    return tuple(found)


@contextmanager
def told_as(ref: str, facts: Callable[[], Sequence[FileFact]]) -> Iterator[None]:
    """Within, an `OfflineError` names every missing file of a model, and the commands that get them elsewhere.

    Args:
        ref: the model, as those commands take it.
        facts: its files, as far as this machine knows them; asked only then.
    """
    try:
        yield
    except OfflineError as error:
        missing = missing_files(facts()) or error.missing
        raise _told(ref, missing, error) from error


def _told(ref: str, missing: Sequence[object], error: OfflineError) -> OfflineError:
    if not missing:
        return error
    count = f"{len(missing)} file{' is' if len(missing) == 1 else 's are'}"
    lines = [f"{ref}: {count} not on this machine, and the network is switched off:", *(f"    {m}" for m in missing)]
    if any(".index.json, " in f"{m}, " for m in missing):
        lines.append("    and the files that this index names")
    word = shlex.quote(ref)
    told = OfflineError(
        "\n".join(lines),
        asked=ref,
        fix=f"on a machine with network: zoo bundle {word} -o FILE.zip; then here: zoo cache add FILE.zip\n"
        f"         (or a folder: zoo fetch {word} -o DIR; then here: zoo cache add DIR)",
    )
    told.missing = tuple(missing)
    return told
