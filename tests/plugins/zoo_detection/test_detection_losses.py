"""Losses of detectors: torchvision's numbers, nothing to sum, boxes without a side."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from random_boxes import seeded_boxes
from torch import Tensor
from torch.nn import functional as F
from torchvision import ops

from zoo.errors import InputError, OptionError
from zoo_detection import boxes as geometry, losses

BOX_LOSSES = {
    "giou": (losses.giou_loss, ops.generalized_box_iou_loss, geometry.giou),
    "diou": (losses.diou_loss, ops.distance_box_iou_loss, geometry.diou),
    "ciou": (losses.ciou_loss, ops.complete_box_iou_loss, geometry.ciou),
}


@pytest.mark.parametrize("name", BOX_LOSSES)
def test_box_losses_and_their_gradients_are_torchvisions(name: str) -> None:
    ours, theirs, _ = BOX_LOSSES[name]
    gradients = []
    for loss in (lambda rows, to: ours(rows, to, normalizer=4.0), lambda rows, to: theirs(rows, to).sum() / 4.0):
        boxes = seeded_boxes(30).requires_grad_()
        value = loss(boxes, seeded_boxes(30, 1, extent=200))
        value.backward()
        gradients.append((value.detach(), boxes.grad))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", BOX_LOSSES)
def test_a_box_loss_is_what_its_overlap_lacks(name: str) -> None:
    loss, _, overlap = BOX_LOSSES[name]
    boxes, targets = seeded_boxes(30), seeded_boxes(30, 1, extent=200)
    weights = torch.linspace(0, 2, 30)
    expected = ((1 - overlap(boxes, targets).diagonal()) * weights).sum() / 7
    torch.testing.assert_close(loss(boxes, targets, weights=weights, normalizer=7.0), expected)
    assert float(loss(boxes, boxes)) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("name", BOX_LOSSES)
@pytest.mark.parametrize("row", [[5.0, 5, 5, 5], [0.0, 5, 10, 5], [5.0, 0, 5, 10]], ids=["point", "flat", "thin"])
def test_boxes_without_a_side_have_finite_losses_and_gradients(name: str, row: list[float]) -> None:
    boxes = torch.tensor([row, row], requires_grad=True)
    value = BOX_LOSSES[name][0](boxes, torch.tensor([[0.0, 0, 8, 8], row]))
    value.backward()
    assert boxes.grad is not None
    assert bool(value.isfinite() & boxes.grad.isfinite().all())


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (-1.0, 0.0), (0.6, 1.5)])
def test_focal_loss_is_torchvisions(alpha: float, gamma: float) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(40, 5) * 4, (torch.rand(40, 5) < 0.1).float()
    expected = ops.sigmoid_focal_loss(logits, targets, alpha=alpha, gamma=gamma, reduction="sum") / 3
    torch.testing.assert_close(losses.sigmoid_focal(logits, targets, alpha=alpha, gamma=gamma, normalizer=3), expected)


def test_focal_loss_without_focus_is_cross_entropy_and_forgets_sure_answers_with_it() -> None:
    logits, targets = torch.tensor([-200.0, -3.0, 3.0, 200.0], requires_grad=True), torch.tensor([0.0, 0.0, 1.0, 1.0])
    plain = losses.sigmoid_focal(logits, targets, alpha=-1, gamma=0)
    torch.testing.assert_close(plain, F.binary_cross_entropy_with_logits(logits, targets, reduction="sum"))
    focused = losses.sigmoid_focal(logits, targets, alpha=-1, gamma=2)
    assert bool(focused < 0.01 * plain)
    focused.backward()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


@pytest.mark.parametrize("gamma", [-1.0, 0.5])
def test_a_gamma_with_infinite_gradients_is_refused(gamma: float) -> None:
    with pytest.raises(OptionError, match="gamma"):
        losses.sigmoid_focal(torch.zeros(1), torch.zeros(1), gamma=gamma)


@pytest.mark.parametrize("bend", [0.25, 1.0, 3.0])
def test_smooth_l1_bends_at_beta_and_huber_is_beta_times_it(bend: float) -> None:
    apart = torch.linspace(-5, 5, 41)
    by_hand = sum(d * d / (2 * bend) if d < bend else d - bend / 2 for d in apart.abs().tolist())
    value = losses.smooth_l1(apart, torch.zeros(41), beta=bend, normalizer=2.0)
    assert float(value) == pytest.approx(by_hand / 2)
    torch.testing.assert_close(losses.huber(apart, torch.zeros(41), delta=bend, normalizer=2.0), bend * value)


def test_smooth_l1_without_a_bend_is_l1() -> None:
    assert float(losses.smooth_l1(torch.tensor([1.0, -2.0]), torch.zeros(2), beta=0.0)) == 3.0


EVERY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "focal": losses.sigmoid_focal,
    "smooth_l1": losses.smooth_l1,
    "huber": losses.huber,
    **{name: loss for name, (loss, _, _) in BOX_LOSSES.items()},
}


@pytest.mark.parametrize("name", EVERY)
def test_nothing_to_sum_is_zero_with_a_gradient(name: str) -> None:
    predicted = torch.zeros(0, 4, requires_grad=True)
    value = EVERY[name](predicted, torch.zeros(0, 4))
    value.backward()
    assert value.shape == ()
    assert float(value.detach()) == 0
    assert predicted.grad is not None


@pytest.mark.parametrize("name", EVERY)
def test_a_target_that_would_be_broadcast_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="a target for every value"):
        EVERY[name](torch.zeros(3, 4), torch.zeros(1, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", EVERY)
def test_half_precision_is_summed_in_float32(name: str, dtype: torch.dtype) -> None:
    predicted, targets = seeded_boxes(40, extent=800).to(dtype), seeded_boxes(40, 1, extent=800).to(dtype)
    if name == "focal":
        predicted, targets = predicted / 100, (targets > 400).to(dtype)
    value = EVERY[name](predicted, targets)
    assert value.dtype == torch.float32
    assert torch.equal(value, EVERY[name](predicted.float(), targets.float()))
