"""Any number of labels for a text or a pair."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from adapterhub_training import evaluation
from adapterhub_training.evaluation import Evaluation, Floats
from adapterhub_training.kinds import losses, texts
from adapterhub_training.kinds.classification import named
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

GRID = np.linspace(0.05, 0.95, 19)
"""thresholds that are tried for each label"""


class Multilabel:
    """Any number of labels for a text or a pair: `text` or `text_a` and `text_b`, and `labels`.

    A label is given where its probability is above its threshold. Thresholds are chosen on validation, each for the
    best F1 of its own label; without a choice they are a half.
    """

    name = "multilabel"
    metrics: Mapping[str, bool] = {"macro_f1": True, "micro_f1": True, "exact_match": True}
    losses = ("bce", "focal", "softmax")
    has_labels = True

    def unreadable(self, row: Row) -> str | None:
        """Why nothing can be predicted for a row."""
        return texts.text_fault(row)

    def fault(self, row: Row) -> str | None:
        """What is wrong with a row."""
        return texts.text_fault(row) or (None if row.labels is not None else "there is no `labels`")

    def names(self, rows: Iterable[Row]) -> Iterable[str]:
        """Every label."""
        return {label for row in rows for label in row.labels or ()}

    def counts(self, examples: Sequence[Example], labels: int) -> list[int]:
        """How often each label is given."""
        given = [at for example in examples for at in example.target[0]]
        return list(map(int, np.bincount(given, minlength=labels)))

    def example(self, row: Row, labels: Sequence[str]) -> Example:
        """A row in numbers: the positions of its labels."""
        for label in row.labels or ():
            if label not in labels:
                raise UnknownLabel(label, labels)
        given = tuple(sorted({labels.index(label) for label in row.labels or ()}))
        return texts.read(row, (given, len(labels)))

    def question(self, row: Row) -> Example:
        """A row to predict."""
        return texts.read(row, ((), 0))

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], limits: Limits
    ) -> Encoded:
        """Tokenise."""
        return texts.encode(tokenizer, examples, limits)

    def head(self, labels: Sequence[str]) -> dict[str, Any]:
        """A head with an output for each label, yes or no."""
        return {"kind": "multilabel", "labels": labels}

    def targets(
        self, batch: Sequence[tuple[Sequence[int], int]], inputs: dict[str, Tensor], draw: int
    ) -> dict[str, Tensor]:
        """One for each label that is given: (batch, labels)."""
        del inputs, draw
        rows = torch.zeros(len(batch), batch[0][1])
        for at, (given, _) in enumerate(batch):
            rows[at, list(given)] = 1
        return {"labels": rows}

    def sums(self, output: Any, targets: Mapping[str, Tensor], wanted: Wanted) -> Sums:  # noqa: ANN401
        """Binary cross entropy, focal, or all labels of an example as one distribution."""
        if wanted.loss == "softmax":
            return losses.spread(output.logits, targets["labels"])
        return losses.binary(output.logits, targets["labels"], wanted)

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
        """Macro and micro F1, exact matches, each label, and the thresholds."""
        gold = _ones(encoded.targets, len(labels))
        logits = np.stack(taken)
        shares = evaluation.sigmoid(logits)
        thresholds = (
            np.asarray(like.thresholds) if like is not None else best_thresholds(gold, shares)
        )
        said = shares > thresholds
        hits, predicted, present = (each.sum(axis=0) for each in (said & gold, said, gold))
        classes = evaluation.scores(labels, hits, predicted, present)
        return Evaluation(
            values={
                "macro_f1": evaluation.macro_f1(classes),
                "micro_f1": evaluation.ratio(2 * hits.sum(), predicted.sum() + present.sum()),
                "exact_match": float((said == gold).all(axis=-1).mean()),
            },
            loss=evaluation.binary_cross_entropy(gold.astype(np.float64), logits),
            examples=len(gold),
            classes=classes,
            calibration=evaluation.calibration(shares.ravel(), gold.ravel()),
            thresholds=tuple(round(float(each), 4) for each in thresholds),
        )

    def scores(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> Array:
        """F1 of each example's labels; 1 where it has none and none is given."""
        gold = _ones(encoded.targets, len(labels))
        shares = evaluation.sigmoid(np.stack(taken))
        thresholds = np.asarray(like.thresholds) if like is not None else np.full(len(labels), 0.5)
        said = shares > thresholds
        both, either = (said & gold).sum(axis=-1), said.sum(axis=-1) + gold.sum(axis=-1)
        return np.where(either == 0, 1.0, 2 * both / np.maximum(1, either)).astype(np.float32)

    def told(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> list[Prediction]:
        """The labels above their thresholds, and how probable each is."""
        del encoded
        thresholds = np.asarray(like.thresholds) if like is not None else np.full(len(labels), 0.5)
        return [
            Prediction(
                labels=[labels[int(at)] for at in np.flatnonzero(row > thresholds)],
                probabilities=named(labels, row),
            )
            for row in evaluation.sigmoid(np.stack(taken))
        ]


def best_thresholds(gold: NDArray[np.bool_], shares: Floats) -> Floats:
    """For each label the threshold of the grid with the best F1, the one nearest to a half of equals.

    Shapes:
        gold, shares: (examples, labels)
        result: (labels,)
    """
    said = shares[None] > GRID[:, None, None]  # (grid, examples, labels)
    hits = (said & gold[None]).sum(axis=1)
    scores = 2 * hits / np.maximum(1, said.sum(axis=1) + gold.sum(axis=0))
    closeness = -np.abs(GRID - 0.5)[:, None] * 1e-9
    found: Floats = GRID[(scores + closeness).argmax(axis=0)]
    return found


def _ones(targets: Sequence[tuple[Sequence[int], int]], count: int) -> NDArray[np.bool_]:
    rows = np.zeros((len(targets), count), dtype=bool)
    for at, (given, _) in enumerate(targets):
        rows[at, list(given)] = True
    return rows
