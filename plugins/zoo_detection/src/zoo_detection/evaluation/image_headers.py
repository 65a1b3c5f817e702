"""What can be known of image files without decoding them: which they are, and how large. Torch-free."""

from __future__ import annotations

import os
from collections.abc import Iterable

from zoo.cli.inputs import SUFFIXES
from zoo.errors import InputError

_ORIENTATION_TAG, _LYING = 0x0112, (5, 6, 7, 8)  # EXIF: stored with rows and columns exchanged


def upright_size(path: str) -> tuple[int, int]:
    """(H, W) of the upright image in a file, from its header. Raises `InputError` for what is no image."""
    from PIL import Image

    from zoo.models.image_files import check_file

    try:
        check_file(path)
        with Image.open(path) as image:
            width, height = image.size
            lying = image.getexif().get(_ORIENTATION_TAG) in _LYING
    except InputError as error:
        raise InputError(f"{path}: {error.message}", found=error.found, fix=error.fix) from None
    except Exception as error:  # decoders raise whatever their format's parser raises
        raise InputError(f"{path}: not an image that can be read", found=str(error)) from None
    return (width, height) if lying else (height, width)


def images_in(folder: str) -> list[str]:
    """The paths of the image files of a folder, however deep, in order."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [os.path.join(place, name) for name in names if is_image(name)]
    return sorted(found)


def is_image(name: str) -> bool:
    """Whether a file is called as images are."""
    return name.lower().endswith(SUFFIXES) and not os.path.basename(name).startswith(".")


def check_there(paths: Iterable[str], said_by: str) -> None:
    """Raise `InputError` with the count and the first of the images that labels speak of and that are not there."""
    wanted = list(paths)
    missing = [path for path in wanted if not os.path.isfile(path)]
    if missing:
        raise InputError(
            f"{said_by}: {len(missing)} of {len(wanted)} images are not there, the first is {missing[0]}",
            found=", ".join(sorted(os.listdir(_existing(missing[0])))[:5]) or "an empty folder",
            fix="the images beside their labels, under the names that the labels use",
        )


def _existing(path: str) -> str:
    """The nearest folder above a path that is there."""
    folder = os.path.dirname(path) or os.curdir
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder) or os.curdir
    return folder
