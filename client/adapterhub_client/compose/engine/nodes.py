"""Evaluates a composition at one slot: one small pure function per node, bound to modules when it is activated."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor

from adapterhub_client.compose import expression
from adapterhub_client.compose.engine import division
from adapterhub_client.compose.engine.bank import Bank
from adapterhub_client.compose.engine.compilation import CompiledLayer
from adapterhub_client.compose.engine.fusion import FusionLayer, Member, Mixture
from adapterhub_client.compose.engine.residents import Residents, ResidentStep
from adapterhub_client.compose.engine.stream import Source, Stream, push, put, read
from adapterhub_client.compose.expression import (
    Average,
    BatchSplit,
    Expression,
    Fuse,
    Leaf,
    Parallel,
    Rows,
    Split,
    Stack,
)
from adapterhub_client.compose.methods.bottleneck import BottleneckAdapter
from adapterhub_client.errors import CompositionError

Step = Callable[[Stream], Stream]


class Modules(NamedTuple):
    """What is loaded at one place, by name."""

    adapters: Mapping[str, BottleneckAdapter]
    fusions: Mapping[str, FusionLayer | CompiledLayer]
    stacks_as_reference: frozenset[str] = frozenset()
    """the fusions that were trained with the reference library's reading of a stack inside them"""


class Reading(NamedTuple):
    """How a tree is to be read at a place."""

    finish: Callable[["Bound", Stream], Tensor]
    as_reference: bool = False
    """as the reference library reads blocks inside blocks and averages, even where that is wrong"""
    repeats: bool = False
    """whether a parallel block copies the batch here, or finds it copied already"""
    residents: Residents | None = None
    whose: str = "the input"
    """what its tokens are of, where they are too many or too few"""


class Bound(NamedTuple):
    """A composition, or a part of one, bound to the modules of a place."""

    step: Step
    needs: frozenset[Source]
    """what has to be recorded at the place, besides the sum"""
    starts_normed: bool
    """whether it begins by reading the LayerNorm's output"""
    norms_after: bool
    """whether the model's residual and LayerNorm follow"""
    mixtures: tuple[tuple[str, Mixture], ...] = ()
    is_final: bool = False
    """whether its parts end differently, so that nothing can follow it"""


def stack(steps: Sequence[Step], stream: Stream) -> Stream:
    """One step after the other."""
    for step in steps:
        stream = step(stream)
    return stream


def fuse(mixture: Mixture, stream: Stream, *, twice: bool = False) -> Stream:
    """The attention-weighted mixture of what all members put out.

    The last member's config says what they read and what the mixture is added to. A stack inside a fusion starts from
    the stream as it is; the reference library starts it from what the last member reads, so that a norm is applied
    ``twice``.
    """
    layer, last = mixture.layer, mixture.last
    hidden = read(stream, last.reads)
    query = hidden
    if layer.config.query_before_ln and not last.config.is_parallel:
        query = read(stream, Source.BRANCH)
    inside = put(stream, hidden) if twice else stream
    mixed = mixture.mix(hidden, query, [_input(m, inside, hidden) for m in mixture.apart])
    if layer.config.residual_before:
        return put(stream, mixed + layer.valued(read(stream, last.residual)))
    if last.config.is_parallel:
        return push(stream, mixed + read(stream, Source.SKIP))
    if last.residual is Source.BRANCH:
        return push(stream, mixed)
    return put(stream, mixed + read(stream, last.residual))


def finish(bound: Bound, stream: Stream) -> Tensor:
    """What a post-norm place hands on: LN(f + x), or f where the last adapter wants no norm after it."""
    if stream.done is not None:
        return stream.done
    if not bound.norms_after:
        return read(stream, Source.BRANCH)
    return stream.norm(read(stream, Source.SUM))


def finish_branch(bound: Bound, stream: Stream) -> Tensor:
    """What the branch of a pre-norm place hands on, to which the model then adds x."""
    if stream.done is not None:
        return stream.done
    branch = read(stream, Source.BRANCH)
    return branch if bound.norms_after else branch - read(stream, Source.SKIP)


def finish_inside(_bound: Bound, stream: Stream) -> Tensor:
    """What the branch hands on where the model adds its residual whatever the adapters' configs say."""
    return stream.done if stream.done is not None else read(stream, Source.BRANCH)


