"""Preprocessing: an `InputSpec` carried out, and its exact inverse.

images (H, W) each -> resize -> crop or pad -> (B, C, h, w) normalised, and a Frame each: where every pixel went
                      fit -> (C, h_i, w_i), sizes of their own -> padded to the largest of the batch

Pillow images take Pillow's resize, to the last bit what timm's and torchvision's evaluation transforms give. Tensors
take torch's, antialiased, in floating point: it differs from Pillow's by what Pillow rounds, at most 2 of 255 levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from zoo.errors import InputError, UnsupportedError
from zoo.models.images import LoadedImage, photo
from zoo.specs import InputSpec

MAX_RESIZED = 1 << 26
"""Pixels of a resized image above which only the part that the crop keeps is computed: 1 x 10000 becomes 256 x 2.5M."""

_TORCH_MODES = {"nearest": "nearest-exact", "bilinear": "bilinear", "bicubic": "bicubic"}
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Where an image's pixels went: input = original * scale + offset, x and y apart.

    Coordinates count from the top left corner of the upright image, pixel edges being whole numbers: a box over the
    whole image is (0, 0, W, H). Points are (..., 2) as xy, boxes (..., 4) as xyxy; both may leave the picture.

    size: (H, W) of the original. input_size: (h, w) of the model's input, without what `fit` pads a batch with.
    scale, offset: for x and y.
    """

    size: tuple[int, int]
    input_size: tuple[int, int]
    scale: tuple[float, float]
    offset: tuple[float, float]
    source: str = ""
    origin: str | bytes | Image.Image | Tensor | None = field(default=None, repr=False, compare=False)

    def points_to_input(self, points: Tensor) -> Tensor:
        """Original pixels (..., 2) → input pixels."""
        return points * points.new_tensor(self.scale) + points.new_tensor(self.offset)

    def points_to_original(self, points: Tensor) -> Tensor:
        """Input pixels (..., 2) → original pixels."""
        return (points - points.new_tensor(self.offset)) / points.new_tensor(self.scale)

    def boxes_to_input(self, boxes_xyxy: Tensor) -> Tensor:
        """Original pixels (..., 4) → input pixels."""
        return self.points_to_input(_corners(boxes_xyxy)).flatten(-2)

    def boxes_to_original(self, boxes_xyxy: Tensor) -> Tensor:
        """Input pixels (..., 4) → original pixels."""
        return self.points_to_original(_corners(boxes_xyxy)).flatten(-2)

    def photo(self) -> Image.Image:
        """The original, upright, as 8-bit RGB. Raises `UnsupportedError` for a frame made without one."""
        if self.origin is None:
            raise UnsupportedError("this frame does not know its picture")
        return photo(self.origin)


