"""One call of an adapted model: the backbone with what is active, then the heads."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from adapterhub_client.compose import heads, lookup
from adapterhub_client.compose.activation import Activation
from adapterhub_client.compose.engine.residents import Residents
from adapterhub_client.compose.sites.backbone import Backbone


def call(
    model: nn.Module,
    backbone: Backbone,
    activation: Activation,
    args: Sequence[Any],
    inputs: dict[str, Any],
) -> ModelOutput:
    """What the model, or the active heads, say to these inputs."""
    activation.require_moved_together()
    if activation.residents is not None:
        return _of_rows(model, backbone, activation.residents, args, inputs)
    if not activation.heads:
        output: ModelOutput = model(*args, **inputs)
        return output
    active = activation.heads
    inputs = _named(backbone, args) | inputs if args else inputs
    told = activation.for_heads
    named, context = heads.prepare(
        active, backbone, inputs, prompt=told.prompt, inverse=told.inverse
    )
    # How many rows each of several heads gets, where the composition divides the batch.
    sizes = lookup.sizes(activation.expression) if len(active) > 1 else None
    return heads.answer(active, backbone.module(**named), context, sizes)


def _of_rows(
    model: nn.Module,
    backbone: Backbone,
    residents: Residents,
    args: Sequence[Any],
    inputs: dict[str, Any],
) -> ModelOutput:
    """One call of resident adapters: the rows' adapters, then their heads."""
    rows = inputs.pop("adapters", None)
    inputs = _named(backbone, args) | inputs
    first = next(value for value in inputs.values() if isinstance(value, Tensor))
    residents.choose(rows, first.shape[0], first.device)
    try:
        active = residents.heads_of(rows)
        if not active:
            output: ModelOutput = model(**inputs)
            return output
        named, context = heads.prepare(active, backbone, inputs)
        return heads.answer(active, backbone.module(**named), context, [1] * len(active))
    finally:
        residents.release()


def _named(backbone: Backbone, arguments: Sequence[Any]) -> dict[str, Any]:
    """The backbone's inputs without names by their names, since heads read some of them too."""
    names: Mapping[str, Any] = inspect.signature(backbone.module.forward).parameters
    return dict(zip(names, arguments, strict=False))
