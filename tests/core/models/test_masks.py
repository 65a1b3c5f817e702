"""Masks are pasted where torchvision pastes them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torchvision.models.detection.roi_heads import paste_masks_in_image

from zoo.models.masks import paste_masks

WIDTH, HEIGHT = 83, 57

corners = st.tuples(
    st.floats(0, WIDTH - 1), st.floats(0, HEIGHT - 1), st.floats(0.01, WIDTH), st.floats(0.01, HEIGHT)
).map(lambda b: (b[0], b[1], min(b[0] + b[2], WIDTH), min(b[1] + b[3], HEIGHT)))


@settings(max_examples=120, deadline=None)
@given(boxes=st.lists(corners, max_size=4), side=st.sampled_from((14, 28, 3)), seed=st.integers(0, 999))
def test_masks_are_pasted_as_torchvision_does(boxes, side, seed):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(len(boxes), side, side, generator=generator)
    boxes_xyxy = torch.tensor(boxes).reshape(-1, 4)
    ours = paste_masks(masks, boxes_xyxy, (HEIGHT, WIDTH))
    assert (ours.shape, ours.dtype) == ((len(boxes), HEIGHT, WIDTH), torch.bool)
    theirs = paste_masks_in_image(masks[:, None], boxes_xyxy, (HEIGHT, WIDTH))
    assert torch.equal(ours, theirs.reshape(-1, HEIGHT, WIDTH) > 0.5)


def test_boxes_that_leave_the_picture_are_cut():
    boxes = torch.tensor([[-30.0, -20.0, 40.0, 30.0], [60.0, 40.0, 140.0, 90.0]])
    masks = torch.rand(2, 28, 28, generator=torch.Generator().manual_seed(0))
    theirs = paste_masks_in_image(masks[:, None], boxes, (HEIGHT, WIDTH))[:, 0] > 0.5
    assert torch.equal(paste_masks(masks, boxes, (HEIGHT, WIDTH)), theirs)


def test_a_box_beside_the_picture_has_no_pixels():
    boxes = torch.tensor([[100.0, 5.0, 140.0, 30.0], [5.0, -40.0, 30.0, -9.0]])
    assert not paste_masks(torch.ones(2, 28, 28), boxes, (HEIGHT, WIDTH)).any()


def test_a_full_mask_fills_its_box():
    pasted = paste_masks(torch.ones(1, 28, 28), torch.tensor([[10.0, 20.0, 40.0, 50.0]]), (HEIGHT, WIDTH))[0]
    rows, columns = pasted.any(1).nonzero(), pasted.any(0).nonzero()
    assert (columns.min(), columns.max()) == (pytest.approx(10, abs=1), pytest.approx(39, abs=1))
    assert (rows.min(), rows.max()) == (pytest.approx(20, abs=1), pytest.approx(49, abs=1))


def test_half_a_mask_fills_half_its_box():
    mask = torch.zeros(1, 28, 28)
    mask[:, :, 14:] = 1
    pasted = paste_masks(mask, torch.tensor([[10.0, 10.0, 50.0, 50.0]]), (HEIGHT, WIDTH))[0]
    assert not pasted[:, :29].any()
    assert pasted[12:48, 31:48].all()


def test_the_threshold_is_what_a_pixel_must_pass():
    boxes = torch.tensor([[10.0, 10.0, 50.0, 50.0]])
    masks = torch.full((1, 28, 28), 0.4)
    assert not paste_masks(masks, boxes, (HEIGHT, WIDTH)).any()
    assert paste_masks(masks, boxes, (HEIGHT, WIDTH), threshold=0.3).sum() == pytest.approx(1600, rel=0.1)
