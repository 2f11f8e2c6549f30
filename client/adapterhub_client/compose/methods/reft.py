"""ReFT: a change of hidden states in a subspace of low rank, at the first and last tokens."""

from collections.abc import Hashable, Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapterhub_client.compose.engine.branches import Weights, linear
from adapterhub_client.compose.engine.frozen import Frozen
from adapterhub_client.compose.files.entry import Entry
from adapterhub_client.compose.methods.activation import Activation, activation
from adapterhub_client.compose.methods.seed import seeded
from adapterhub_client.compose.sites.backbone import Backbone, Place
from adapterhub_client.compose.sites.spots import Residual
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method import Reft

UNITS = ("first", "last")


class Orthogonal(nn.Module):
    """A matrix with orthonormal rows, kept as torch keeps it: a free matrix, and a fixed basis that it turns.

    Shapes:
        original: (rank, features); base: (features, features); weight: (rank, features)

    Source: `torch.nn.utils.parametrizations.orthogonal`, whose tensors these are.
    """

    never_trained = ("base",)

    def __init__(self, features: int, rank: int, like: Tensor) -> None:
        super().__init__()
        self.original = nn.Parameter(like.new_empty(rank, features))
        self.base = nn.Parameter(like.new_empty(features, features), requires_grad=False)

    def weight(self) -> Tensor:
        """The matrix: the basis times reflections, or times a rotation where it is square."""
        # Half precision has none of these operations.
        wide = torch.promote_types(self.original.dtype, torch.float32)
        free = self.original.to(wide).T
        if free.shape[0] == free.shape[1]:
            lower = self.original.to(wide).tril()
            turned: Tensor = torch.linalg.matrix_exp(lower - lower.T)
            return (self.base.to(wide) @ turned).to(self.original.dtype)
        vectors = free.tril(diagonal=-1)
        scales = 2.0 / (1.0 + vectors.square().sum(dim=-2))
        turned = torch.linalg.householder_product(vectors, scales)
        signs = free.diagonal().int()
        weight: Tensor = self.base.to(wide) @ (turned * signs)
        return weight.T.to(self.original.dtype)

    @torch.no_grad()
    def initialise(self) -> None:
        """Orthonormal rows in a random direction."""
        rank, features = self.original.shape
        drawn = nn.utils.parametrizations.orthogonal(nn.Linear(features, rank, bias=False))
        self.original.copy_(drawn.get_parameter("parametrizations.weight.original"))
        self.base.copy_(drawn.get_buffer("parametrizations.weight.0.base"))