def bind(tree: Expression, modules: Modules, reading: Reading) -> Bound | None:
    """Bind an expression to the modules of a place; None where it has none there.

    Raises:
        CompositionError: The parts do not fit, or a fusion was never added.
    """
    match tree:
        case Leaf():
            return _bind_leaf(tree, modules)
        case Stack():
            parts = [bind(child, modules, reading) for child in tree.children]
            return _bind_stack([part for part in parts if part is not None])
        case Fuse():
            return _bind_fuse(tree, modules, reading)
        case Average() | Split() | BatchSplit() | Parallel():
            return _bind_division(tree, modules, reading)
        case Rows():
            return _bind_rows(tree, modules, reading.residents)
    raise CompositionError(f"`{tree.operator}` is not supported yet.")


def _bind_leaf(leaf: Leaf, modules: Modules) -> Bound | None:
    adapter = modules.adapters.get(leaf.name)
    if adapter is None:
        return None
    after = adapter.config.original_ln_after
    return Bound(adapter, adapter.needs, adapter.reads is Source.NORMED, after)


def _bind_stack(parts: Sequence[Bound]) -> Bound | None:
    if not parts:
        return None
    if any(part.is_final for part in parts[:-1]):
        raise CompositionError(
            "A block whose parts end differently (`original_ln_after`) can only stand last in a stack.",
            hint="put it last, or give all its parts the same `original_ln_after`",
        )
    return parts[-1]._replace(
        step=parts[0].step if len(parts) == 1 else partial(stack, [part.step for part in parts]),
        needs=frozenset().union(*(part.needs for part in parts)),
        starts_normed=parts[0].starts_normed,
        mixtures=tuple(mixture for part in parts for mixture in part.mixtures),
    )


def _bind_fuse(tree: Fuse, modules: Modules, reading: Reading) -> Bound | None:
    layer = modules.fusions.get(tree.fusion)
    if isinstance(layer, CompiledLayer):
        return _bind_compiled(tree, layer)
    as_reference = reading.as_reference or tree.fusion in modules.stacks_as_reference
    members: list[Member] = []
    needs: set[Source] = set()
    for child in tree.children:
        before, own = _last_of(child, modules)
        if own is None:
            continue
        members.append(Member(expression.last(child), own, before.step if before else None))
        needs |= own.needs | (before.needs if before else frozenset())
        if before and as_reference:
            needs |= {Source.SKIP, Source.BRANCH}
    if not members:
        return None
    if layer is None:
        raise CompositionError(
            f"There is no fusion named {tree.fusion!r}.",
            hint="load it with `load_fusion`, or make a new one with `add_fusion`",
        )
    return _bound_mixture(tree, Mixture(layer, members), needs, twice=as_reference)


def _bind_compiled(tree: Fuse, layer: CompiledLayer) -> Bound | None:
    """Bind a fusion that knows its members without their being loaded."""
    names = [name for name in expression.leaves(tree) if name in layer.members]
    if not names:
        return None
    needs = set[Source]().union(*(layer.members[name].needs for name in names))
    return _bound_mixture(tree, layer.mixture(names), needs, twice=False)


def _bound_mixture(tree: Fuse, mixture: Mixture, needs: set[Source], *, twice: bool) -> Bound:
    if mixture.layer.config.query_before_ln:
        needs.add(Source.BRANCH)
    if mixture.layer.config.residual_before:
        needs |= {Source.BRANCH, Source.SKIP}
    return Bound(
        partial(fuse, mixture, twice=twice),
        frozenset(needs),
        mixture.last.reads is Source.NORMED,
        mixture.last.config.original_ln_after,
        ((tree.fusion, mixture),),
    )


