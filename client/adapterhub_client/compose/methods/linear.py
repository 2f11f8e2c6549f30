"""What all methods share that act at linear layers: where they stand, their gate, and how they meet the output."""

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional, init
from transformers.pytorch_utils import Conv1D

from adapterhub_client.compose.files.entry import Entry
from adapterhub_client.compose.sites.backbone import Backbone, Place
from adapterhub_client.compose.sites.spots import Projection
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method import Lora, MtlLora

LowRankConfig = Lora | MtlLora
# What a stack's next adapter takes: another product, another factor, or another sum.
Operation = Literal["add", "scale", "shift"]

_LETTERS = {"query": "q", "key": "k", "value": "v"}
NORMAL_STD = 0.02


class Target(NamedTuple):
    """The linear layer an adapter acts at; several of query, key and value may be made by one (`merged`).

    Such a layer puts out equal blocks side by side, of which an adapter changes the ones it ``uses``.
    """

    features_in: int
    features_out: int
    blocks: int = 1
    uses: tuple[int, ...] = (0,)
    is_input: bool = False
    """whether it is what goes into the layer that is changed; the features out are those of the input then"""

    @property
    def block(self) -> int:
        """The features of one block."""
        return self.features_out // self.blocks

    @property
    def own(self) -> int:
        """The features that are changed."""
        return self.block * len(self.uses)

    @property
    def is_whole(self) -> bool:
        """Whether the layer makes one thing only."""
        return self.blocks == 1


