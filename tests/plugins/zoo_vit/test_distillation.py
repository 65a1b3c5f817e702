"""DeiT's two losses against the paper's formulas written out, and a student that learns from its teacher."""

from __future__ import annotations

import math

import pytest
import torch
from skimage import data
from torch import Tensor

from zoo.errors import InputError, OptionError
from zoo_vit import DeiT, distillation_loss


def example(classes: int = 7) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, taught, teacher = (2 * torch.randn(5, classes, generator=generator) for _ in range(3))
    outputs = {"logits_class": student.requires_grad_(), "logits_distillation": taught.requires_grad_()}
    return outputs, torch.tensor([0, 3, 6, 2, 3]), teacher.requires_grad_()


def softmax(row: list[float], temperature: float = 1.0) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def cross_entropy(logits: Tensor, targets: list[int]) -> float:
    rows = logits.double().tolist()
    return sum(-math.log(softmax(row)[target]) for row, target in zip(rows, targets, strict=True)) / len(rows)


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """Of the teacher's distribution from the student's, an image's average."""
    total = 0.0
    for ours, theirs in zip(student.double().tolist(), teacher.double().tolist(), strict=True):
        pairs = zip(softmax(ours, temperature), softmax(theirs, temperature), strict=True)
        total += sum(p * math.log(p / q) for q, p in pairs)
    return total / len(student)


@pytest.mark.parametrize("alpha", [0.5, 0.3])
def test_hard_distillation_is_the_papers_equation_three(alpha: float) -> None:
    outputs, targets, teacher = example()
    with torch.no_grad():
        losses = distillation_loss(outputs, targets, teacher, alpha=alpha)
    classification = cross_entropy(outputs["logits_class"], targets.tolist())
    taught = cross_entropy(outputs["logits_distillation"], [row.index(max(row)) for row in teacher.tolist()])
    assert float(losses["loss_classification"]) == pytest.approx((1 - alpha) * classification, rel=1e-5)
    assert float(losses["loss_distillation"]) == pytest.approx(alpha * taught, rel=1e-5)
    assert float(losses["loss"]) == pytest.approx((1 - alpha) * classification + alpha * taught, rel=1e-5)


@pytest.mark.parametrize(("alpha", "temperature"), [(0.5, 3.0), (0.1, 1.0), (0.9, 20.0)])
def test_soft_distillation_is_the_papers_equation_two(alpha: float, temperature: float) -> None:
    outputs, targets, teacher = example()
    with torch.no_grad():
        losses = distillation_loss(outputs, targets, teacher, kind="soft", alpha=alpha, temperature=temperature)
    classification = cross_entropy(outputs["logits_class"], targets.tolist())
    taught = temperature**2 * divergence(outputs["logits_distillation"], teacher, temperature)
    assert float(losses["loss"]) == pytest.approx((1 - alpha) * classification + alpha * taught, rel=1e-4)


def test_the_authors_soft_term_is_a_classs_share_of_ours() -> None:
    """Their code sums over images and classes and divides by the number of both."""
    outputs, targets, teacher = example(classes=7)
    tempered = [(logits / 3.0).log_softmax(dim=1) for logits in (outputs["logits_distillation"], teacher)]
    theirs = torch.nn.functional.kl_div(*tempered, reduction="sum", log_target=True) * 9.0 / teacher.numel()
    ours = distillation_loss(outputs, targets, teacher, kind="soft", alpha=1.0)["loss_distillation"]
    assert ours.item() == pytest.approx(7 * theirs.item(), rel=1e-5)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_each_head_learns_from_its_own_teacher_and_the_teacher_from_nobody(kind: str) -> None:
    outputs, targets, teacher = example()
    losses = distillation_loss(outputs, targets, teacher, kind=kind)
    student, taught = outputs["logits_class"], outputs["logits_distillation"]
    gradients = torch.autograd.grad(
        losses["loss_classification"], (student, taught, teacher), allow_unused=True, retain_graph=True
    )
    assert [gradient is not None for gradient in gradients] == [True, False, False]
    gradients = torch.autograd.grad(losses["loss_distillation"], (student, taught, teacher), allow_unused=True)
    assert [gradient is not None for gradient in gradients] == [False, True, False]


