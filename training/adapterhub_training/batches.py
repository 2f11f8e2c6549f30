"""Tokenised examples in batches of like length, so that little of a batch is padding."""

import random
from collections.abc import Iterator, Sequence
from functools import cached_property

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapterhub_training.kinds import Encoded, Kind

POOL = 64
"""batches that are drawn together and sorted by length: more pad less, fewer mix better"""
JITTER = 0.05
"""how far an example may be from its place by length, as a share of its length: batches differ from epoch to epoch"""
WORD = 32
"""bits of the numbers that a generator is begun with"""

Ints = NDArray[np.int64]


class Batch(msgspec.Struct, frozen=True):
    """What goes through the model at once; `rows` are the units of the split that it has.

    Shapes:
        inputs: each (batch, length), of choices (batch, choices, length), int64
        targets: as its kind has them
    """

    inputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    rows: list[int]
    is_full: bool = False
    """whether nothing is padded"""

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        if device.type == "cpu":
            return self
        inputs, targets = (
            {key: tensor.to(device, non_blocking=True) for key, tensor in each.items()}
            for each in (self.inputs, self.targets)
        )
        return Batch(inputs, targets, self.rows, self.is_full)


class Split:
    """A tokenised split, packed: all tokens of a key in one array, and where each sequence begins."""

    def __init__(self, encoded: Encoded, kind: Kind) -> None:
        self.encoded, self.kind = encoded, kind
        units = encoded.inputs["input_ids"]
        self._choices = np.array([len(unit) if encoded.choices else 1 for unit in units])
        flat = {
            key: [row for unit in rows for row in unit] if encoded.choices else rows
            for key, rows in encoded.inputs.items()
        }
        self.sequence_lengths: Ints = np.array([len(row) for row in flat["input_ids"]])
        self._starts = np.concatenate([[0], np.cumsum(self.sequence_lengths)])
        self._first = np.concatenate([[0], np.cumsum(self._choices)])
        self._packed: Ints = np.stack(
            [
                np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
                for rows in flat.values()
            ]
        )
        self._padding: Ints = np.array([encoded.padding[key] for key in flat])[:, None, None]

    def __len__(self) -> int:
        return len(self.encoded)

    @cached_property
    def lengths(self) -> list[int]:
        """Tokens of each unit, of choices those of the longest."""
        return self.encoded.lengths

    def first(self, count: int) -> "Split":
        """The first units alone."""
        encoded = self.encoded
        inputs = {key: rows[:count] for key, rows in encoded.inputs.items()}
        fewer = msgspec.structs.replace(
            encoded,
            inputs=inputs,
            targets=encoded.targets[:count],
            examples=encoded.examples[:count],
            extra=encoded.extra[:count],
        )
        return Split(fewer, self.kind)

    @property
    def tokens(self) -> dict[str, Ints]:
        """All tokens of all sequences, by key, one sequence after the other."""
        return dict(zip(self.encoded.inputs, self._packed, strict=True))

    def sequences(self, rows: Sequence[int]) -> Ints:
        """The sequences of these units, in their order."""
        if not self.encoded.choices:
            return np.asarray(rows)
        return np.concatenate([np.arange(self._first[r], self._first[r + 1]) for r in rows])

    def spread(self, sequences: Ints, *, multiple: int = 1) -> tuple[Ints, NDArray[np.bool_]]:
        """Where in the packed tokens each place of a padded batch reads, and which places are not padding.

        Shapes:
            result: (sequences, length) each
        """
        lengths = self.sequence_lengths[sequences]
        width = int(-(-lengths.max() // multiple) * multiple)
        at = np.arange(width)[None]
        if self.encoded.pad_left:
            at = at - (width - lengths)[:, None]
        real = (at >= 0) & (at < lengths[:, None])
        places = np.where(real, self._starts[sequences][:, None] + at, 0)
        return places, real

    def batch(self, rows: Sequence[int], *, multiple: int = 1, draw: int = 0) -> Batch:
        """Pad units to the longest of them, rounded up to a multiple (8 suits tensor cores)."""
        sequences = self.sequences(rows)
        places, real = self.spread(sequences, multiple=multiple)
        filled, is_full = self._packed.take(places, axis=1), bool(real.all())
        if not is_full:
            filled = np.where(real, filled, self._padding)
        tensors = torch.from_numpy(filled)
        if self._many:
            tensors = tensors.view(len(tensors), len(rows), -1, tensors.shape[-1])
        inputs = dict(zip(self.encoded.inputs, tensors.unbind(), strict=True))
        targets = [self.encoded.targets[row] for row in rows]
        return Batch(inputs, self.kind.targets(targets, inputs, draw), list(rows), is_full)

    @property
    def _many(self) -> bool:
        return self.encoded.choices


def shuffled(lengths: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The rows of each training batch of an epoch, at random, neighbours in length together.

    At each step batches of all seeds have about the same length, so that several seeds can be trained in one pass
    without padding one to another. Which rows a batch has is each seed's own.
    """
    # numpy promises that these numbers stay what they are; of its newer generators it does not.
    own = np.random.RandomState([seed >> WORD, seed & (1 << WORD) - 1, epoch])
    shared = random.Random(epoch)  # noqa: S311  an order, no secret
    order = own.permutation(len(lengths))
    near = np.asarray(lengths)[order] * own.uniform(1 - JITTER, 1 + JITTER, len(order))
    batches = []
    for start in range(0, len(order), batch_size * POOL):
        place = slice(start, start + batch_size * POOL)
        pool = order[place][np.argsort(near[place], kind="stable")].tolist()
        batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    shared.shuffle(batches)
    return batches


def ordered(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """The rows of each batch for evaluation, by length."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def padding_share(lengths: Sequence[int], batches: Sequence[Sequence[int]]) -> float:
    """Which part of the tokens in these batches is padding."""
    padded = sum(len(rows) * max(lengths[row] for row in rows) for rows in batches)
    return 1 - sum(lengths[row] for rows in batches for row in rows) / padded


def micro(rows: Sequence[int], size: int | None) -> Iterator[Sequence[int]]:
    """Parts of a batch that go through the model one after the other."""
    step = size or max(1, len(rows))
    return (rows[at : at + step] for at in range(0, len(rows), step))