class Preprocessor:
    """An `InputSpec`, ready to run."""

    def __init__(self, spec: InputSpec) -> None:
        self.spec = spec

    def __call__(self, images: Sequence[LoadedImage]) -> tuple[Tensor, list[Frame]]:
        """Images → (B, C, h, w) float32 on the first tensor's device, and a frame each.

        With `fit`, h and w are whole `divisor`s that hold the largest image; each lies at the top left.

        Raises:
            InputError: no images, or an image whose channels the model does not take.
        """
        if not images:
            raise InputError("there are no images: the batch is empty")
        frames = [self.frame(image) for image in images]
        inputs = [self._one(image, frame) for image, frame in zip(images, frames, strict=True)]
        if self.spec.resize == "fit":
            return pad_batch(inputs, self.spec.divisor), frames
        return torch.stack([one.to(inputs[0].device) for one in inputs]), frames

    def frame(self, image: LoadedImage) -> Frame:
        """Where this image's pixels go."""
        (height, width), (rows, columns) = image.size, resized_size(self.spec, image.size)
        input_size = (rows, columns) if self.spec.resize == "fit" else self.spec.size
        side = self.spec.pad_side if self.spec.resize == "letterbox" else "center"
        return Frame(
            size=image.size,
            input_size=input_size,
            scale=(columns / width, rows / height),
            offset=(_placed(columns, input_size[1], side), _placed(rows, input_size[0], side)),
            source=image.source,
            origin=image.origin,
        )

    def _one(self, image: LoadedImage, frame: Frame) -> Tensor:
        """(C, h, w), normalised."""
        pixels = image.image
        if isinstance(pixels, Image.Image):
            if self.spec.channels not in (1, 3):
                raise self._channel_error(3, image.source)
            pixels = pixels.convert("L") if self.spec.channels == 1 else pixels
            if self.spec.antialias or self.spec.interpolation == "nearest":
                values = _to_tensor(self._pillow(pixels, frame))
            else:
                values = self._torch(_to_tensor(pixels), frame)
        else:
            values = self._torch(self._with_channels(pixels, image.source), frame)
        if self.spec.channel_order == "bgr" and self.spec.channels == 3:
            values = values.flip(0)
        mean, std = (values.new_tensor(v).view(-1, 1, 1) for v in (self.spec.mean, self.spec.std))
        return values.sub(mean).div(std)

    def _pillow(self, image: Image.Image, frame: Frame) -> Image.Image:
        rows, columns = resized_size(self.spec, frame.size)
        left, top = (int(o) for o in frame.offset)
        resample = Image.Resampling[self.spec.interpolation.upper()]
        if rows * columns <= MAX_RESIZED:
            resized = image.resize((columns, rows), resample)
        else:
            x0, x1, y0, y1 = *_kept(left, columns, frame.input_size[1]), *_kept(top, rows, frame.input_size[0])
            box = (x0 / frame.scale[0], y0 / frame.scale[1], x1 / frame.scale[0], y1 / frame.scale[1])
            resized = image.resize((x1 - x0, y1 - y0), resample, box=box)
            left, top = max(left, 0), max(top, 0)
        if self.spec.channels == 1:
            canvas = Image.new("L", frame.input_size[::-1], self._fill()[0])
        else:
            canvas = Image.new("RGB", frame.input_size[::-1], self._fill())
        canvas.paste(resized, (left, top))
        return canvas

    def _torch(self, image: Tensor, frame: Frame) -> Tensor:
        """(C, H, W) in [0, 1] → (C, h, w) in [0, 1]."""
        rows, columns = resized_size(self.spec, frame.size)
        mode = _TORCH_MODES.get(self.spec.interpolation)
        if mode is None:
            raise UnsupportedError(
                f"torch has no {self.spec.interpolation} resize for tensors", fix="pass a PIL image or a uint8 array"
            )
        if rows * columns > MAX_RESIZED:
            raise InputError("the image is too long and narrow for a tensor", fix="pass a PIL image or a uint8 array")
        image = image.float()
        if (rows, columns) != frame.size:
            image = _resized(image, rows, columns, mode, self.spec.antialias)
        left, top = (int(o) for o in frame.offset)
        x0, x1, y0, y1 = *_kept(left, columns, frame.input_size[1]), *_kept(top, rows, frame.input_size[0])
        fill = image.new_tensor(self._fill()).div(255).view(-1, 1, 1)
        canvas = fill.expand(-1, *frame.input_size).clone()
        canvas[:, y0 + top : y1 + top, x0 + left : x1 + left] = image[:, y0:y1, x0:x1]
        return canvas

    def _fill(self) -> tuple[int, ...]:
        """The colour of the padding, in [0, 255], in the order the pixels have until the end: RGB."""
        if self.spec.resize != "letterbox":
            return (0,) * self.spec.channels
        if self.spec.pad_value is not None:
            return (round(self.spec.pad_value),) * self.spec.channels
        levels = tuple(round(255 * v) for v in self.spec.mean)
        return levels[::-1] if self.spec.channel_order == "bgr" else levels

    def _with_channels(self, image: Tensor, source: str) -> Tensor:
        """Grey ↔ colour where the model wants the other one."""
        if len(image) == self.spec.channels:
            return image
        if len(image) == 1 and self.spec.channels == 3:
            return image.expand(3, -1, -1)
        if len(image) == 3 and self.spec.channels == 1:
            return (image * image.new_tensor(_LUMA).view(3, 1, 1)).sum(0, keepdim=True)
        raise self._channel_error(len(image), source)

    def _channel_error(self, found: int, source: str) -> InputError:
        wanted = self.spec.channels
        return InputError(
            f"the model takes {wanted} channels, the image has {found}",
            asked=source,
            fix=f"in_chans={found} when the model is made, or a float tensor ({wanted}, H, W)",
        )


