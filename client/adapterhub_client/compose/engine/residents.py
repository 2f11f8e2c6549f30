"""Many adapters resident at once, and a batch in which every row names its own.

At each slot the adapters of one kind lie in one stack of weights; a call picks the slices its rows name and multiplies
once, so a thousand resident adapters cost a call no more than ten. The adapters' own parameters become views of the
stack, so nothing is held twice.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from adapterhub_client.compose.engine.stream import Source, Stream, push, read
from adapterhub_client.compose.heads import Head
from adapterhub_client.compose.methods.bottleneck import BottleneckAdapter
from adapterhub_client.compose.methods.linear import LinearAdapter
from adapterhub_client.compose.methods.vera import SharedMaps
from adapterhub_client.errors import CompositionError


class Residents:
    """The names of resident adapters, and which of them each row of the present batch has.

    Shapes:
        index: (batch), the number of each row's adapter; as many as there are adapters for none
    """

    def __init__(self, names: Sequence[str], heads: Mapping[str, Head]) -> None:
        self.names, self.heads = tuple(names), heads
        self._numbers = {name: number for number, name in enumerate(self.names)}
        self.index: Tensor | None = None

    def choose(
        self, rows: Sequence[str | None] | Tensor | None, batch: int, device: torch.device
    ) -> None:
        """Give each row of the coming batch its adapter, or none.

        Raises:
            CompositionError: A name is not resident, or there is not one for each row.
        """
        # The length of a tensor would be a constant of an exported graph.
        named = rows.shape[0] if isinstance(rows, Tensor) else len(rows or ())
        if rows is None or isinstance(rows, str) or named != batch:
            found = "no adapters are named" if rows is None else f"{named} adapters are named"
            raise CompositionError(
                f"The batch has {batch} rows, but {found}.",
                hint='call with adapters=["a", None, ...], one name for each row',
            )
        self.index = self.numbers(rows, device) if not isinstance(rows, Tensor) else rows

    def chosen(self) -> Tensor:
        """The number of each row's adapter in the call that is going on, (batch).

        Raises:
            CompositionError: The model is called by itself, where rows cannot name adapters.
        """
        if self.index is None:
            raise CompositionError(
                "The resident adapters wait to be named.",
                hint='call the adapted model with adapters=["a", None, ...], one name for each row',
            )
        return self.index

    def release(self) -> None:
        """Forget what the rows named: the next call names its own."""
        self.index = None

    def numbers(self, rows: Sequence[str | None], device: torch.device) -> Tensor:
        """The number of each row's adapter, (batch).

        Raises:
            CompositionError: A name is not resident.
        """
        unknown = next(
            (name for name in rows if name is not None and name not in self._numbers), None
        )
        if unknown is not None:
            raise CompositionError(
                f"The adapter {unknown!r} is not resident.",
                hint="name it in `activate_rows`; None is for rows without an adapter",
            )
        numbers = [len(self.names) if name is None else self._numbers[name] for name in rows]
        return torch.tensor(numbers, device=device)

    def heads_of(self, rows: Sequence[str | None] | Tensor) -> list[Head]:
        """The head of each row's adapter; none at all where no adapter has one.

        Raises:
            CompositionError: A row has none, and others have; or rows have numbers, which name no heads.
        """
        if not self.heads:
            return []
        if isinstance(rows, Tensor):
            raise CompositionError(
                "The rows' adapters are given as numbers, which do not say whose head answers.",
                hint="name the adapters, or apply the heads to the base model's output",
            )
        for number, name in enumerate(rows):
            if name is None or name not in self.heads:
                raise CompositionError(
                    f"Row {number} has no head, since {name or 'no adapter'!r} has none; other adapters have.",
                    hint="name a head for every adapter in `activate_rows(names, heads={...})`",
                )
        return [self.heads[name] for name in rows if name is not None]


class Weights(NamedTuple):
    """The weights of one kind of adapter at one place, one slice each, and a last one that changes nothing.

    Shapes:
        down: (adapters + 1, width, features); down_bias: (adapters + 1, width)
        up: (adapters + 1, features, width), not scaled; up_bias: (adapters + 1, features)
        scale: (adapters + 1, 1 or features), what the up-projections are scaled with; None where all have one factor
    """

    down: Tensor
    down_bias: Tensor
    up: Tensor
    up_bias: Tensor
    scale: Tensor | None


class ResidentKind:
    """The resident adapters of one kind at one place.

    Shapes:
        positions: (residents + 1), each resident's slice of the weights
    """

    def __init__(self, adapters: Mapping[int, BottleneckAdapter], residents: int) -> None:
        self.adapters = list(adapters.values())
        first = self.adapters[0]
        self.reads, self.act, self.factor = first.reads, first.act, first.factor
        self._numbers = list(adapters)
        self._residents = residents
        self._weights, self._positions = self._stack()

    def change(self, stream: Stream, index: Tensor) -> Tensor:
        """What the rows' adapters put out; nothing for rows whose adapter is of another kind."""
        hidden = read(stream, self.reads)
        weights = self._fitting(hidden)
        at = self._positions[index]
        down, down_bias, up, up_bias = (tensor[at] for tensor in weights[:4])
        code = self.act(torch.baddbmm(down_bias.unsqueeze(1), hidden, down.transpose(1, 2)))
        change = torch.baddbmm(up_bias.unsqueeze(1), code, up.transpose(1, 2))
        if weights.scale is not None:
            return change * weights.scale[at].unsqueeze(1)
        return change if self.factor == 1.0 else change * self.factor

    def _fitting(self, hidden: Tensor) -> Weights:
        """The weights, stacked anew where the adapters were moved or cast meanwhile."""
        if self._weights.down.device != hidden.device or self._moved():
            self._weights, self._positions = self._stack()
        return self._weights

    def _moved(self) -> bool:
        """Whether the first adapter's parameters lie elsewhere now: moving a module moves all of them.

        Addresses cannot be compared inside a compiled graph; there a move back and forth between devices is not seen.
        """
        own, stacked = self.adapters[0].down.weight, self._weights.down
        if own.dtype != stacked.dtype or own.device != stacked.device:
            return True
        return not torch.compiler.is_compiling() and own.data_ptr() != stacked.data_ptr()

    @torch.no_grad()
    def _stack(self) -> tuple[Weights, Tensor]:
        first = self.adapters[0]
        positions = torch.full(
            (self._residents + 1,), len(self.adapters), device=first.down.weight.device
        )
        positions[self._numbers] = torch.arange(len(self.adapters), device=positions.device)
        parameters = [
            [adapter.down.weight, adapter.down.bias, adapter.up.weight, adapter.up.bias]
            for adapter in self.adapters
        ]
        down, down_bias, up, up_bias = (_shared(list(t)) for t in zip(*parameters, strict=True))
        scale = None
        if first.scaling is not None:
            own = [adapter.scaling for adapter in self.adapters if adapter.scaling is not None]
            scale = torch.stack([*own, torch.zeros_like(first.scaling)])
        return Weights(down, down_bias, up, up_bias, scale), positions


