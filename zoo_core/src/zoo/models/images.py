"""Images in: paths, URLs, encoded bytes, Pillow images, arrays and tensors, checked, one by one.

B batch   C channels   H W height and width of the upright image
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from zoo.errors import InputError, OptionError
from zoo.models.image_files import fetch_image, pixel_limit, read_image, to_upright_rgb

ImageInput: TypeAlias = str | PathLike[str] | bytes | Image.Image | np.ndarray[Any, Any] | Tensor
"""A path, an http(s) address, the bytes of an image file, a Pillow image, an array or tensor: HWC uint8 or CHW float
in [0, 1]. Arrays may be grey (H, W) or a batch: (B, H, W, C) uint8, (B, C, H, W) float."""

_COLOURS = (1, 3, 4)  # channels that HWC pixels can have: grey, RGB, RGBA


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """One checked image.

    image: upright RGB, or a float tensor (C, H, W) in [0, 1]. source: what to call it. size: its (H, W).
    origin: what `photo` opens again, so that a result need not hold the pixels of a file.
    """

    image: Image.Image | Tensor
    source: str
    size: tuple[int, int]
    origin: str | bytes | Image.Image | Tensor

    def photo(self) -> Image.Image:
        """The upright image as 8-bit RGB."""
        return photo(self.origin)


def photo(origin: str | bytes | Image.Image | Tensor) -> Image.Image:
    """What a `LoadedImage` came from, as upright 8-bit RGB. Raises `InputError` if its file is gone."""
    if isinstance(origin, Tensor):
        pixels = origin.detach().float().clamp(0, 1).mul(255).round().byte().cpu()
        colours = pixels if len(pixels) == 3 else pixels[:1].expand(3, -1, -1)
        return Image.fromarray(colours.permute(1, 2, 0).contiguous().numpy())
    return origin if isinstance(origin, Image.Image) else read_image(origin)


def load_images(
    inputs: ImageInput | Iterable[ImageInput], channels: str = "rgb", *, max_pixels: int | None = None
) -> list[LoadedImage]:
    """`iter_images`, all at once."""
    return list(iter_images(inputs, channels, max_pixels=max_pixels))


def iter_images(
    inputs: ImageInput | Iterable[ImageInput], channels: str = "rgb", *, max_pixels: int | None = None
) -> Iterator[LoadedImage]:
    """One or many inputs as checked images, each opened when its turn comes; a batch gives an image a member.

    Args:
        inputs: one `ImageInput` or an iterable of them.
        channels: `rgb` or `bgr`, of arrays and tensors.
        max_pixels: the largest image that is decoded; `ZOO_MAX_IMAGE_PIXELS` otherwise.

    Raises:
        InputError: an image that cannot be used, with its place in the list and what to do.
    """
    if channels not in ("rgb", "bgr"):
        raise OptionError(f"channels is `rgb` or `bgr`, not {channels!r}", asked=str(channels), fix='channels="rgb"')
    limit = pixel_limit(max_pixels)
    if isinstance(inputs, str | PathLike | bytes | Image.Image | np.ndarray | Tensor):
        yield from _load(inputs, channels, limit)
        return
    if isinstance(inputs, Mapping) or not isinstance(inputs, Iterable):
        raise _not_an_input(inputs)
    index = -1
    for index, item in enumerate(inputs):
        try:
            yield from _load(item, channels, limit)
        except InputError as error:
            raise InputError(
                f"image {index}: {error.message}", asked=error.asked, found=error.found, fix=error.fix
            ) from error
    if index < 0:
        raise InputError("there are no images: the list is empty")


def _load(item: Any, channels: str, limit: int) -> Iterator[LoadedImage]:
    """The images of one input."""
    if isinstance(item, str | PathLike):
        yield _from_address(os.fspath(item), limit)
    elif isinstance(item, bytes):
        image = read_image(item, limit)
        yield LoadedImage(image, "bytes", _size(image), item)
    elif isinstance(item, Image.Image):
        image = to_upright_rgb(item, limit)
        yield LoadedImage(image, str(getattr(item, "filename", "")) or "image", _size(image), image)
    elif isinstance(item, np.ndarray):
        yield from _from_array(item, channels)
    elif isinstance(item, Tensor):
        yield from _from_tensor(item, channels)
    else:
        raise _not_an_input(item)


def _not_an_input(item: Any) -> InputError:
    return InputError(
        f"a {type(item).__name__} is not an image",
        fix="pass a path, URL, PIL image, HWC uint8 array, CHW float array or tensor, or a list of them",
    )


def _size(image: Image.Image) -> tuple[int, int]:
    return image.height, image.width


def _from_address(address: str | bytes, limit: int) -> LoadedImage:
    if isinstance(address, bytes):
        address = os.fsdecode(address)
    scheme, separator, _ = address.partition("://")
    origin: str | bytes
    if separator and scheme.lower() in ("http", "https"):
        origin = fetch_image(address)
    elif separator and scheme.lower() == "file":
        origin = unquote(urlsplit(address).path)
    elif separator and scheme.isalnum() and not os.path.exists(address):
        raise InputError(f"images are not read from {scheme}://", asked=address, fix="download it and pass the path")
    else:
        origin = address
    try:
        image = read_image(origin, limit)
    except InputError as error:
        raise InputError(error.message, asked=address, found=error.found, fix=error.fix) from error.__cause__
    return LoadedImage(image, address, _size(image), origin)


def _from_array(array: np.ndarray[Any, Any], channels: str) -> Iterator[LoadedImage]:
    if array.dtype == np.uint8:
        for pixels in _hwc_members(array):
            image = _pixels_to_rgb(pixels, channels)
            yield LoadedImage(image, "array", _size(image), image)
    elif array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # the range check says it better
            floats = array.astype(np.float32)  # a copy, also of float32: torch wants native, writable memory
        yield from _from_floats(torch.from_numpy(floats), channels, "array")
    else:
        raise _wrong_dtype(str(array.dtype))


def _from_tensor(tensor: Tensor, channels: str) -> Iterator[LoadedImage]:
    if tensor.is_meta or tensor.layout != torch.strided:
        raise InputError("the tensor has no pixels that can be read", found=f"{tensor.device}, {tensor.layout}")
    if tensor.dtype == torch.uint8:
        for pixels in _hwc_members(tensor.cpu().numpy()):
            image = _pixels_to_rgb(pixels, channels)
            yield LoadedImage(image, "tensor", _size(image), image)
    elif tensor.is_floating_point():
        yield from _from_floats(tensor.float(), channels, "tensor")
    else:
        raise _wrong_dtype(str(tensor.dtype).removeprefix("torch."))


def _wrong_dtype(dtype: str) -> InputError:
    fix = "image / 65535, as float, CHW" if dtype == "uint16" else 'image.astype("uint8") if its values are 0 to 255'
    return InputError(f"pixels are uint8 (HWC) or float in [0, 1] (CHW), not {dtype}", found=dtype, fix=fix)


def _hwc_members(array: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    """uint8 (H, W), (H, W, C) or (B, H, W, C) → a list of (H, W) or (H, W, C)."""
    shape = array.shape
    if array.ndim not in (2, 3, 4):
        raise InputError("a uint8 image has the shape (H, W, C)", found=f"shape {shape}")
    if 0 in shape:
        raise InputError("the image has no pixels", found=f"shape {shape}")
    if array.ndim > 2 and shape[-1] not in _COLOURS:
        if shape[-3] in _COLOURS:
            axes = (1, 2, 0) if array.ndim == 3 else (0, 2, 3, 1)
            raise InputError(
                "uint8 images are HWC, and this one looks like CHW",
                found=f"shape {shape}",
                fix=f"np.transpose(image, {axes}), or image / 255 as float",
            )
        raise InputError(
            "a uint8 image has 1, 3 or 4 channels, last", found=f"shape {shape}", fix="CHW float for other channels"
        )
    return list(array) if array.ndim == 4 else [array]


def _pixels_to_rgb(pixels: np.ndarray[Any, Any], channels: str) -> Image.Image:
    """uint8 (H, W) or (H, W, C) → RGB. A fourth channel, transparency, is dropped as Pillow drops it."""
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels[..., :3]
    if pixels.ndim == 3 and channels == "bgr":
        pixels = pixels[..., ::-1]
    return Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")


def _from_floats(tensor: Tensor, channels: str, source: str) -> Iterator[LoadedImage]:
    """float32 (H, W), (C, H, W) or (B, C, H, W)."""
    shape = tuple(tensor.shape)
    if tensor.ndim not in (2, 3, 4):
        raise InputError("a float image has the shape (C, H, W)", found=f"shape {shape}")
    if 0 in shape:
        raise InputError("the image has no pixels", found=f"shape {shape}")
    if tensor.ndim > 2 and shape[-1] in _COLOURS and shape[-3] not in _COLOURS:
        axes = (2, 0, 1) if tensor.ndim == 3 else (0, 3, 1, 2)
        method = "permute" if source == "tensor" else "transpose"
        raise InputError(
            "float images are CHW, and this one looks like HWC", found=f"shape {shape}", fix=f"image.{method}{axes}"
        )
    _check_range(tensor)
    for member in tensor if tensor.ndim == 4 else [tensor.reshape(-1, *shape[-2:])]:
        if channels == "bgr" and len(member) not in (1, 3):
            raise InputError(f'channels="bgr" says nothing about {len(member)} channels', found=f"shape {shape}")
        ordered = member.flip(0) if channels == "bgr" else member
        yield LoadedImage(ordered, source, (shape[-2], shape[-1]), ordered)


def _check_range(tensor: Tensor) -> None:
    low, high = (float(v) for v in torch.aminmax(tensor.detach()))
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError("the image has values that are not numbers (NaN or infinite)", fix="torch.nan_to_num(image)")
    if low >= -1e-4 and high <= 1 + 1e-4:
        return
    if low < -1e-4:
        fix = "predict() normalises itself: pass the image in [0, 1], or call model(images) with what you have"
    else:
        fix = "image / 255" if high > 2 else "image.clip(0, 1)"
    raise InputError("float images have values in [0, 1]", found=f"values from {low:.4g} to {high:.4g}", fix=fix)
