"""Prefix tuning: trained keys and values before those of the input, in every attention."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec
import torch
from torch import Tensor, nn

from adapterhub_client.compose import caches
from adapterhub_client.compose.engine.frozen import Frozen
from adapterhub_client.compose.files.entry import Entry
from adapterhub_client.compose.methods.activation import Activation, activation
from adapterhub_client.compose.methods.seed import seeded
from adapterhub_client.compose.shelf import LoadedAdapter
from adapterhub_client.compose.sites.backbone import Backbone, Place
from adapterhub_client.compose.sites.spots import Attention
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method import PrefixTuning, Union

KEY = "prefix"
NORMAL_STD = 0.02
# A config chooses among these; all other attentions have a prefix always.
CHOSEN = ("encoder_prefix", "cross_prefix")
# Models whose positions are the numbers of the tokens that are no padding.
COUNTS_TOKENS = ("roberta", "xlm-roberta")


class Shape(msgspec.Struct, frozen=True):
    """The sizes of all prefixes of one location."""

    layers: int
    heads: int
    features: int
    """the features of one head"""
    length: int

    @property
    def width(self) -> int:
        """How many numbers belong to one position of the prefix, for the keys and values of all layers."""
        return 2 * self.layers * self.heads * self.features


class Flat(nn.Module):
    """Keys and values themselves.

    Shapes:
        states: (2 * layers, heads, length, features): the keys of a layer, then its values
    """

    def __init__(self, shape: Shape, like: Tensor) -> None:
        super().__init__()
        self.shape = shape
        self.control_trans = nn.Parameter(like.new_empty(shape.length * shape.width))

    def states(self) -> Tensor:
        """All keys and values."""
        return _arranged(self.control_trans, self.shape)

    def initialise(self) -> None:
        """Normal noise."""
        nn.init.normal_(self.control_trans)


class Reparametrised(nn.Module):
    """Keys and values as what a small network makes of an embedding for each position.

    Source: Li & Liang 2021, section 4.3.
    """

    def __init__(self, config: PrefixTuning, shape: Shape, hidden_size: int, like: Tensor) -> None:
        super().__init__()
        self.shape = shape
        self.act: Activation = activation(config.non_linearity)
        device, dtype, width = like.device, like.dtype, config.bottleneck_size
        self.wte = nn.Parameter(like.new_empty(shape.length, hidden_size))
        self.first = nn.Linear(hidden_size, width, device=device, dtype=dtype)
        self.second = nn.Linear(width, shape.width, device=device, dtype=dtype)

    def states(self) -> Tensor:
        """All keys and values."""
        return _arranged(self.second(self.act(self.first(self.wte))), self.shape)

    def initialise(self) -> None:
        """Normal noise, through a linear network as torch starts one."""
        nn.init.normal_(self.wte)
        self.first.reset_parameters()
        self.second.reset_parameters()


class Prefix(nn.Module):
    """All keys and values of one adapter, by location; what makes them runs once while it is frozen."""

    def __init__(self, config: PrefixTuning, parts: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.config = config
        self.parts = nn.ModuleDict(parts)
        self._kept: dict[str, Frozen[Tensor]] = {}

    def frozen(self, location: str) -> Frozen[Tensor]:
        """The states of a location, while they are frozen."""
        if location not in self._kept:
            part = cast("Flat | Reparametrised", self.parts[location])
            self._kept[location] = Frozen(list(part.parameters()), part.states)
        return self._kept[location]

    def eject(self) -> None:
        """Keep what the networks make, and drop them."""
        for location, part in self.parts.items():
            if isinstance(part, Reparametrised):
                with torch.no_grad():
                    states = part.states().permute(2, 0, 1, 3)
                flat = Flat(part.shape, states)
                flat.control_trans = nn.Parameter(
                    states.reshape(-1).clone(), requires_grad=part.wte.requires_grad
                )
                self.parts[location] = flat.train(part.training)
        self.config = msgspec.structs.replace(self.config, flat=True)
        self._kept.clear()


class PrefixAt(nn.Module):
    """An adapter's prefix at one attention: its number among those of its location, and its gate."""

    def __init__(self, prefix: PrefixTuning, number: int, hidden_size: int, like: Tensor) -> None:
        super().__init__()
        self.number, self.dropout = number, prefix.dropout
        outputs = 1 if prefix.shared_gating else 2
        self.gate = (
            nn.Linear(hidden_size, outputs, device=like.device, dtype=like.dtype)
            if prefix.use_gating
            else None
        )

    def gates(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """What keys and values are multiplied by, (batch, 1, 1, 1) each, for the attention's input."""
        if self.gate is None:
            raise LookupError("This prefix has no gate.")
        found = torch.sigmoid(self.gate(hidden)).mean(dim=1)
        return found[:, 0].view(-1, 1, 1, 1), found[:, -1].view(-1, 1, 1, 1)


def check(config: PrefixTuning, backbone: Backbone) -> None:
    """Refuse models whose attentions take no further keys.

    Raises:
        CompositionError: Names the attention.
    """
    activation(config.non_linearity)
    if not any(True for _ in backbone.places(Attention)):
        raise CompositionError(
            f"Models of the type {backbone.model_type!r} have no attention that takes prefixes.",
            hint="low-rank and bottleneck adapters act in every architecture",
        )
    for place in places(config, backbone):
        module = backbone.at(place, cast("Attention", place.spot).path)
        if not goes_through_interface(module):
            raise CompositionError(
                f"Prefixes cannot act in {type(module).__name__}: it computes its attention by itself, "
                "not by one of transformers' attention functions."
            )
    if config.counts_positions:
        _require_positions(backbone)


def goes_through_interface(module: nn.Module) -> bool:
    """Whether an attention hands its keys and values to one of transformers' attention functions."""
    forward: Any = type(module).forward
    while hasattr(forward, "__wrapped__"):
        forward = forward.__wrapped__
    return "ALL_ATTENTION_FUNCTIONS" in forward.__code__.co_names and hasattr(module, "config")


def places(config: PrefixTuning, backbone: Backbone) -> Iterator[Place]:
    """The attentions that the config chooses."""
    for place in backbone.places(Attention):
        name = place.spot.name
        if place.layer not in config.leave_out and (name not in CHOSEN or getattr(config, name)):
            yield place


def build(config: PrefixTuning, backbone: Backbone, *, empty: bool) -> dict[str, nn.Module]:
    """The prefixes of all attentions, and what each attention has by itself; or empty, on the meta device."""
    like = backbone.reference_parameter
    kept = torch.empty(0, device="meta" if empty else like.device, dtype=like.dtype)
    size, numbers = backbone.hidden_size, dict[str, int]()
    modules: dict[str, nn.Module] = {}
    for place in places(config, backbone):
        number = numbers.get(place.spot.name, 0)
        modules[str(place)] = PrefixAt(config, number, size, kept)
        numbers[place.spot.name] = number + 1
    parts: dict[str, nn.Module] = {}
    for location, layers in numbers.items():
        shape = Shape(layers, *heads_of(backbone), config.prefix_length)
        parts[location] = (
            Flat(shape, kept) if config.flat else Reparametrised(config, shape, size, kept)
        )
    modules[KEY] = Prefix(config, parts)
    if not empty:
        _initialise(config, modules)
    return modules


def entries(
    config: PrefixTuning, modules: Mapping[str, nn.Module], backbone: Backbone, name: str
) -> Iterator[Entry]:
    """Every tensor of the adapter, under the names of the `adapters` library."""
    prefix = cast("Prefix", modules[KEY])
    for location, part in prefix.parts.items():
        root = f"{backbone.architecture.prefix_key}.{name}.{location}"
        for own, _ in part.named_parameters():
            # The library writes all prefixes again under every attention.
            again = (
                f"{place.key}.prefix_tuning.pool.prefix_tunings.{name}.{location}.{_KEYS[own]}"
                for place in backbone.places(Attention)
            )
            yield Entry(part, own, (f"{root}.{_KEYS[own]}", *again))
    for place in places(config, backbone):
        module = modules[str(place)]
        for own, _ in module.named_parameters():
            end = own.removeprefix("gate.")
            yield Entry(module, own, (f"{place.key}.prefix_tuning.prefix_gates.{name}.{end}",))


def heads_of(backbone: Backbone) -> tuple[int, int]:
    """How many heads keys have, and the features of each."""
    config = backbone.config
    heads: int = config.num_attention_heads
    kept = getattr(config, "num_key_value_heads", None) or heads
    given = getattr(config, "d_kv", None) or getattr(config, "head_dim", None)
    return int(kept), int(given or backbone.hidden_size // heads)


def eject(adapter: LoadedAdapter) -> None:
    """Turn an adapter's prefixes into plain keys and values; it computes what it did, and is smaller.

    Raises:
        CompositionError: It has no prefixes, or they are plain already.
    """
    prefix = adapter.places[KEY] if KEY in adapter.places else None  # noqa: SIM401 - no dict
    if not isinstance(prefix, Prefix) or prefix.config.flat:
        raise CompositionError(
            "The adapter has no prefixes that a network makes.",
            hint="only `prefix_tuning` with `flat=False` has something to eject",
        )
    prefix.eject()
    if isinstance(adapter.config, Union):
        parts = [
            prefix.config if isinstance(part, PrefixTuning) else part
            for part in adapter.config.configs
        ]
        adapter.config = Union(configs=parts)
    else:
        adapter.config = prefix.config


_KEYS = {
    "control_trans": "control_trans",
    "wte": "wte.weight",
    "first.weight": "control_trans.0.weight",
    "first.bias": "control_trans.0.bias",
    "second.weight": "control_trans.2.weight",
    "second.bias": "control_trans.2.bias",
}


def _require_positions(backbone: Backbone) -> None:
    """Refuse models to which PEFT cannot hand a prefix, or in which it would not be seen by all tokens.

    Raises:
        CompositionError: Names the model, and why.
    """
    names = inspect.signature(backbone.module.forward).parameters
    kinds = getattr(backbone.config, "layer_types", None)
    window = getattr(backbone.config, "sliding_window", None)
    slides = "sliding_attention" in kinds if kinds else window is not None
    why = None
    if backbone.decoder is not None:
        why = "PEFT gives one to the decoder alone"
    elif not {"position_ids", caches.NAME} <= set(names):
        why = "they do not take positions and a cache"
    elif slides:
        why = "their attention slides past a prefix"
    if why is not None:
        raise CompositionError(
            f"Positions of {backbone.model_type!r} models cannot count on from a prefix: {why}.",
            hint="leave out `counts_positions`",
        )


@torch.no_grad()
def _initialise(config: PrefixTuning, modules: Mapping[str, nn.Module]) -> None:
    for part in cast("Prefix", modules[KEY]).parts.values():
        with seeded(config.init_weights_seed):
            cast("Flat | Reparametrised", part).initialise()
    for module in modules.values():
        if isinstance(module, PrefixAt) and module.gate is not None:
            module.gate.reset_parameters()
            nn.init.normal_(module.gate.weight, std=NORMAL_STD)


def _arranged(flat: Tensor, shape: Shape) -> Tensor:
    """Position by position as in a file, to layer by layer: (2 * layers, heads, length, features)."""
    view = flat.reshape(shape.length, 2 * shape.layers, shape.heads, shape.features)
    return view.permute(1, 2, 0, 3)