class ResidentStep:
    """All resident adapters at one place, as a step of a composition."""

    def __init__(self, adapters: Mapping[int, BottleneckAdapter], residents: Residents) -> None:
        ordered = sorted(adapters.items(), key=lambda item: (_kind(item[1]), item[0]))
        self._residents = residents
        self.kinds = [
            ResidentKind(dict(group), len(residents.names))
            for _, group in groupby(ordered, key=lambda item: _kind(item[1]))
        ]

    def __call__(self, stream: Stream) -> Stream:
        """Add to each row what its adapter puts out."""
        index = self._residents.chosen()
        change = self.kinds[0].change(stream, index)
        for kind in self.kinds[1:]:
            change = change + kind.change(stream, index)
        return push(stream, change)

    @property
    def needs(self) -> frozenset[Source]:
        """What has to be recorded at the place, besides the sum."""
        return frozenset[Source]().union(*(k.adapters[0].needs for k in self.kinds))


def require_plain(adapters: Mapping[str, Any]) -> None:
    """Refuse adapters that cannot be resident: those that do more than add a scaled up-projection, or are trained.

    Raises:
        CompositionError: Names the first.
    """
    for name, module in _modules(adapters):
        is_linear = isinstance(module, LinearAdapter | SharedMaps)
        is_plain = isinstance(module, BottleneckAdapter) and module.is_plain
        if not is_linear and not is_plain:
            raise CompositionError(
                f"The adapter {name!r} cannot be resident: only those of linear layers can, and bottlenecks "
                "without gates or norms of their own.",
                hint="activate it alone, or in a `batchsplit`",
            )
        if module.training:
            raise CompositionError(
                f"The adapter {name!r} is being trained, and resident adapters are for use.",
                hint="train it in a `batchsplit` or `parallel` composition",
            )


def _modules(adapters: Mapping[str, Any]) -> Iterator[tuple[str, nn.Module]]:
    for name, adapter in adapters.items():
        for module in adapter.places.values():
            yield name, module


def _shared(parameters: list[nn.Parameter]) -> Tensor:
    """One tensor of all of them and a slice of zeros, of which they become views."""
    first = parameters[0]
    stack = first.new_zeros((len(parameters) + 1, *first.shape))
    for number, parameter in enumerate(parameters):
        stack[number].copy_(parameter)
        parameter.data = stack[number]
    return stack


def _kind(adapter: BottleneckAdapter) -> tuple[Any, ...]:
    config = adapter.config
    scaling = str(config.scaling)
    return adapter.width, adapter.reads.value, config.non_linearity.lower(), scaling
