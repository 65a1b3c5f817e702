"""Arrays, tensors, Pillow images and lists: layout, dtype, range and channel order are checked at the door."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from photos import photo
from zoo.errors import InputError, OptionError
from zoo.models.images import iter_images, load_images

HWC = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
CHW = torch.from_numpy(HWC).permute(2, 0, 1) / 255


def pixels(image: object, **options: object) -> np.ndarray:
    (loaded,) = load_images(image, **options)
    return np.asarray(loaded.image)


def test_uint8_arrays_are_hwc_and_equal_the_pillow_image():
    for same in (HWC, torch.from_numpy(HWC), Image.fromarray(HWC), np.asfortranarray(HWC), HWC[::-1][::-1]):
        assert np.array_equal(pixels(same), HWC)


def test_float_arrays_are_chw():
    for same in (CHW, CHW.numpy(), CHW.double().numpy(), CHW.numpy().astype(">f4"), CHW.double()):
        (loaded,) = load_images(same)
        assert isinstance(loaded.image, torch.Tensor)
        assert loaded.image.dtype == torch.float32
        assert torch.equal(loaded.image, CHW)
        assert loaded.size == (20, 30)
    (half,) = load_images(CHW.bfloat16())
    assert torch.allclose(half.image, CHW, atol=0.01)


def test_read_only_and_reversed_arrays_are_taken_without_a_warning(recwarn):
    frozen = CHW.numpy().copy()
    frozen.flags.writeable = False
    assert torch.equal(load_images(frozen)[0].image, CHW)
    assert torch.equal(load_images(frozen[:, ::-1])[0].image, CHW.flip(1))
    assert not recwarn.list


def test_grey_arrays_are_grey_images():
    grey = HWC[..., 0]
    assert np.array_equal(pixels(grey), np.stack([grey] * 3, -1))
    assert np.array_equal(pixels(grey[..., None]), np.stack([grey] * 3, -1))
    assert load_images(CHW[0])[0].image.shape == (1, 20, 30)


def test_a_fourth_channel_is_dropped_as_pillow_drops_it():
    rgba = np.dstack([HWC, np.zeros((20, 30), np.uint8)])
    assert np.array_equal(pixels(rgba), HWC)


def test_a_batch_is_its_images():
    batch = torch.stack([CHW, CHW.flip(0)])
    loaded = load_images(batch)
    assert [torch.equal(one.image, each) for one, each in zip(loaded, batch, strict=True)] == [True, True]
    assert len(load_images(np.stack([HWC] * 3))) == 3
    assert len(load_images([batch, HWC])) == 3


def test_bgr_arrays_and_tensors_are_turned_and_files_are_not():
    assert np.array_equal(pixels(HWC[..., ::-1], channels="bgr"), HWC)
    assert np.array_equal(pixels(np.dstack([HWC[..., ::-1], HWC[..., 0]]), channels="bgr"), HWC)
    assert torch.equal(load_images(CHW.flip(0), channels="bgr")[0].image, CHW)
    assert torch.equal(load_images(CHW.flip(0)[None], channels="bgr")[0].image, CHW)
    assert np.array_equal(pixels(HWC[..., 0], channels="bgr"), pixels(HWC[..., 0]))
    assert np.array_equal(pixels(Image.fromarray(HWC), channels="bgr"), HWC)
    assert np.array_equal(pixels(photo("chelsea"), channels="bgr"), pixels(photo("chelsea")))
    with pytest.raises(InputError, match="5 channels"):
        load_images(torch.rand(5, 8, 8), channels="bgr")
    with pytest.raises(OptionError, match="rgb"):
        load_images(HWC, channels="brg")


REFUSED = {
    "HWC float": (HWC / 255, "looks like HWC", "image.transpose(2, 0, 1)"),
    "HWC float tensor": (CHW.permute(1, 2, 0), "looks like HWC", "image.permute(2, 0, 1)"),
    "BHWC float": ((HWC / 255)[None], "looks like HWC", "image.transpose(0, 3, 1, 2)"),
    "CHW uint8": (HWC.transpose(2, 0, 1), "looks like CHW", "(1, 2, 0)"),
    "CHW uint8 tensor": (torch.from_numpy(HWC).permute(2, 0, 1), "looks like CHW", "image / 255"),
    "BCHW uint8": (HWC.transpose(2, 0, 1)[None], "looks like CHW", "(0, 2, 3, 1)"),
    "seven channels of uint8": (np.zeros((9, 9, 7), np.uint8), "1, 3 or 4 channels", "CHW float"),
    "float up to 255": (CHW * 255, "values in [0, 1]", "image / 255"),
    "float a little above 1": (CHW * 1.2, "values in [0, 1]", "image.clip(0, 1)"),
    "normalised float": ((CHW - 0.5) / 0.2, "values in [0, 1]", "predict() normalises itself"),
    "NaN": (CHW.clone().index_fill_(1, torch.tensor([3]), torch.nan), "NaN", "nan_to_num"),
    "infinite": (CHW.clone().index_fill_(1, torch.tensor([3]), torch.inf), "infinite", "nan_to_num"),
    "int64": (HWC.astype(np.int64), "not int64", "uint8"),
    "int64 tensor": (torch.from_numpy(HWC).long(), "not int64", "uint8"),
    "uint16": (HWC.astype(np.uint16), "not uint16", "65535"),
    "bool": (HWC > 3, "not bool", "uint8"),
    "complex": (CHW.to(torch.complex64), "not complex64", "uint8"),
    "object": (np.array([[None]]), "not object", "uint8"),
    "one axis uint8": (HWC[0, 0], "(H, W, C)", None),
    "one axis float": (CHW[0, 0], "(C, H, W)", None),
    "five axes": (CHW[None, None], "(C, H, W)", None),
    "a number as array": (np.asarray(0.5), "(C, H, W)", None),
    "no rows": (HWC[:0], "no pixels", None),
    "no columns": (CHW[..., :0], "no pixels", None),
    "an empty batch": (CHW[None][:0], "no pixels", None),
    "an empty batch of uint8": (HWC[None][:0], "no pixels", None),
    "no channels": (HWC[..., :0], "no pixels", None),
    "a meta tensor": (torch.rand(3, 8, 8, device="meta"), "no pixels that can be read", None),
    "a sparse tensor": (CHW.to_sparse(), "no pixels that can be read", None),
    "a number": (7, "a int is not an image", "pass a path"),
    "None": (None, "a NoneType is not an image", "pass a path"),
    "a mapping": ({"image": HWC}, "a dict is not an image", "pass a path"),
    "an empty list": ([], "the list is empty", None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_refused_with_the_way_out(name):
    image, says, fix = REFUSED[name]
    with pytest.raises(InputError, match=re.escape(says)) as error:
        load_images(image)
    assert fix is None or fix in str(error.value.fix)


@pytest.mark.parametrize("name", [name for name in REFUSED if name != "an empty list"])
def test_in_a_list_the_place_of_the_bad_one_is_named(name):
    image, says, _ = REFUSED[name]
    with pytest.raises(InputError, match=r"^image 2: .*" + re.escape(says)):
        load_images([HWC, CHW, image, HWC])


@pytest.mark.parametrize("name", ["HWC float", "HWC float tensor", "BHWC float", "CHW uint8", "BCHW uint8"])
def test_the_way_out_for_a_wrong_layout_works(name):
    image, _, _ = REFUSED[name]
    with pytest.raises(InputError) as error:
        load_images(image)
    assert len(load_images(eval(str(error.value.fix).split(", or")[0], {"image": image, "np": np}))) == 1


def test_nested_lists_are_not_images():
    with pytest.raises(InputError, match="image 0: a list is not an image"):
        load_images([[1, 2], [3, 4]])


def test_images_are_opened_when_their_turn_comes(tmp_path):
    images = iter_images([HWC, tmp_path / "none.png"])
    assert next(images).size == (20, 30)
    with pytest.raises(InputError, match="image 1: no such file"):
        next(images)
    assert sum(1 for _ in iter_images(path for path in [photo("chelsea")] * 2)) == 2


def test_an_image_knows_what_to_show_later(tmp_path):
    path = tmp_path / "cat.png"
    Image.fromarray(HWC).save(path)
    for image in (path, HWC, Image.fromarray(HWC), CHW, CHW.numpy(), path.read_bytes()):
        (loaded,) = load_images(image)
        assert np.array_equal(np.asarray(loaded.photo()), HWC)
    (loaded,) = load_images(path)
    assert loaded.origin == str(path)  # the file, not its pixels, is kept
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        loaded.photo()
    assert load_images(torch.rand(5, 8, 9))[0].photo().size == (9, 8)


def test_sources_say_what_the_image_was(tmp_path):
    path = tmp_path / "cat.png"
    Image.fromarray(HWC).save(path)
    named = [str(path), Image.open(path), HWC, CHW, path.read_bytes(), Image.fromarray(HWC)]
    assert [image.source for image in load_images(named)] == [str(path)] * 2 + ["array", "tensor", "bytes", "image"]


def test_gradients_reach_a_tensor():
    image = CHW.clone().requires_grad_()
    load_images(image)[0].image.sum().backward()
    assert torch.equal(image.grad, torch.ones_like(image))


@settings(max_examples=300, deadline=None)
@given(
    arrays.arrays(
        dtype=arrays.scalar_dtypes() | st.just(np.dtype("uint8")) | st.just(np.dtype("float32")),
        shape=arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5),
    )
)
def test_no_array_raises_anything_but_an_input_error(array):
    try:
        loaded = load_images(array)
    except InputError:
        return
    assert all(min(image.size) >= 1 for image in loaded)
