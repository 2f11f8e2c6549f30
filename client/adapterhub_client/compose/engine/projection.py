"""Binds a composition at the linear layers of a model: LoRA, DoRA, VeRA, MTL-LoRA, (IA)3 and BitFit.

In a stack each adapter works on what the one before handed on, so that stack(a, b) of LoRA adds b(a(x)), as in the
reference library; only the last one meets the layer's output. Blocks whose parts work side by side end in each part.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adapterhub_client.compose import expression
from adapterhub_client.compose.engine import division
from adapterhub_client.compose.engine.hooks import Hooks
from adapterhub_client.compose.engine.linearbank import LinearBank, ResidentBanks, WideMean
from adapterhub_client.compose.engine.linearparts import (
    Chain,
    Divided,
    Mean,
    One,
    Part,
    ReferenceMean,
)
from adapterhub_client.compose.engine.plan import Plan
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
from adapterhub_client.compose.methods.linear import LinearAdapter, module_at
from adapterhub_client.compose.sites.spots import Projection
from adapterhub_client.errors import CompositionError

if TYPE_CHECKING:
    from adapterhub_client.compose.methods.lowrank import LowRankAdapter


class LinearHooks:
    """The hook of one linear layer, for as long as a composition is active there."""

    def __init__(self, linear: nn.Module, part: Part) -> None:
        self._linear, self._part = linear, part

    def install(self) -> Iterator[RemovableHandle]:
        """Register the hook; its handle removes it."""
        yield self._linear.register_forward_hook(self._change)

    def _change(self, _module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return self._part(args[0], None, output)


class InputHooks:
    """The hook of what goes into one linear layer: as if a layer before it put that out."""

    def __init__(self, linear: nn.Module, part: Part) -> None:
        self._linear, self._part = linear, part

    def install(self) -> Iterator[RemovableHandle]:
        """Register the hook; its handle removes it."""
        yield self._linear.register_forward_pre_hook(self._change)

    def _change(self, _module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self._part(args[0], None, args[0]), *args[1:])


class ResidentHooks:
    """The hook of one linear layer whose rows name their adapters."""

    def __init__(
        self, linear: nn.Module, tree: Rows, adapters: Mapping[str, LinearAdapter], plan: Plan
    ) -> None:
        names = enumerate(expression.leaves(tree))
        numbered = {number: adapters[name] for number, name in names if name in adapters}
        self._linear, self._residents = linear, plan.manner.residents
        self._banks = ResidentBanks(numbered, len(tree.children), linear)
        self._is_input = any(adapter.target.is_input for adapter in numbered.values())

    def install(self) -> Iterator[RemovableHandle]:
        """Register the hook; its handle removes it."""
        if self._is_input:
            yield self._linear.register_forward_pre_hook(self._change_input)
        else:
            yield self._linear.register_forward_hook(self._change)

    def _change_input(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (self._change(module, args, args[0]), *args[1:])

    def _change(self, _module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if self._residents is None:
            return output
        return self._banks(args[0], output, self._residents.chosen())


class Binder:
    """Binds expressions at one layer; ``name`` says where that is.

    A layer that ``is_shared`` is called with other tensors than the batch too, which have other rows.
    """

    def __init__(
        self,
        name: str,
        linear: nn.Module,
        adapters: Mapping[str, LinearAdapter],
        *,
        as_reference: bool,
        is_shared: bool = False,
    ) -> None:
        self._is_shared = is_shared
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
                if self._is_shared:
                    raise shared(self._name, tree, self._adapters)
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
            f"Rows cannot name {name!r}: it changes biases, which are not kept for many adapters at once.",
            hint="activate it alone, or in a `batchsplit`",
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
        at = str(place)
        for adapters in _apart(tree, cast("Mapping[str, LinearAdapter]", own), at):
            is_shared = plan.backbone.is_shared(place.spot)
            if isinstance(tree, Rows):
                if is_shared:
                    raise shared(at, tree, adapters)
                yield ResidentHooks(linear, tree, adapters, plan)
                continue
            binder = Binder(
                at, linear, adapters, as_reference=plan.as_reference, is_shared=is_shared
            )
            part = binder.bind(tree)
            is_input = any(adapter.target.is_input for adapter in adapters.values())
            if part is not None:
                yield InputHooks(linear, part) if is_input else LinearHooks(linear, part)


def shared(at: str, tree: Block, adapters: Mapping[str, LinearAdapter]) -> CompositionError:
    """The error for a block that divides the batch at a layer which is called with something else too."""
    name = next(name for name in expression.leaves(tree) if name in adapters)
    return CompositionError(
        f"`{tree.operator}` cannot give {name!r} rows of its own at {at}: the model sends the embeddings of relative "
        "positions through the same layer, and these are of all rows.",
        hint="activate it alone, in a `stack` or an `average`, or use an adapter that leaves this layer alone",
    )


def _apart(
    tree: Expression, adapters: Mapping[str, LinearAdapter], at: str
) -> list[Mapping[str, LinearAdapter]]:
    """Those that change what goes into a layer apart from those that change what it puts out.

    Raises:
        CompositionError: Both change the same rows.
    """
    groups: dict[bool, dict[str, LinearAdapter]] = {}
    for name, adapter in adapters.items():
        groups.setdefault(adapter.target.is_input, {})[name] = adapter
    if len(groups) > 1 and _meet(tree, set(groups[True]), set(groups[False])):
        raise CompositionError(
            f"At {at} some adapters of `{tree}` scale what goes into a layer and others change what it puts out; "
            "what both do to the same rows has no meaning.",
            hint="put them side by side with `parallel` or `batchsplit`",
        )
    return list(groups.values())


def _meet(tree: Expression, inputs: set[str], outputs: set[str]) -> bool:
    """Whether adapters of both kinds act on the same rows."""
    if isinstance(tree, Parallel | BatchSplit | Rows):
        return any(_meet(child, inputs, outputs) for child in tree.children)
    names = set(expression.leaves(tree))
    return bool(names & inputs) and bool(names & outputs)
