"""Preprocessing: bit-equal to the evaluation transforms of timm and torchvision, and exactly invertible."""

from __future__ import annotations

import math

import numpy as np
import pytest
import timm.data
import torch
import torchvision.transforms.functional as TF
from hypothesis import example, given, settings, strategies as st
from PIL import Image
from torchvision.transforms._presets import ImageClassification

from photos import photo
from zoo.errors import InputError, UnsupportedError
from zoo.models import preprocessing
from zoo.models.images import load_images
from zoo.models.preprocessing import Frame, Preprocessor, resized_size
from zoo.specs import InputSpec

RESIZE = {"center": "shortest", "squash": "stretch", "border": "letterbox"}
CROPS = (0.875, 0.882, 0.9, 0.903, 0.936, 0.94, 0.942, 0.95, 0.965, 1.0, 1.15)

sides = st.integers(1, 400)
sizes = st.tuples(sides, sides).filter(lambda s: max(s) <= 40 * min(s))  # timm itself resizes to nothing beyond
fast = settings(max_examples=60, deadline=None)


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    """Noise shows every resampling and rounding difference; photos hide them."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def ours(spec: InputSpec, image: Image.Image | torch.Tensor) -> torch.Tensor:
    return Preprocessor(spec)(load_images(image))[0][0]


def timm_makes_an_image(spec: InputSpec, size: tuple[int, int], mode: str) -> bool:
    """timm's letterbox rounds a very narrow image to nothing; ours keeps a pixel."""
    ratio = max(side / math.floor(target / spec.crop_pct) for side, target in zip(size, spec.size, strict=True))
    return mode != "border" or min(round(side / ratio) for side in size) >= 1


def timms(spec: InputSpec, mode: str, image: Image.Image) -> torch.Tensor:
    cfg = {
        "input_size": (3, *spec.size),
        "interpolation": spec.interpolation,
        "mean": spec.mean,
        "std": spec.std,
        "crop_pct": spec.crop_pct,
        "crop_mode": mode,
    }
    return timm.data.create_transform(**timm.data.resolve_data_config(pretrained_cfg=cfg))(image)


@fast
@given(
    size=sizes,
    target=st.tuples(st.integers(8, 90), st.integers(8, 90)) | st.integers(8, 90).map(lambda s: (s, s)),
    crop_pct=st.sampled_from(CROPS),
    mode=st.sampled_from(tuple(RESIZE)),
    interpolation=st.sampled_from(("bilinear", "bicubic")),
    mean=st.sampled_from(((0.485, 0.456, 0.406), (0.5, 0.5, 0.5), (0.4815, 0.4578, 0.4082), (0.0, 0.0, 0.0))),
)
@example((31, 33), (32, 32), 1.0, "center", "bilinear", (0.5, 0.5, 0.5))  # upscaled
@example((300, 301), (58, 58), 1.15, "center", "bicubic", (0.5, 0.5, 0.5))  # the crop is larger than the image
@example((300, 201), (58, 31), 1.15, "border", "bicubic", (0.485, 0.456, 0.406))
@example((300, 20), (57, 58), 1.0, "border", "bilinear", (0.485, 0.456, 0.406))
@example((117, 117), (117, 117), 0.936, "center", "bilinear", (0.5, 0.5, 0.5))  # 117 / 0.936 is 124.99… in floats
def test_a_pillow_image_comes_out_as_from_timm_to_the_last_bit(size, target, crop_pct, mode, interpolation, mean):
    image = noise(*size)
    spec = InputSpec(
        size=target, resize=RESIZE[mode], crop_pct=crop_pct, interpolation=interpolation, mean=mean, std=(0.2, 0.3, 0.4)
    )
    if timm_makes_an_image(spec, size, mode):
        assert torch.equal(ours(spec, image), timms(spec, mode, image))
    else:
        assert ours(spec, image).isfinite().all()


