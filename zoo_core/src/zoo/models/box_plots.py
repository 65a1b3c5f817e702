"""Drawing objects on photos with Pillow alone: masks, boxes, points, and labels that can be read at any size.

N objects   P keypoints
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from zoo.models.plots import enlarged, shortened

if TYPE_CHECKING:
    from zoo.models.detections import Detections

MASK_OPACITY = 0.45
"""How much of a masked pixel is the colour of its class."""

Colour: TypeAlias = tuple[int, int, int]
_GOLDEN = 0.6180339887  # of the colour circle from one class to the next: neighbours lie far apart, none meet
_SHADES = ((0.85, 1.0), (0.55, 1.0), (0.95, 0.7))  # saturation and brightness, in turn


class _Strokes(NamedTuple):
    """Pixels: of lines, of letters, of the radius of a point."""

    line: int
    text: int
    point: int


def class_colour(class_id: int) -> Colour:
    """The colour of a class, the same in every picture."""
    saturation, brightness = _SHADES[class_id % len(_SHADES)]
    red, green, blue = colorsys.hsv_to_rgb((0.58 + class_id * _GOLDEN) % 1, saturation, brightness)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_detections(photo: Image.Image, detections: Detections) -> Image.Image:
    """The photo with every object on it, the best on top; a small photo is enlarged first.

    A mask tints its pixels, a box runs along the outermost pixels that it holds, keypoints with a positive score are
    dots, joined as the label space's skeleton says.
    """
    original, canvas = photo.size, enlarged(photo).convert("RGB")
    longest = max(canvas.size)
    strokes = _Strokes(max(2, longest // 320), max(13, longest // 48), max(2, longest // 240))
    scale = np.array([canvas.width / original[0], canvas.height / original[1]])
    colours = [class_colour(class_id) for class_id in detections.ids.tolist()]
    if detections.masks is not None:
        canvas = _tinted(canvas, detections.masks.numpy(), colours)
    corners = detections.boxes.double().numpy() * np.tile(scale, 2)
    boxes = [_pixels(box, canvas.size) for box in corners.tolist()]
    draw = ImageDraw.Draw(canvas)
    for box, colour in reversed(list(zip(boxes, colours, strict=True))):
        _draw_frame(draw, box, colour, strokes.line)
    if detections.keypoints is not None:
        skeleton = detections.labels.skeleton if detections.labels is not None else ()
        for points, colour in zip(detections.keypoints.double().tolist(), colours, strict=True):
            _draw_points(draw, points, scale, skeleton, colour, strokes)
    texts = [f"{name} {score:.0%}" for name, score in zip(detections.names, detections.scores.tolist(), strict=True)]
    _draw_labels(draw, canvas.size, boxes, texts, colours, strokes.text)
    return canvas


def _pixels(box_xyxy: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The outermost whole pixels of a box, both ends included, at least one."""
    left, top = (min(max(round(side), 0), limit - 1) for side, limit in zip(box_xyxy[:2], size, strict=True))
    right, bottom = (min(round(side), limit) - 1 for side, limit in zip(box_xyxy[2:], size, strict=True))
    return left, top, max(left, right), max(top, bottom)


def _tinted(canvas: Image.Image, masks: np.ndarray, colours: Sequence[Colour]) -> Image.Image:
    """Masks (N, H, W) in their colours, the best last."""
    pixels = np.array(canvas)
    for mask, colour in reversed(list(zip(masks, colours, strict=True))):
        if mask.shape != pixels.shape[:2]:
            mask = np.asarray(Image.fromarray(mask).resize(canvas.size, Image.Resampling.NEAREST))
        tint = pixels[mask] * (1 - MASK_OPACITY) + np.array(colour) * MASK_OPACITY
        pixels[mask] = tint.round().astype(np.uint8)
    return Image.fromarray(pixels)


def _draw_frame(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], colour: Colour, line: int) -> None:
    """A frame on the inside of a box, thinner where the box is small."""
    short = min(box[2] - box[0], box[3] - box[1]) + 1
    if short < 3:  # nothing is inside, and Pillow would draw such a frame too large
        draw.rectangle(box, colour)
    else:
        draw.rectangle(box, outline=colour, width=min(line, max(1, short // 6)))


def _draw_points(
    draw: ImageDraw.ImageDraw,
    points: Sequence[Sequence[float]],
    scale: np.ndarray,
    skeleton: Sequence[tuple[int, int]],
    colour: Colour,
    strokes: _Strokes,
) -> None:
    """One object's points (P, 3) and what joins them."""
    places = [(x * float(scale[0]), y * float(scale[1])) for x, y, _ in points]
    seen = [score > 0 for _, _, score in points]
    for one, other in skeleton:
        if max(one, other) < len(seen) and seen[one] and seen[other]:
            draw.line([places[one], places[other]], colour, strokes.line)
    for (x, y), there in zip(places, seen, strict=True):
        if there:
            radius = strokes.point
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour, (255, 255, 255))


def _draw_labels(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    boxes: Sequence[tuple[int, int, int, int]],
    texts: Sequence[str],
    colours: Sequence[Colour],
    letters: int,
) -> None:
    """A plate a box: above it, else inside, else below, wherever it lies in the picture and on no better one's."""
    width, height = size
    font = ImageFont.load_default(letters)
    padding = max(2, letters // 4)
    tall = letters + padding
    taken: list[tuple[int, int, int, int]] = []
    plates = []
    for (left, top, _, bottom), text, colour in zip(boxes, texts, colours, strict=True):
        text = shortened(draw, text, font, width - 2 * padding)
        wide = min(width, round(draw.textlength(text, font=font)) + 2 * padding)
        x = max(0, min(left, width - wide))
        places = [min(max(0, y), max(0, height - tall)) for y in (top - tall, top, bottom + 1)]
        options = [(x, y, x + wide - 1, y + tall - 1) for y in places]
        plate = next((option for option in options if not any(_meet(option, other) for other in taken)), options[0])
        taken.append(plate)
        plates.append((plate, text, colour))
    for plate, text, colour in reversed(plates):
        draw.rectangle(plate, colour)
        bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
        middle = (plate[1] + plate[3] + 1) / 2
        draw.text((plate[0] + padding, middle), text, (0, 0, 0) if bright else (255, 255, 255), font, anchor="lm")


def _meet(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]
