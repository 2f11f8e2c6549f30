"""Leaves an adapter out of some layers for good (AdapterDrop); for one call, `activate` has `skip_layers`.

Source: Rücklé et al. 2021.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import msgspec
from torch import nn

from adapterhub_client.compose.methods import method as methods
from adapterhub_client.compose.methods import prefix
from adapterhub_client.compose.methods.prefix import PrefixAt
from adapterhub_client.compose.shelf import LoadedAdapter
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats import method as formats

if TYPE_CHECKING:
    from adapterhub_client.compose.methods.prefix import Prefix, Shape


def without_layers(
    name: str, adapter: LoadedAdapter, layers: Iterable[int], backbone: Backbone
) -> LoadedAdapter:
    """The adapter in all other layers; its config says so from now on.

    Raises:
        CompositionError: The model has no such layer, or the adapter is of a method without layers.
    """
    left_out = frozenset(layers)
    config = config_without(name, adapter.config, left_out, backbone)
    kept = {key: adapter.places[key] for key in adapter.places if _layer_of(key) not in left_out}
    if all(_layer_of(key) is None for key in kept):
        raise CompositionError(
            f"Nothing of {name!r} is left without the layers {', '.join(map(str, sorted(left_out)))}."
        )
    config = methods.read(config, backbone)
    if prefix.KEY in kept:
        kept |= _prefixes(kept, methods.build(config, backbone, empty=True))
    return LoadedAdapter(config, kept)


def config_without(
    name: str, config: formats.MethodConfig, layers: frozenset[int], backbone: Backbone
) -> formats.MethodConfig:
    """The config of the adapter in all other layers.

    Raises:
        CompositionError: The model has no such layer, or the method is one without layers.
    """
    count = len(backbone.layers)
    unknown = sorted(layer for layer in layers if not 0 <= layer < count)
    if unknown:
        raise CompositionError(
            f"There is no layer {unknown[0]} to leave out: {backbone.name!r} has {count} layers.",
            hint=f"layers are counted from 0 to {count - 1}",
        )
    without: formats.MethodConfig = _config(name, config, layers, count)
    return without


def _config(name: str, config: Any, layers: frozenset[int], count: int) -> Any:  # noqa: ANN401 - each method has its own
    if isinstance(config, formats.Union):
        parts = [_config(name, part, layers, count) for part in config.configs]
        return msgspec.structs.replace(config, configs=parts)
    if isinstance(config, formats.Reft):
        used = range(count) if config.layers == "all" else config.layers
        return msgspec.structs.replace(config, layers=[n for n in used if n not in layers])
    if not hasattr(config, "leave_out"):
        raise CompositionError(
            f"{name!r} acts before all layers, and not in each: it cannot be left out of some."
        )
    return msgspec.structs.replace(config, leave_out=sorted({*config.leave_out, *layers}))


def _prefixes(
    kept: Mapping[str, nn.Module], fewer: Mapping[str, nn.Module]
) -> dict[str, nn.Module]:
    """The prefixes of the layers that are left: what makes them makes those of all layers at once, in rows."""
    before, after = (cast("Prefix", modules[prefix.KEY]) for modules in (kept, fewer))
    changed: dict[str, nn.Module] = {prefix.KEY: after}
    numbers: dict[str, list[int]] = {location: [] for location in after.parts}
    for key, module in fewer.items():
        if isinstance(module, PrefixAt):
            own = cast("PrefixAt", kept[key])
            numbers[key.split()[-1]].append(own.number)
            module.gate = own.gate
            changed[key] = module
    for location, part in after.parts.items():
        given = before.parts[location]
        blocks = 2 * cast("Shape", given.shape).layers
        rows = [row for number in numbers[location] for row in (2 * number, 2 * number + 1)]
        for name, parameter in given.named_parameters():
            values = parameter.detach()
            if name == "control_trans":
                length = cast("Shape", given.shape).length
                values = values.view(length, blocks, -1)[:, rows].flatten()
            elif name.startswith("second."):
                values = values.view(blocks, -1, *values.shape[1:])[rows].flatten(0, 1)
            path, _, leaf = name.rpartition(".")
            setattr(part.get_submodule(path), leaf, nn.Parameter(values, requires_grad=False))
    return changed


def _layer_of(key: str) -> int | None:
    """The layer of a place; None for what an adapter has once."""
    number = key.split(maxsplit=1)[0]
    return int(number) if number.isdigit() else None
