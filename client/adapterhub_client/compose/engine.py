"""Evaluates a composition at one place: one small pure function per node, bound to modules when it is activated."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor

from adapterhub_client.compose import expression
from adapterhub_client.compose.expression import Expression, Fuse, Leaf, Stack
from adapterhub_client.compose.fusion import FusionLayer, Member, Mixture
from adapterhub_client.compose.methods.bottleneck import BottleneckAdapter
from adapterhub_client.compose.stream import Source, Stream, push, put, read
from adapterhub_client.errors import CompositionError

Step = Callable[[Stream], Stream]


class Modules(NamedTuple):
    """What is loaded at one place, by name."""

    adapters: Mapping[str, BottleneckAdapter]
    fusions: Mapping[str, FusionLayer]


class Bound(NamedTuple):
    """A composition, or a part of one, bound to the modules of a place."""

    step: Step
    needs: frozenset[Source]
    """what has to be recorded at the place, besides the sum"""
    starts_normed: bool
    """whether it begins by reading the LayerNorm's output"""
    last: BottleneckAdapter
    """the adapter whose config decides what happens afterwards"""
    mixtures: tuple[tuple[str, Mixture], ...] = ()


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
    """What the place hands on: LN(f + x), or f where the last adapter wants no norm after it."""
    if not bound.last.config.original_ln_after:
        return read(stream, Source.BRANCH)
    return stream.norm(read(stream, Source.SUM))


def bind(tree: Expression, modules: Modules, *, as_reference: bool = False) -> Bound | None:
    """Bind an expression to the modules of a place; None where it has none there.

    Raises:
        CompositionError: A block is not supported yet, or a fusion was never added.
    """
    match tree:
        case Leaf():
            return _bind_leaf(tree, modules)
        case Stack():
            parts = [bind(child, modules, as_reference=as_reference) for child in tree.children]
            return _bind_stack([part for part in parts if part is not None])
        case Fuse():
            return _bind_fuse(tree, modules, as_reference=as_reference)
        case _:
            raise CompositionError(f"`{tree.operator}` is not supported yet.")


def _bind_leaf(leaf: Leaf, modules: Modules) -> Bound | None:
    adapter = modules.adapters.get(leaf.name)
    if adapter is None:
        return None
    return Bound(adapter, adapter.needs, adapter.reads is Source.NORMED, adapter)


def _bind_stack(parts: Sequence[Bound]) -> Bound | None:
    if not parts:
        return None
    return Bound(
        parts[0].step if len(parts) == 1 else partial(stack, [part.step for part in parts]),
        frozenset().union(*(part.needs for part in parts)),
        parts[0].starts_normed,
        parts[-1].last,
        tuple(mixture for part in parts for mixture in part.mixtures),
    )


def _bind_fuse(tree: Fuse, modules: Modules, *, as_reference: bool) -> Bound | None:
    layer = modules.fusions.get(tree.fusion)
    members: list[Member] = []
    needs: set[Source] = set()
    for child in tree.children:
        before, own = _divide(child, modules)
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
    if layer.config.query_before_ln:
        needs.add(Source.BRANCH)
    if layer.config.residual_before:
        needs |= {Source.BRANCH, Source.SKIP}
    mixture = Mixture(layer, members)
    return Bound(
        partial(fuse, mixture, twice=as_reference),
        frozenset(needs),
        mixture.last.reads is Source.NORMED,
        mixture.last,
        ((tree.fusion, mixture),),
    )


def _divide(child: Expression, modules: Modules) -> tuple[Bound | None, BottleneckAdapter | None]:
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
