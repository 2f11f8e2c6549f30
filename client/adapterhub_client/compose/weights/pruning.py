"""Leaves out of a fusion the members it attends to least.

A member left out takes its weight with it: the softmax shares it among the others. So members without any attention
can go for nothing, and a fusion costs in proportion to how many stay.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec

from adapterhub_client.compose import expression
from adapterhub_client.compose.expression import Expression, Fuse, Leaf
from adapterhub_client.compose.files.compiledfusion import CompiledFusion
from adapterhub_client.compose.methods.bottleneck import BottleneckAdapter
from adapterhub_client.compose.shelf import LoadedFusion
from adapterhub_client.compose.weights.attended import Attended, Batch, fusion_of, measure
from adapterhub_client.errors import CompositionError

if TYPE_CHECKING:
    from adapterhub_client.compose.attachment import Adapted


class Pruned(NamedTuple):
    """A fusion that was made of another one."""

    name: str
    kept: tuple[str, ...]
    attended: Attended


def prune(
    adapted: "Adapted", name: str, keep: int, batches: Iterable[Batch], new_name: str | None
) -> Pruned:
    """A new fusion over the most attended members of another, with projections of its own.

    Raises:
        CompositionError: It has not so many members, or the name is taken; nothing is new then.
    """
    fusion = fusion_of(adapted, name)
    if not 1 <= keep <= len(fusion.members):
        raise CompositionError(
            f"{keep} members of the fusion {name!r} cannot be kept: it has {len(fusion.members)}."
        )
    attended = measure(adapted, name, batches)
    kept = attended.most(keep)
    own = new_name or ",".join(kept)
    if own in adapted.fusions:
        raise CompositionError(f"The fusion {own!r} exists already.", hint="take another name")
    require_same_reading(adapted, fusion, kept)
    adapted.shelf.put("fusion", own, _of(adapted, name, fusion, kept, own))
    return Pruned(own, kept, attended)


def only(tree: Expression, fusion: str, kept: Sequence[str], new_name: str) -> Expression:
    """The tree with only these members in one of its fusions, which gets another name."""
    if isinstance(tree, Leaf):
        return tree
    if isinstance(tree, Fuse) and tree.fusion == fusion:
        children = tuple(child for child in tree.children if expression.last(child) in kept)
        plain = Fuse(children)
        return plain if plain.fusion == new_name else Fuse(children, new_name)
    children = tuple(only(child, fusion, kept, new_name) for child in tree.children)
    return msgspec.structs.replace(tree, children=children)


def member_at(
    adapted: "Adapted", fusion: LoadedFusion, place: str, name: str
) -> BottleneckAdapter | None:
    """A member's module at a place, or what is known of it where the fusion is compiled."""
    if isinstance(fusion, CompiledFusion):
        return fusion.member(place, name)
    places = adapted.adapters[name].places
    return cast("BottleneckAdapter", places[place]) if place in places else None


def require_same_reading(adapted: "Adapted", fusion: LoadedFusion, kept: Sequence[str]) -> None:
    """Refuse to leave out the last member where another one, last then, would have all read something else.

    Raises:
        CompositionError: Names both.
    """
    for place in fusion.places:
        here = [n for n in fusion.members if member_at(adapted, fusion, place, n) is not None]
        left = [name for name in here if name in kept]
        if not left or left[-1] == here[-1]:
            continue
        before, after = (member_at(adapted, fusion, place, name) for name in (here[-1], left[-1]))
        if before is not None and after is not None and _reading(before) != _reading(after):
            raise CompositionError(
                f"Without {here[-1]!r} the fusion would end in {left[-1]!r}, which reads its input or "
                "ends in another way, and the last member decides that for all.",
                hint="keep more members",
            )


def _reading(adapter: BottleneckAdapter) -> tuple[object, ...]:
    config = adapter.config
    return adapter.reads, adapter.residual, config.is_parallel, config.original_ln_after


def _of(
    adapted: "Adapted", name: str, fusion: LoadedFusion, kept: Sequence[str], own: str
) -> LoadedFusion:
    """The fusion over some of its members."""
    if isinstance(fusion, CompiledFusion):
        pruned: LoadedFusion = fusion.of(kept)
    else:
        used = {key for member in kept for key in adapted.adapters[member].places}
        modules = {key: deepcopy(fusion.places[key]) for key in fusion.places if key in used}
        pruned = LoadedFusion(fusion.config, tuple(kept), modules)
    pruned.stacks_as_reference = fusion.stacks_as_reference
    pruned.trained_with_base_head = fusion.trained_with_base_head
    pruned.head = fusion.head or (name if name in adapted.heads else None)
    if fusion.expression:
        pruned.expression = str(only(fusion.tree(name), name, kept, own))
    return pruned
