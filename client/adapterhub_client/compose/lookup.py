"""What a name or an expression stands for among what is loaded: its tree, its heads, its modules."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import nn

from adapterhub_client.compose import expression
from adapterhub_client.compose.expression import (
    BatchSplit,
    Expression,
    Fuse,
    Leaf,
    Parallel,
    Stack,
)
from adapterhub_client.compose.files import compiledfusion
from adapterhub_client.compose.files.compiledfusion import CompiledFusion
from adapterhub_client.compose.files.sources import STATIC_HEAD, Sources
from adapterhub_client.compose.heads import Head
from adapterhub_client.compose.heads.static import StaticHead
from adapterhub_client.compose.shelf import LoadedAdapter, LoadedFusion, Shelf
from adapterhub_client.errors import CompositionError

Heads = str | Sequence[str] | Literal[False] | None


class Lookup:
    """Finds what people name; references among the names are pulled."""

    def __init__(self, shelf: Shelf, sources: Sources) -> None:
        self._shelf, self._sources = shelf, sources

    def tree(self, composition: str | Expression | None) -> Expression | None:
        """The tree over loaded adapters that an expression, a fusion's name or a reference stands for.

        Raises:
            CompositionError: A name is not loaded, or the parts cannot stand where they stand.
        """
        if composition is None:
            return None
        if isinstance(composition, str):
            composition = self._named(composition) or expression.parse(composition)
        if isinstance(composition, Leaf) and composition.name not in self._shelf.adapters:
            name, brought = self._sources.brought(composition.name)
            composition = brought.tree(name) if isinstance(brought, LoadedFusion) else Leaf(name)
        expression.check_nesting(composition)
        needed = set(compiledfusion.needed(composition, self._shelf.fusions))
        return expression.rename(
            composition, lambda name: self._sources.loaded_name(name) if name in needed else name
        )

    def heads(self, tree: Expression | None, asked: Heads) -> tuple[list[Head], StaticHead | None]:
        """The heads a call goes through, or the one that stands in for the model's own.

        Branches that run side by side have a head each: a list names them in order, and one name is the head of all.

        Raises:
            CompositionError: A head is not loaded, or there is not one for each branch.
        """
        if asked is False:
            return [], None
        branches = side_by_side(tree)
        if asked is None:
            usual = [self._usual_head(own_name(branch)) for branch in branches]
            if any(head is None for head in usual):
                usual = []
            return _divided(usual or [self._default()])
        found = [self.head(name) for name in ([asked] if isinstance(asked, str) else asked)]
        if len(found) == 1 and is_parallel(tree):
            found *= len(branches)
        if len(found) > 1 < len(branches) != len(found):
            raise CompositionError(
                f"The composition has {len(branches)} branches side by side, but {len(found)} heads are named.",
                hint="name one head for each branch, in their order",
            )
        return _divided(found)

    def heads_of_rows(self, names: Sequence[str], heads: Mapping[str, str]) -> dict[str, Head]:
        """The head of each adapter that has one, under the name given or its own.

        Raises:
            CompositionError: A head is not loaded.
        """
        own = {name: name for name in names if name in self._shelf.heads}
        return {name: self.head(head) for name, head in (own | dict(heads)).items()}

    def adapter(self, name: str) -> LoadedAdapter:
        """The adapter of this name.

        Raises:
            CompositionError: No adapter has it.
        """
        if name not in self._shelf.adapters:
            raise self._shelf.unknown(name)
        return self._shelf.adapters[name]

    def head(self, name: str) -> Any:  # noqa: ANN401
        """The head of this name.

        Raises:
            CompositionError: No head has it.
        """
        if name not in self._shelf.heads:
            raise self._shelf.unknown(name)
        return self._shelf.heads[name]

    def modules(self, name: str, *, with_head: bool) -> list[nn.Module]:
        """What a name or an expression makes trainable: adapters, or a fusion without its members."""
        shelf = self._shelf
        if name in shelf.heads and name not in shelf.adapters and name not in shelf.fusions:
            return [shelf.heads[name]]
        tree = self.tree(name)
        if tree is None:
            return []
        own = own_name(tree)
        return self._parts(tree) + ([shelf.heads[own]] if with_head and own in shelf.heads else [])

    def owner(self, name: str) -> LoadedAdapter | LoadedFusion | None:
        """The adapter or fusion that the head of a name or an expression goes with."""
        tree = self.tree(name) if name not in self._shelf.heads else self._named(name)
        if tree is None:
            return None
        own = own_name(tree)
        return self._shelf.fusions.get(own) or self._shelf.adapters.get(own)

    def _named(self, name: str) -> Expression | None:
        if name in self._shelf.adapters:
            return Leaf(name)
        fusion = self._shelf.fusions.get(name)
        return None if fusion is None else fusion.tree(name)

    def _usual_head(self, name: str) -> Any:  # noqa: ANN401
        """The head of this name, or the one that came with the fusion of this name."""
        fusion = self._shelf.fusions.get(name)
        came_along = self._shelf.heads.get(fusion.head) if fusion and fusion.head else None
        return self._shelf.heads.get(name, came_along)

    def _default(self) -> StaticHead | None:
        """The head that was loaded in the place of the model's own."""
        found = self._shelf.heads.get(STATIC_HEAD)
        return found if isinstance(found, StaticHead) else None

    def _parts(self, tree: Expression) -> list[nn.Module]:
        fusions = list(expression.fusions(tree))
        if not fusions:
            return [self._shelf.adapters[name] for name in expression.leaves(tree)]
        for fuse in fusions:
            if fuse.fusion not in self._shelf.fusions:
                raise self._shelf.unknown(fuse.fusion)
            if isinstance(self._shelf.fusions[fuse.fusion], CompiledFusion):
                raise CompositionError(
                    f"The fusion {fuse.fusion!r} is compiled, so it has no projections to train.",
                    hint="load it from a folder with its trainable form",
                )
        return [self._shelf.fusions[fuse.fusion] for fuse in fusions]


def own_name(tree: Expression) -> str:
    """The name a composition's head would have."""
    ends = _end(tree) or tree
    return ends.fusion if isinstance(ends, Fuse) else expression.last(ends)


def side_by_side(tree: Expression | None) -> Sequence[Expression]:
    """The branches of a composition that share no rows of its output, each of which can have a head."""
    ends = _end(tree)
    if isinstance(ends, Parallel | BatchSplit):
        return ends.children
    return [] if ends is None else [ends]


def is_parallel(tree: Expression | None) -> bool:
    """Whether a composition's output has a block of rows for each branch."""
    return isinstance(_end(tree), Parallel)


def sizes(tree: Expression | None) -> Sequence[int] | None:
    """The rows of each branch, where a composition divides the batch among them."""
    ends = _end(tree)
    return ends.batch_sizes if isinstance(ends, BatchSplit) else None


def _end(tree: Expression | None) -> Expression | None:
    while isinstance(tree, Stack):
        tree = tree.children[-1]
    return tree


def _divided(heads: Sequence[Any]) -> tuple[list[Head], StaticHead | None]:
    found = [head for head in heads if head is not None]
    static = next((head for head in found if isinstance(head, StaticHead)), None)
    if static is None:
        return found, None
    if any(head is not static for head in found):
        raise CompositionError(
            "A head that stands in for the model's own cannot be active beside other heads.",
            hint="load the bare model: there the head becomes a flexible one",
        )
    return [], static
