"""Pictures in, batches for a model out: everything `predict` takes, or what is preprocessed already."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from torch import Tensor

from zoo.errors import InputError, OptionError
from zoo.models.images import ImageInput, iter_images
from zoo.models.model import Model
from zoo.models.preprocessing import Frame, Preprocessor
from zoo.specs import InputSpec


def batches(
    model: Model,
    images: ImageInput | Iterable[ImageInput],
    *,
    channels: str = "rgb",
    preprocessed: bool | None = None,
    batch_size: int = 8,
) -> Iterator[tuple[Tensor, list[Frame]]]:
    """(B, C, h, w) where and as what the model computes, and a frame an image.

    Args:
        images: what `model.predict` takes; or a float tensor (B, C, H, W) that is preprocessed already.
        channels: `rgb` or `bgr`, of arrays and tensors that are not preprocessed.
        preprocessed: whether a tensor (B, C, H, W) is; None: it is if any value is outside [0, 1], where images are.
        batch_size: images a batch; a preprocessed tensor is one batch.

    Raises:
        InputError: images that cannot be used, or a preprocessed tensor with values that are not finite.
    """
    reference = next(model.parameters())
    if preprocessed and not _is_batch(images):
        raise OptionError("only a float tensor (B, C, H, W) can be preprocessed already", fix="preprocessed=None")
    if isinstance(images, Tensor) and _is_batch(images) and not images.isfinite().all():
        raise InputError("the tensor has values that are not finite", found=f"{tuple(images.shape)}")
    if isinstance(images, Tensor) and _is_batch(images) and (_beyond(images) if preprocessed is None else preprocessed):
        given = images.detach().to(reference.device, reference.dtype, copy=True)  # of inference mode it has no gradient
        yield given, [_frame(image, model.input_spec) for image in images]
        return
    preprocessor, loaded = Preprocessor(model.input_spec), iter_images(images, channels)
    while chunk := list(islice(loaded, batch_size)):
        batch, frames = preprocessor(chunk)
        yield batch.to(reference.device, reference.dtype), frames


def pixels_of(image: Tensor, spec: InputSpec) -> Tensor:
    """A preprocessed image (C, H, W) as pixels in [0, 1], RGB."""
    mean, std = (image.new_tensor(values).view(-1, 1, 1) for values in (spec.mean, spec.std))
    pixels = (image.detach() * std + mean).clamp(0, 1)
    return pixels.flip(0) if spec.channel_order == "bgr" else pixels


def _is_batch(images: object) -> bool:
    return isinstance(images, Tensor) and images.ndim == 4 and images.is_floating_point()


def _beyond(images: Tensor) -> bool:
    low, high = (float(v) for v in images.detach().aminmax())
    return low < -1e-4 or high > 1 + 1e-4  # as for images, rounding is no reason


def _frame(image: Tensor, spec: InputSpec) -> Frame:
    """Of an image that was preprocessed elsewhere: the input is the original."""
    size = (image.shape[1], image.shape[2])
    fits = len(spec.mean) == image.shape[0]
    origin = pixels_of(image.float().cpu(), spec) if fits else None
    return Frame(size=size, input_size=size, scale=(1.0, 1.0), offset=(0.0, 0.0), source="tensor", origin=origin)