class Plain(nn.Module):
    """A matrix without constraints.

    Shapes:
        matrix: (rank, features)
    """

    def __init__(self, features: int, rank: int, like: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(like.new_empty(rank, features))

    def weight(self) -> Tensor:
        """The matrix."""
        return self.matrix

    @torch.no_grad()
    def initialise(self) -> None:
        """The values a linear layer starts with."""
        self.matrix.copy_(nn.Linear(self.matrix.shape[1], len(self.matrix), bias=False).weight)


class Unit(nn.Module):
    """One intervention: (f(W h + b) - R h) R is added to h; without the subtraction for DiReFT.

    Shapes:
        hidden: (groups, tokens, features)
        result: what is added to ``hidden``

    Source: Wu et al. 2024, section 3.2.
    """

    def __init__(self, config: Reft, features: int, like: Tensor) -> None:
        super().__init__()
        self.config = config
        self.act: Activation | None = (
            activation(config.non_linearity) if config.non_linearity else None
        )
        self.source = nn.Linear(features, config.r, device=like.device, dtype=like.dtype)
        kind = Orthogonal if config.orthogonality else Plain
        self.projection = kind(features, config.r, like)
        self._kept: Frozen[Tensor] | None = None

    @property
    def kind(self) -> Hashable:
        """What computes alike."""
        config = self.config
        return config.r, config.non_linearity, config.dropout, config.subtract_projection

    def sources(self) -> list[nn.Parameter]:
        """All parameters."""
        return list(self.parameters())

    def weights(self) -> Weights:
        """W, b and R."""
        if self._kept is None:
            self._kept = Frozen(list(self.projection.parameters()), self.projection.weight)
        return self.source.weight, self.source.bias, self._kept()

    def change(self, hidden: Tensor, weights: Weights) -> Tensor:
        """What is added, in training after a dropout of all that the tokens become."""
        weight, bias, projection = weights
        code = linear(hidden, weight, bias)
        if self.act is not None:
            code = self.act(code)
        if self.config.subtract_projection:
            code = code - linear(hidden, projection, None)
        change = torch.matmul(code, projection)
        if not (self.training and self.config.dropout):
            return change
        return functional.dropout(hidden + change, self.config.dropout) - hidden

    @torch.no_grad()
    def initialise(self) -> None:
        """Fresh weights."""
        self.source.reset_parameters()
        self.projection.initialise()


class Intervention(nn.Module):
    """What one adapter does after one layer: an intervention for first and one for last tokens, or one for both."""

    def __init__(self, config: Reft, features: int, like: Tensor) -> None:
        super().__init__()
        self.config = config
        count = 1 if config.tied_weights else len(UNITS)
        self.units = nn.ModuleList(Unit(config, features, like) for _ in range(count))
        if not config.tied_weights:
            for unit, positions in zip(self.units, self.positions, strict=True):
                if (
                    not positions
                ):  # it has no effect, and so no gradient, which other processes would wait for
                    unit.never_trained = tuple(name for name, _ in unit.named_parameters())  # type: ignore[assignment]

    @property
    def positions(self) -> tuple[int, int]:
        """How many first and last tokens it changes."""
        return self.config.prefix_positions, self.config.suffix_positions

    def unit(self, which: int) -> Unit:
        """The one for first (0) or last (1) tokens."""
        return cast("Unit", self.units[which % len(self.units)])


def check(config: Reft, backbone: Backbone) -> None:
    """Refuse what is not on this model.

    Raises:
        CompositionError: Names it.
    """
    if config.non_linearity:
        activation(config.non_linearity)
    count = len(backbone.layers)
    if config.layers != "all":
        absent = [layer for layer in config.layers if not 0 <= layer < count]
        if absent:
            raise CompositionError(
                f"There is no layer {absent[0]} for an intervention: {backbone.name!r} has {count} layers.",
                hint=f"layers are counted from 0 to {count - 1}",
            )
    if config.r > backbone.hidden_size:
        raise CompositionError(
            f"An intervention of rank {config.r} does not fit into {backbone.hidden_size} features.",
            hint="give a smaller `r`",
        )


def build(config: Reft, backbone: Backbone, *, empty: bool) -> dict[str, nn.Module]:
    """The modules by place, initialised; or empty, on the meta device."""
    like = backbone.reference_parameter
    kept = torch.empty(0, device="meta" if empty else like.device, dtype=like.dtype)
    modules: dict[str, nn.Module] = {}
    for place in places(config, backbone):
        module = Intervention(config, backbone.hidden_size, kept)
        if not empty:
            for unit in module.units:
                with seeded(config.init_weights_seed):
                    cast("Unit", unit).initialise()
        modules[str(place)] = module
    return modules


def entries(
    config: Reft, modules: Mapping[str, nn.Module], backbone: Backbone, name: str
) -> Iterator[Entry]:
    """Every tensor of the adapter, under the names of the `adapters` library."""
    for place in places(config, backbone):
        module = cast("Intervention", modules[str(place)])
        for number, unit in enumerate(module.units):
            root = f"{place.key}.refts.{name}.units.{number}"
            for own, _ in unit.named_parameters():
                yield Entry(unit, own, (f"{root}.{_KEYS[own]}",))


def places(config: Reft, backbone: Backbone) -> Iterator[Place]:
    """The layers that the config chooses."""
    for place in backbone.places(Residual):
        if config.output_reft and config.adapts(place.layer):
            yield place


_KEYS = {
    "source.weight": "learned_source.weight",
    "source.bias": "learned_source.bias",
    "projection.matrix": "projection.weight",
    "projection.original": "projection.parametrizations.weight.original",
    "projection.base": "projection.parametrizations.weight.0.base",
}
