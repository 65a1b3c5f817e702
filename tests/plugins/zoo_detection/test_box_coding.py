"""Box codes: torchvision's numbers, there and back, anchors without a side."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from random_boxes import box_sets, seeded_boxes
from torch import Tensor
from torchvision.models.detection import _utils as reference

from zoo_detection.box_coding import BoxCoder, DistanceCoder

CODERS = {
    "plain": BoxCoder(),
    "weighted": BoxCoder((10.0, 10.0, 5.0, 5.0)),
    "distances": DistanceCoder(),
    "pixels": DistanceCoder(by_size=False),
}
every_coder = pytest.mark.parametrize("coder", CODERS.values(), ids=CODERS.keys())


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)], ids=str)
def test_codes_and_boxes_are_torchvisions(weights: tuple[float, float, float, float]) -> None:
    boxes, anchors = seeded_boxes(50), seeded_boxes(50, 1)
    theirs, ours = reference.BoxCoder(weights), BoxCoder(weights)
    assert torch.equal(ours.encode(boxes, anchors), theirs.encode_single(boxes, anchors))
    codes = torch.randn(50, 12, generator=torch.Generator().manual_seed(0)) * 10  # three classes, some past the limit
    decoded = ours.decode(codes.view(50, 3, 4), anchors[:, None])
    assert torch.equal(decoded, theirs.decode_single(codes, anchors).view(50, 3, 4))


@pytest.mark.parametrize("by_size", [True, False])
def test_distances_are_torchvisions(by_size: bool) -> None:
    boxes, anchors = seeded_boxes(50), seeded_boxes(50, 1)
    theirs, ours = reference.BoxLinearCoder(normalize_by_size=by_size), DistanceCoder(by_size=by_size)
    codes = ours.encode(boxes, anchors)
    assert torch.equal(codes, theirs.encode(anchors, boxes))
    assert torch.equal(ours.decode(codes, anchors), theirs.decode(codes, anchors))


@every_coder
@given(boxes=box_sets(least=4, most=4, smallest_side=1), anchors=box_sets(least=4, most=4, smallest_side=1))
@settings(deadline=None)
def test_a_decoded_code_is_the_box_again(coder: BoxCoder | DistanceCoder, boxes: Tensor, anchors: Tensor) -> None:
    torch.testing.assert_close(coder.decode(coder.encode(boxes, anchors), anchors), boxes, rtol=1e-5, atol=1e-4)


def test_a_box_is_its_own_anchor_with_codes_of_zero() -> None:
    boxes = seeded_boxes(10)
    assert not BoxCoder().encode(boxes, boxes).any()
    stride = torch.tensor([[-4.0, -4, 4, 4]])
    assert DistanceCoder().encode(stride, stride).tolist() == [[0.5, 0.5, 0.5, 0.5]]


def test_no_side_grows_past_the_limit() -> None:
    decoded = BoxCoder().decode(torch.tensor([[0.0, 0.0, 50.0, 1e4]]), torch.tensor([[0.0, 0, 16, 16]]))
    assert (decoded[0, 2:] - decoded[0, :2]).tolist() == pytest.approx([1000.0, 1000.0], rel=1e-5)
    assert BoxCoder().largest_log_scale == math.log(1000 / 16)


@every_coder
def test_boxes_and_anchors_without_a_side_have_finite_codes(coder: BoxCoder | DistanceCoder) -> None:
    flat = torch.tensor([[5.0, 5, 5, 5], [0, 5, 9, 5], [0, 0, 8, 8]])
    pairs = flat.repeat_interleave(3, dim=0), flat.repeat(3, 1)
    assert bool(coder.encode(*pairs).isfinite().all())


@every_coder
def test_half_precision_codes_give_float32_boxes(coder: BoxCoder | DistanceCoder) -> None:
    anchors, codes = (
        seeded_boxes(20, extent=3000),
        torch.randn(20, 4, generator=torch.Generator().manual_seed(0)).half(),
    )
    decoded = coder.decode(codes, anchors)
    assert decoded.dtype == torch.float32
    assert torch.equal(decoded, coder.decode(codes.float(), anchors))


@every_coder
def test_codes_learn(coder: BoxCoder | DistanceCoder) -> None:
    codes = torch.rand(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: coder.decode(values, seeded_boxes(3).double()), (codes,))


@every_coder
def test_nothing_is_coded_as_nothing(coder: BoxCoder | DistanceCoder) -> None:
    nothing = torch.zeros(0, 4)
    assert coder.encode(nothing, nothing).shape == coder.decode(nothing, nothing).shape == (0, 4)
