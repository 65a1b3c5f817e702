"""From an encoded image to upright 8-bit RGB: files, URLs and bytes, hostile and damaged ones refused by name."""

from __future__ import annotations

import difflib
import io
import os
import stat
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException

import numpy as np
from PIL import Image, UnidentifiedImageError

from zoo.errors import InputError, OptionError

MAX_PIXELS = 178_956_970
"""The largest image that is decoded: Pillow's own line. `ZOO_MAX_IMAGE_PIXELS` or `max_pixels=` moves it."""
MAX_DOWNLOAD = 64 * 1024 * 1024
DOWNLOAD_SECONDS = 30.0

_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PILLOW_LIMIT = threading.Lock()


def read_image(encoded: str | bytes, max_pixels: int | None = None) -> Image.Image:
    """The upright RGB image in a file, behind an http(s) address, or in bytes.

    Raises:
        InputError: it is not there, not an image, damaged, or larger than `max_pixels`.
    """
    limit = pixel_limit(max_pixels)
    if isinstance(encoded, str):
        check_file(encoded)
        return _decode(encoded, limit)
    if not encoded:
        raise InputError("the image is empty: 0 bytes")
    return _decode(io.BytesIO(encoded), limit)


def pixel_limit(max_pixels: int | None) -> int:
    """The largest number of pixels to decode: the argument, `ZOO_MAX_IMAGE_PIXELS`, or `MAX_PIXELS`."""
    if max_pixels is not None:
        return max_pixels
    text = os.environ.get("ZOO_MAX_IMAGE_PIXELS", "")
    if not text:
        return MAX_PIXELS
    if not text.isdecimal():
        raise OptionError("ZOO_MAX_IMAGE_PIXELS is not a number", asked=text, fix=f"ZOO_MAX_IMAGE_PIXELS={MAX_PIXELS}")
    return int(text)


def check_file(path: str) -> None:
    """Raise `InputError` unless `path` is a regular file with something in it."""
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise _missing(path, error) from None
    if stat.S_ISDIR(status.st_mode):
        raise InputError("this is a folder, not an image", asked=path, fix=f"[*Path({path!r}).glob('*.jpg')]")
    if not stat.S_ISREG(status.st_mode):  # a pipe or device could go on for ever
        raise InputError("this is not a regular file", asked=path, fix="read it yourself and pass the bytes")
    if status.st_size == 0:
        raise InputError("the file is empty: 0 bytes", asked=path)


def _missing(path: str, error: Exception) -> InputError:
    if isinstance(error, PermissionError):
        return InputError("no permission to read this file", asked=path)
    folder, name = os.path.split(path)
    try:
        there = os.listdir(folder or ".")
    except (OSError, ValueError):
        return InputError("no such file, nor its folder", asked=path)
    near = difflib.get_close_matches(name, there, n=3)
    paths = [os.path.join(folder, n) for n in near]
    return InputError("no such file", asked=path, found=", ".join(paths) or None, fix=paths[0] if paths else None)


