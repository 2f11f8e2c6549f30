"""How good predictions are. Pure functions over numbers; a ratio without cases is 0."""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

BINS = 10
"""of the calibration"""

Floats = NDArray[np.float64]


class ClassScore(msgspec.Struct, frozen=True):
    """One label against all others."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


class Bin(msgspec.Struct, frozen=True):
    """Predictions of about the same confidence, and how many of them were right."""

    confidence: float
    accuracy: float
    count: int


class Calibration(msgspec.Struct, frozen=True):
    """Whether confidence is what it says; `error` is the expected calibration error (Guo et al. 2017), in [0, 1]."""

    bins: tuple[Bin, ...]
    error: float


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What a model reached on one split. `confusion[i][j]` counts examples of label i taken for label j."""

    values: dict[str, float]
    loss: float
    examples: int
    classes: tuple[ClassScore, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    calibration: Calibration | None = None
    thresholds: tuple[float, ...] = ()
    """above which each label is given, where several may be"""

    def value(self, metric: str) -> float:
        """The metric with this name."""
        return self.values[metric]


def confusion(
    gold: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Count every pair of gold and predicted label: (classes, classes), rows are gold."""
    counts = np.bincount(gold * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def class_scores(matrix: NDArray[np.int64], labels: Sequence[str]) -> tuple[ClassScore, ...]:
    """Precision, recall and F1 of each label, from the confusion matrix."""
    hits, predicted, gold = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    return scores(labels, hits, predicted, gold)


def scores(
    labels: Sequence[str],
    hits: NDArray[np.int64],
    predicted: NDArray[np.int64],
    gold: NDArray[np.int64],
) -> tuple[ClassScore, ...]:
    """Precision, recall and F1 of each label, from how often it was right, said and there."""
    return tuple(
        ClassScore(
            label=label,
            precision=ratio(hits[i], predicted[i]),
            recall=ratio(hits[i], gold[i]),
            f1=ratio(2 * hits[i], predicted[i] + gold[i]),
            support=int(gold[i]),
        )
        for i, label in enumerate(labels)
    )


def macro_f1(classes: Sequence[ClassScore]) -> float:
    """The mean F1 of all labels."""
    return sum(score.f1 for score in classes) / len(classes)


def matthews(matrix: NDArray[np.int64]) -> float:
    """The correlation of gold and predicted labels, for any number of them (Gorodkin 2004), in [-1, 1]."""
    counts = matrix.astype(np.float64)
    total, right = counts.sum(), np.trace(counts)
    gold, predicted = counts.sum(axis=1), counts.sum(axis=0)
    spread = math.sqrt(float(total**2 - (predicted**2).sum()) * float(total**2 - (gold**2).sum()))
    return float((right * total - (gold * predicted).sum()) / spread) if spread else 0.0


def cross_entropy(gold: NDArray[np.int64], logits: NDArray[np.float32]) -> float:
    """The mean negative log-likelihood of the gold labels; not finite where a logit is not."""
    wide = logits.astype(np.float64)
    peak = wide.max(axis=-1)
    with np.errstate(invalid="ignore"):
        log_sum = peak + np.log(np.exp(wide - peak[:, None]).sum(axis=-1))
        return float((log_sum - wide[np.arange(len(gold)), gold]).mean())


def binary_cross_entropy(gold: Floats, logits: NDArray[np.float32]) -> float:
    """The mean over examples and labels of the negative log-likelihood of each label, yes or no."""
    wide = logits.astype(np.float64)
    return float((np.logaddexp(0, wide) - gold * wide).mean())


def probabilities(logits: NDArray[np.float32]) -> Floats:
    """Softmax over the labels."""
    raised = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def sigmoid(logits: NDArray[np.float32]) -> Floats:
    """The probability of each label by itself."""
    return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64).clip(-500, 500))))


def calibration(confidence: Floats, right: NDArray[np.bool_]) -> Calibration:
    """Put predictions of like confidence together and compare it with how many are right.

    Shapes:
        confidence: (predictions,), in [0, 1]
        right: (predictions,)
    """
    at = np.minimum((np.nan_to_num(confidence) * BINS).astype(int), BINS - 1)
    bins = [
        Bin(float(confidence[here].mean()), float(right[here].mean()), int(here.sum()))
        for here in (at == number for number in range(BINS))
        if here.any()
    ]
    error = sum(each.count * abs(each.confidence - each.accuracy) for each in bins)
    return Calibration(tuple(bins), error / max(1, len(confidence)))


def pearson(gold: Floats, predicted: Floats) -> float:
    """The linear correlation, in [-1, 1]; 0 where one of them never changes."""
    first, second = gold - gold.mean(), predicted - predicted.mean()
    spread = math.sqrt(float((first**2).sum()) * float((second**2).sum()))
    return float((first * second).sum() / spread) if spread else 0.0


def spearman(gold: Floats, predicted: Floats) -> float:
    """The correlation of ranks; equal values share the mean of theirs."""
    return pearson(_ranks(gold), _ranks(predicted))


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the sample standard deviation (n - 1) where there are several."""
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5


def ratio(part: np.integer | float, whole: np.integer | float) -> float:
    """A share; 0 of nothing."""
    return float(part) / float(whole) if whole else 0.0


def _ranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: Floats = (last - counts + 1 + last) / 2
    return means[inverse]
