"""Counts the positions of the input on from the prefixes before it, as PEFT does, which hands them over as a cache."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adapterhub_client.compose import caches
from adapterhub_client.compose.engine.hooks import Hooks
from adapterhub_client.compose.engine.plan import Plan
from adapterhub_client.compose.expression import (
    BatchSplit,
    Expression,
    Leaf,
    Parallel,
    Rows,
)
from adapterhub_client.compose.methods import prefix
from adapterhub_client.compose.methods.prefix import Prefix
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.errors import CompositionError

POSITIONS = "position_ids"


class PositionHooks:
    """Later positions for all that a backbone is called with, for as long as such a prefix is active.

    Shapes:
        positions: (batch or 1, tokens)
    """

    def __init__(self, backbone: Backbone, length: int) -> None:
        self._module, self._length = backbone.module, length
        self._names = list(inspect.signature(backbone.module.forward).parameters)
        # Positions of these are numbers of tokens that are no padding, behind the number of the padding.
        counts_tokens = backbone.model_type in prefix.COUNTS_TOKENS
        self._padding: int | None = backbone.config.pad_token_id if counts_tokens else None

    def install(self) -> Iterator[RemovableHandle]:
        """Register the hook; the handle removes it."""
        yield self._module.register_forward_pre_hook(self._move, with_kwargs=True)

    def _move(
        self, _module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        named = dict(zip(self._names, args, strict=False)) | options
        positions = self._positions(named)
        return (), named if positions is None else named | {POSITIONS: positions}

    def _positions(self, named: Mapping[str, Any]) -> Tensor | None:
        given, tokens = (named.get(name) for name in (POSITIONS, "input_ids"))
        cache = caches.given(named)
        if given is not None:
            moved: Tensor = given + self._length
            return moved
        before = self._length + (0 if cache is None else cache.get_seq_length())
        if self._padding is None:
            read = tokens if tokens is not None else named["inputs_embeds"]
            end = before + read.shape[1]
            return torch.arange(before, end, device=read.device).unsqueeze(0)
        if tokens is None:
            # Without tokens such a model counts from one, with a prefix of PEFT too.
            return None
        is_token: Tensor = tokens.ne(self._padding).long()
        return (is_token.cumsum(dim=1) + before) * is_token + self._padding


def bind(tree: Expression, plan: Plan) -> Iterator[Hooks]:
    """Move positions by the length of the prefixes that count.

    Raises:
        CompositionError: Parts of a batch would count from different numbers.
    """
    modules: Mapping[str, Any] = plan.shelf.at(prefix.KEY).adapters
    lengths = set(_lengths(tree, modules))
    if len(lengths) > 1:
        raise CompositionError(
            f"The branches of {str(tree)!r} begin to count positions at {' and '.join(map(str, sorted(lengths)))}, "
            "but all rows of a batch have the same positions.",
            hint="prefixes with `counts_positions` go side by side with such of their own length",
        )
    length = lengths.pop()
    if length:
        yield PositionHooks(plan.backbone, length)


def _lengths(tree: Expression, modules: Mapping[str, Prefix]) -> Iterator[int]:
    """By how much each group of rows moves."""
    if isinstance(tree, Leaf):
        config = modules[tree.name].config if tree.name in modules else None
        yield config.prefix_length if config is not None and config.counts_positions else 0
    elif isinstance(tree, Parallel | BatchSplit | Rows):
        for child in tree.children:
            yield from _lengths(child, modules)
    else:
        sums = [0]
        for child in tree.children:
            sums = [total + length for total in sums for length in set(_lengths(child, modules))]
        yield from set(sums)
