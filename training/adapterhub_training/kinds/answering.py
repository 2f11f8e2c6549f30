"""A piece of a context that answers a question."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedTokenizerBase

from adapterhub_training import spans
from adapterhub_training.evaluation import Evaluation
from adapterhub_training.kinds import texts
from adapterhub_training.kinds.kind import (
    Answer,
    Array,
    Encoded,
    Example,
    Limits,
    Prediction,
    Row,
    Sums,
    Wanted,
)

LONGEST_ANSWER = 30
"""in tokens"""
BEST = 20
"""starts and ends of each window that are tried together"""
Window = tuple[str, list[tuple[int, int]], tuple[Answer, ...]]
"""a context, where its tokens are in it (-1 for others), and the right answers"""


class Answering:
    """A piece of `context` that answers `question`; `answers` have `text` and `start`, in letters.

    A long context is read in windows that overlap. A window without the answer points at its first token; among
    windows the best start and end win.
    """

    name = "extractive_qa"
    metrics: Mapping[str, bool] = {"f1": True, "exact_match": True}
    losses = ("cross_entropy",)
    has_labels = False

    def unreadable(self, row: Row) -> str | None:
        """Why nothing can be predicted for a row."""
        return None if row.context and row.question else "there is no `context` or no `question`"

    def fault(self, row: Row) -> str | None:
        """What is wrong with a row."""
        if fault := self.unreadable(row):
            return fault
        if row.answers is None:
            return "there is no `answers`"
        for answer in row.answers:
            if str(row.context)[answer.start : answer.start + len(answer.text)] != answer.text:
                return f"the answer {answer.text!r} is not at {answer.start} of its context"
        return None

    def names(self, rows: Iterable[Row]) -> Iterable[str]:
        """None."""
        del rows
        return ()

    def counts(self, examples: Sequence[Example], labels: int) -> list[int]:
        """How often each label is given."""
        del examples, labels
        return []

    def example(self, row: Row, labels: Sequence[str]) -> Example:
        """A row with its answers."""
        del labels
        return Example(str(row.question), str(row.context), tuple(row.answers or ()))

    def question(self, row: Row) -> Example:
        """A row to predict."""
        return Example(str(row.question), str(row.context), ())

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], limits: Limits
    ) -> Encoded:
        """Tokenise in windows; `extra` has where their tokens are."""
        encoding = tokenizer(
            _questions(tokenizer, examples, limits.max_length // 2 - 4),
            [str(example.pair) for example in examples],
            truncation="only_second",
            max_length=limits.max_length,
            stride=min(limits.stride, limits.max_length // 4),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        inputs = texts.model_inputs(tokenizer, encoding)
        owners = [int(at) for at in encoding["overflow_to_sample_mapping"]]
        extra: list[Window] = []
        for unit, owner in enumerate(owners):
            parts = encoding.sequence_ids(unit)
            places = [
                tuple(span) if part == 1 else (-1, -1)
                for span, part in zip(encoding["offset_mapping"][unit], parts, strict=True)
            ]
            extra.append((str(examples[owner].pair), places, examples[owner].target or ()))
        return Encoded(
            inputs=inputs,
            targets=[_ends(window) for window in extra],
            examples=owners,
            padding=texts.padding(tokenizer, inputs),
            extra=extra,
        )

    def head(self, labels: Sequence[str]) -> dict[str, Any]:
        """A head that says where an answer begins and ends."""
        del labels
        return {"kind": "qa"}

    def targets(
        self, batch: Sequence[tuple[int, int]], inputs: dict[str, Tensor], draw: int
    ) -> dict[str, Tensor]:
        """First and last tokens: (batch,) each."""
        del inputs, draw
        starts, ends = zip(*batch, strict=True)
        return {"start_positions": torch.tensor(starts), "end_positions": torch.tensor(ends)}

    def sums(self, output: Any, targets: Mapping[str, Tensor], wanted: Wanted) -> Sums:  # noqa: ANN401
        """Cross entropy of both ends."""
        del wanted
        both = [
            functional.cross_entropy(logits.float(), targets[name], reduction="sum")
            for logits, name in (
                (output.start_logits, "start_positions"),
                (output.end_logits, "end_positions"),
            )
        ]
        return Sums(both[0] + both[1], 2.0 * len(output.start_logits))

    def take(self, output: Any, targets: Mapping[str, Tensor]) -> list[Array]:  # noqa: ANN401
        """Both logits of every token: (2, tokens)."""
        del targets
        both = torch.stack([output.start_logits, output.end_logits], dim=1)
        return list(both.float().cpu().numpy())

    def evaluate(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> Evaluation:
        """F1 of words and exact matches with the nearest right answer.

        Where some questions have no answer, one threshold says so: nothing is answered where the first token has more.
        """
        del labels
        gold = _gold(encoded)
        may_refuse = bool(like.thresholds) if like is not None else not all(gold.values())
        said = _answers(encoded, taken, may_refuse=may_refuse)
        count = len(gold)
        loss = float(
            np.mean(
                [_surprise(each, end) for each, end in zip(taken, encoded.targets, strict=True)]
            )
        )
        return Evaluation(
            values={
                "f1": sum(spans.word_f1(gold[at], said[at][0]) for at in gold) / count,
                "exact_match": sum(spans.exact_match(gold[at], said[at][0]) for at in gold) / count,
            },
            loss=loss,
            examples=count,
            thresholds=(0.0,) if may_refuse else (),
        )

    def scores(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> Array:
        """F1 of the words of each answer."""
        del labels
        gold = _gold(encoded)
        may_refuse = bool(like.thresholds) if like is not None else not all(gold.values())
        said = _answers(encoded, taken, may_refuse=may_refuse)
        return np.asarray([spans.word_f1(gold[at], said[at][0]) for at in sorted(gold)], np.float32)

    def told(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> list[Prediction]:
        """The answer, and where it begins; empty where none is found."""
        del labels
        said = _answers(encoded, taken, may_refuse=like is not None and bool(like.thresholds))
        return [
            Prediction(answer=text, start=start if text else None)
            for _, (text, start, _) in sorted(said.items())
        ]


def _questions(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], most: int
) -> list[str]:
    """The questions, so much of them that there is room for a context."""
    texts_ = [str(example.text) for example in examples]
    encoding = tokenizer(texts_, add_special_tokens=False, return_offsets_mapping=True)
    return [
        text if len(offsets) <= most else text[: offsets[max(1, most) - 1][1]]
        for text, offsets in zip(texts_, encoding["offset_mapping"], strict=True)
    ]


def _gold(encoded: Encoded) -> dict[int, list[str]]:
    """The right answers of each example."""
    owners = zip(encoded.examples, encoded.extra, strict=True)
    return {owner: [answer.text for answer in answers] for owner, (_, _, answers) in owners}


def _ends(window: Window) -> tuple[int, int]:
    """The first and the last token of the first answer that lies in a window; (0, 0) where none does."""
    _, places, answers = window
    for answer in answers[:1]:
        inside = [
            at
            for at, (begin, end) in enumerate(places)
            if begin >= 0 and begin < answer.start + len(answer.text) and end > answer.start
        ]
        if inside and _covers(places, inside, answer):
            return inside[0], inside[-1]
    return 0, 0


def _covers(places: Sequence[tuple[int, int]], inside: Sequence[int], answer: Answer) -> bool:
    first, last = places[inside[0]][0], places[inside[-1]][1]
    return first <= answer.start and last >= answer.start + len(answer.text.rstrip())


def _answers(
    encoded: Encoded, taken: Sequence[Array], *, may_refuse: bool
) -> dict[int, tuple[str, int, float]]:
    """The best piece of each example's windows, with its place and its score; empty where none is better than none."""
    found: dict[int, tuple[str, int, float]] = {}
    none: dict[int, float] = {}
    for owner, window, logits in zip(encoded.examples, encoded.extra, taken, strict=True):
        best = _best(window, logits)
        if owner not in found or best[2] > found[owner][2]:
            found[owner] = best
        # Every window but that of the answer points at its first token: the least sure one counts.
        none[owner] = min(none.get(owner, float("inf")), float(logits[0, 0] + logits[1, 0]))
    if may_refuse:
        return {
            owner: best if best[2] > none[owner] else ("", 0, none[owner])
            for owner, best in found.items()
        }
    return found


def _best(window: Window, logits: Array) -> tuple[str, int, float]:
    context, places, _ = window
    starts, ends = (np.argsort(-each[: len(places)])[:BEST] for each in logits)
    best = ("", 0, -float("inf"))
    for start in starts:
        for end in ends:
            if not start <= end < start + LONGEST_ANSWER:
                continue
            score = float(logits[0, start] + logits[1, end])
            if score > best[2] and places[start][0] >= 0 and places[end][0] >= 0:
                best = (context[places[start][0] : places[end][1]], places[start][0], score)
    return best


def _surprise(logits: Array, ends: tuple[int, int]) -> float:
    wide = logits.astype(np.float64)
    log_sums = np.logaddexp.reduce(wide, axis=-1)
    return float((log_sums - wide[[0, 1], list(ends)]).mean())