@pytest.mark.parametrize("mode", tuple(RESIZE))
@pytest.mark.parametrize(("size", "crop_pct"), [(224, 0.875), (224, 0.9), (240, 0.94), (256, 0.95), (288, 1.0)])
def test_photographs_come_out_as_from_timm_to_the_last_bit(mode, size, crop_pct):
    spec = InputSpec(size=(size, size), resize=RESIZE[mode], crop_pct=crop_pct, interpolation="bicubic")
    for name in ("chelsea", "china", "rocket"):
        expected = timms(spec, mode, Image.open(photo(name)).convert("RGB"))
        assert torch.equal(ours(spec, photo(name)), expected), name


@fast
@given(size=sizes, preset=st.sampled_from(((224, 232), (224, 256), (240, 255), (300, 320), (380, 384), (224, 236))))
def test_a_pillow_image_comes_out_as_from_torchvisions_preset(size, preset):
    crop, resize = preset
    image = noise(*size)
    theirs = ImageClassification(crop_size=crop, resize_size=resize)(image)
    assert torch.equal(ours(InputSpec(size=(crop, crop), crop_pct=crop / resize), image), theirs)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("mode", tuple(RESIZE.values()))
def test_a_tensor_differs_from_its_pillow_image_by_two_levels_at_most(mode, interpolation):
    spec = InputSpec(resize=mode, interpolation=interpolation, mean=(0, 0, 0), std=(1, 1, 1))
    for name in ("chelsea", "coffee"):
        image = Image.open(photo(name)).convert("RGB")
        difference = (ours(spec, TF.to_tensor(image)) - ours(spec, image)).abs()
        assert difference.max() <= 2.001 / 255
        assert difference.mean() < 0.5 / 255


def test_without_antialiasing_both_kinds_of_image_are_resized_as_torch_does():
    image = noise(300, 200)
    spec = InputSpec(size=(64, 64), crop_pct=1.0, resize="stretch", antialias=False, mean=(0, 0, 0), std=(1, 1, 1))
    expected = torch.nn.functional.interpolate(TF.to_tensor(image)[None], size=(64, 64), mode="bilinear")[0]
    assert torch.equal(ours(spec, image), expected)
    assert torch.equal(ours(spec, TF.to_tensor(image)), expected)


@fast
@given(
    size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    target=st.tuples(st.integers(2, 300), st.integers(2, 300)),  # 1 / 2 would be no pixel
    crop_pct=st.floats(0.1, 2),
    mode=st.sampled_from(tuple(RESIZE.values())),
    side=st.sampled_from(("center", "end")),
    points=st.lists(st.tuples(st.floats(-9000, 9000), st.floats(-9000, 9000)), min_size=1, max_size=5),
)
def test_the_inverse_of_a_frame_undoes_it(size, target, crop_pct, mode, side, points):
    spec = InputSpec(size=target, resize=mode, crop_pct=crop_pct, pad_side=side)
    frame = frame_of(spec, size)
    there = torch.tensor(points, dtype=torch.float64)
    assert torch.allclose(frame.points_to_original(frame.points_to_input(there)), there, atol=1e-6)
    boxes = torch.cat([there, there + 5], dim=1)
    assert torch.allclose(frame.boxes_to_original(frame.boxes_to_input(boxes)), boxes, atol=1e-6)
    assert torch.equal(frame.boxes_to_input(boxes)[:, 2:], frame.points_to_input(there + 5))


def frame_of(spec: InputSpec, size: tuple[int, int]) -> Frame:
    image = load_images(Image.new("RGB", (1, 1)))[0]
    return Preprocessor(spec).frame(type(image)(image.image, "", size, image.origin))


