"""One of several choices."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from adapterhub_training import evaluation
from adapterhub_training.evaluation import Evaluation
from adapterhub_training.kinds import losses, texts
from adapterhub_training.kinds.classification import classify, named
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

_BLANK = "_"
"""in a question, where the choice belongs"""


class Choice:
    """One of several choices: `context` and `question`, `choices`, and `label`, the position of the right one.

    Each choice is read as a pair: the context, and the question with the choice after it or in the place of its `_`.
    All examples have as many choices.
    """

    name = "multiple_choice"
    metrics: Mapping[str, bool] = {"accuracy": True, "macro_f1": True}
    losses = ("cross_entropy", "focal")
    has_labels = True

    def unreadable(self, row: Row) -> str | None:
        """Why nothing can be predicted for a row."""
        if not row.choices or len(row.choices) < 2:  # noqa: PLR2004
            return "there are not two `choices`"
        has_question = row.context or row.question
        return None if has_question else "there is neither `context` nor `question`"

    def fault(self, row: Row) -> str | None:
        """What is wrong with a row."""
        if fault := self.unreadable(row):
            return fault
        if row.label is None or not row.label.isdigit():
            return "`label` is not the position of a choice, such as 0"
        count = len(row.choices or ())
        is_there = int(row.label) < count
        return None if is_there else f"`label` is {row.label}, and there are {count} choices"

    def names(self, rows: Iterable[Row]) -> Iterable[str]:
        """The positions: as many as the most choices."""
        most = max((len(row.choices or ()) for row in rows), default=0)
        return {str(at) for at in range(most)}

    def counts(self, examples: Sequence[Example], labels: int) -> list[int]:
        """How often each label is given."""
        return list(map(int, np.bincount([e.target for e in examples], minlength=labels)))

    def example(self, row: Row, labels: Sequence[str]) -> Example:
        """A row in numbers."""
        if len(row.choices or ()) != len(labels):
            raise UnknownLabel(f"{len(row.choices or ())} choices", labels)
        return msgspec.structs.replace(self.question(row), target=int(row.label or 0))

    def question(self, row: Row) -> Example:
        """A row to predict."""
        asked = row.question or ""
        return Example(
            row.context or "", tuple(_completed(asked, choice) for choice in row.choices or ()), 0
        )

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], limits: Limits
    ) -> Encoded:
        """Tokenise each choice; the context is cut first."""
        firsts, seconds = [], []
        for example in examples:
            for choice in example.pair or ():
                firsts.append(str(example.text) or choice)
                seconds.append(choice if example.text else "")
        has_pairs = any(example.text for example in examples)
        encoding = tokenizer(
            firsts,
            seconds if has_pairs else None,
            truncation="longest_first" if has_pairs else True,
            max_length=limits.max_length,
        )
        flat = texts.model_inputs(tokenizer, encoding)
        counts = [len(example.pair or ()) for example in examples]
        inputs = {key: list(_grouped(rows, counts)) for key, rows in flat.items()}
        was_cut, ends = texts.cut(encoding), np.cumsum(counts)
        long = sum(any(was_cut[end - n : end]) for end, n in zip(ends, counts, strict=True))
        return Encoded(
            inputs=inputs,
            targets=[example.target for example in examples],
            examples=list(range(len(examples))),
            padding=texts.padding(tokenizer, flat),
            pad_left=tokenizer.padding_side == "left",
            truncated=long,
        )

    def head(self, labels: Sequence[str]) -> dict[str, Any]:
        """A head with one output for each choice."""
        return {"kind": "multiple_choice", "labels": labels}

    def targets(
        self, batch: Sequence[int], inputs: dict[str, Tensor], draw: int
    ) -> dict[str, Tensor]:
        """Positions of the right choices: (batch,)."""
        del inputs, draw
        return {"labels": torch.tensor(batch)}

    def sums(self, output: Any, targets: Mapping[str, Tensor], wanted: Wanted) -> Sums:  # noqa: ANN401
        """Cross entropy, or focal, over the choices."""
        return losses.crossed(output.logits, targets["labels"], wanted, all_count=True)

    def take(self, output: Any, targets: Mapping[str, Tensor]) -> list[Array]:  # noqa: ANN401
        """The logit of each choice."""
        del targets
        return list(output.logits.float().cpu().numpy())

    def evaluate(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> Evaluation:
        """Accuracy, and how often each position is right and chosen."""
        del like
        gold = np.asarray(encoded.targets, dtype=np.int64)
        found = classify(gold, np.stack(taken), labels)
        values = {name: found.values[name] for name in self.metrics}
        return msgspec.structs.replace(found, values=values)

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
        """The position of the best choice, and how probable each is."""
        del encoded, like
        return [
            Prediction(label=labels[int(row.argmax())], probabilities=named(labels, row))
            for row in evaluation.probabilities(np.stack(taken))
        ]


def _completed(question: str, choice: str) -> str:
    if _BLANK in question:
        return question.replace(_BLANK, choice, 1)
    return f"{question} {choice}".strip()


def _grouped(rows: Sequence[list[int]], counts: Sequence[int]) -> Iterable[list[list[int]]]:
    start = 0
    for count in counts:
        yield list(rows[start : start + count])
        start += count
