"""One label for a text or a pair."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from adapterhub_training import evaluation
from adapterhub_training.evaluation import Evaluation
from adapterhub_training.kinds import losses, texts
from adapterhub_training.kinds.kind import (
    Array,
    Encoded,
    Example,
    Limits,
    Prediction,
    Row,
    Sums,
    UnknownLabel,
    Wanted,
)


class Classification:
    """One label for a text or a pair: `text` or `text_a` and `text_b`, and `label`."""

    name = "classification"
    metrics: Mapping[str, bool] = {"accuracy": True, "macro_f1": True, "mcc": True}
    losses = ("cross_entropy", "focal")
    has_labels = True

    def unreadable(self, row: Row) -> str | None:
        """Why nothing can be predicted for a row."""
        return texts.text_fault(row)

    def fault(self, row: Row) -> str | None:
        """What is wrong with a row."""
        return texts.text_fault(row) or (None if row.label else "there is no `label`")

    def names(self, rows: Iterable[Row]) -> Iterable[str]:
        """Every label."""
        return {str(row.label) for row in rows}

    def counts(self, examples: Sequence[Example], labels: int) -> list[int]:
        """How often each label is given."""
        return list(map(int, np.bincount([e.target for e in examples], minlength=labels)))

    def example(self, row: Row, labels: Sequence[str]) -> Example:
        """A row in numbers."""
        if row.label not in labels:
            raise UnknownLabel(str(row.label), labels)
        return texts.read(row, labels.index(str(row.label)))

    def question(self, row: Row) -> Example:
        """A row to predict."""
        return texts.read(row, 0)

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], limits: Limits
    ) -> Encoded:
        """Tokenise."""
        return texts.encode(tokenizer, examples, limits)

    def head(self, labels: Sequence[str]) -> dict[str, Any]:
        """A head with an output for each label."""
        return {"kind": "classification", "labels": labels}

    def targets(
        self, batch: Sequence[int], inputs: dict[str, Tensor], draw: int
    ) -> dict[str, Tensor]:
        """Positions of labels: (batch,)."""
        del inputs, draw
        return {"labels": torch.tensor(batch)}

    def sums(self, output: Any, targets: Mapping[str, Tensor], wanted: Wanted) -> Sums:  # noqa: ANN401
        """Cross entropy, or focal."""
        return losses.crossed(output.logits, targets["labels"], wanted, all_count=True)

    def take(self, output: Any, targets: Mapping[str, Tensor]) -> list[Array]:  # noqa: ANN401
        """The logits of each example."""
        del targets
        return list(output.logits.float().cpu().numpy())

    def evaluate(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> Evaluation:
        """Accuracy, macro F1, Matthews correlation, each label, the confusion matrix and the calibration."""
        del like
        return classify(np.asarray(encoded.targets, dtype=np.int64), np.stack(taken), labels)

    def scores(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> Array:
        """Whether each example is right."""
        del labels, like
        gold = np.asarray(encoded.targets)
        right = np.stack(taken).argmax(axis=-1) == gold
        return np.asarray(right, dtype=np.float32)

    def told(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> list[Prediction]:
        """The most probable label, and how probable each is."""
        del encoded, like
        return [
            Prediction(label=labels[int(row.argmax())], probabilities=named(labels, row))
            for row in evaluation.probabilities(np.stack(taken))
        ]


def named(labels: Sequence[str], shares: np.ndarray[Any, Any]) -> dict[str, float]:
    """A number for each label, short enough to read."""
    return {label: round(float(share), 6) for label, share in zip(labels, shares, strict=True)}


def classify(gold: np.ndarray[Any, Any], logits: Array, labels: Sequence[str]) -> Evaluation:
    """Score logits against gold labels.

    Shapes:
        gold: (examples,), positions in ``labels``
        logits: (examples, labels)
    """
    predicted = logits.argmax(axis=-1)
    matrix = evaluation.confusion(gold, predicted, len(labels))
    classes = evaluation.class_scores(matrix, labels)
    shares = evaluation.probabilities(logits)
    return Evaluation(
        values={
            "accuracy": evaluation.ratio(np.trace(matrix), matrix.sum()),
            "macro_f1": evaluation.macro_f1(classes),
            "mcc": evaluation.matthews(matrix),
        },
        loss=evaluation.cross_entropy(gold, logits),
        examples=len(gold),
        classes=classes,
        confusion=tuple(tuple(int(count) for count in row) for row in matrix),
        calibration=evaluation.calibration(shares.max(axis=-1), predicted == gold),
    )