class LinearAdapter(nn.Module):
    """One adapter at one linear layer.

    In a stack it takes what the one before handed on, ``before``, in the place of the layer's input or besides it.

    Shapes:
        given: (batch, length, features in), the layer's input
        output: (batch, length, features out), what the layer puts out by itself
        handed on: as the output, or with ones for what is the same for all rows and tokens
    """

    operation: Operation = "add"

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.target = target

    def keep(self, linear: nn.Module) -> None:
        """Get ready for use at a layer."""

    def hand_on(self, given: Tensor, before: Tensor | None) -> Tensor:
        """The change itself, before it meets the layer's output."""
        raise NotImplementedError

    def join(self, output: Tensor, handed: Tensor, linear: nn.Module) -> Tensor:
        """The layer's output and what was handed on."""
        raise NotImplementedError

    def forward(
        self, given: Tensor, before: Tensor | None, output: Tensor, linear: nn.Module
    ) -> Tensor:
        """What the layer puts out with the adapter."""
        return self.join(output, self.hand_on(given, before), linear)

    def merged(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """A weight and a bias with which the layer puts out the same without the adapter.

        Shapes:
            weight: (features out, features in); its dtype is that of the arithmetic
            bias: (features out)

        Raises:
            CompositionError: What the adapter does depends on its input, or needs a bias that is not there.
        """
        raise NotImplementedError

    def change_of_weight(self, linear: nn.Module, dtype: torch.dtype | None = None) -> Tensor:
        """What merging adds to the layer's weight, (features out, features in)."""
        weight = weight_of(linear)
        weight = weight if dtype is None else weight.to(dtype)
        return self.merged(weight, bias_of(linear, like=weight))[0] - weight

    def change_of_bias(self, linear: nn.Module, dtype: torch.dtype | None = None) -> Tensor | None:
        """What merging adds to the layer's bias, (features out); None where it has none."""
        weight = weight_of(linear)
        weight = weight if dtype is None else weight.to(dtype)
        bias = bias_of(linear, like=weight)
        merged = self.merged(weight, bias)[1]
        return None if merged is None or bias is None else merged - bias


class Gate(nn.Linear):
    """How much of an adapter there is: the mean over the tokens of sigmoid(w . x + b), one for each block.

    Source: Mao et al. 2022, section 3.2 (UniPELT).
    """

    def __init__(self, target: Target, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(target.features_in, len(target.uses), device=device, dtype=dtype)
        self.target = target

    def forward(self, given: Tensor) -> Tensor:
        """The gate, (batch, 1, 1), or (batch, 1, features out) with ones where the adapter is not."""
        gate = torch.sigmoid(super().forward(given)).mean(dim=-2, keepdim=True)
        if self.target.is_whole:
            return gate
        return spread(gate.repeat_interleave(self.target.block, dim=-1), self.target, 1.0)


def spread(own: Tensor, target: Target, fill: float) -> Tensor:
    """Values of the blocks in use, (..., own features), over all features of the output."""
    if target.is_whole:
        return own
    shape = own.shape[:-1]
    whole = own.new_full((*shape, target.blocks, target.block), fill)
    index = torch.tensor(target.uses, device=own.device)
    filled = whole.index_copy(-2, index, own.reshape(*shape, len(target.uses), target.block))
    return filled.flatten(-2)


def places(config: LowRankConfig, backbone: Backbone) -> Iterator[Place]:
    """Where the config puts adapters: its projections, in all layers it does not leave out."""
    for place in linears(backbone):
        if place.layer not in config.leave_out and _is_asked(config, place.spot):
            yield place


def linears(backbone: Backbone) -> Iterator[Place]:
    """Every linear layer of the row that the model has."""
    for place in backbone.places(Projection):
        if module_at(backbone, place) is not None:
            yield place


def module_at(backbone: Backbone, place: Place) -> nn.Module | None:
    """The linear layer at a place; rows name some that only variants of an architecture have."""
    spot = place.spot
    try:
        return backbone.at(place, spot.path) if isinstance(spot, Projection) else None
    except AttributeError:
        return None


def target_of(config: LowRankConfig, backbone: Backbone, place: Place) -> Target:
    """The layer at a place, as an adapter of this config sees it.

    Raises:
        CompositionError: It is no linear layer, or cannot be divided into what the row says it makes.
    """
    linear, spot = module_at(backbone, place), place.spot
    if linear is None or not isinstance(spot, Projection):
        raise CompositionError(f"There is no linear layer at {place}.")
    features_in, features_out = sizes(linear, place)
    if isinstance(config, Lora) and spot.name in config.scaled_inputs:
        return Target(features_in, features_in, is_input=True)
    if not spot.merged:
        return Target(features_in, features_out)
    if features_out % len(spot.merged):
        raise CompositionError(
            f"The layer {spot.path!r} puts out {features_out} features, which are not "
            f"{len(spot.merged)} equal blocks."
        )
    uses = tuple(n for n, letter in enumerate(spot.merged) if letter in config.attn_matrices)
    return Target(features_in, features_out, len(spot.merged), uses)


def sizes(linear: nn.Module, place: Place) -> tuple[int, int]:
    """A linear layer's features in and out.

    Raises:
        CompositionError: It is none.
    """
    if isinstance(linear, Conv1D):
        features_in, features_out = linear.weight.shape
        return features_in, features_out
    if not hasattr(linear, "in_features"):
        raise CompositionError(
            f"At {place} the row names a {type(linear).__name__}, which is no linear layer."
        )
    return int(linear.in_features), int(linear.out_features)  # type: ignore[arg-type]


def weight_of(linear: nn.Module) -> Tensor:
    """A layer's weight as (features out, features in).

    Raises:
        CompositionError: It is packed, as in quantised models.
    """
    weight: Tensor = linear.weight  # type: ignore[assignment]
    if not weight.is_floating_point():
        raise CompositionError(
            f"The weight of a {type(linear).__name__} is packed as {weight.dtype}; this needs its values.",
            hint="load the base model without quantisation",
        )
    return weight.T if isinstance(linear, Conv1D) else weight


def bias_of(linear: nn.Module, like: Tensor | None = None) -> Tensor | None:
    """A layer's bias, if it has one, in the dtype of ``like``."""
    bias = getattr(linear, "bias", None)
    return bias if bias is None or like is None else bias.to(like.dtype)


def check(config: LowRankConfig, backbone: Backbone, initialisations: Collection[str]) -> None:
    """Refuse what none of these methods can do.

    Raises:
        CompositionError: Says what, and on which model.
    """
    if config.init_weights not in initialisations:
        raise CompositionError(
            f"There is no initialisation named {config.init_weights!r} for this method.",
            hint="known: " + ", ".join(initialisations),
        )
    chosen = list(places(config, backbone))
    if not chosen:
        raise CompositionError(
            f"The config puts nothing on {backbone.name!r}: it names none of its linear layers.",
            hint="selfattn_lora with attn_matrices, intermediate_lora and output_lora name them",
        )
    for place in chosen:
        target_of(config, backbone, place)


def open_gate(gate: Gate | None) -> None:
    """Fresh weights of a gate."""
    if gate is not None:
        init.normal_(gate.weight, std=NORMAL_STD)
        bound = 1 / math.sqrt(gate.in_features)
        init.uniform_(gate.bias, -bound, bound)


def dropped(hidden: Tensor, rate: float, *, training: bool) -> Tensor:
    """What dropout leaves of an adapter's input."""
    return functional.dropout(hidden, rate, training) if rate > 0 and training else hidden


def entries(modules: Mapping[str, nn.Module], backbone: Backbone, name: str) -> Iterator[Entry]:
    """Every tensor that stands at linear layers, under the names of the `adapters` library."""
    for place in linears(backbone):
        module = modules.get(str(place))
        if isinstance(module, LinearAdapter):
            for own, _ in module.named_parameters():
                yield Entry(module, own, (f"{place.key}.loras.{name}.{own}",))


def _is_asked(config: LowRankConfig, spot: object) -> bool:
    if not isinstance(spot, Projection):
        return False
    if spot.merged:
        return config.selfattn_lora and bool(set(spot.merged) & set(config.attn_matrices))
    letter = _LETTERS.get(spot.name.removeprefix("cross_"))
    if letter is not None:
        return config.selfattn_lora and letter in config.attn_matrices
    return {"intermediate": config.intermediate_lora, "output": config.output_lora}.get(
        spot.name, False
    )