def pad_batch(images: Sequence[Tensor], divisor: int = 1) -> Tensor:
    """Images (C, h_i, w_i) of unequal sizes → (B, C, h, w), zeros at the right and at the bottom.

    h and w are the least whole `divisor`s that hold every image. Device and dtype are the first image's.
    """
    height, width = (-(-max(image.shape[axis] for image in images) // divisor) * divisor for axis in (1, 2))
    batch = images[0].new_zeros(len(images), images[0].shape[0], height, width)
    for place, image in zip(batch, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return batch


def resized_size(spec: InputSpec, size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) of an image after the resize and before the crop, rounded as torchvision and timm round.

    A square target floors the longer side, any other rounds both; `fit` floors both. No side falls below one pixel.
    """
    (height, width), (rows, columns) = size, spec.resize_to
    if spec.resize == "fit":
        # Plain floating point, as in torchvision's detectors: where 800 / 375 * 375 is 799.9…, the side is 799 there.
        factor = min(min(spec.size) / min(size), max(spec.size) / max(size))
        return max(1, int(height * factor)), max(1, int(width * factor))
    if spec.resize == "stretch":
        return max(1, rows), max(1, columns)
    if spec.resize == "shortest" and rows == columns:
        short = max(1, rows)
        long = int(short * max(size) / min(size))
        return (long, short) if width <= height else (short, long)
    ratios = height / max(1, rows), width / max(1, columns)
    ratio = max(ratios) if spec.resize == "letterbox" else min(ratios)
    return max(1, round(height / ratio)), max(1, round(width / ratio))


def _resized(image: Tensor, rows: int, columns: int, mode: str, antialias: bool) -> Tensor:
    """(C, H, W) → (C, rows, columns) by torch. Antialiased in two passes, each clipped, as Pillow's."""
    if mode == "nearest-exact":
        return F.interpolate(image[None], size=(rows, columns), mode=mode)[0]
    if antialias:
        image = F.interpolate(image[None], size=(image.shape[1], columns), mode=mode, antialias=True)[0].clamp(0, 1)
    return F.interpolate(image[None], size=(rows, columns), mode=mode, antialias=antialias)[0].clamp(0, 1)


def _placed(resized: int, target: int, side: str) -> int:
    """Where the resized image's first pixel lands: positive where it is padded, negative where it is cropped."""
    if resized < target:
        return (target - resized) // 2 if side == "center" else 0
    return -round((resized - target) / 2)


def _kept(offset: int, resized: int, target: int) -> tuple[int, int]:
    """The first and the last-but-one resized pixel that the target keeps."""
    return max(0, -offset), min(resized, target - offset)


def _corners(boxes_xyxy: Tensor) -> Tensor:
    """(..., 4) → (..., 2, 2): two points a box."""
    return boxes_xyxy.reshape(*boxes_xyxy.shape[:-1], 2, 2)


def _to_tensor(image: Image.Image) -> Tensor:
    """8-bit RGB or grey → (C, H, W) float32 in [0, 1]."""
    pixels = torch.from_numpy(np.array(image))
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return pixels.permute(2, 0, 1).contiguous().float().div(255)
