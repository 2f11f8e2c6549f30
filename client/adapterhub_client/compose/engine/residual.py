"""Puts interventions (ReFT) after whole layers, at the first and last real tokens of each row."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adapterhub_client.compose.engine.branches import Branches, acting, leading, row_sizes
from adapterhub_client.compose.engine.extent import Extent, extents
from adapterhub_client.compose.engine.hooks import Hooks
from adapterhub_client.compose.engine.plan import Plan
from adapterhub_client.compose.expression import (
    Average,
    Expression,
    Fuse,
    Leaf,
    Split,
    leaves,
)
from adapterhub_client.compose.methods.reft import Intervention
from adapterhub_client.compose.sites.backbone import Place
from adapterhub_client.compose.sites.spots import Residual
from adapterhub_client.errors import CompositionError


class Interventions:
    """The interventions of a composition after one layer.

    Shapes:
        hidden: (batch, tokens, features)
    """

    def __init__(self, tree: Expression, modules: list[Intervention | None]) -> None:
        self._tree, self._modules = tree, modules
        kinds = {None if m is None else (*m.positions, len(m.units)) for m in modules}
        self._apart: list[Interventions | None] = []
        self._units: list[Branches] = []
        if len(kinds) == 1:
            alike = cast("list[Intervention]", modules)
            self._positions = alike[0].positions
            self._units = [Branches(tree, [m.unit(n) for m in alike]) for n in (0, 1)]
        else:
            self._apart = [None if m is None else Interventions(Leaf(""), [m]) for m in modules]

    def __call__(self, hidden: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """Hidden states with their first and last tokens changed."""
        if not self._apart:
            return self._changed(hidden, start, end)
        sizes = row_sizes(self._tree, hidden.shape[0])
        parts = zip(
            self._apart, *(torch.split(each, sizes) for each in (hidden, start, end)), strict=True
        )
        return torch.cat([rows if own is None else own(rows, s, e) for own, rows, s, e in parts])

    def _changed(self, hidden: Tensor, start: Tensor, end: Tensor) -> Tensor:
        first, last = self._positions
        result = hidden
        if first:
            at = start[:, None] + torch.arange(first, device=hidden.device)
            # A token that is both first and last is changed as one of the last.
            is_last = (at >= end[:, None] - last) & (at < end[:, None])
            result = self._added(result, hidden, self._units[0], at, ~is_last)
        if last:
            at = end[:, None] + torch.arange(-last, 0, device=hidden.device)
            result = self._added(result, hidden, self._units[1], at, at >= 0)
        return result

    @staticmethod
    def _added(
        result: Tensor, hidden: Tensor, unit: Branches, at: Tensor, counts: Tensor
    ) -> Tensor:
        """What the unit makes of the tokens at these positions, added where they count and exist."""
        length = hidden.shape[1]
        counts = counts & (at >= 0) & (at < length)
        index = at.clamp(0, length - 1).unsqueeze(-1).expand(-1, -1, hidden.shape[-1])
        change = unit(hidden.gather(1, index)) * counts.unsqueeze(-1)
        return result.scatter_add(1, index, change.to(result.dtype))


class LayerHooks:
    """Interventions after one layer, for as long as a composition with them is active."""

    def __init__(self, plan: Plan, place: Place, own: Interventions, extent: Extent) -> None:
        path = cast("Residual", place.spot).path
        self._layer = plan.backbone.at(place, path)
        self._own, self._extent = own, extent

    def install(self) -> Iterator[RemovableHandle]:
        """Register the hook; the handle removes it."""
        yield self._layer.register_forward_hook(self._change)

    def _change(self, _module: nn.Module, _args: object, output: Any) -> Any:  # noqa: ANN401
        hidden: Tensor = output[0] if isinstance(output, tuple) else output
        changed = self._own(hidden, *self._extent.bounds(hidden))
        return (changed, *output[1:]) if isinstance(output, tuple) else changed


def bind(tree: Expression, plan: Plan) -> Iterator[Hooks]:
    """Bind a composition after every layer where it has an intervention.

    Raises:
        CompositionError: An intervention stands in a block that has no meaning for it.
    """
    found_in = extents(plan.backbone)
    decoder = plan.backbone.first_decoder_layer
    bound: list[Hooks] = []
    first = leading(tree, as_reference=plan.as_reference)
    for place, modules in plan.places(Residual):
        adapters: Mapping[str, Any] = modules.adapters
        _require_possible(tree, adapters)
        found = [adapters.get(name) for name in leaves(first)]
        if any(module is not None for module in found):
            is_second = decoder is not None and place.layer >= decoder
            extent = found_in[-1 if is_second else 0]
            bound.append(LayerHooks(plan, place, Interventions(first, found), extent))
    return iter([*found_in, *bound] if bound else [])


def _require_possible(tree: Expression, modules: Mapping[str, Any]) -> None:
    for block, leaf in acting(tree, lambda name: name in modules):
        if isinstance(block, Fuse | Split | Average):
            raise CompositionError(
                f"The adapter {leaf.name!r} changes hidden states after whole layers (ReFT), "
                f"which `{block.operator}` cannot do.",
                hint="activate it alone, or in `parallel` or `batchsplit`",
            )
