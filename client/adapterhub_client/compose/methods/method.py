"""What every adapter method provides, and which method a config belongs to."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import nn

from adapterhub_client.compose.files.entry import Entry
from adapterhub_client.compose.methods import (
    bitfit,
    bottleneck,
    lora,
    mtl_lora,
    prefix,
    prompt,
    reft,
)
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats import method as formats

Modules = Mapping[str, nn.Module]


class Method(Protocol):
    """One way of adapting: a module of this package.

    An adapter's modules are kept by the place they act at, ``str(place)``, or by a word for what it has once:
    `invertible`, `prompt`, `prefix`, `shared`. Modules of one kind of spot speak the same protocol, that of the file
    which puts them there: `engine` for slots, `projection`, `attention`, `residual` and `embedding` for the others.
    """

    def check(self, config: Any, backbone: Backbone) -> None:  # noqa: ANN401 - each method has its own config
        """Refuse what is not supported, or not on this model, with a sentence."""

    def build(
        self,
        config: Any,  # noqa: ANN401
        backbone: Backbone,
        *,
        empty: bool,
    ) -> dict[str, nn.Module]:
        """The modules, initialised; or empty, on the meta device, to be filled from a file."""

    def entries(
        self,
        config: Any,  # noqa: ANN401
        modules: Modules,
        backbone: Backbone,
        name: str,
    ) -> Iterator[Entry]:
        """Every tensor of an adapter of this name, with its names in a file, relative to the backbone."""


METHODS: dict[type, Method] = {
    formats.BitFit: bitfit,
    formats.Bottleneck: bottleneck,
    formats.Lora: lora,
    formats.MtlLora: mtl_lora,
    formats.PrefixTuning: prefix,
    formats.PromptTuning: prompt,
    formats.Reft: reft,
}


def read(
    config: Mapping[str, Any] | str | formats.MethodConfig, backbone: Backbone
) -> formats.MethodConfig:
    """A config from any of its forms: string, mapping, struct.

    Raises:
        CompositionError: It is malformed, or something of it is not supported on this model.
    """
    if isinstance(config, str):
        config = formats.parse(config)
    elif isinstance(config, Mapping):
        config = formats.read(config)
    for part in parts(config):
        method_of(part).check(part, backbone)
    return config


def parts(config: formats.MethodConfig) -> list[Any]:
    """The configs a union is made of; any other config alone."""
    return list(config.configs) if isinstance(config, formats.Union) else [config]


def build(config: formats.MethodConfig, backbone: Backbone, *, empty: bool) -> dict[str, nn.Module]:
    """The modules of an adapter, initialised or empty.

    Raises:
        CompositionError: Two parts of a union want the same place.
    """
    modules: dict[str, nn.Module] = {}
    for part in parts(config):
        built = method_of(part).build(part, backbone, empty=empty)
        twice = sorted(set(built) & set(modules))
        if twice:
            raise CompositionError(f"Two parts of the union want the same place: {twice[0]}.")
        modules |= built
    return modules


def entries(
    config: formats.MethodConfig, modules: Modules, backbone: Backbone, name: str
) -> Iterator[Entry]:
    """Every tensor of an adapter."""
    for part in parts(config):
        yield from method_of(part).entries(part, modules, backbone, name)


def method_of(config: formats.MethodConfig) -> Method:
    """The method that knows this config.

    Raises:
        CompositionError: None does.
    """
    if type(config) not in METHODS:
        raise CompositionError(
            f"Adapters of the kind {type(config).__name__} are not supported yet."
        )
    return METHODS[type(config)]
