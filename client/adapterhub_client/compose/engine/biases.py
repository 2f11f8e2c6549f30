"""Binds a composition at every bias of a model, for BitFit."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

from torch import nn

from adapterhub_client.compose import expression
from adapterhub_client.compose.engine.hooks import Hooks
from adapterhub_client.compose.engine.linearparts import Part
from adapterhub_client.compose.engine.plan import Plan
from adapterhub_client.compose.engine.projection import Binder, LinearHooks
from adapterhub_client.compose.expression import Expression
from adapterhub_client.compose.methods import bitfit
from adapterhub_client.compose.sites.spots import Projection

if TYPE_CHECKING:
    from adapterhub_client.compose.methods.linear import LinearAdapter


def bind(tree: Expression, plan: Plan) -> Iterator[Hooks]:
    """Bind a composition at every module with a bias where it has something.

    Raises:
        CompositionError: The parts do not fit there.
    """
    for module, part in parts(tree, plan):
        yield LinearHooks(module, part)


def parts(tree: Expression, plan: Plan) -> Iterator[tuple[nn.Module, Part]]:
    """Every module with a bias where a composition has something, and what it has there.

    Raises:
        CompositionError: The parts do not fit there.
    """
    # The members of a compiled fusion need not be loaded.
    names = set(expression.leaves(tree)) & plan.shelf.adapters.keys()
    if not any(_acts(plan, name) for name in names):
        return
    spots = (place.spot for place in plan.backbone.places(Projection))
    shared = {cast("Projection", s).path for s in spots if plan.backbone.is_shared(s)}
    for place in bitfit.biases(plan.backbone):
        if place.layer in plan.manner.skip_layers:
            continue
        found = plan.shelf.at(str(place)).adapters
        adapters = cast(
            "Mapping[str, LinearAdapter]", {name: m for name, m in found.items() if name in names}
        )
        binder = Binder(
            str(place),
            place.module,
            adapters,
            as_reference=plan.manner.as_reference,
            is_shared=place.path in shared,
        )
        part = binder.bind(tree)
        if part is not None:
            yield place.module, part


def _acts(plan: Plan, name: str) -> bool:
    modules = plan.shelf.adapters[name].places.values()
    return any(isinstance(module, bitfit.BiasChange) for module in modules)
