"""Images of unequal sizes: as torchvision's detectors see them, and back to the original's pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings, strategies as st
from torchvision.models.detection.transform import GeneralizedRCNNTransform, _resize_image_and_masks

from photos import photo
from zoo.errors import ManifestError
from zoo.models.images import load_images
from zoo.models.preprocessing import Preprocessor, pad_batch, resized_size
from zoo.specs import IMAGENET_MEAN, IMAGENET_STD, InputSpec

SPEC = InputSpec(size=(240, 400), resize="fit", crop_pct=1.0, antialias=False, divisor=32)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def fit(short: int, long: int, divisor: int = 1) -> InputSpec:
    return InputSpec(size=(short, long), resize="fit", crop_pct=1.0, antialias=False, divisor=divisor)


@settings(max_examples=300, deadline=None)
@given(
    size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)).filter(lambda s: max(s) <= 30 * min(s)),
    short=st.integers(40, 1000),
    more=st.integers(0, 1000),
)
@example((480, 640), 800, 533)
@example((375, 500), 800, 533)
@example((500, 375), 800, 533)
@example((426, 640), 320, 320)
@example((100, 3000), 800, 533)
def test_sizes_are_torchvisions_for_every_image(size, short, more):
    image = torch.empty(1, device="meta").expand(3, *size)
    theirs = _resize_image_and_masks(image, short, short + more)[0].shape[1:]
    assert resized_size(fit(short, short + more), size) == tuple(theirs)


def test_no_side_falls_below_one_pixel():
    assert resized_size(fit(10, 20), (1, 16384)) == (1, 20)


@pytest.mark.parametrize("sizes", [((120, 160),), ((90, 200), (200, 90)), ((300, 301), (64, 500), (33, 35))])
def test_a_batch_holds_torchvisions_pixels(sizes):
    images = [noise(*size, seed) for seed, size in enumerate(sizes)]
    tensors = [torch.from_numpy(image).permute(2, 0, 1) / 255 for image in images]
    theirs, _ = GeneralizedRCNNTransform(240, 400, list(IMAGENET_MEAN), list(IMAGENET_STD)).eval()(tensors)
    for loaded in (load_images(images), load_images(tensors)):
        batch, frames = Preprocessor(SPEC)(loaded)
        assert batch.shape == theirs.tensors.shape
        assert [frame.input_size for frame in frames] == theirs.image_sizes
        torch.testing.assert_close(batch, theirs.tensors, atol=1e-5, rtol=0)


def test_a_photograph_holds_torchvisions_pixels():
    (loaded,) = load_images(photo("chelsea"))
    tensor = torch.from_numpy(np.array(loaded.image)).permute(2, 0, 1) / 255
    theirs, _ = GeneralizedRCNNTransform(240, 400, list(IMAGENET_MEAN), list(IMAGENET_STD)).eval()([tensor])
    torch.testing.assert_close(Preprocessor(SPEC)([loaded])[0], theirs.tensors, atol=1e-5, rtol=0)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(20, 300), st.integers(20, 300)), min_size=1, max_size=4),
    divisor=st.sampled_from((1, 7, 32)),
)
def test_padding_is_zero_right_and_below_and_no_larger_than_it_must(sizes, divisor):
    batch, frames = Preprocessor(fit(50, 80, divisor))(load_images([noise(*size) for size in sizes]))
    for axis, side in enumerate(batch.shape[2:]):
        largest = max(frame.input_size[axis] for frame in frames)
        assert side % divisor == 0
        assert largest <= side < largest + divisor
    for image, frame in zip(batch, frames, strict=True):
        rows, columns = frame.input_size
        assert not image[:, rows:].any()
        assert not image[:, :, columns:].any()


def test_padding_comes_after_normalisation():
    black = np.zeros((40, 40, 3), np.uint8)
    batch, _ = Preprocessor(fit(40, 80, 64))(load_images(black))
    assert (batch[0, :, :40, :40] < -1).all()
    assert (batch[0, :, 40:] == 0).all()


def test_an_image_is_the_same_beside_any_other():
    one, other = noise(90, 120), noise(200, 77, seed=1)
    alone, (frame,) = Preprocessor(SPEC)(load_images(one))
    beside, _ = Preprocessor(SPEC)(load_images([one, other]))
    rows, columns = frame.input_size
    assert torch.equal(alone[0, :, :rows, :columns], beside[0, :, :rows, :columns])


@settings(max_examples=100, deadline=None)
@given(
    size=st.tuples(st.integers(2, 800), st.integers(2, 800)),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_boxes_go_to_the_input_and_back(size, corners):
    frame = Preprocessor(SPEC).frame(load_images(np.zeros((*size, 3), np.uint8))[0])
    limits = torch.tensor([size[1], size[0], size[1], size[0]], dtype=torch.float64)
    boxes = torch.tensor([corners], dtype=torch.float64) * limits
    inside = frame.boxes_to_input(boxes)
    torch.testing.assert_close(frame.boxes_to_original(inside), boxes, atol=1e-9, rtol=1e-9)
    whole = frame.boxes_to_input(limits * torch.tensor([0, 0, 1, 1]))
    rows, columns = frame.input_size
    torch.testing.assert_close(whole, whole.new_tensor([0, 0, columns, rows]))


def test_a_bright_square_lands_where_the_frame_says():
    image = np.zeros((100, 150, 3), np.uint8)
    image[20:40, 60:90] = 255
    batch, (frame,) = Preprocessor(fit(200, 400, 32))(load_images(image))
    x1, y1, x2, y2 = frame.boxes_to_input(torch.tensor([60.0, 20.0, 90.0, 40.0])).tolist()
    bright = (batch[0, 0] > 1).nonzero()
    assert bright.min(0).values.tolist() == pytest.approx([y1, x1], abs=1)
    assert (bright.max(0).values + 1).tolist() == pytest.approx([y2, x2], abs=1)


def test_pad_batch_keeps_dtype_and_grows_to_the_largest_of_each_side():
    batch = pad_batch([torch.ones(2, 3, 9, dtype=torch.float64), torch.ones(2, 8, 4, dtype=torch.float64)], 5)
    assert (batch.shape, batch.dtype) == ((2, 2, 10, 10), torch.float64)
    assert batch.sum() == 2 * (3 * 9 + 8 * 4)


@pytest.mark.parametrize("wrong", [{"crop_pct": 0.875}, {"crop_pct": 1.0, "fixed_size": True}, {"divisor": 0}])
def test_a_spec_that_fits_and_crops_is_refused(wrong):
    with pytest.raises(ManifestError):
        InputSpec(**{"size": (8, 8), "resize": "fit", "crop_pct": 1.0, **wrong})
