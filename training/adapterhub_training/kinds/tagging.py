"""A tag for each word of a text."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from adapterhub_training import evaluation, spans
from adapterhub_training.evaluation import Evaluation
from adapterhub_training.kinds import losses, texts
from adapterhub_training.kinds.kind import (
    IGNORED,
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

NOWHERE = -1


class Tagging:
    """A tag for each word: `tokens` and `tags`.

    A word's tag is learned and read at its first piece. Words that do not fit are cut off, and count as wrong where
    they are scored. With tags such as `B-PER` and `I-PER`, whole entities are scored too.
    """

    name = "tagging"
    metrics: Mapping[str, bool] = {"accuracy": True, "macro_f1": True, "entity_f1": True}
    losses = ("cross_entropy", "focal")
    has_labels = True

    def unreadable(self, row: Row) -> str | None:
        """Why nothing can be predicted for a row."""
        return None if row.tokens or (row.text or "").strip() else "there is no `tokens`"

    def fault(self, row: Row) -> str | None:
        """What is wrong with a row."""
        if not row.tokens:
            return "there is no `tokens`"
        if row.tags is None:
            return "there is no `tags`"
        if len(row.tags) != len(row.tokens):
            return f"there are {len(row.tokens)} tokens and {len(row.tags)} tags"
        return None

    def names(self, rows: Iterable[Row]) -> Iterable[str]:
        """Every tag."""
        return {tag for row in rows for tag in row.tags or ()}

    def counts(self, examples: Sequence[Example], labels: int) -> list[int]:
        """How often each label is given."""
        given = [tag for example in examples for tag in example.target]
        return list(map(int, np.bincount(given, minlength=labels)))

    def example(self, row: Row, labels: Sequence[str]) -> Example:
        """A row in numbers."""
        for tag in row.tags or ():
            if tag not in labels:
                raise UnknownLabel(tag, labels)
        return Example(tuple(row.tokens or ()), target=tuple(map(labels.index, row.tags or ())))

    def question(self, row: Row) -> Example:
        """A row to predict."""
        words = tuple(row.tokens or str(row.text or "").split())
        return Example(words, target=(IGNORED,) * len(words))

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], limits: Limits
    ) -> Encoded:
        """Tokenise word by word; `extra` has where each word begins, or that it has no token."""
        encoding = tokenizer(
            [list(example.text) for example in examples],
            is_split_into_words=True,
            truncation=True,
            max_length=limits.max_length,
        )
        inputs = texts.model_inputs(tokenizer, encoding)
        begins = [
            _begins(encoding.word_ids(at), len(example.text)) for at, example in enumerate(examples)
        ]
        targets = [
            _spread(example.target, starts, len(ids))
            for example, starts, ids in zip(examples, begins, inputs["input_ids"], strict=True)
        ]
        cut = sum(NOWHERE in starts[-1:] for starts in begins)
        return Encoded(
            inputs=inputs,
            targets=targets,
            examples=list(range(len(examples))),
            padding=texts.padding(tokenizer, inputs),
            extra=[(s, e.target) for s, e in zip(begins, examples, strict=True)],
            truncated=cut,
        )

    def head(self, labels: Sequence[str]) -> dict[str, Any]:
        """A head with an output for each tag at each token."""
        return {"kind": "tagging", "labels": labels}

    def targets(
        self, batch: Sequence[Sequence[int]], inputs: dict[str, Tensor], draw: int
    ) -> dict[str, Tensor]:
        """Tags where words begin: (batch, width)."""
        del draw
        rows = torch.full(tuple(inputs["input_ids"].shape), IGNORED)
        for at, tags in enumerate(batch):
            rows[at, : len(tags)] = torch.tensor(tags)
        return {"labels": rows}

    def sums(self, output: Any, targets: Mapping[str, Tensor], wanted: Wanted) -> Sums:  # noqa: ANN401
        """Cross entropy, or focal, over the first pieces of words."""
        return losses.crossed(output.logits, targets["labels"], wanted)

    def take(self, output: Any, targets: Mapping[str, Tensor]) -> list[Array]:  # noqa: ANN401
        """The logits of every token."""
        del targets
        return list(output.logits.float().cpu().numpy())

    def evaluate(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> Evaluation:
        """Accuracy and F1 of tags, F1 of entities, and the confusion matrix."""
        del like
        said = [
            _said(logits, starts) for logits, (starts, _) in zip(taken, encoded.extra, strict=True)
        ]
        gold = [list(target) for _, target in encoded.extra]
        flat, guessed = (np.concatenate([np.asarray(e) for e in each]) for each in (gold, said))
        fits = guessed >= 0
        matrix = evaluation.confusion(flat[fits], guessed[fits], len(labels))
        hits, present = np.diagonal(matrix), np.bincount(flat, minlength=len(labels))
        classes = evaluation.scores(labels, hits, matrix.sum(axis=0), present)
        logits = np.concatenate(
            [
                each[[start for start in starts if start != NOWHERE]]
                for each, (starts, _) in zip(taken, encoded.extra, strict=True)
            ]
        )
        named = [
            [[labels[at] if at >= 0 else "O" for at in row] for row in each]
            for each in (gold, said)
        ]
        shares = evaluation.probabilities(logits)
        return Evaluation(
            values={
                "accuracy": evaluation.ratio(np.trace(matrix), len(flat)),
                "macro_f1": evaluation.macro_f1(classes),
                "entity_f1": spans.entity_f1(*named),
            },
            loss=evaluation.cross_entropy(flat[fits], logits),
            examples=len(gold),
            classes=classes,
            confusion=tuple(tuple(int(count) for count in row) for row in matrix),
            calibration=evaluation.calibration(shares.max(axis=-1), guessed[fits] == flat[fits]),
        )

    def scores(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> Array:
        """The share of each example's words whose tag is right."""
        del labels, like
        pairs = zip(taken, encoded.extra, strict=True)
        shares = [
            np.mean(np.asarray(_said(logits, starts)) == np.asarray(gold))
            for logits, (starts, gold) in pairs
        ]
        return np.asarray(shares, dtype=np.float32)

    def told(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> list[Prediction]:
        """A tag for each word; `O`, or the first tag, for words that did not fit."""
        del like
        other = "O" if "O" in labels else labels[0]
        return [
            Prediction(tags=[labels[at] if at >= 0 else other for at in _said(logits, starts)])
            for logits, (starts, _) in zip(taken, encoded.extra, strict=True)
        ]


def _begins(words: Sequence[int | None], count: int) -> list[int]:
    """Where each word has its first piece; nowhere where it was cut off, or where the tokenizer has nothing for it."""
    found = [NOWHERE] * count
    for at, word in enumerate(words):
        if word is not None and found[word] == NOWHERE:
            found[word] = at
    return found


def _spread(tags: Sequence[int], starts: Sequence[int], length: int) -> list[int]:
    row = [IGNORED] * length
    for start, tag in zip(starts, tags, strict=True):
        if start != NOWHERE:
            row[start] = tag
    return row


def _said(logits: Array, starts: Sequence[int]) -> list[int]:
    """The tag of each word; -1 where it has no token."""
    best = logits.argmax(axis=-1)
    return [int(best[start]) if start != NOWHERE else -1 for start in starts]