def test_a_student_that_agrees_with_its_teacher_owes_it_nothing() -> None:
    outputs, targets, teacher = example()
    outputs = {**outputs, "logits_distillation": teacher.detach()}
    losses = distillation_loss(outputs, targets, teacher, kind="soft")
    assert losses["loss_distillation"].item() == pytest.approx(0)


def test_mixed_targets_are_probabilities() -> None:
    outputs, targets, teacher = example()
    certain = torch.nn.functional.one_hot(targets, 7).float()
    ids, mixed = distillation_loss(outputs, targets, teacher), distillation_loss(outputs, certain, teacher)
    assert mixed["loss"].item() == pytest.approx(ids["loss"].item())


def test_what_cannot_be_distilled_is_refused() -> None:
    outputs, targets, teacher = example()
    with pytest.raises(InputError, match="two classifiers"):
        distillation_loss({"logits": teacher}, targets, teacher)
    with pytest.raises(InputError, match="same images and classes"):
        distillation_loss(outputs, targets, teacher[:, :3])
    with pytest.raises(OptionError, match="hard or soft"):
        distillation_loss(outputs, targets, teacher, kind="warm")
    with pytest.raises(OptionError, match="share"):
        distillation_loss(outputs, targets, teacher, alpha=2)
    with pytest.raises(OptionError, match="temperature"):
        distillation_loss(outputs, targets, teacher, temperature=0)


def crops() -> tuple[Tensor, Tensor]:
    """Sixteen crops of 32 x 32 pixels of each of three photographs, and which photograph they are of."""
    generator, batch = torch.Generator().manual_seed(0), []
    for photo in (data.astronaut(), data.chelsea(), data.coffee()):
        image = torch.from_numpy(photo[::3, ::3].copy()).permute(2, 0, 1).float() / 127.5 - 1
        for _ in range(16):
            top, left = (int(torch.randint(side - 32, (), generator=generator)) for side in image.shape[1:])
            batch.append(image[:, top : top + 32, left : left + 32])
    return torch.stack(batch), torch.arange(3).repeat_interleave(16)


TINY = {"width": 48, "depth": 2, "heads": 3, "patch_size": 8, "image_size": 32, "num_classes": 3}


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_student_learns_real_photographs_from_its_teacher(kind: str) -> None:
    torch.manual_seed(0)
    batch, targets = crops()
    teacher = DeiT(TINY)
    optimizer = torch.optim.AdamW(teacher.parameters(), lr=2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        teacher(batch, targets)["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        teacher_logits = teacher.eval()(batch)["logits"]
    assert (teacher_logits.argmax(dim=1) == targets).float().mean() > 0.9
    student = DeiT({**TINY, "distilled": True}).train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=2e-3)
    history = []
    for _ in range(60):
        losses = distillation_loss(student(batch), targets, teacher_logits, kind=kind)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        history.append({name: loss.item() for name, loss in losses.items()})
    assert history[-1]["loss"] < history[0]["loss"] / 2
    assert history[-1]["loss_distillation"] < history[0]["loss_distillation"] / 2
    with torch.no_grad():
        taught = student.eval()(batch)["logits_distillation"]
    assert (taught.argmax(dim=1) == teacher_logits.argmax(dim=1)).float().mean() > 0.9


@pytest.mark.parametrize("targets", [[0, 3, 6, 2, 3], torch.tensor([0, 3, 7, 2, 3]), torch.ones(5, 1).long()])
def test_targets_that_are_none_are_refused(targets: object) -> None:
    outputs, _, teacher = example()
    with pytest.raises(InputError, match="class"):
        distillation_loss(outputs, targets, teacher)
