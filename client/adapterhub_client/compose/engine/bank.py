"""Bottleneck adapters of one kind side by side: their projections stacked, so that all are one product.

Rows of a batch that belong to different adapters are multiplied with different slices of the stacked weights; the mean
of several is one adapter as wide as all. No Python loop over adapters, however many there are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from adapterhub_client.compose.engine import division
from adapterhub_client.compose.engine.frozen import Frozen
from adapterhub_client.compose.engine.stream import Stream, push, read
from adapterhub_client.compose.methods.bottleneck import BottleneckAdapter


class Weights(NamedTuple):
    """The projections of all adapters.

    Shapes:
        down: (adapters, features, width); down_bias: (adapters, width)
        up: (adapters, width, features), scaled; up_bias: (adapters, features)
    """

    down: Tensor
    down_bias: Tensor
    up: Tensor
    up_bias: Tensor


class Bank:
    """Adapters of one place with equal configs and widths, computed as one.

    Shapes:
        hidden: (batch, length, features)
    """

    def __init__(self, adapters: Sequence[BottleneckAdapter]) -> None:
        self.adapters = list(adapters)
        self.reads = adapters[0].reads
        self.act = adapters[0].act
        self.width = adapters[0].width
        sources = [p for adapter in adapters for p in adapter.sources()]
        self.weights = Frozen(sources, self._stack)

    @staticmethod
    def can_hold(adapters: Sequence[BottleneckAdapter]) -> bool:
        """Whether the adapters are of one kind, and of one that only adds to f."""
        first = adapters[0]
        return all(
            adapter.is_plain
            and adapter.width == first.width
            and adapter.reads is first.reads
            and adapter.config.non_linearity.lower() == first.config.non_linearity.lower()
            and adapter.config.dropout == first.config.dropout
            and adapter.config.original_ln_after == first.config.original_ln_after
            for adapter in adapters
        )

    def step(self, stream: Stream, sizes: Sequence[int]) -> Stream:
        """Each adapter on its own rows of the batch, as many as ``sizes`` says."""
        hidden = read(stream, self.reads)
        if division.are_equal(sizes):
            return push(stream, self.of_equal_groups(hidden))
        counts = torch.tensor(sizes, device=hidden.device)
        index = torch.arange(len(sizes), device=hidden.device).repeat_interleave(
            counts, output_size=sum(sizes)
        )
        return push(stream, self.of_rows(hidden, index))

    def of_equal_groups(self, hidden: Tensor) -> Tensor:
        """What the adapters put out, each for an equal share of consecutive rows."""
        weights = self.weights()
        groups = hidden.reshape(len(self.adapters), -1, hidden.shape[-1])
        return self._change(groups, *weights).reshape(hidden.shape)

    def of_rows(self, hidden: Tensor, index: Tensor) -> Tensor:
        """What the adapters put out, each row by the adapter whose number it has in ``index`` (batch)."""
        return self._change(hidden, *(tensor[index] for tensor in self.weights()))

    def mean(self, hidden: Tensor, shares: Sequence[float]) -> Tensor:
        """The weighted sum of what all adapters put out for the same input."""
        down, down_bias, up, up_bias = self.weights()
        share = hidden.new_tensor(list(shares))
        code = self.act(hidden @ down.transpose(0, 1).flatten(1) + down_bias.flatten())
        change = code @ (up * share[:, None, None]).flatten(0, 1) + share @ up_bias
        return self._dropped(change)

    def _change(
        self, hidden: Tensor, down: Tensor, down_bias: Tensor, up: Tensor, up_bias: Tensor
    ) -> Tensor:
        code = self.act(torch.baddbmm(down_bias.unsqueeze(1), hidden, down))
        return self._dropped(torch.baddbmm(up_bias.unsqueeze(1), code, up))

    def _dropped(self, change: Tensor) -> Tensor:
        first = self.adapters[0]
        return functional.dropout(change, first.config.dropout, first.training)

    def _stack(self) -> Weights:
        ups = [adapter.scaled_up() for adapter in self.adapters]
        return Weights(
            torch.stack([adapter.down.weight.T for adapter in self.adapters]),
            torch.stack([adapter.down.bias for adapter in self.adapters]),
            torch.stack([weight.T for weight, _ in ups]),
            torch.stack([bias for _, bias in ups]),
        )
