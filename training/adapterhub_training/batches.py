"""Tokenised examples in batches of like length, so that little of a batch is padding."""

import random
from collections.abc import Iterator, Sequence

import msgspec
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from adapterhub_training.data import Example

POOL = 64
"""batches that are drawn together and sorted by length: more pad less, fewer mix better"""


class Encoded(msgspec.Struct, frozen=True):
    """A tokenised split: for each key of the model's input, one list of numbers per example."""

    inputs: dict[str, list[list[int]]]
    labels: list[int]
    padding: dict[str, int]
    """what fills up each key"""
    pad_left: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> list[int]:
        """Tokens per example."""
        return [len(tokens) for tokens in self.inputs["input_ids"]]


class Batch(msgspec.Struct, frozen=True):
    """What goes through the model at once; `rows` are the positions of its examples in the split.

    Shapes:
        inputs: each (batch, length), int64
        labels: (batch,), int64
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    rows: list[int]

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        moved = {key: tensor.to(device, non_blocking=True) for key, tensor in self.inputs.items()}
        return Batch(moved, self.labels.to(device, non_blocking=True), self.rows)


def encode(
    tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], max_length: int
) -> Encoded:
    """Tokenise once; what is longer than `max_length` is cut, of a pair the longer part first."""
    pairs = [example.pair for example in examples]
    has_pairs = pairs[0] is not None
    encoding = tokenizer(
        [example.text for example in examples],
        pairs if has_pairs else None,
        truncation="longest_first" if has_pairs else True,
        max_length=max_length,
    )
    inputs = {key: encoding[key] for key in tokenizer.model_input_names if key in encoding}
    padding = {
        "input_ids": int(tokenizer.pad_token_id or 0),
        "token_type_ids": int(tokenizer.pad_token_type_id),
    }
    return Encoded(
        inputs=inputs,
        labels=[example.label for example in examples],
        padding={key: padding.get(key, 0) for key in inputs},
        pad_left=tokenizer.padding_side == "left",
    )


def shuffled(encoded: Encoded, batch_size: int, seed: int) -> list[list[int]]:
    """The rows of each training batch, at random, neighbours in length together; the same seed gives the same."""
    chooser = random.Random(seed)  # noqa: S311  an order, no secret
    lengths, order = encoded.lengths, list(range(len(encoded)))
    chooser.shuffle(order)
    batches = []
    for start in range(0, len(order), batch_size * POOL):
        # Sorting is stable, so rows of one length stay in random order.
        pool = sorted(order[start : start + batch_size * POOL], key=lengths.__getitem__)
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    chooser.shuffle(batches)
    return batches


def ordered(encoded: Encoded, batch_size: int) -> list[list[int]]:
    """The rows of each batch for evaluation, by length."""
    order = sorted(range(len(encoded)), key=encoded.lengths.__getitem__)
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def padding_share(encoded: Encoded, batches: list[list[int]]) -> float:
    """Which part of the tokens in these batches is padding."""
    lengths = encoded.lengths
    padded = sum(len(rows) * max(lengths[row] for row in rows) for rows in batches)
    return 1 - sum(lengths[row] for rows in batches for row in rows) / padded


def collate(encoded: Encoded, batches: list[list[int]], *, multiple: int = 1) -> Iterator[Batch]:
    """Pad each batch to its longest example, rounded up to a multiple (8 suits tensor cores)."""
    lengths = encoded.lengths
    for rows in batches:
        width = -(-max(lengths[row] for row in rows) // multiple) * multiple
        inputs = {
            key: torch.tensor(
                [
                    _padded(lists[row], width, encoded.padding[key], left=encoded.pad_left)
                    for row in rows
                ]
            )
            for key, lists in encoded.inputs.items()
        }
        yield Batch(inputs, torch.tensor([encoded.labels[row] for row in rows]), rows)


def _padded(values: list[int], width: int, filler: int, *, left: bool) -> list[int]:
    fill = [filler] * (width - len(values))
    return fill + values if left else values + fill
