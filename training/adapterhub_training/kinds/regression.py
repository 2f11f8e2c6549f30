"""A number for a text or a pair: a score of its own, or labels on a scale."""

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


class Regression:
    """A number for a text or a pair: `text` or `text_a` and `text_b`, and `score`.

    With a scale the number comes from `label`: labels in their order, from the least to the most, are laid evenly
    over [-1, 1], so that two polarities and five stars are learned and told alike.
    """

    name = "regression"
    metrics: Mapping[str, bool] = {
        "pearson": True,
        "spearman": True,
        "mse": False,
        "mae": False,
    }
    losses = ("mse",)
    has_labels = False

    def __init__(self, scale: Sequence[str] = ()) -> None:
        self.scale = tuple(scale)
        if scale:
            self.metrics = {**self.metrics, "accuracy": True, "macro_f1": True}

    @property
    def values(self) -> tuple[float, ...]:
        """The number of each label of the scale."""
        last = max(1, len(self.scale) - 1)
        return tuple(2 * at / last - 1 for at in range(len(self.scale)))

    def unreadable(self, row: Row) -> str | None:
        """Why nothing can be predicted for a row."""
        return texts.text_fault(row)

    def fault(self, row: Row) -> str | None:
        """What is wrong with a row."""
        if self.scale:
            return texts.text_fault(row) or (None if row.label else "there is no `label`")
        if (fault := texts.text_fault(row)) is not None:
            return fault
        if row.score is None:
            return "there is no `score`"
        return None if np.isfinite(row.score) else f"the score {row.score} is no number"

    def names(self, rows: Iterable[Row]) -> Iterable[str]:
        """None: there are numbers."""
        del rows
        return ()

    def counts(self, examples: Sequence[Example], labels: int) -> list[int]:
        """How often each label is given."""
        del examples, labels
        return []

    def example(self, row: Row, labels: Sequence[str]) -> Example:
        """A row in numbers."""
        del labels
        if not self.scale:
            return texts.read(row, float(row.score or 0.0))
        if row.label not in self.scale:
            raise UnknownLabel(str(row.label), self.scale)
        return texts.read(row, self.values[self.scale.index(str(row.label))])

    def question(self, row: Row) -> Example:
        """A row to predict."""
        return texts.read(row, 0.0)

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], limits: Limits
    ) -> Encoded:
        """Tokenise."""
        return texts.encode(tokenizer, examples, limits)

    def head(self, labels: Sequence[str]) -> dict[str, Any]:
        """A head with one output."""
        del labels
        return {"kind": "regression"}

    def targets(
        self, batch: Sequence[float], inputs: dict[str, Tensor], draw: int
    ) -> dict[str, Tensor]:
        """Numbers: (batch,)."""
        del inputs, draw
        return {"labels": torch.tensor(batch, dtype=torch.float32)}

    def sums(self, output: Any, targets: Mapping[str, Tensor], wanted: Wanted) -> Sums:  # noqa: ANN401
        """Squared error."""
        del wanted
        return losses.squared(output.logits[:, 0], targets["labels"])

    def take(self, output: Any, targets: Mapping[str, Tensor]) -> list[Array]:  # noqa: ANN401
        """The number of each example."""
        del targets
        return list(output.logits[:, 0].float().cpu().numpy())

    def evaluate(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> Evaluation:
        """Correlations and errors; on a scale also how often the nearest label is the right one."""
        del labels, like
        gold = np.asarray(encoded.targets, dtype=np.float64)
        said = np.asarray(taken, dtype=np.float64)
        squares = float(((said - gold) ** 2).mean())
        values = {
            "pearson": evaluation.pearson(gold, said),
            "spearman": evaluation.spearman(gold, said),
            "mse": squares,
            "mae": float(np.abs(said - gold).mean()),
        }
        if not self.scale:
            return Evaluation(values=values, loss=squares, examples=len(gold))
        nearest = [self._nearest(each) for each in (gold, said)]
        matrix = evaluation.confusion(nearest[0], nearest[1], len(self.scale))
        classes = evaluation.class_scores(matrix, self.scale)
        values["accuracy"] = evaluation.ratio(np.trace(matrix), matrix.sum())
        values["macro_f1"] = evaluation.macro_f1(classes)
        return Evaluation(
            values=values,
            loss=squares,
            examples=len(gold),
            classes=classes,
            confusion=tuple(tuple(int(count) for count in row) for row in matrix),
        )

    def scores(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> Array:
        """The squared error of each example, below zero."""
        del labels, like
        errors = np.asarray(taken, dtype=np.float64) - np.asarray(encoded.targets, dtype=np.float64)
        return (-(errors**2)).astype(np.float32)

    def told(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> list[Prediction]:
        """The number, and the nearest label of the scale."""
        del encoded, labels, like
        numbers = [round(float(value), 6) for value in taken]
        if not self.scale:
            return [Prediction(score=number) for number in numbers]
        nearest = self._nearest(np.asarray(numbers))
        return [
            Prediction(score=number, label=self.scale[int(at)])
            for number, at in zip(numbers, nearest, strict=True)
        ]

    def _nearest(self, numbers: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        distances = np.abs(numbers[:, None] - np.asarray(self.values)[None])
        return np.asarray(distances.argmin(axis=-1))
