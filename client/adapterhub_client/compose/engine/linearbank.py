"""Adapters of one kind at one linear layer, side by side: their maps stacked, so that all are one product.

Rows of a batch that belong to different adapters are multiplied with different slices of the stacked weights; the mean
of several is one adapter of the sum of their ranks. No Python loop over adapters, however many there are.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapterhub_client.compose.engine import products
from adapterhub_client.compose.engine.frozen import Frozen
from adapterhub_client.compose.methods.ia3 import Ia3Adapter
from adapterhub_client.compose.methods.linear import Gate, LinearAdapter, dropped, spread, weight_of
from adapterhub_client.compose.methods.lowrank import Factors, LowRankAdapter, add_product
from adapterhub_client.errors import CompositionError


class Stacked(NamedTuple):
    """What adapters are made of, one slice each; smaller ranks are filled up with zeros.

    Shapes:
        down: (adapters, features in, rank); up: (adapters, rank, features out), scaled
        factor: (adapters, 1, features out)
        gate: (adapters, features in, blocks in use); gate_bias: (adapters, 1, blocks in use)
    """

    down: Tensor | None
    up: Tensor | None
    factor: Tensor | None
    gate: Tensor | None
    gate_bias: Tensor | None

    def of(self, index: Tensor) -> "Stacked":
        """The slices with these numbers."""
        return Stacked(*(None if tensor is None else tensor[index] for tensor in self))


class LinearBank:
    """Adapters at one linear layer that differ in their weights only, computed as one.

    Shapes:
        given: (batch, length, features in); output: (batch, length, features out)
    """

    def __init__(
        self, adapters: Sequence[LinearAdapter], linear: nn.Module, *, with_none: bool = False
    ) -> None:
        self._adapters, self._linear, self._with_none = list(adapters), linear, with_none
        sources = [p for adapter in adapters for p in adapter.parameters()]
        for adapter in adapters:
            if isinstance(adapter, LowRankAdapter):
                sources += adapter.sources()
                sources += [linear.weight] if adapter.m is not None else []  # type: ignore[list-item]
        self.weights = Frozen(sources, self._stack_all)

    @staticmethod
    def can_hold(adapters: Sequence[LinearAdapter]) -> bool:
        """Whether the adapters are of one kind."""
        return len({_kind(adapter) for adapter in adapters}) == 1 and _kind(adapters[0]) is not None

    def of_equal_groups(self, given: Tensor, output: Tensor) -> Tensor:
        """What the layer puts out, with each adapter on an equal share of consecutive rows."""
        return self._applied(self.weights(), given, output)

    def of_rows(self, given: Tensor, output: Tensor, index: Tensor) -> Tensor:
        """What the layer puts out, each row with the adapter whose number it has in ``index`` (batch)."""
        return self._applied(self.weights().of(index), given, output)

    def _applied(self, weights: Stacked, given: Tensor, output: Tensor) -> Tensor:
        groups = next(len(tensor) for tensor in weights if tensor is not None)
        rows = given.reshape(groups, -1, given.shape[-1])
        gate = self._gate(weights, rows, given)
        if weights.down is None or weights.up is None:
            factor = weights.factor if weights.factor is not None else output.new_ones(groups, 1, 1)
            scale = factor.repeat_interleave(given.shape[0] // groups, dim=0)
            return output * (scale if gate is None else scale * gate).to(output.dtype)
        code = torch.bmm(self._dropped(rows), weights.down)
        grouped = output.reshape(groups, -1, output.shape[-1])
        if gate is None:
            total = torch.baddbmm(grouped, code, weights.up)
        else:
            total = grouped + (torch.bmm(code, weights.up).view_as(output) * gate).view_as(grouped)
        if weights.factor is not None:
            total = total * weights.factor.to(total.dtype)
        return total.view(output.shape)

    def _gate(self, weights: Stacked, rows: Tensor, given: Tensor) -> Tensor | None:
        """The gate of each row, (batch, 1, 1 or features out)."""
        if weights.gate is None or weights.gate_bias is None:
            return None
        opened = torch.sigmoid(torch.baddbmm(weights.gate_bias, rows, weights.gate))
        gate = opened.reshape(*given.shape[:-1], -1).mean(dim=-2, keepdim=True)
        target = self._adapters[0].target
        if target.is_whole:
            return gate
        return spread(gate.repeat_interleave(target.block, dim=-1), target, 1.0)

    def _dropped(self, hidden: Tensor) -> Tensor:
        first = self._adapters[0]
        if not isinstance(first, LowRankAdapter):
            return hidden
        return dropped(hidden, first.config.dropout, training=first.training)

    def _stack_all(self) -> Stacked:
        """The slices of all adapters, and a last one that changes nothing where that is asked for."""
        stacked = self._stack()
        if not self._with_none:
            return stacked
        fills = (0.0, 0.0, 1.0, 0.0, 0.0)
        return Stacked(
            *(
                None if tensor is None else torch.cat([tensor, torch.full_like(tensor[:1], fill)])
                for tensor, fill in zip(stacked, fills, strict=True)
            )
        )

    def _stack(self) -> Stacked:
        found = [_gate_of(adapter) for adapter in self._adapters]
        gates = [gate for gate in found if gate is not None]
        opens = torch.stack([gate.weight.T for gate in gates]) if gates else None
        bias = torch.stack([gate.bias.unsqueeze(0) for gate in gates]) if gates else None
        low_rank = [adapter for adapter in self._adapters if isinstance(adapter, LowRankAdapter)]
        if not low_rank:
            scales = [a.factor() for a in self._adapters if isinstance(a, Ia3Adapter)]
            return Stacked(None, None, torch.stack(scales).unsqueeze(1), opens, bias)
        factors = [adapter.factors() for adapter in low_rank]
        rank = max(len(down) for down, _ in factors)
        downs = [functional.pad(down.T, (0, rank - len(down))) for down, _ in factors]
        ups = [
            functional.pad(up.T * adapter.scale, (0, 0, 0, rank - up.shape[1]))
            for adapter, (_, up) in zip(low_rank, factors, strict=True)
        ]
        factor = _magnitudes(low_rank, factors, self._linear)
        return Stacked(torch.stack(downs), torch.stack(ups), factor, opens, bias)


class ResidentBanks:
    """Adapters of which every row of a batch names its own: one bank for each kind.

    Shapes:
        positions: (residents + 1), the slice of each resident adapter; the last changes nothing

    Raises:
        CompositionError: One cannot be picked by row.
    """

    def __init__(
        self, adapters: Mapping[int, LinearAdapter], residents: int, linear: nn.Module
    ) -> None:
        kinds: dict[object, dict[int, LinearAdapter]] = {}
        for number, adapter in adapters.items():
            kinds.setdefault(_kind(adapter), {})[number] = adapter
        self._banks: list[tuple[LinearBank, Tensor]] = []
        for kind, held in kinds.items():
            first = next(iter(held.values()))
            if kind is None or (isinstance(first, Ia3Adapter) and first.gate is not None):
                raise CompositionError(
                    f"A {type(first).__name__} cannot be picked by row.",
                    hint="use it in a `batchsplit`",
                )
            device = next(first.parameters()).device
            positions = torch.full((residents + 1,), len(held), device=device)
            positions[torch.tensor(list(held), device=device)] = torch.arange(
                len(held), device=device
            )
            self._banks.append((LinearBank(list(held.values()), linear, with_none=True), positions))

    def __call__(self, given: Tensor, output: Tensor, index: Tensor) -> Tensor:
        """What the layer puts out, each row with the adapter whose number it has in ``index`` (batch)."""
        for bank, positions in self._banks:
            output = bank.of_rows(given, output, positions[index])
        return output


class WideMean:
    """The weighted sum of adapters that only add: one adapter of the sum of their ranks."""

    def __init__(self, adapters: Sequence[LowRankAdapter], shares: Sequence[float]) -> None:
        self._adapters, self._shares = list(adapters), list(shares)
        sources = [p for adapter in adapters for p in adapter.sources()]
        self._factors = Frozen(sources, self._join)

    @staticmethod
    def can_hold(adapters: Sequence[LinearAdapter]) -> bool:
        """Whether the adapters only add, and drop out alike."""
        return LinearBank.can_hold(adapters) and all(
            isinstance(adapter, LowRankAdapter) and adapter.is_plain for adapter in adapters
        )

    def __call__(self, given: Tensor, output: Tensor) -> Tensor:
        """What the layer puts out."""
        first = self._adapters[0]
        down, up = self._factors()
        hidden = dropped(given, first.config.dropout, training=first.training)
        return add_product(output, products.linear(hidden, down), up)

    def _join(self) -> Factors:
        factors = [adapter.factors() for adapter in self._adapters]
        scales = [a.scale * share for a, share in zip(self._adapters, self._shares, strict=True)]
        ups = [up * scale for (_, up), scale in zip(factors, scales, strict=True)]
        return Factors(torch.cat([down for down, _ in factors]), torch.cat(ups, dim=1))


def _magnitudes(
    adapters: Sequence[LowRankAdapter], factors: Sequence[Factors], linear: nn.Module
) -> Tensor | None:
    """The factor of each adapter's magnitude, (adapters, 1, features out), where they have one."""
    found = [
        adapter.m.factor(weight_of(linear), *maps)
        for adapter, maps in zip(adapters, factors, strict=True)
        if adapter.m is not None
    ]
    return torch.stack(found).unsqueeze(1) if found else None


def _kind(adapter: LinearAdapter) -> object:
    """What adapters have to share to be computed as one; None for those that cannot be."""
    gate = _gate_of(adapter)
    if isinstance(adapter, LowRankAdapter):
        if adapter.config.dora_keeps_bias:
            return None
        shape = adapter.target, adapter.config.dropout
        return "product", *shape, adapter.m is not None, gate is not None
    if isinstance(adapter, Ia3Adapter):
        return "factor", adapter.target, gate is not None
    return None


def _gate_of(adapter: LinearAdapter) -> Gate | None:
    gate = getattr(adapter, "gate", None)
    return gate if isinstance(gate, Gate) else None
