"""Words that were hidden in a text: how adapters learn a language or a domain (MAD-X)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from adapterhub_training.evaluation import Evaluation
from adapterhub_training.kinds import texts
from adapterhub_training.kinds.kind import (
    IGNORED,
    Array,
    Encoded,
    Example,
    Limits,
    Prediction,
    Row,
    Sums,
    Wanted,
)

SHARE = 0.15
"""of the tokens that are to be found"""
HIDDEN, CHANGED = 0.8, 0.1
"""of those: hidden, and replaced by another; the rest stay (Devlin et al. 2019)"""


class Hiding(NamedTuple):
    """What it takes to hide tokens of a text: its number, its words, the mask and the vocabulary's size."""

    number: int
    places: list[int]
    mask: int
    vocabulary: int


class Language:
    """Hidden words of `text` are to be found; other fields are ignored. Learns a language, needs no labels.

    Which tokens are hidden follows from the text alone in evaluation, and is drawn anew for each step in training.
    """

    name = "masked_lm"
    metrics: Mapping[str, bool] = {"perplexity": False, "accuracy": True}
    losses = ("cross_entropy",)
    has_labels = False

    def unreadable(self, row: Row) -> str | None:
        """Why nothing can be predicted for a row."""
        return self.fault(row)

    def fault(self, row: Row) -> str | None:
        """What is wrong with a row."""
        return None if (row.text or row.text_a or "").strip() else "there is no text"

    def names(self, rows: Iterable[Row]) -> Iterable[str]:
        """None."""
        del rows
        return ()

    def counts(self, examples: Sequence[Example], labels: int) -> list[int]:
        """How often each label is given."""
        del examples, labels
        return []

    def example(self, row: Row, labels: Sequence[str]) -> Example:
        """The text of a row."""
        del labels
        return self.question(row)

    def question(self, row: Row) -> Example:
        """The text of a row; a pair is one text."""
        return Example(" ".join(filter(None, [row.text, row.text_a, row.text_b])))

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], limits: Limits
    ) -> Encoded:
        """Tokenise; a target is what it takes to hide tokens of a text."""
        encoded = texts.encode(tokenizer, examples, limits)
        special, mask = set(tokenizer.all_special_ids), int(tokenizer.mask_token_id)
        targets = [
            Hiding(at, [i for i, t in enumerate(ids) if t not in special], mask, len(tokenizer))
            for at, ids in enumerate(encoded.inputs["input_ids"])
        ]
        return msgspec.structs.replace(encoded, targets=targets, pad_left=False)

    def head(self, labels: Sequence[str]) -> dict[str, Any]:
        """A head over the vocabulary, its last layer the base's embeddings."""
        del labels
        return {"kind": "masked_lm"}

    def targets(
        self, batch: Sequence[Hiding], inputs: dict[str, Tensor], draw: int
    ) -> dict[str, Tensor]:
        """Hide tokens in the inputs; what is to be found: (batch, length)."""
        ids = inputs["input_ids"]
        hidden, labels = ids.clone(), torch.full_like(ids, IGNORED)
        for row, text in enumerate(batch):
            chance = np.random.default_rng([draw, text.number])
            chosen = [place for place in text.places if chance.random() < SHARE]
            for place in chosen or text.places[:1]:
                labels[row, place] = ids[row, place]
                fate = chance.random()
                if fate < HIDDEN:
                    hidden[row, place] = text.mask
                elif fate < HIDDEN + CHANGED:
                    hidden[row, place] = int(chance.integers(text.vocabulary))
        inputs["input_ids"] = hidden
        return {"labels": labels}

    def sums(self, output: Any, targets: Mapping[str, Tensor], wanted: Wanted) -> Sums:  # noqa: ANN401
        """Cross entropy of what was hidden."""
        del wanted
        gold = targets["labels"].flatten()
        total = functional.cross_entropy(
            output.logits.flatten(0, 1).float(), gold, ignore_index=IGNORED, reduction="sum"
        )
        return Sums(total, (gold != IGNORED).sum())

    def take(self, output: Any, targets: Mapping[str, Tensor]) -> list[Array]:  # noqa: ANN401
        """Of each text: the sum of its losses, how many tokens were found, and how many were hidden."""
        gold = targets["labels"]
        each = functional.cross_entropy(
            output.logits.transpose(1, 2).float(), gold, ignore_index=IGNORED, reduction="none"
        )
        right = (output.logits.argmax(-1) == gold) & (gold != IGNORED)
        rows = torch.stack([each.sum(1), right.sum(1).float(), (gold != IGNORED).sum(1).float()], 1)
        return list(rows.cpu().numpy())

    def evaluate(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> Evaluation:
        """Perplexity, and how many of the hidden tokens are found."""
        del labels, like
        total, right, hidden = np.stack(taken).astype(np.float64).sum(axis=0)
        loss = float(total / max(1.0, hidden))
        return Evaluation(
            values={
                "perplexity": float(np.exp(min(loss, 50.0))),
                "accuracy": float(right / max(1.0, hidden)),
            },
            loss=loss,
            examples=len(encoded),
        )

    def scores(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> Array:
        """Each text's mean loss, below zero."""
        del encoded, labels, like
        rows = np.stack(taken)
        return (-rows[:, 0] / np.maximum(1, rows[:, 2])).astype(np.float32)

    def told(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> list[Prediction]:
        """How well each text is foreseen: its mean loss."""
        del encoded, labels, like
        return [Prediction(score=float(row[0] / max(1.0, row[2]))) for row in taken]
