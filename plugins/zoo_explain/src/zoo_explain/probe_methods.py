"""The two ways of reading classes off vectors, and how sure the count of right answers is.

N images   D width of a vector   K classes
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

METHODS = ("linear", "knn")
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""What is tried for C, the inverse of the regularisation."""

Z95 = 1.959964
"""Of a normal distribution, 95 % lie within so many standard deviations."""


@dataclass(frozen=True)
class Accuracy:
    """Right answers out of so many."""

    correct: int
    total: int

    @property
    def value(self) -> float:
        """In [0, 1]; not a number where nothing was asked."""
        return self.correct / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval (Wilson 1927): where the true share lies, judged from this many questions."""
        if not self.total:
            return 0.0, 1.0
        share, spread = self.value, Z95**2 / self.total
        middle = (share + spread / 2) / (1 + spread)
        half = Z95 * math.sqrt(share * (1 - share) / self.total + spread / self.total / 4) / (1 + spread)
        return max(0.0, middle - half), min(1.0, middle + half)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        low, high = self.interval
        value = self.value if self.total else None
        return {"accuracy": value, "correct": self.correct, "total": self.total, "interval95": [low, high]}

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:6.1%} ({low:.1%} to {high:.1%})" if self.total else "nothing asked"


@dataclass(frozen=True)
class Answers:
    """What a method answered (N,), and the settings it worked with."""

    labels: np.ndarray
    settings: Mapping[str, float]


def accuracy(answers: np.ndarray, labels: np.ndarray) -> Accuracy:
    """Answers (N,) against labels (N,)."""
    return Accuracy(int((answers == labels).sum()), len(labels))


def sign_test(ours: np.ndarray, theirs: np.ndarray) -> float:
    """How likely two methods would differ so much by chance, from which of the same images (N,) each got right.

    The exact form of McNemar's test (1947): only images that one method alone got right say anything.
    """
    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    several = only_ours + only_theirs
    tail = sum(math.comb(several, i) for i in range(min(only_ours, only_theirs) + 1))
    return min(1.0, 2 * tail / 2**several)


def linear(train: np.ndarray, labels: np.ndarray, test: np.ndarray, *, k: int, seed: int) -> Answers:
    """Logistic regression on standardised vectors, its C chosen by cross-validation among the images to learn from.

    Args:
        train: (N, D). labels: (N,). test: (M, D). k: not used here. seed: of the folds.
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTHS[2], max_iter=1000))
    folds = min(3, int(np.bincount(labels)[np.unique(labels)].min()))
    with warnings.catch_warnings():
        # A fit that was stopped early is judged by the images it has not seen, as every other.
        warnings.simplefilter("ignore", ConvergenceWarning)
        if folds < 2:  # a class with one image cannot be held back
            model.fit(train, labels)
            return Answers(model.predict(test), {"C": STRENGTHS[2]})
        splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
        search = GridSearchCV(model, {"logisticregression__C": STRENGTHS}, cv=splits)
        search.fit(train, labels)
    return Answers(search.predict(test), {"C": search.best_params_["logisticregression__C"]})


def knn(train: np.ndarray, labels: np.ndarray, test: np.ndarray, *, k: int, seed: int) -> Answers:
    """The most frequent class among the `k` nearest by cosine. Arguments as of `linear`; nothing is left to chance."""
    model = KNeighborsClassifier(n_neighbors=k, metric="cosine").fit(train, labels)
    return Answers(model.predict(test), {"k": k})


METHOD: Mapping[str, Callable[..., Answers]] = {"linear": linear, "knn": knn}
