"""Where `zoo predict --save` writes the annotated photos: never over a photo it was given."""

from __future__ import annotations

import os
from collections.abc import Sequence

from zoo.cli.arguments import UsageError
from zoo.cli.inputs import Source

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
FOLDER_SUFFIX = ".png"


class Destination:
    """A file for one photo, or a folder for several, in which each is called as its photo.

    Args:
        path: what the caller asked for; None where nothing is to be saved.
        sources: every input.

    Raises:
        UsageError: several photos and one file, a file of no known kind, or a photo that would be overwritten.
    """

    def __init__(self, path: str | None, sources: Sequence[Source]) -> None:
        self._paths: dict[int, str] = {}
        if path is None:
            return
        path = os.path.expanduser(path)
        suffix = os.path.splitext(path)[1].lower()
        if os.path.isdir(path) or path.endswith(("/", os.sep)) or not suffix:
            self._paths = _names_in(path, sources)
            os.makedirs(path, exist_ok=True)
        else:
            _check_file(path, suffix, sources)
            self._paths = {id(source): path for source in sources}
        for source in sources:
            if any(_same(written, source) for written in self._paths.values()):
                raise UsageError(f"--save would overwrite the photo {source.shown}", fix="--save another-folder/")

    def of(self, source: Source) -> str | None:
        """Where the picture of one source goes; None if nothing is to be saved."""
        return self._paths.get(id(source))


def _names_in(folder: str, sources: Sequence[Source]) -> dict[int, str]:
    paths: dict[int, str] = {}
    taken: set[str] = set()
    for source in sources:
        name, number = source.stem, 1
        while name.lower() in taken:  # some file systems know no difference between letters
            number += 1
            name = f"{source.stem}-{number}"
        taken.add(name.lower())
        paths[id(source)] = os.path.join(folder, name + FOLDER_SUFFIX)
    return paths


def _check_file(path: str, suffix: str, sources: Sequence[Source]) -> None:
    if suffix not in SUFFIXES:
        raise UsageError(
            f"--save writes {' '.join(SUFFIXES)}, not {suffix}", asked=path, fix=f"--save {path[: -len(suffix)]}.png"
        )
    if len(sources) > 1:
        stem = path[: -len(suffix)]
        raise UsageError(f"--save {path} is one file, but there are {len(sources)} photos", fix=f"--save {stem}/")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise UsageError(f"--save: there is no folder {folder}", fix=f"mkdir -p {folder}")


def _same(path: str, source: Source) -> bool:
    if not isinstance(source.image, str) or not os.path.exists(path) or not os.path.exists(source.image):
        return False
    return os.path.samefile(path, source.image)
