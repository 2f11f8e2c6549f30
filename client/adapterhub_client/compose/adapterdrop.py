"""Leaves an adapter out of some layers for good (AdapterDrop); for one call, `activate` has `skip_layers`.

Source: Rücklé et al. 2021.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from torch import nn

from adapterhub_client.compose.methods import method as methods
from adapterhub_client.compose.shelf import LoadedAdapter
from adapterhub_client.compose.sites import Backbone
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats import method as formats


def without_layers(
    name: str, adapter: LoadedAdapter, layers: Iterable[int], backbone: Backbone
) -> LoadedAdapter:
    """The adapter in all other layers; its config says so from now on.

    Raises:
        CompositionError: The model has no such layer, or the adapter is of a method without layers.
    """
    left_out, count = frozenset(layers), len(backbone.layers)
    unknown = sorted(layer for layer in left_out if not 0 <= layer < count)
    if unknown:
        raise CompositionError(
            f"There is no layer {unknown[0]} to leave out: {backbone.name!r} has {count} layers.",
            hint=f"layers are counted from 0 to {count - 1}",
        )
    kept = {key: adapter.places[key] for key in adapter.places if _layer_of(key) not in left_out}
    if not any(_layer_of(key) is not None for key in kept):
        raise CompositionError(
            f"Nothing of {name!r} is left without the layers {', '.join(map(str, sorted(left_out)))}."
        )
    config = _config(name, adapter.config, left_out, adapter.places)
    return LoadedAdapter(methods.read(config, backbone), kept)


def _config(
    name: str,
    config: Any,  # noqa: ANN401 - each method has its own
    layers: frozenset[int],
    modules: Mapping[str, nn.Module] | nn.ModuleDict,
) -> Any:  # noqa: ANN401
    if isinstance(config, formats.Union):
        parts = [_config(name, part, layers, modules) for part in config.configs]
        return msgspec.structs.replace(config, configs=parts)
    if not hasattr(config, "leave_out") or "prefix" in modules:
        raise CompositionError(
            f"{name!r} is of a method that is trained for all layers at once: none can be left out.",
            hint="skip them when it is active: activate(..., skip_layers=[...])",
        )
    return msgspec.structs.replace(config, leave_out=sorted({*config.leave_out, *layers}))


def _layer_of(key: str) -> int | None:
    """The layer of a place; None for what an adapter has once."""
    number = key.split(maxsplit=1)[0]
    return int(number) if number.isdigit() else None
