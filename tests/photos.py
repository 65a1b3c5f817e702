"""Real photographs with known answers: a mini ImageNet out of permissive packages.

`photo("chelsea")` is the file, `PHOTOS["chelsea"].accepted` the ImageNet-1k ids that count as right; photos of several
objects have none (what a detector finds on them is in `plugins/zoo_detection/detection_photos.py`). Some photos come
inside Python packages; others inside Debian packages, which `apt-get download` fetches once, without root, into a
cache folder outside the repository. What cannot be had skips the test and says what is missing.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

_OPENCV = "usr/share/doc/opencv-doc/examples/data/"
_DARKNET = "usr/share/darknet/data/"


class Photo(NamedTuple):
    """Where a photograph is, the digest of its file, and the ImageNet ids accepted among a model's `topk` best."""

    package: str  # "pypi:<distribution>" or "debian:<package>"
    path: str
    sha256: str
    accepted: tuple[int, ...] = ()
    topk: int = 1


# fmt: off
PHOTOS = {
    "chelsea":   Photo("pypi:scikit-image", "skimage/data/chelsea.png",
                       "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb", (281, 282, 285)),
    "coffee":    Photo("pypi:scikit-image", "skimage/data/coffee.png",
                       "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7", (967,)),
    "rocket":    Photo("pypi:scikit-image", "skimage/data/rocket.jpg",
                       "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c", (657, 812, 744), topk=5),
    "page":      Photo("pypi:scikit-image", "skimage/data/page.png",
                       "341a6f0a61557662b02734a9b6e56ec33a915b2c41886b97509dedf2a43b47a3"),
    "china":     Photo("pypi:scikit-learn", "sklearn/datasets/images/china.jpg",
                       "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29", (698,)),
    "squirrel":  Photo("debian:opencv-doc", _OPENCV + "squirrel_cls.jpg",
                       "20bb6e8ae96918a36c9886b6d48e54eedeb3948591e1485c206bc1dc60c8dc8b", (335,)),
    "baboon":    Photo("debian:opencv-doc", _OPENCV + "baboon.jpg",
                       "1a1dd18d78eec44420af3b0b7f08ee3d41c982916cae3ce203d7ff35d754cc0f", (372,)),
    "orange":    Photo("debian:opencv-doc", _OPENCV + "orange.jpg",
                       "152c20d2f380ac985de25e474e1a5f06ed34b932191342099b8272a63a15a079", (950,)),
    "messi":     Photo("debian:opencv-doc", _OPENCV + "messi5.jpg",
                       "1d570e49654e84c7a943918537bd9e5e1ef82920152e147c834006e235be97c9", (805,)),
    "fruits":    Photo("debian:opencv-doc", _OPENCV + "fruits.jpg",
                       "9c031d80a1c52da5eca790db896baffec6a7e52bf786cdb7bbfca5c7f880e6a1", (951, 950)),
    "butterfly": Photo("debian:opencv-doc", _OPENCV + "butterfly.jpg",
                       "34a99716b78ded10eae87b4880de739d3e68cc7dd1a96812bb28f469d5eeaea8", (321, 322)),
    "board":     Photo("debian:opencv-doc", _OPENCV + "board.jpg",
                       "4c9a24ba67138ad5486d550f586cc5dd1161be112f1c1bea336d6c550cdf255f", (662, 592)),
    "home":      Photo("debian:opencv-doc", _OPENCV + "home.jpg",
                       "23b8cf46a1965d0ec33459b875aed43187802834db49e0daa9fa2cc842e9d8d2", (698,)),
    "flower":    Photo("debian:libjxl-testdata", "usr/share/libjxl-testdata/jxl/flower/flower.png",
                       "06fe0af7a5c790d2932a40e2d76b0d91aa6e73f3e55cc3f97ea6afae0133c2e7", (985,)),
    "dog":       Photo("debian:darknet", _DARKNET + "dog.jpg",
                       "5a9522051c3cec2bbd2f6323fccba32e8fbf3ddcc2b3e2fd46b04c720bc6f866"),
    "eagle":     Photo("debian:darknet", _DARKNET + "eagle.jpg",
                       "f95f57297fd51a6c5ddceb5ed6916fa759d1d65f402fee34c05b31a9608755c0"),
    "giraffe":   Photo("debian:darknet", _DARKNET + "giraffe.jpg",
                       "00dc48a9b2af8a1fe4c4b79319726591f1033c7e1150f21e7577a79f3b6659f1"),
    "horses":    Photo("debian:darknet", _DARKNET + "horses.jpg",
                       "c8f0a677a1356569e2ce71d2fa88c1030c0ae57ecf5e14170e02d9a86a20dcb4"),
    "person":    Photo("debian:darknet", _DARKNET + "person.jpg",
                       "cdcbab947e46110fc2b77784ac54ddbbab2640f1e44cb5e91fc8984a9793a7d1"),
}
# fmt: on

AT_HAND = tuple(name for name, photo in PHOTOS.items() if photo.package.startswith("pypi:") and photo.accepted)
"""Photos with an answer that the Python environment holds already."""

TO_FETCH = tuple(name for name, photo in PHOTOS.items() if photo.package.startswith("debian:") and photo.accepted)
"""Photos with an answer that come with Debian packages of together 150 MB, fetched once."""


def photo(name: str) -> Path:
    """The file of that photograph. Skips the running test, naming what is missing, where it cannot be had."""
    wanted = PHOTOS[name]
    registry, _, package = wanted.package.partition(":")
    found = _in_python(package, wanted.path) if registry == "pypi" else _in_debian(package) / wanted.path
    if not found.is_file():
        pytest.skip(f"{wanted.package} has no {wanted.path}")
    if hashlib.sha256(found.read_bytes()).hexdigest() != wanted.sha256:
        pytest.skip(f"{found} is not the photograph the answers are for: {wanted.package} has changed")
    return found


def _in_python(distribution: str, path: str) -> Path:
    try:
        return Path(str(metadata.distribution(distribution).locate_file(path)))
    except metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed: pip install {distribution}")


def _in_debian(package: str) -> Path:
    root = _cache() / package
    if not root.is_dir():
        problem = _fetch(package, root)
        if problem:
            pytest.skip(problem)
    return root


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zoo-tests"


@functools.cache  # asked once a run, also where there is no network
def _fetch(package: str, root: Path) -> str | None:
    """Unpack the photos of a Debian package at `root`, whole or not at all. Returns what went wrong."""
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            return f"{tool} is missing, which would fetch the photos of Debian's {package}"
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as work:
        unpacked, kept = Path(work, "unpacked"), Path(work, "kept")
        try:
            subprocess.run(["apt-get", "download", package], cwd=work, check=True, capture_output=True, timeout=300)
            (deb,) = Path(work).glob("*.deb")
            subprocess.run(["dpkg", "-x", deb, unpacked], check=True, capture_output=True, timeout=300)
        except subprocess.SubprocessError as error:
            return f"Debian's {package} cannot be fetched ({error}): apt-get update && apt-get download {package}"
        for path in (p.path for p in PHOTOS.values() if p.package == f"debian:{package}"):
            if Path(unpacked, path).is_file():
                Path(kept, path).parent.mkdir(parents=True, exist_ok=True)
                Path(unpacked, path).replace(Path(kept, path))
        try:
            kept.rename(root)
        except OSError:  # another run was faster
            return None if root.is_dir() else f"cannot write {root}"
    return None
