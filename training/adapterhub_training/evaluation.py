"""How good predictions are: accuracy, F1 and the confusion matrix. Pure functions over numbers."""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray


class ClassScore(msgspec.Struct, frozen=True):
    """One label against all others. A ratio without cases is 0."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


class Evaluation(msgspec.Struct, frozen=True):
    """What a model reached on one split. `confusion[i][j]` counts examples of label i taken for label j."""

    accuracy: float
    macro_f1: float
    loss: float
    examples: int
    classes: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]

    def value(self, metric: str) -> float:
        """The metric with this name."""
        return float(getattr(self, metric))


def evaluate(
    gold: NDArray[np.int64], logits: NDArray[np.float32], labels: Sequence[str]
) -> Evaluation:
    """Score logits against gold labels.

    Shapes:
        gold: (examples,), positions in ``labels``
        logits: (examples, labels)
    """
    matrix = confusion(gold, logits.argmax(axis=-1), len(labels))
    classes = class_scores(matrix, labels)
    return Evaluation(
        accuracy=_ratio(np.trace(matrix), matrix.sum()),
        macro_f1=sum(score.f1 for score in classes) / len(classes),
        loss=cross_entropy(gold, logits),
        examples=len(gold),
        classes=classes,
        confusion=tuple(tuple(int(count) for count in row) for row in matrix),
    )


def confusion(
    gold: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Count every pair of gold and predicted label: (classes, classes), rows are gold."""
    counts = np.bincount(gold * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes)


def class_scores(matrix: NDArray[np.int64], labels: Sequence[str]) -> tuple[ClassScore, ...]:
    """Precision, recall and F1 of each label, from the confusion matrix."""
    hits, predicted, gold = np.diag(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    return tuple(
        ClassScore(
            label=label,
            precision=_ratio(hits[i], predicted[i]),
            recall=_ratio(hits[i], gold[i]),
            f1=_ratio(2 * hits[i], predicted[i] + gold[i]),
            support=int(gold[i]),
        )
        for i, label in enumerate(labels)
    )


def cross_entropy(gold: NDArray[np.int64], logits: NDArray[np.float32]) -> float:
    """The mean negative log-likelihood of the gold labels; not finite where a logit is not."""
    wide = logits.astype(np.float64)
    peak = wide.max(axis=-1)
    with np.errstate(invalid="ignore"):
        log_sum = peak + np.log(np.exp(wide - peak[:, None]).sum(axis=-1))
        return float((log_sum - wide[np.arange(len(gold)), gold]).mean())


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Softmax over the labels."""
    raised = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the sample standard deviation (n - 1) where there are several."""
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5


def _ratio(part: np.integer | int, whole: np.integer | int) -> float:
    return float(part) / float(whole) if whole else 0.0
