"""Binds a composition at the linear layers of a model: LoRA, DoRA, VeRA, MTL-LoRA, (IA)3 and BitFit.

In a stack each adapter works on what the one before handed on, so that stack(a, b) of LoRA adds b(a(x)), as in the
reference library; only the last one meets the layer's output. Blocks whose parts work side by side end in each part.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adapterhub_client.compose import division, expression
from adapterhub_client.compose.expression import (
    Average,
    BatchSplit,
    Block,
    Expression,
    Fuse,
    Leaf,
    Parallel,
    Rows,
    Split,
    Stack,
)
from adapterhub_client.compose.hooks import Hooks
from adapterhub_client.compose.linearbank import LinearBank, ResidentBanks, WideMean
from adapterhub_client.compose.methods.linear import LinearAdapter, Operation, module_at
from adapterhub_client.compose.plan import Plan
from adapterhub_client.compose.spots import Projection
from adapterhub_client.errors import CompositionError

if TYPE_CHECKING:
    from adapterhub_client.compose.methods.lowrank import LowRankAdapter

_NEUTRAL = {"scale": 1.0, "shift": 0.0}


class Part(Protocol):
    """A composition, or a part of one, bound at one layer."""

    operation: Operation

    def hand_on(self, given: Tensor, before: Tensor | None) -> Tensor:
        """What the next in a stack takes."""

    def __call__(self, given: Tensor, before: Tensor | None, output: Tensor) -> Tensor:
        """What the layer puts out with it."""


class LinearHooks:
    """The hook of one linear layer, for as long as a composition is active there."""

    def __init__(self, linear: nn.Module, part: Part) -> None:
        self._linear, self._part = linear, part

    def install(self) -> Iterator[RemovableHandle]:
        """Register the hook; its handle removes it."""
        yield self._linear.register_forward_hook(self._change)

    def _change(self, _module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return self._part(args[0], None, output)


class ResidentHooks:
    """The hook of one linear layer whose rows name their adapters."""

    def __init__(
        self, linear: nn.Module, tree: Rows, adapters: Mapping[str, LinearAdapter], plan: Plan
    ) -> None:
        names = enumerate(expression.leaves(tree))
        numbered = {number: adapters[name] for number, name in names if name in adapters}
        self._linear, self._residents = linear, plan.manner.residents
        self._banks = ResidentBanks(numbered, len(tree.children), linear)

    def install(self) -> Iterator[RemovableHandle]:
        """Register the hook; its handle removes it."""
        yield self._linear.register_forward_hook(self._change)

    def _change(self, _module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        index = None if self._residents is None else self._residents.index
        return output if index is None else self._banks(args[0], output, index)


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
            index = numbers.repeat_interleave(counts, output_size=len(given))
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
        count, rows = len(self._parts), len(given)
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
        return given.new_full((len(given), 1, 1), _NEUTRAL[self.operation])


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


class Binder:
    """Binds expressions at one layer; ``name`` says where that is."""

    def __init__(
        self,
        name: str,
        linear: nn.Module,
        adapters: Mapping[str, LinearAdapter],
        *,
        as_reference: bool,
    ) -> None:
        self._name, self._linear = name, linear
        self._adapters, self._as_reference = adapters, as_reference

    def bind(self, tree: Expression) -> Part | None:
        """Bind an expression; None where none of its adapters has anything here.

        Raises:
            CompositionError: The parts do not fit.
        """
        if not any(name in self._adapters for name in expression.leaves(tree)):
            return None
        match tree:
            case Leaf():
                return One(self._adapters[tree.name], self._linear)
            case Stack():
                return self._chain([p for p in map(self.bind, tree.children) if p is not None])
            case Average():
                return self._mean(tree)
            case Parallel() | BatchSplit():
                sizes = division.sizes_of(tree) if isinstance(tree, BatchSplit) else None
                leaves = self._leaves(tree)
                bank = LinearBank(leaves, self._linear) if leaves else None
                return Divided([self.bind(child) for child in tree.children], sizes, bank)
            case Block():
                raise self._refusal(tree)
        return None

    def _chain(self, parts: Sequence[Part]) -> Part:
        if len(parts) == 1:
            return parts[0]
        if len({part.operation for part in parts}) > 1:
            raise CompositionError(
                f"A stack at {self._name} mixes adapters that add to the layer's output with some that scale it; "
                "none could take what the other hands on.",
                hint="use `average` or `batchsplit`, or let one of them leave the layer out",
            )
        target = next(iter(self._adapters.values())).target
        if parts[0].operation == "add" and target.features_in != target.features_out:
            raise CompositionError(
                f"A stack at {self._name} would feed what one adapter puts out, {target.features_out} features, "
                f"to the next, which takes {target.features_in}.",
                hint="stack adapters of square layers such as q and v only, or use `average`",
            )
        return Chain(parts)

    def _mean(self, tree: Average) -> Part:
        weights = division.weights_of(tree, as_reference=self._as_reference)
        bound = [self.bind(child) for child in tree.children]
        parts = [(p, w) for p, w in zip(bound, weights, strict=True) if p is not None]
        leaves = self._leaves(tree)
        if leaves is not None and WideMean.can_hold(leaves):
            return Mean(parts, WideMean(cast("list[LowRankAdapter]", leaves), weights))
        if self._as_reference:
            last = [name for name in expression.leaves(tree) if name in self._adapters][-1]
            return ReferenceMean(parts, self._adapters[last], self._linear)
        return Mean(parts, None)

    def _leaves(self, tree: Block) -> list[LinearAdapter] | None:
        """The adapters of a block, where all its children are single ones that can be computed as one."""
        names = [child.name for child in tree.children if isinstance(child, Leaf)]
        if len(names) < len(tree.children) or any(name not in self._adapters for name in names):
            return None
        adapters = [self._adapters[name] for name in names]
        return adapters if LinearBank.can_hold(adapters) else None

    def _refusal(self, tree: Block) -> CompositionError:
        name = next(name for name in expression.leaves(tree) if name in self._adapters)
        if isinstance(tree, Fuse):
            return CompositionError(
                f"A fusion mixes the up-projections of bottleneck adapters; {name!r} acts at linear layers.",
                hint="use `average`, or `stack` with adapters of other places",
            )
        if isinstance(tree, Split):
            return CompositionError(
                f"`split` gives adapters tokens of their own, but {name!r} changes the projections "
                "with which all tokens attend to each other.",
                hint="use `batchsplit` for rows of a batch, or `average`",
            )
        return CompositionError(
            f"`{tree.operator}` is not possible with {name!r} at linear layers."
        )


def bind(tree: Expression, plan: Plan) -> Iterator[Hooks]:
    """Bind a composition at every linear layer where it has something.

    Raises:
        CompositionError: The parts do not fit there.
    """
    names = set(expression.leaves(tree))
    for place, modules in plan.places(Projection):
        own = {name: module for name, module in modules.adapters.items() if name in names}
        linear = module_at(plan.backbone, place)
        if not own or linear is None:
            continue
        adapters = cast("Mapping[str, LinearAdapter]", own)
        if isinstance(tree, Rows):
            yield ResidentHooks(linear, tree, adapters, plan)
            continue
        binder = Binder(str(place), linear, adapters, as_reference=plan.as_reference)
        part = binder.bind(tree)
        if part is not None:
            yield LinearHooks(linear, part)


def sum_of(tensors: Sequence[Tensor]) -> Tensor:
    """The sum; of one at least."""
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total


def _split(tensor: Tensor | None, sizes: Sequence[int]) -> Sequence[Tensor | None]:
    """A tensor's rows in parts; what is the same for all rows stays so."""
    if tensor is None or len(tensor) == 1 != sum(sizes):
        return [tensor] * len(sizes)
    return list(torch.split(tensor, list(sizes)))
