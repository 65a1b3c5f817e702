"""Suppression and padding against plain loops, torchvision and their exported programs."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings, strategies as st
from random_boxes import box_sets, seeded_boxes
from torch import Tensor, nn
from torchvision import ops

from zoo_detection import boxes as geometry, nms as suppression
from zoo_detection.nms import (
    SMALL_GROUP,
    _keep_best_in_turns,
    _keep_best_on_a_grid,
    best_of_groups,
    diou_nms,
    gaussian_decay,
    keep_best,
    linear_decay,
    pad_detections,
    soft_nms,
)

THRESHOLDS = st.sampled_from([0.0, 0.25, 0.3, 1 / 3, 0.5, 0.7, 1.0])
Candidates = tuple[Tensor, Tensor, Tensor]  # boxes (M, 4), scores (M,), groups (M,)


@st.composite
def candidates(draw: st.DrawFn, *, groups: int = 3, most: int = 14) -> Candidates:
    """Boxes on a grid, whose overlaps meet thresholds exactly, with distinct scores."""
    boxes = draw(box_sets(most=most))
    scores = torch.tensor(draw(st.permutations(range(1, len(boxes) + 1))), dtype=torch.float32) / (len(boxes) + 1)
    rows = draw(st.lists(st.integers(0, groups - 1), min_size=len(boxes), max_size=len(boxes)))
    return boxes, scores, torch.tensor(rows, dtype=torch.int64)


def seeded_candidates(count: int, groups: int, seed: int = 0) -> Candidates:
    """Random boxes with distinct scores."""
    generator = torch.Generator().manual_seed(seed)
    scores = (torch.randperm(count, generator=generator) + 1) / (count + 1)
    return seeded_boxes(count, seed), scores, torch.randint(groups, (count,), generator=generator)


def plain_greedy(found: Candidates, threshold: float, overlap: Callable[[Tensor, Tensor], Tensor]) -> list[int]:
    """The definition: best first, and whatever no better kept one of the group suppresses."""
    boxes, scores, groups = found
    overlaps = overlap(boxes, boxes).tolist()
    kept: list[int] = []
    for index in scores.argsort(descending=True).tolist():
        if all(groups[index] != groups[other] or overlaps[index][other] <= threshold for other in kept):
            kept.append(index)
    return kept


def by_group(found: Candidates, threshold: float) -> list[int]:
    """`torchvision.ops.nms` on each group alone, put together by score."""
    boxes, scores, groups = found
    kept = []
    for group in groups.unique():
        members = torch.where(groups == group)[0]
        kept += members[ops.nms(boxes[members], scores[members], threshold)].tolist()
    return sorted(kept, key=lambda index: -float(scores[index]))


@given(found=candidates(), threshold=THRESHOLDS)
@settings(deadline=None, max_examples=50)
def test_the_best_are_those_of_the_definition_and_of_torchvision(found: Candidates, threshold: float) -> None:
    kept = keep_best(*found, threshold).tolist()
    assert kept == plain_greedy(found, threshold, geometry.iou)
    assert kept == by_group(found, threshold)


@pytest.mark.parametrize("groups", [1, 4, 40, 400])
def test_groups_of_any_size_keep_what_torchvision_keeps(groups: int) -> None:
    found = seeded_candidates(16 * SMALL_GROUP, groups, seed=groups)
    assert keep_best(*found, 0.3).tolist() == by_group(found, 0.3)


@pytest.mark.parametrize("size", [1, 2, SMALL_GROUP - 1, SMALL_GROUP, SMALL_GROUP + 1])
def test_a_group_of_any_size_is_suppressed(size: int) -> None:
    found = seeded_boxes(size, extent=20), torch.linspace(0.9, 0.1, size), torch.zeros(size, dtype=torch.int64)
    kept = keep_best(*found, 0.2).tolist()
    assert kept == by_group(found, 0.2)
    assert len(kept) < max(size, 2)


@given(found=candidates(), threshold=THRESHOLDS, random=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=50)
def test_the_order_of_the_candidates_does_not_matter(found: Candidates, threshold: float, random: object) -> None:
    order = list(range(len(found[1])))
    random.shuffle(order)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    shuffled = [values[order] for values in found]
    for suppress in (keep_best, diou_nms):
        again = suppress(*shuffled, threshold).tolist()
        assert [order[index] for index in again] == suppress(*found, threshold).tolist()


def test_groups_far_apart_in_number_cost_no_precision() -> None:
    boxes = seeded_boxes(1000, extent=4000, largest=4)  # torchvision's offsets reach 90 million here, 8 pixels a step
    found = boxes, *seeded_candidates(1000, 20_000)[1:]
    assert keep_best(*found, 0.5).tolist() == by_group(found, 0.5)
    crowded = boxes.repeat(2, 1), torch.linspace(1, 0.1, 2000), torch.cat((found[2], found[2]))
    assert len(keep_best(*crowded, 0.5)) == len(keep_best(boxes, *(values[:1000] for values in crowded[1:]), 0.5))


@pytest.mark.parametrize("groups", [1, 2, 30, 20_000])
def test_the_one_call_of_other_devices_keeps_the_same(groups: int) -> None:
    boxes, scores, rows = seeded_candidates(600, groups)
    boxes = torch.cat((boxes, boxes + 0.25)) - 40  # some left of and above the image
    found = boxes.double(), torch.cat((scores, scores / 2)).double(), rows.repeat(2)
    assert _keep_best_on_a_grid(*found, 0.4).tolist() == by_group(found, 0.4)


def test_an_overlap_that_rounding_lifts_past_the_threshold_is_past_it() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 3]])  # float32(0.3) is more than 0.3
    found = boxes, torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.int64)
    assert keep_best(*found, 0.3).tolist() == by_group(found, 0.3) == [0]


def test_equal_scores_are_taken_in_their_order() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]])
    assert keep_best(boxes, torch.full((3,), 0.5), torch.zeros(3, dtype=torch.int64), 0.5).tolist() == [0, 2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_boxes_of_other_precisions_are_suppressed_as_their_values_are(dtype: torch.dtype) -> None:
    boxes, scores, groups = seeded_candidates(200, 3)
    boxes = boxes.to(dtype)
    assert keep_best(boxes, scores, groups, 0.5).tolist() == by_group((boxes.double(), scores.double(), groups), 0.5)


@given(found=candidates(), threshold=st.sampled_from([-0.25, 0.0, 0.3, 0.5]))
@settings(deadline=None, max_examples=50)
def test_distance_suppression_is_the_greedy_one_with_distance_iou(found: Candidates, threshold: float) -> None:
    assert diou_nms(*found, threshold).tolist() == plain_greedy(found, threshold, geometry.diou)


def test_distance_suppression_keeps_two_that_only_overlap() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10]])  # IoU 0.43, centres 4 apart
    scores, groups = torch.tensor([0.9, 0.0]), torch.zeros(2, dtype=torch.int64)
    assert keep_best(boxes, scores, groups, 0.42).tolist() == [0]
    assert diou_nms(boxes, scores, groups, 0.42).tolist() == [0, 1]


def test_decays_are_the_papers() -> None:
    overlap = torch.tensor([0.0, 0.29, 0.3, 0.5, 1.0])
    torch.testing.assert_close(linear_decay(0.3)(overlap), torch.tensor([1.0, 1.0, 0.7, 0.5, 0.0]))
    torch.testing.assert_close(gaussian_decay(0.5)(overlap[[0, 3, 4]]), torch.tensor([0.0, -0.5, -2.0]).exp())


DECAYS = {"gaussian": gaussian_decay(0.5), "linear": linear_decay(0.3), "hard": lambda iou: (iou <= 0.5).float()}


def plain_soft(found: Candidates, decay: Callable[[Tensor], Tensor], lowest: float) -> list[tuple[int, float]]:
    """Figure 2 of the paper: take the best, weaken the others, until none is left."""
    boxes, scores, groups = found
    left = {index: float(score) for index, score in enumerate(scores)}
    done = []
    while left:
        best = max(left, key=left.__getitem__)
        done.append((best, left.pop(best)))
        for other in left:
            if groups[other] == groups[best]:
                left[other] *= float(decay(geometry.iou(boxes[best][None], boxes[other][None])))
    return [(index, score) for index, score in done if score > lowest]


@pytest.mark.parametrize("name", DECAYS)
@given(found=candidates())
@settings(deadline=None, max_examples=25)
def test_soft_suppression_weakens_as_the_paper_says(name: str, found: Candidates) -> None:
    expected = dict(plain_soft(found, DECAYS[name], 0.05))
    kept, scores = soft_nms(*found, DECAYS[name], lowest=0.05)
    assert sorted(kept.tolist()) == sorted(expected)
    torch.testing.assert_close(scores, torch.tensor([expected[index] for index in kept.tolist()]))
    assert bool((scores.diff() <= 0).all())


def test_soft_suppression_with_a_hard_decay_is_the_greedy_one() -> None:
    found = seeded_candidates(300, 4)
    kept, scores = soft_nms(*found, DECAYS["hard"])
    assert kept.tolist() == keep_best(*found, 0.5).tolist()
    assert torch.equal(scores, found[1][kept])


def test_no_candidates_give_no_detections() -> None:
    nothing = torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)
    assert keep_best(*nothing, 0.5).tolist() == diou_nms(*nothing, 0.5).tolist() == []
    assert [len(values) for values in soft_nms(*nothing, gaussian_decay())] == [0, 0]
    boxes, scores, labels, kept = pad_detections(*nothing, nothing[2], 2, 3)
    assert (boxes.shape, boxes.any().item(), scores.any().item()) == ((2, 3, 4), False, False)
    assert labels.tolist() == kept.tolist() == [[-1] * 3] * 2


@given(found=candidates(groups=6), most=st.integers(1, 6))
@settings(deadline=None, max_examples=50)
def test_each_group_keeps_so_many_of_its_best(found: Candidates, most: int) -> None:
    _, scores, groups = found
    best = best_of_groups(scores, groups, 6, most).tolist()
    by_score = scores.argsort(descending=True).tolist()
    assert best == [i for group in range(6) for i in [j for j in by_score if groups[j] == group][:most]]


@given(found=candidates(groups=6), batch_size=st.integers(1, 4), most=st.integers(1, 6))
@settings(deadline=None, max_examples=50)
def test_padded_rows_are_each_images_best(found: Candidates, batch_size: int, most: int) -> None:
    boxes, scores, labels = found
    images = torch.arange(len(scores)) * 7 % batch_size
    padded = pad_detections(boxes, scores, labels, images, batch_size, most)
    assert [tuple(values.shape) for values in padded] == [
        (batch_size, most, 4), (batch_size, most), (batch_size, most), (batch_size, most)
    ]  # fmt: skip
    for image, (row_boxes, row_scores, row_labels, kept) in enumerate(zip(*padded, strict=True)):
        mine = [index for index in scores.argsort(descending=True).tolist() if images[index] == image][:most]
        assert kept.tolist() == mine + [-1] * (most - len(mine))
        assert torch.equal(row_boxes[: len(mine)], boxes[mine])
        assert torch.equal(row_scores[: len(mine)], scores[mine])
        assert torch.equal(row_labels[: len(mine)], labels[mine])
        assert not row_boxes[len(mine) :].any()
        assert not row_scores[len(mine) :].any()
        assert row_labels[len(mine) :].tolist() == [-1] * (most - len(mine))


class Finish(nn.Module):
    """What a detector does with its head's answer."""

    def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes (B, N, 4) and scores (B, N, K) as padded detections."""
        images, places, labels = (scores > 0.3).nonzero().unbind(1)
        boxes, found = boxes[images, places], scores[images, places, labels]
        groups = images * scores.shape[2] + labels
        best = best_of_groups(found, groups, scores.shape[0] * scores.shape[2], 30)
        boxes, found, images, labels, groups = (each[best] for each in (boxes, found, images, labels, groups))
        kept = keep_best(boxes, found, groups, 0.4)
        return pad_detections(boxes[kept], found[kept], labels[kept], images[kept], scores.shape[0], 20)


def heads_answer(batch_size: int, count: int, *, share: float = 0.5) -> tuple[Tensor, Tensor]:
    """Boxes (B, N, 4) and distinct scores (B, N, 5), of which about `share` are 0."""
    generator = torch.Generator().manual_seed(count)
    total = batch_size * count * 5
    scores = (torch.randperm(total, generator=generator) + 1) / (total + 1)
    scores = scores * (torch.rand(total, generator=generator) < share)
    return seeded_boxes(batch_size * count, count).view(batch_size, count, 4), scores.view(batch_size, count, 5)


BATCHES = [(2, 30, 0.5), (1, 100, 0.9), (5, 7, 0.5), (2, 10, 0.0), (1, 1, 1.0)]


@pytest.fixture(scope="module")
def exported() -> torch.export.ExportedProgram:
    """`Finish` with a dynamic batch and a dynamic number of boxes."""
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    return torch.export.export(Finish().eval(), heads_answer(2, 30), dynamic_shapes=(dynamic, dynamic))


@pytest.mark.filterwarnings("ignore:`create_unbacked_symint` is deprecated")  # by torchvision
def test_an_exported_program_finds_the_same_in_every_batch(exported: torch.export.ExportedProgram) -> None:
    program = exported.module()
    for batch_size, count, share in BATCHES:
        batch = heads_answer(batch_size, count, share=share)
        for theirs, ours in zip(program(*batch), Finish()(*batch), strict=True):
            assert torch.equal(theirs, ours)


@pytest.mark.filterwarnings("ignore:`create_unbacked_symint` is deprecated")  # by torchvision
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside the exporter
@pytest.mark.long
def test_onnxruntime_finds_the_same_in_every_batch(exported: torch.export.ExportedProgram, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    program = torch.onnx.export(exported, dynamo=True, verbose=False)
    assert program is not None
    program.save(tmp_path / "finish.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "finish.onnx"))
    names = [each.name for each in session.get_inputs()]
    for batch_size, count, share in BATCHES:
        batch = heads_answer(batch_size, count, share=share)
        answers = session.run(None, dict(zip(names, (each.numpy() for each in batch), strict=True)))
        for theirs, ours in zip(answers, Finish()(*batch), strict=True):
            assert torch.equal(torch.from_numpy(theirs), ours)


def test_the_batches_of_the_exports_are_worth_comparing() -> None:
    counts = [[int((row >= 0).sum()) for row in Finish()(*heads_answer(b, n, share=s))[3]] for b, n, s in BATCHES]
    assert min(itertools.chain(*counts)) == 0  # an image without objects
    assert max(itertools.chain(*counts)) == 20  # and one with more than fit


def test_off_the_cpu_many_candidates_are_compared_in_turns_of_whole_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    found = seeded_candidates(600, 40, seed=3)
    found[2][:150] = 7  # more than a turn may have
    found[1][::5] = 0.5
    compared: list[int] = []

    def counted(boxes: Tensor, *rest: Tensor | float) -> Tensor:
        compared.append(len(boxes))
        return _keep_best_on_a_grid(boxes, *rest)

    whole = _keep_best_on_a_grid(*found, 0.4).tolist()
    monkeypatch.setattr(suppression, "AT_ONCE", 100)
    monkeypatch.setattr(suppression, "_keep_best_on_a_grid", counted)
    assert _keep_best_in_turns(*found, 0.4).tolist() == whole
    largest = int((found[2] == 7).sum())
    assert sum(compared) == 600
    assert max(compared) == largest
    assert all(count <= 100 for count in sorted(compared)[:-1])
    assert len(compared) <= 12
