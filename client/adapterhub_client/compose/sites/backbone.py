"""Where adapters attach: one table row per architecture, data instead of code.

A row names the model's lists of layers and, per layer, the spots: slots, where a sub-block's output meets its
residual (bottleneck adapters); projections, the linear layers (LoRA and its kin); and attentions, whose keys and values
can be preceded by others (prefix tuning). All are read and changed with hooks on the modules named here, so an
architecture whose modules do the same under other names is one more row; `declare` adds one at run time.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from torch import nn

from adapterhub_client.compose.errors import UnknownSite
from adapterhub_client.compose.sites.rows import ARCHITECTURES
from adapterhub_client.compose.sites.spots import Architecture, Layers, Projection, Spot

SpotKind = type[Spot]


class Place(msgspec.Struct, frozen=True):
    """One spot of one layer; a decoder's layers are counted on from the encoder's."""

    layer: int
    spot: Spot
    root: str
    """the path of the layer inside the backbone"""
    key_root: str
    """the same in the keys of files"""

    def __str__(self) -> str:
        return f"{self.layer} {self.spot.name}"

    @property
    def key(self) -> str:
        """The spot's path inside the backbone, as it stands in the keys of files."""
        return f"{self.key_root}.{self.spot.key}" if self.spot.key else self.key_root


class Backbone:
    """A transformer seen through its row: its layers, its places, and the facts files state about it."""

    def __init__(self, model: nn.Module) -> None:
        config: Any = model.config
        self.model_type: str = config.model_type
        if self.model_type not in ARCHITECTURES:
            raise UnknownSite(
                f"There is no table of sites for the architecture {self.model_type!r}.",
                hint="declare a row with `compose.declare`; known: " + ", ".join(ARCHITECTURES),
            )
        self.config = config
        self.architecture = ARCHITECTURES[self.model_type]
        self.prefix: str = model.base_model_prefix  # type: ignore[assignment]
        self.module: nn.Module = model.base_model  # type: ignore[assignment]
        self.has_static_head = self.module is not model
        self.model_class = type(model).__name__
        self.hidden_size: int = config.hidden_size
        self._layers = list(_all_layers(self.module, self.architecture))
        if not self._layers:
            raise UnknownSite(
                f"{self.model_class!r} has no layers where the row for {self.model_type!r} has them.",
                hint="rows: " + ", ".join(layers.path for layers in self.architecture.stacks),
            )

        self._places = [
            Place(number, spot, root, key_root)
            for number, (root, key_root, layers) in enumerate(self._layers)
            for spot in layers.spots
            if self._has(root, spot)
        ]

    @property
    def name(self) -> str:
        """What people call the base model."""
        return str(getattr(self.config, "name_or_path", "") or self.model_type)

    @property
    def layers(self) -> list[nn.Module]:
        """All layers in the order of their numbers."""
        return [self.module.get_submodule(root) for root, _, _ in self._layers]

    @property
    def encoder(self) -> nn.Module | None:
        """The encoder beside a decoder, where there is one."""
        return None if self.first_decoder_layer is None else self._stack_of(0)

    @property
    def decoder(self) -> nn.Module | None:
        """The decoder beside an encoder, where there is one."""
        number = self.first_decoder_layer
        return None if number is None else self._stack_of(number)

    @property
    def first_decoder_layer(self) -> int | None:
        """The number of the first layer of a decoder beside an encoder."""
        numbers = (n for n, (_, _, layers) in enumerate(self._layers) if layers.is_decoder)
        return next(numbers, None)

    @property
    def reference_parameter(self) -> nn.Parameter:
        """A floating-point parameter whose device and dtype new modules take."""
        return next(
            parameter
            for root, _, _ in self._layers
            for parameter in self.module.get_submodule(root).parameters()
            if parameter.is_floating_point()
        )

    def places(self, *kinds: SpotKind) -> Iterator[Place]:
        """Every place of these kinds (of all, without any), in the order a forward pass reaches the layers."""
        for place in self._places:
            if not kinds or isinstance(place.spot, kinds):
                yield place

    def at(self, place: Place, path: str | None = None) -> nn.Module:
        """The layer of a place, or the module at a path relative to it."""
        layer = self.module.get_submodule(place.root)
        return layer.get_submodule(path) if path else layer

    def setting(self, name: str) -> float | None:
        """A number of the model's config under the architecture's own name for it."""
        value = getattr(self.config, name, None)
        return None if value is None else float(value)

    def _stack_of(self, layer: int) -> nn.Module:
        return self.module.get_submodule(self._layers[layer][0].split(".", maxsplit=1)[0])

    def is_shared(self, spot: Spot) -> bool:
        """Whether the module of a spot is called with other tensors than the batch too, with rows of their own."""
        settings = spot.shared_when if isinstance(spot, Projection) else ()
        return bool(settings) and all(getattr(self.config, name, False) for name in settings)

    def _has(self, root: str, spot: Spot) -> bool:
        """Whether the model has the linear layer of a projection: some have it under another name, or not at all."""
        if not isinstance(spot, Projection):
            return True
        try:
            self.module.get_submodule(f"{root}.{spot.path}")
        except AttributeError:
            return False
        return True


def declare(model_type: str, row: Architecture) -> None:
    """Add a row of one's own for a model type, or replace one, for all models attached afterwards.

    Raises:
        UnknownSite: The row has no layers.
    """
    if not row.stacks:
        raise UnknownSite(f"The row for {model_type!r} names no layers.", hint="give `stacks`")
    ARCHITECTURES[model_type] = row


def _all_layers(module: nn.Module, row: Architecture) -> Iterator[tuple[str, str, Layers]]:
    """Each layer's path, its path in files, and the row's part it is of; absent lists are passed over."""
    for layers in row.stacks:
        for numbers in _expand(module, layers.path.split(".*"), ""):
            key = layers.key or layers.path
            yield _numbered(layers.path, numbers), _numbered(key, numbers), layers


def _expand(module: nn.Module, parts: list[str], path: str) -> Iterator[tuple[str, ...]]:
    """The numbers that the stars of a path stand for, in order."""
    here = path + parts[0]
    if len(parts) == 1:
        yield ()
        return
    try:
        listed = module.get_submodule(here)
    except AttributeError:
        return
    for number, _ in listed.named_children():
        for rest in _expand(module, parts[1:], f"{here}.{number}"):
            yield (number, *rest)


def _numbered(path: str, numbers: tuple[str, ...]) -> str:
    for number in numbers:
        path = path.replace("*", number, 1)
    return path
