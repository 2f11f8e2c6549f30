"""What every adapter method provides, and which method a config belongs to."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import nn

from adapterhub_client.compose.methods import bottleneck
from adapterhub_client.compose.sites import Backbone, Place
from adapterhub_client.formats import method as formats


class Method(Protocol):
    """One way of adapting: a module of this package.

    `places` says where a config puts modules, `build` makes one (on the meta device: empty, to be filled from a file),
    and `leaves` names its tensors: the name in the module to the names in a file, the first of which is read.
    """

    def check(self, config: Any) -> None:  # noqa: ANN401 - each method has its own config
        """Refuse what is not supported, with a sentence."""

    def places(self, config: Any, backbone: Backbone) -> Iterator[Place]:  # noqa: ANN401
        """Where this config puts modules."""

    def build(
        self,
        config: Any,  # noqa: ANN401
        backbone: Backbone,
        place: Place,
        *,
        empty: bool,
    ) -> nn.Module:
        """The module of one place."""

    def leaves(self, module: nn.Module) -> Mapping[str, tuple[str, ...]]:
        """The names in a file, below the adapter's own, of each tensor of a module."""


def read(config: Mapping[str, Any] | str | formats.Bottleneck) -> formats.Bottleneck:
    """A config from any of its forms: string, mapping, struct.

    Raises:
        CompositionError: It is malformed, or something of it is not supported.
    """
    if isinstance(config, str):
        config = formats.parse(config)
    elif not isinstance(config, formats.Bottleneck):
        config = formats.read(config)
    method_of(config).check(config)
    return config


def method_of(config: formats.Bottleneck) -> Method:  # noqa: ARG001 - one method so far
    """The method that knows this config."""
    return bottleneck
