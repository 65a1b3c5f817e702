"""DeiT's distillation losses: a second classifier learns from a teacher. Touvron et al. 2020, arXiv:2012.12877.

outputs = student(images)                                       # a distilled `DeiT`
with torch.no_grad():
    teacher_logits = teacher(images)["logits"]
loss = distillation_loss(outputs, targets, teacher_logits)["loss"]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from zoo.errors import InputError, OptionError
from zoo.models.classifier import checked_cross_entropy


def distillation_loss(
    outputs: Mapping[str, Any],
    targets: Tensor,
    teacher_logits: Tensor,
    *,
    kind: Literal["hard", "soft"] = "hard",
    alpha: float = 0.5,
    temperature: float = 3.0,
) -> dict[str, Tensor]:
    """What a distilled student pays for the labels and for the teacher.

    The class head learns the targets by cross-entropy, weighted by 1 - alpha; the distillation head learns from the
    teacher, weighted by alpha. `hard`: cross-entropy with the class the teacher holds likeliest, the paper's equation
    3 at alpha 1/2. `soft`: temperature squared times the Kullback-Leibler divergence from the teacher's tempered
    distribution, an image's average, equation 2. The authors' code divides by the classes too, "to have the legacy
    PyTorch behavior": its soft term is 1 / K of this one.

    Args:
        outputs: of a distilled model, with `logits_class` and `logits_distillation` (B, K).
        targets: class ids (B,) int64, or probabilities (B, K), as mixing augmentations give them.
        teacher_logits: (B, K); no gradient reaches the teacher.
        temperature: of both distributions of `soft`; `hard` has none.

    Returns:
        `loss_classification` and `loss_distillation`, each weighted, and `loss`, their sum.

    Raises:
        InputError: a student with one classifier, another teacher, targets of another type or shape.
    """
    if kind not in ("hard", "soft"):
        raise OptionError("distillation is hard or soft", asked=f"kind={kind!r}", fix='kind="hard"')
    if not 0 <= alpha <= 1 or not temperature > 0:
        raise OptionError(
            "alpha is a share, and a temperature is above 0",
            asked=f"alpha={alpha}, temperature={temperature}",
            fix="alpha=0.5, temperature=3.0",
        )
    student, teacher_logits = _student_logits(outputs, teacher_logits), teacher_logits.detach()
    if kind == "hard":
        taught = F.cross_entropy(student, teacher_logits.argmax(dim=1))
    else:
        ours, theirs = (F.log_softmax(logits / temperature, dim=1) for logits in (student, teacher_logits))
        taught = F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * temperature**2
    classification = (1 - alpha) * checked_cross_entropy(outputs["logits_class"], targets)
    distillation = alpha * taught
    return {
        "loss_classification": classification,
        "loss_distillation": distillation,
        "loss": classification + distillation,
    }


def _student_logits(outputs: Mapping[str, Any], teacher_logits: Tensor) -> Tensor:
    """Raises `InputError` for a model without a distillation head, or another number of classes than its teacher's."""
    if not {"logits_class", "logits_distillation"} <= outputs.keys():
        raise InputError(
            "distillation needs a student with two classifiers",
            found=", ".join(sorted(outputs)),
            fix='zoo.create("deit_b_distilled")',
        )
    student: Tensor = outputs["logits_distillation"]
    if student.shape != teacher_logits.shape:
        raise InputError(
            "student and teacher have the same images and classes",
            found=f"student {tuple(student.shape)}, teacher {tuple(teacher_logits.shape)}",
            fix="num_classes=…",
        )
    return student