@pytest.mark.parametrize("tensors", [False, True])
@pytest.mark.parametrize("mode", tuple(RESIZE.values()))
@fast
@given(data=st.data())
def test_a_spot_painted_on_the_original_lands_where_the_frame_says(mode, tensors, data):
    height, width = data.draw(st.tuples(st.integers(40, 300), st.integers(40, 300)))
    spec = InputSpec(
        size=data.draw(st.tuples(st.integers(40, 200), st.integers(40, 200))),
        resize=mode,
        crop_pct=data.draw(st.sampled_from((0.8, 1.0, 1.2))),
        mean=(0, 0, 0),
        std=(1, 1, 1),
        pad_side=data.draw(st.sampled_from(("center", "end"))),
    )
    x, y = data.draw(st.integers(0, width - 9)), data.draw(st.integers(0, height - 9))
    image = np.zeros((height, width, 3), np.uint8)
    image[y : y + 8, x : x + 8] = 255
    given_image = torch.from_numpy(image).permute(2, 0, 1) / 255 if tensors else Image.fromarray(image)
    inputs, (frame,) = Preprocessor(spec)(load_images(given_image))
    x0, y0, x1, y1 = frame.boxes_to_input(torch.tensor([x, y, x + 8, y + 8], dtype=torch.float64)).tolist()
    if x0 < 1 or y0 < 1 or x1 > spec.size[1] - 1 or y1 > spec.size[0] - 1:
        return  # cut by the crop
    light = inputs[0, 0].double()
    columns, rows = torch.arange(light.shape[1]) + 0.5, torch.arange(light.shape[0]) + 0.5
    centre = ((light.sum(0) * columns).sum() / light.sum(), (light.sum(1) * rows).sum() / light.sum())
    assert centre[0] == pytest.approx((x0 + x1) / 2, abs=0.15)
    assert centre[1] == pytest.approx((y0 + y1) / 2, abs=0.15)
    assert float(light.sum()) == pytest.approx((x1 - x0) * (y1 - y0), rel=0.1)


def test_a_frame_says_what_the_original_was():
    _, (frame,) = Preprocessor(InputSpec())(load_images(photo("chelsea")))
    assert (frame.size, frame.input_size, frame.source) == ((300, 451), (224, 224), str(photo("chelsea")))
    assert frame.photo().size == (451, 300)
    assert frame_of(InputSpec(), (10, 20)).photo().size == (1, 1)


def test_letterbox_padding_has_the_asked_grey_on_the_asked_side():
    spec = InputSpec(
        size=(64, 64), resize="letterbox", crop_pct=1.0, pad_value=114, pad_side="end", mean=(0, 0, 0), std=(1, 1, 1)
    )
    for image in (Image.new("RGB", (128, 64), "white"), torch.ones(3, 64, 128)):
        out = ours(spec, image)
        assert torch.equal(out[:, :32], torch.ones(3, 32, 64))
        assert torch.allclose(out[:, 32:], torch.full((3, 32, 64), 114 / 255))
    centred = ours(InputSpec(**{**vars(spec), "pad_side": "center"}), Image.new("RGB", (128, 64), "white"))
    assert centred[0, :, 0].round().tolist() == [0] * 16 + [1] * 32 + [0] * 16


def test_bgr_networks_get_blue_first_and_their_mean_in_that_order():
    spec = InputSpec(
        size=(8, 8), resize="letterbox", crop_pct=1.0, channel_order="bgr", mean=(0.1, 0.5, 0.9), std=(1, 1, 1)
    )
    out = ours(spec, Image.new("RGB", (8, 4), (255, 0, 0)))
    assert out[:, 4, 4].tolist() == pytest.approx([-0.1, -0.5, 0.1], abs=1e-6)
    assert out[:, 0, 0].tolist() == pytest.approx([0, 0, 0], abs=0.003)  # padding is the mean


def test_one_channel_networks_get_grey():
    spec = InputSpec(size=(8, 8), channels=1, mean=(0.0,), std=(1.0,))
    red = Image.new("RGB", (9, 9), (255, 0, 0))
    for image in (red, TF.to_tensor(red)):
        assert ours(spec, image).flatten().tolist() == pytest.approx([0.299] * 64, abs=0.002)
    assert torch.allclose(ours(spec, torch.full((1, 9, 9), 0.25)), torch.full((1, 8, 8), 0.25))


