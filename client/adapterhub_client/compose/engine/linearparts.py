"""What compositions at one linear layer are made of: single adapters, chains, divided batches and means."""

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from adapterhub_client.compose.engine import division
from adapterhub_client.compose.engine.linearbank import LinearBank, WideMean
from adapterhub_client.compose.methods.linear import LinearAdapter, Operation
from adapterhub_client.errors import CompositionError

_NEUTRAL = {"scale": 1.0, "shift": 0.0}


class Part(Protocol):
    """A composition, or a part of one, bound at one layer."""

    operation: Operation

    def hand_on(self, given: Tensor, before: Tensor | None) -> Tensor:
        """What the next in a stack takes."""

    def __call__(self, given: Tensor, before: Tensor | None, output: Tensor) -> Tensor:
        """What the layer puts out with it."""


class One:
    """One adapter."""

    def __init__(self, adapter: LinearAdapter, linear: nn.Module) -> None:
        self.adapter, self._linear = adapter, linear
        self.operation: Operation = adapter.operation
        adapter.keep(linear)

    def hand_on(self, given: Tensor, before: Tensor | None) -> Tensor:
        """What the next in a stack takes."""
        return self.adapter.hand_on(given, before)

    def __call__(self, given: Tensor, before: Tensor | None, output: Tensor) -> Tensor:
        """What the layer puts out with it."""
        return cast("Tensor", self.adapter(given, before, output, self._linear))


class Chain:
    """One after the other."""

    def __init__(self, parts: Sequence[Part]) -> None:
        *self._before, self._last = parts
        self.operation: Operation = self._last.operation

    def hand_on(self, given: Tensor, before: Tensor | None) -> Tensor:
        """What the next in a stack takes."""
        return self._last.hand_on(given, self._led(given, before))

    def __call__(self, given: Tensor, before: Tensor | None, output: Tensor) -> Tensor:
        """What the layer puts out with it."""
        return self._last(given, self._led(given, before), output)

    def _led(self, given: Tensor, before: Tensor | None) -> Tensor | None:
        for part in self._before:
            before = part.hand_on(given, before)
        return before


class Divided:
    """Each part on its own rows of the batch; equal shares without ``sizes``."""

    def __init__(
        self, parts: Sequence[Part | None], sizes: Sequence[int] | None, bank: LinearBank | None
    ) -> None:
        self._parts, self._sizes, self._bank = parts, sizes, bank
        self.operation: Operation = next(part.operation for part in parts if part is not None)

    def hand_on(self, given: Tensor, before: Tensor | None) -> Tensor:
        """What the next in a stack takes."""
        sizes = self._shares(given)
        pieces = [
            self._passed(rows, prior) if part is None else part.hand_on(rows, prior)
            for part, rows, prior in zip(
                self._parts, torch.split(given, sizes), _split(before, sizes), strict=True
            )
        ]
        whole = [
            piece.expand(size, *piece.shape[1:]) for piece, size in zip(pieces, sizes, strict=True)
        ]
        return torch.cat(whole)

    def __call__(self, given: Tensor, before: Tensor | None, output: Tensor) -> Tensor:
        """What the layer puts out with it."""
        sizes = self._shares(given)
        if self._bank is not None and before is None:
            if division.are_equal(sizes):
                return self._bank.of_equal_groups(given, output)
            counts = torch.tensor(sizes, device=given.device)
            numbers = torch.arange(len(sizes), device=given.device)
            index = numbers.repeat_interleave(counts, output_size=given.shape[0])
            return self._bank.of_rows(given, output, index)
        rows = zip(
            self._parts,
            torch.split(given, sizes),
            _split(before, sizes),
            torch.split(output, sizes),
            strict=True,
        )
        return torch.cat([own if p is None else p(x, prior, own) for p, x, prior, own in rows])

    def _shares(self, given: Tensor) -> list[int]:
        """How many rows each part has.

        Raises:
            CompositionError: They are not those of the batch.
        """
        count, rows = len(self._parts), given.shape[0]
        if self._sizes is not None:
            division.require_sum("batch_sizes", self._sizes, "rows", rows)
            return list(self._sizes)
        if rows % count:
            raise CompositionError(
                f"A linear layer was called with {rows} rows, which are not {count} copies of a batch.",
                hint="the architecture calls it with something else too; leave it out of a parallel block",
            )
        return [rows // count] * count

    def _passed(self, given: Tensor, before: Tensor | None) -> Tensor:
        """What rows without an adapter hand on."""
        if before is not None or self.operation == "add":
            return given if before is None else before
        return given.new_full((given.shape[0], 1, 1), _NEUTRAL[self.operation])


class Mean:
    """The weighted sum of what each part changes; one without a part here changes nothing."""

    def __init__(self, parts: Sequence[tuple[Part, float]], wide: WideMean | None) -> None:
        self._parts, self._wide = parts, wide
        self.operation: Operation = parts[0][0].operation

    def hand_on(self, given: Tensor, before: Tensor | None) -> Tensor:
        """What the next in a stack takes."""
        return sum_of([part.hand_on(given, before) * share for part, share in self._parts])

    def __call__(self, given: Tensor, before: Tensor | None, output: Tensor) -> Tensor:
        """What the layer puts out with it."""
        if self._wide is not None and before is None:
            return self._wide(given, output)
        changed = [(part(given, before, output), share) for part, share in self._parts]
        return output + sum_of([(own - output) * share for own, share in changed])


class ReferenceMean(Mean):
    """As the reference library has it: the sum of what is handed on meets the output as the last adapter's would."""

    def __init__(
        self, parts: Sequence[tuple[Part, float]], last: LinearAdapter, linear: nn.Module
    ) -> None:
        super().__init__(parts, None)
        self._last, self._linear = last, linear

    def __call__(self, given: Tensor, before: Tensor | None, output: Tensor) -> Tensor:
        """What the layer puts out with it."""
        return self._last.join(output, self.hand_on(given, before), self._linear)


def sum_of(tensors: Sequence[Tensor]) -> Tensor:
    """The sum; of one at least."""
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total


def _split(tensor: Tensor | None, sizes: Sequence[int]) -> Sequence[Tensor | None]:
    """A tensor's rows in parts; what is the same for all rows stays so."""
    if tensor is None or tensor.shape[0] == 1 != sum(sizes):
        return [tensor] * len(sizes)
    return list(torch.split(tensor, list(sizes)))
