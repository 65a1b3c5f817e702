"""Drawing results on photos with Pillow alone, readable at any size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from PIL import Image, ImageDraw, ImageFont

_SMALLEST = 480  # pixels of the longer side below which a photo is enlarged
_PANEL, _TEXT, _BAR, _TRACK = (24, 26, 31), (240, 240, 240), (86, 156, 214), (52, 56, 64)
_MOST_ROWS = 10

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont


def draw_ranking(photo: Image.Image, ranking: Sequence[tuple[str, float]]) -> Image.Image:
    """The photo above a panel with a bar for each (name, probability), best first."""
    photo = enlarged(photo)
    size = max(16, max(photo.size) // 32)
    width = max(photo.width, 24 * size)
    rows = ranking[:_MOST_ROWS]
    line, margin = round(size * 1.6), size
    canvas = Image.new("RGB", (width, photo.height + len(rows) * line + margin), _PANEL)
    canvas.paste(photo, ((width - photo.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size)
    number = draw.textlength("100.0 %", font=font)
    start, end = round(width * 0.55), round(width - margin - number - size / 2)
    for row, (name, probability) in enumerate(rows):
        middle = photo.height + margin / 2 + (row + 0.5) * line
        text = shortened(draw, name, font, start - 2 * margin)
        draw.text((margin, middle), text, _TEXT, font, anchor="lm")
        bar = (start, middle - size * 0.3, end, middle + size * 0.3)
        draw.rectangle(bar, _TRACK)
        draw.rectangle((*bar[:2], start + (end - start) * probability, bar[3]), _BAR)
        draw.text((width - margin, middle), f"{probability:.1%}".replace("%", " %"), _TEXT, font, anchor="rm")
    return canvas


def enlarged(photo: Image.Image) -> Image.Image:
    """The photo itself, or a larger copy of one that is too small to write on."""
    factor = _SMALLEST / max(photo.size)
    if factor <= 1:
        return photo
    size = tuple(max(1, round(side * factor)) for side in photo.size)
    return photo.resize((size[0], size[1]), Image.Resampling.BICUBIC)


def shortened(draw: ImageDraw.ImageDraw, text: str, font: Font, room: float) -> str:
    """As much of the text as `room` pixels hold, an ellipsis behind what is cut."""
    if draw.textlength(text, font=font) <= room:
        return text
    while text and draw.textlength(text + "…", font=font) > room:
        text = text[:-1]
    return text + "…"