def _bind_division(
    tree: Average | Split | BatchSplit | Parallel, modules: Modules, reading: Reading
) -> Bound | None:
    """Bind a block whose parts work side by side: on rows, on tokens, or on the same for their mean."""
    inner = reading._replace(repeats=False)
    parts = [bind(child, modules, inner) for child in tree.children]
    present = [part for part in parts if part is not None]
    if not present:
        return None
    needs = frozenset[Source]().union(*(part.needs for part in present))
    first = next(part for part in parts if part is not None)
    whole = first._replace(
        needs=needs, mixtures=tuple(m for part in present for m in part.mixtures)
    )
    norms = {part.norms_after if part else True for part in parts}
    steps = [part.step if part else None for part in parts]
    leaves = _same_kind(tree, modules)
    if reading.as_reference and any(isinstance(child, Stack) for child in tree.children):
        source = modules.adapters[_first_present(tree, modules)].reads
        whole = whole._replace(needs=needs | {Source.BRANCH, Source.SKIP})
        steps = [
            partial(division.normed_twice, step, source) if isinstance(child, Stack) else step
            for step, child in zip(steps, tree.children, strict=True)
        ]
    if isinstance(tree, Average):
        if len(norms) > 1:
            raise CompositionError(
                "An average needs parts that end alike: they differ in `original_ln_after`.",
                hint="average those with `original_ln_after` and those without apart from each other",
            )
        weights = division.weights_of(tree, as_reference=reading.as_reference)
        return _bind_average(whole, weights, steps, leaves)
    if len(norms) > 1:
        # Each part ends in its own way, so it ends here.
        steps = [
            partial(division.ended, reading.finish, part or _untouched(first)) for part in parts
        ]
        whole = whole._replace(needs=needs | {Source.BRANCH, Source.SKIP}, is_final=True)
        leaves = None
    match tree:
        case Split():
            step: Step = partial(
                division.split, division.sizes_of(tree), steps, whose=reading.whose
            )
        case BatchSplit():
            sizes = division.sizes_of(tree)
            bank = Bank(leaves) if leaves else None
            step = partial(division.by_rows, sizes, steps, bank)
        case _:
            bank = Bank(leaves) if leaves else None
            step = partial(division.parallel, steps, bank, repeats=reading.repeats)
    return whole._replace(step=step)


def _bind_rows(tree: Rows, modules: Modules, residents: Residents | None) -> Bound | None:
    """Bind resident adapters, of which every row names its own."""
    present = {
        number: modules.adapters[name]
        for number, name in enumerate(expression.leaves(tree))
        if name in modules.adapters
    }
    if not present or residents is None:
        return None
    norms = {adapter.config.original_ln_after for adapter in present.values()}
    if len(norms) > 1:
        raise CompositionError(
            "Resident adapters have to end alike: these differ in `original_ln_after`.",
            hint="make those with it resident, or those without; a `batchsplit` takes both",
        )
    step = ResidentStep(present, residents)
    normed = any(kind.reads is Source.NORMED for kind in step.kinds)
    return Bound(step, step.needs, normed, norms.pop())


def _bind_average(
    whole: Bound,
    weights: Sequence[float],
    steps: Sequence[Step | None],
    leaves: Sequence[BottleneckAdapter] | None,
) -> Bound:
    """Bind the weighted mean; adapters of one kind become one wide adapter."""
    is_mean = abs(sum(weights) - 1.0) < division.ROUNDING
    if not is_mean:
        whole = whole._replace(needs=whole.needs | {Source.BRANCH, Source.SKIP})
    if leaves and is_mean:
        return whole._replace(step=partial(division.mean_of_bank, Bank(leaves), weights))
    return whole._replace(step=partial(division.mean, steps, weights, is_mean=is_mean))


def _untouched(like: Bound) -> Bound:
    return like._replace(step=_same, norms_after=True)


def _same(stream: Stream) -> Stream:
    return stream


def _same_kind(tree: expression.Block, modules: Modules) -> list[BottleneckAdapter] | None:
    """The adapters of a block, where all its children are single adapters that can be computed as one product."""
    if not all(
        isinstance(child, Leaf) and child.name in modules.adapters for child in tree.children
    ):
        return None
    adapters = [modules.adapters[name] for name in expression.leaves(tree)]
    return adapters if Bank.can_hold(adapters) else None


def _first_present(tree: Expression, modules: Modules) -> str:
    return next(name for name in expression.leaves(tree) if name in modules.adapters)


def _last_of(child: Expression, modules: Modules) -> tuple[Bound | None, BottleneckAdapter | None]:
    """A fused child: what runs before its last adapter, and that adapter."""
    present = [name for name in expression.leaves(child) if name in modules.adapters]
    if not present:
        return None, None
    before = [_bind_leaf(Leaf(name), modules) for name in present[:-1]]
    return _bind_stack([part for part in before if part]), modules.adapters[present[-1]]


def _input(member: Member, stream: Stream, hidden: Tensor) -> Tensor:
    """What a member with an input of its own reads."""
    if member.before is None:
        return hidden
    return read(member.before(stream), member.adapter.reads)