def _decode(file: str | io.BytesIO, limit: int) -> Image.Image:
    try:
        with _pillow_allows(limit):
            opened = Image.open(file)
        with opened as image:
            if image.format == "EPS":  # Pillow would start Ghostscript on it
                raise InputError("EPS is a program, not pixels", fix="convert it to PNG")
            return to_upright_rgb(image, limit)
    except InputError:
        raise
    except UnidentifiedImageError:
        raise _not_an_image(_first_bytes(file)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # a warning can be made an error
        raise InputError("the image is absurdly large", found=str(error), fix="ZOO_MAX_IMAGE_PIXELS=…") from error
    except Exception as error:  # decoders raise whatever their format's parser raises
        raise _damaged(error) from error


@contextmanager
def _pillow_allows(limit: int) -> Iterator[None]:
    """Pillow's own limit is a module-wide number; while a header is read it is raised to ours."""
    if Image.MAX_IMAGE_PIXELS is None or limit <= Image.MAX_IMAGE_PIXELS:
        yield
        return
    with _PILLOW_LIMIT:
        previous = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = limit
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = previous


def _damaged(error: Exception) -> InputError:
    what = "truncated" if "truncated" in str(error) else "damaged"
    return InputError(f"the image is {what} and cannot be decoded", found=f"{type(error).__name__}: {error}")


def _first_bytes(file: str | io.BytesIO) -> bytes:
    if isinstance(file, io.BytesIO):
        return file.getvalue()[:64]
    with open(file, "rb") as stream:
        return stream.read(64)


def _not_an_image(start: bytes) -> InputError:
    text = start.lstrip().lower()
    if start[4:8] == b"ftyp" and start[8:11] in (b"hei", b"hev", b"mif", b"msf"):
        return InputError("Pillow alone cannot read HEIF", fix="pip install pillow-heif, then register_heif_opener()")
    if text.startswith((b"<!doctype html", b"<html")):
        return InputError("this is a web page, not an image", found=repr(start[:24]))
    if text.startswith((b"<svg", b"<?xml")):
        return InputError("this is text (SVG or XML), not pixels", found=repr(start[:24]), fix="convert it to PNG")
    return InputError("this is not an image of a known format", found=f"it begins with {start[:16]!r}")


def to_upright_rgb(image: Image.Image, limit: int) -> Image.Image:
    """Any Pillow image as 8-bit RGB, turned as its EXIF orientation says; of an animation the frame it stands at.

    Colours are Pillow's `convert("RGB")`, the conversion training code uses: transparency is dropped, not painted
    over a background. 16-bit grey is scaled to 8 bits, where Pillow would clip it.
    """
    width, height = image.size
    if min(width, height) < 1:
        raise InputError("the image has no pixels", found=f"{width} x {height}")
    if width * height > limit:
        raise InputError(
            f"the image is absurdly large: {width} x {height} pixels",
            found=f"the limit is {limit} pixels",
            fix=f"ZOO_MAX_IMAGE_PIXELS={width * height}",
        )
    try:
        image.load()
        upright = _upright(image)
        return _to_rgb(upright)
    except InputError:
        raise
    except Exception as error:  # a lazily opened image is decoded here
        raise _damaged(error) from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # broken metadata does not spoil good pixels
        return image
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        wide = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise InputError(
            f"{image.mode!r} pixels have 32 bits and no known range",
            fix="scale them to 0..255 yourself and pass a uint8 array",
        )
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours, without Pillow's warning
    try:
        return image.convert("RGB")
    except ValueError:
        raise InputError(f"{image.mode} pixels cannot be turned into RGB", fix="convert it with PIL.ImageCms") from None


def fetch_image(url: str, max_bytes: int = MAX_DOWNLOAD, seconds: float = DOWNLOAD_SECONDS) -> bytes:
    """The bytes behind an http(s) address, at most `max_bytes` of them within `seconds`.

    Raises:
        InputError: the address cannot be reached, answers with an error, or sends too much or too slowly.
    """
    deadline = time.monotonic() + seconds
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "zoo", "Accept": "image/*,*/*;q=0.5"})
        with _web().open(request, timeout=min(seconds, 10.0)) as response:
            return _body(response, max_bytes, deadline, seconds)
    except urllib.error.HTTPError as error:
        raise InputError(f"the server answered {error.code} {error.reason}", asked=url) from None
    except TimeoutError:
        raise InputError(f"the server did not answer within {seconds:g} seconds", asked=url) from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise InputError(f"the address cannot be read: {reason}", asked=url, fix="check it in a browser") from None


def _web() -> urllib.request.OpenerDirector:
    """http(s) only: a redirect must not lead to a local file."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _body(response: io.BufferedIOBase, max_bytes: int, deadline: float, seconds: float) -> bytes:
    parts: list[bytes] = []
    received = 0
    while part := response.read1(1 << 16):
        parts.append(part)
        received += len(part)
        if received > max_bytes:
            raise InputError(f"the address sends more than {max_bytes} bytes", fix="download it and pass the path")
        if time.monotonic() > deadline:
            raise InputError(f"the address sent only {received} bytes in {seconds:g} seconds")
    return b"".join(parts)