def test_grey_tensors_serve_colour_networks():
    spec = InputSpec(size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1))
    assert torch.allclose(ours(spec, torch.full((1, 9, 9), 0.25)), torch.full((3, 8, 8), 0.25))


def test_other_channel_counts_come_as_tensors_only():
    spec = InputSpec(size=(8, 8), channels=5, mean=(0.0,) * 5, std=(1.0,) * 5)
    assert ours(spec, torch.rand(5, 9, 9)).shape == (5, 8, 8)
    with pytest.raises(InputError, match=r"takes 5 channels, the image has 3") as error:
        ours(spec, Image.new("RGB", (9, 9)))
    assert "in_chans=3" in str(error.value.fix)
    with pytest.raises(InputError, match=r"takes 3 channels, the image has 5"):
        ours(InputSpec(size=(8, 8)), torch.rand(5, 9, 9))


def test_an_empty_batch_is_refused():
    with pytest.raises(InputError, match="empty"):
        Preprocessor(InputSpec())([])


def test_every_image_of_a_batch_is_its_own():
    images = [photo("chelsea"), noise(50, 700), torch.rand(3, 30, 20)]
    together, frames = Preprocessor(InputSpec())(load_images(images))
    assert together.shape == (3, 3, 224, 224)
    assert together.dtype == torch.float32
    for one, image in zip(together, images, strict=True):
        assert torch.equal(one, ours(InputSpec(), image))
    assert [frame.size for frame in frames] == [(300, 451), (50, 700), (30, 20)]


def test_a_filter_torch_does_not_have_is_named_for_tensors():
    spec = InputSpec(size=(8, 8), interpolation="lanczos")
    assert ours(spec, noise(20, 20)).shape == (3, 8, 8)
    with pytest.raises(UnsupportedError, match="lanczos"):
        ours(spec, torch.rand(3, 20, 20))


@pytest.mark.parametrize("size", [(1, 40), (300, 2), (57, 1000)])
def test_of_a_very_long_image_only_what_the_crop_keeps_is_computed(size, monkeypatch):
    for mode in ("shortest", "letterbox"):
        spec = InputSpec(size=(64, 64), resize=mode, crop_pct=0.8, interpolation="bicubic", mean=(0,) * 3, std=(1,) * 3)
        smooth = noise(-(-size[0] // 8), -(-size[1] // 8)).resize(size[::-1], Image.Resampling.BICUBIC)
        whole = ours(spec, smooth)
        with monkeypatch.context() as patch:
            patch.setattr(preprocessing, "MAX_RESIZED", 1)
            part = ours(spec, smooth)
        assert (whole - part).abs().max() <= 2.001 / 255  # Pillow may take its two passes in another order


def test_a_line_of_pixels_does_not_take_the_memory():
    assert ours(InputSpec(), Image.new("RGB", (1, 60_000), "white")).shape == (3, 224, 224)
    assert ours(InputSpec(resize="letterbox"), Image.new("RGB", (1, 60_000), "white")).shape == (3, 224, 224)
    with pytest.raises(InputError, match="long and narrow"):
        ours(InputSpec(), torch.zeros(3, 1, 60_000))


@fast
@given(size=sizes, target=st.integers(2, 500), crop_pct=st.floats(0.2, 2))  # 1 / 2 would be no pixel
def test_the_shorter_side_is_exactly_what_was_asked_for(size, target, crop_pct):
    spec = InputSpec(size=(target, target), crop_pct=crop_pct)
    rows, columns = resized_size(spec, size)
    assert min(rows, columns) == max(1, math.floor(target / crop_pct))
    assert (rows - columns) * (size[0] - size[1]) >= 0
