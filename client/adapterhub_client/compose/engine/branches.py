"""Which adapter acts on which rows of a batch, for methods of which one adapter acts at a time: the first one.

The reference library takes the first adapter of the whole composition. Here a block that divides the batch has a first
adapter for each of its parts, so that a row of it is what its own part computes alone.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
import torch
from torch import Tensor, nn

from adapterhub_client.compose.engine import division, products
from adapterhub_client.compose.engine.frozen import Frozen
from adapterhub_client.compose.expression import (
    BatchSplit,
    Block,
    Expression,
    Leaf,
    Parallel,
    leaves,
)

Weights = tuple[Tensor, ...]


class Tokenwise(Protocol):
    """A module that changes each token by itself, with weights that can be stacked with those of its kind."""

    @property
    def kind(self) -> Hashable:
        """Equal for modules that compute alike with weights of equal shapes."""

    def weights(self) -> Weights:
        """Everything it computes with."""

    def sources(self) -> list[nn.Parameter]:
        """What its weights are made of."""

    @property
    def change(self) -> Callable[..., Tensor]:
        """Tokens (groups, tokens, features) by weights with a leading dimension for the groups, or without."""


class Branches:
    """For each group of rows a module, or none.

    Shapes:
        hidden: (batch, tokens, features)
        result: same as ``hidden``
    """

    def __init__(self, tree: Expression, modules: Sequence[Tokenwise | None]) -> None:
        self.tree, self.modules = tree, list(modules)
        present = [module for module in modules if module is not None]
        kinds = {module.kind for module in present}
        self._stacked: Frozen[Weights] | None = None
        if len(modules) > 1 and len(present) == len(modules) and len(kinds) == 1:
            sources = [source for module in present for source in module.sources()]
            self._stacked = Frozen(sources, partial(_stack, present))
        self._alike = present[0]
        with torch.no_grad():
            for module in present:
                module.weights()  # what it keeps is there before the first call, which may be compiled

    def __call__(self, hidden: Tensor, **options: Any) -> Tensor:  # noqa: ANN401
        """Each row changed by its module."""
        if len(self.modules) == 1:
            return self._changed(self.modules[0], hidden, options)
        sizes = row_sizes(self.tree, hidden.shape[0])
        if self._stacked is None:
            parts = zip(self.modules, torch.split(hidden, sizes), strict=True)
            return torch.cat([self._changed(module, part, options) for module, part in parts])
        weights = self._stacked()
        if division.are_equal(sizes):
            groups = hidden.reshape(len(sizes), -1, hidden.shape[-1])
            return self._alike.change(groups, weights, **options).reshape(hidden.shape)
        index = row_index(sizes, hidden.device)
        return self._alike.change(hidden, tuple(w[index] for w in weights), **options)

    def of_rows(self, hidden: Tensor, part: slice, rows: int, **options: Any) -> Tensor:  # noqa: ANN401
        """The same for a part of a batch of so many rows, all of one group or of whole groups."""
        start, modules, sizes = 0, [], []
        for module, size in zip(self.modules, row_sizes(self.tree, rows), strict=True):
            inside = min(part.stop, start + size) - max(part.start, start)
            if inside > 0:
                modules.append(module)
                sizes.append(inside)
            start += size
        parts = zip(modules, torch.split(hidden, sizes), strict=True)
        return torch.cat([self._changed(module, part, options) for module, part in parts])

    @staticmethod
    def _changed(module: Tokenwise | None, hidden: Tensor, options: dict[str, Any]) -> Tensor:
        return hidden if module is None else module.change(hidden, module.weights(), **options)


def branches(
    tree: Expression, modules: Mapping[str, Any], *, as_reference: bool
) -> Branches | None:
    """The first adapter of each group of rows; None where none of them has a module."""
    first = leading(tree, as_reference=as_reference)
    found = [modules.get(name) for name in leaves(first)]
    return Branches(first, found) if any(module is not None for module in found) else None


def leading(tree: Expression, *, as_reference: bool = False) -> Expression:
    """The tree cut down to what comes first in it, under the blocks that divide rows.

    ``as_reference`` leaves the first adapter of all.
    """
    if isinstance(tree, Parallel | BatchSplit) and not as_reference:
        children = tuple(leading(child) for child in tree.children)
        return msgspec.structs.replace(tree, children=children)
    return leading(tree.children[0], as_reference=as_reference) if isinstance(tree, Block) else tree


def row_sizes(tree: Expression, rows: int) -> list[int]:
    """How many rows of a batch each leaf of a tree of parallel and batch-split blocks gets."""
    if not isinstance(tree, Parallel | BatchSplit):
        return [rows]
    pairs = zip(tree.children, child_sizes(tree, rows), strict=True)
    return [size for child, part in pairs for size in row_sizes(child, part)]


def child_sizes(tree: Parallel | BatchSplit, rows: int) -> list[int]:
    """How many rows of a batch each child of a block gets.

    Raises:
        CompositionError: The batch has another size.
    """
    if isinstance(tree, Parallel):
        return [rows // len(tree.children)] * len(tree.children)
    parts = division.sizes_of(tree)
    division.require_sum("batch_sizes", parts, "rows", rows)
    return list(parts)


def row_index(sizes: Sequence[int], device: torch.device) -> Tensor:
    """The number of the group each row is in."""
    counts = torch.tensor(sizes, device=device)
    groups = torch.arange(len(sizes), device=device)
    return groups.repeat_interleave(counts, output_size=sum(sizes))


def acting(tree: Expression, has: Callable[[str], bool]) -> Iterator[tuple[Block, Leaf]]:
    """Every leaf that has something, with each of the blocks above it."""
    if isinstance(tree, Block):
        for child in tree.children:
            yield from ((tree, Leaf(name)) for name in leaves(child) if has(name))
            yield from acting(child, has)


def linear(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer, or one for each group of the leading dimension.

    Shapes:
        hidden: (groups, tokens, in)
        weight: (out, in) or (groups, out, in); bias: (out) or (groups, out)
    """
    if weight.dim() == 2:  # noqa: PLR2004 - one matrix
        return products.linear(hidden, weight, bias)
    if bias is None:
        return torch.bmm(hidden, weight.mT)
    return torch.baddbmm(bias.unsqueeze(1), hidden, weight.mT)


def _stack(modules: Sequence[Tokenwise]) -> Weights:
    weights = [module.weights() for module in modules]
    return tuple(torch.stack(parts) for parts in zip(*weights, strict=True))
