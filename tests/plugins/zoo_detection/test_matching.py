"""Assigners and the sampler: torchvision's answers, the papers' rules, no targets."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st
from random_boxes import box_sets, seeded_boxes
from torch import Tensor
from torchvision.models.detection import _utils as reference

from zoo.errors import InputError
from zoo_detection import boxes as geometry
from zoo_detection.anchors import GridAnchors
from zoo_detection.matching import BACKGROUND, BETWEEN, atss, fcos_assign, max_iou, sample_balanced, ssd_assign

MAP_SIZES, STRIDES = [(20, 20), (10, 10), (5, 5)], [(8, 8), (16, 16), (32, 32)]
LEVELS = GridAnchors([[8], [16], [32]], [1.0]).at(MAP_SIZES, STRIDES)  # a stride's squares, as FCOS has them
PER_LEVEL = [len(level) for level in LEVELS]
CELLS = torch.cat(LEVELS)
LARGE_CELLS = torch.cat(GridAnchors([[32], [64], [128]], [1.0]).at(MAP_SIZES, STRIDES))  # as ATSS has them


@pytest.mark.parametrize("allow_low_quality", [True, False])
@given(targets=box_sets(least=1, most=5, smallest_side=1), anchors=box_sets(least=1, smallest_side=1))
@settings(deadline=None, max_examples=60)
def test_max_iou_is_torchvisions(allow_low_quality: bool, targets: Tensor, anchors: Tensor) -> None:
    overlaps = geometry.iou(targets, anchors)  # on a grid, so that ties are many
    theirs = reference.Matcher(0.5, 0.25, allow_low_quality)(overlaps.clone())
    assert torch.equal(max_iou(overlaps, 0.5, 0.25, allow_low_quality=allow_low_quality), theirs)


def test_max_iou_tells_matched_from_between_from_background() -> None:
    overlaps = torch.tensor([[0.7, 0.4, 0.1, 0.0], [0.6, 0.5, 0.29, 0.3]])
    assert max_iou(overlaps, 0.6, 0.3).tolist() == [0, BETWEEN, BACKGROUND, BETWEEN]
    assert max_iou(overlaps.flip(0), 0.7, 0.3).tolist() == [1, BETWEEN, BACKGROUND, BETWEEN]


@given(targets=box_sets(least=1, most=5, smallest_side=1), anchors=box_sets(least=1, smallest_side=1))
@settings(deadline=None, max_examples=60)
def test_ssd_is_torchvisions_and_an_anchor_has_one_target(targets: Tensor, anchors: Tensor) -> None:
    overlaps = geometry.iou(targets, anchors)
    matches = ssd_assign(overlaps, 0.5)
    assert torch.equal(matches, reference.SSDMatcher(0.5)(overlaps.clone()))
    best = overlaps.max(dim=1).indices.tolist()
    assert all(int(matches[anchor]) >= 0 for anchor in best)
    assert {int(matches[anchor]) for anchor in best} == {max(t for t, b in enumerate(best) if b == a) for a in best}


def test_ssd_gives_a_target_its_best_anchor_though_another_overlaps_that_more() -> None:
    overlaps = torch.tensor([[0.9, 0.6], [0.3, 0.0]])  # both want the first anchor
    assert ssd_assign(overlaps, 0.5).tolist() == [1, 0]


def plain_atss(anchors: Tensor, targets: Tensor, per_level: list[int], nearest: int) -> list[int]:
    """Algorithm 1 of the paper, line by line."""
    overlaps, matches, best = geometry.iou(targets, anchors), [BACKGROUND] * len(anchors), [-1.0] * len(anchors)
    middles = geometry.centres(anchors)
    for number, target in enumerate(targets):
        away, candidates, start = (middles - geometry.centres(target)).norm(dim=1), [], 0
        for count in per_level:
            level = range(start, start + count)
            candidates += sorted(level, key=lambda anchor: float(away[anchor]))[:nearest]
            start += count
        threshold = overlaps[number, candidates].mean() + overlaps[number, candidates].std()
        for anchor in candidates:
            x, y = middles[anchor].tolist()
            inside = target[0] < x < target[2] and target[1] < y < target[3]
            if overlaps[number, anchor] >= threshold and inside and overlaps[number, anchor] > best[anchor]:
                matches[anchor], best[anchor] = number, float(overlaps[number, anchor])
    return matches


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("nearest", [1, 9, 1000])
def test_atss_is_its_algorithm(seed: int, nearest: int) -> None:
    targets = seeded_boxes(6, seed, extent=100, largest=90)
    matches = atss(LARGE_CELLS, targets, PER_LEVEL, nearest=nearest)
    assert matches.tolist() == plain_atss(LARGE_CELLS, targets, PER_LEVEL, nearest)
    if nearest == 9:
        assert len(set(matches.tolist())) > 3  # most targets have anchors


def test_atss_with_one_candidate_takes_it() -> None:
    target = torch.tensor([[10.0, 10, 30, 30]])
    assert atss(target, target, [1]).tolist() == [0]


@pytest.mark.parametrize("seed", range(6))
def test_fcos_is_torchvisions(seed: int) -> None:
    from torchvision.models.detection.fcos import FCOS

    huge = torch.tensor([[-390.0, -400, 560, 540]])  # past eight strides of the last level
    targets = torch.cat((seeded_boxes(6, seed, extent=100, largest=90), huge))
    taken: list[Tensor] = []

    class Head:
        def compute_loss(self, *arguments: list[Tensor]) -> None:
            taken.extend(arguments[3])

    class Detector:
        head, center_sampling_radius = Head(), 1.5

    FCOS.compute_loss(Detector(), [{"boxes": targets}], {}, [CELLS], PER_LEVEL)
    matches = fcos_assign(CELLS, targets, PER_LEVEL)
    assert torch.equal(matches, taken[0])
    assert int((matches >= 0).sum()) > 5
    assert 6 in matches.tolist()


def test_fcos_gives_a_cell_the_smaller_target_and_a_target_its_level() -> None:
    targets = torch.tensor([[0.0, 0, 160, 160], [72, 72, 88, 88]])
    matches = fcos_assign(CELLS, targets, PER_LEVEL).split(PER_LEVEL)
    assert [sorted(set(level.tolist())) for level in matches] == [[-1, 1], [-1, 0], [-1]]
    assert int(matches[1][5 * 10 + 5]) == 0  # the cell at (80, 80)
    assert int(matches[0][10 * 20 + 10]) == 1


@pytest.mark.parametrize("assign", ["max_iou", "low_quality", "ssd", "atss", "fcos"])
@given(order=st.permutations(range(6)), seed=st.integers(0, 20))
@settings(deadline=None, max_examples=30)
def test_the_order_of_the_targets_does_not_matter(assign: str, order: list[int], seed: int) -> None:
    targets = seeded_boxes(6, seed, extent=100, largest=90)

    def matched_boxes(targets: Tensor) -> Tensor:
        overlaps = geometry.iou(targets, LARGE_CELLS)
        matches = {
            "max_iou": lambda: max_iou(overlaps, 0.5, 0.4),
            "low_quality": lambda: max_iou(overlaps, 0.5, 0.4, allow_low_quality=True),
            "ssd": lambda: ssd_assign(overlaps, 0.5),
            "atss": lambda: atss(LARGE_CELLS, targets, PER_LEVEL),
            "fcos": lambda: fcos_assign(CELLS, targets, PER_LEVEL),
        }[assign]()
        return torch.where(matches[:, None] < 0, matches[:, None].float(), targets[matches.clamp(min=0)])

    overlaps = geometry.iou(targets, LARGE_CELLS)
    if assign == "ssd" and len(set(overlaps.argmax(dim=1).tolist())) < 6:
        return  # two targets want one anchor: the later one has it
    assert torch.equal(matched_boxes(targets), matched_boxes(targets[order]))


def test_no_targets_leave_every_anchor_background_and_no_anchors_nothing() -> None:
    nothing = torch.zeros(0, 4)
    for targets, anchors, per_level in ((nothing, CELLS, PER_LEVEL), (CELLS[:3], nothing, [0, 0, 0])):
        overlaps = geometry.iou(targets, anchors)
        for matches in (
            max_iou(overlaps, 0.5, 0.4, allow_low_quality=True),
            ssd_assign(overlaps, 0.5),
            atss(anchors, targets, per_level),
            fcos_assign(anchors, targets, per_level),
        ):
            assert matches.tolist() == [BACKGROUND] * len(anchors)
            assert matches.dtype == torch.int64


def test_thresholds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(InputError, match=r"low=0\.6, high=0\.5"):
        max_iou(torch.zeros(1, 1), 0.5, 0.6)


@given(
    labels=st.lists(st.integers(-1, 3), max_size=60),
    batch_size=st.integers(0, 40),
    share=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
@settings(deadline=None)
def test_the_sampler_draws_what_torchvisions_draws(labels: list[int], batch_size: int, share: float) -> None:
    found = torch.tensor(labels, dtype=torch.int64)
    torch.manual_seed(0)
    theirs = reference.BalancedPositiveNegativeSampler(batch_size, share)([found, found])
    torch.manual_seed(0)
    ours = [sample_balanced(found, batch_size, share) for _ in range(2)]  # one draw after another
    for image in range(2):
        for kind in range(2):
            assert torch.equal(ours[image][kind], theirs[kind][image].bool())


def test_the_sampler_fills_up_with_negatives_and_never_draws_the_left_out() -> None:
    labels = torch.tensor([1] * 3 + [0] * 50 + [-1] * 50)
    positives, negatives = sample_balanced(labels, 20, 0.5, generator=torch.Generator().manual_seed(0))
    assert (int(positives.sum()), int(negatives.sum())) == (3, 17)
    assert bool((labels[positives] == 1).all() & (labels[negatives] == 0).all())
    assert torch.equal(sample_balanced(labels, 20, 0.5, generator=torch.Generator().manual_seed(0))[1], negatives)
