"""Compacter: projections whose weights are sums of Kronecker products of small matrices, some of them shared."""

from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from adapterhub_client.compose.engine.frozen import Frozen
from adapterhub_client.compose.files.entry import Entry
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method import Bottleneck

KEY = "shared"
OWN_RULE_SCALE = 0.01

Shapes = dict[str, tuple[int, ...]]

# How the config names the initialisation of the matrices; the reference library has no other for `phm` either.
_FACTORS = {
    "phm": init.xavier_normal_,
    "glorot-normal": init.xavier_normal_,
    "glorot-uniform": init.xavier_uniform_,
    "normal": None,
}
_RULES = ("normal", "uniform")


class Matrices(nn.Module):
    """Small matrices by name: those of one projection, or those that all projections of an adapter share.

    Shapes:
        phm_rule: (n, n, n), or its factors phm_rule_left (n, n, 1) and phm_rule_right (n, 1, n)
        W: (n, in / n, out / n), or its factors W_left (n, in / n, rank) and W_right (n, rank, out / n)
    """

    def __init__(self, config: Bottleneck, shapes: Shapes, like: Tensor) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(like.new_empty(shape)))
        rules = tuple(name for name in shapes if name.startswith("phm_rule"))
        self.never_trained = () if config.learn_phm else rules

    def product(self, name: str) -> Tensor:
        """The matrices of a name, multiplied out where they are kept as factors."""
        if f"{name}_left" not in self._parameters:
            return self.get_parameter(name)
        return torch.bmm(self.get_parameter(f"{name}_left"), self.get_parameter(f"{name}_right"))


class PhmLinear(nn.Module):
    """A linear layer whose weight is a sum of Kronecker products: Wᵀ = sum_i A_i ⊗ B_i, with the rule A.

    Shapes:
        weight: (out, in), as a linear layer has it; bias: (out)

    Source: Zhang et al. 2021 (PHM); Karimi Mahabadi et al. 2021 (Compacter), section 3.
    """

    b: nn.Parameter | None

    def __init__(
        self,
        config: Bottleneck,
        ends: tuple[int, int],
        position: str,
        own: Matrices,
        shared: Matrices | None,
    ) -> None:
        super().__init__()
        self.config, self.position = config, position
        self.in_features, self.out_features = ends
        self.own, self.shared = own, shared
        self.register_parameter("b", None)
        self._kept: Frozen[Tensor] | None = None

    @property
    def weight(self) -> Tensor:
        """The whole matrix, made once while what it is made of is frozen."""
        if self._kept is None:
            self._kept = Frozen(self._made_of(), self._make)
        return self._kept()

    @property
    def bias(self) -> Tensor:
        """The bias, zeros where the config has none."""
        return self.weight.new_zeros(self.out_features) if self.b is None else self.b

    def forward(self, hidden: Tensor) -> Tensor:
        """The layer's output."""
        return functional.linear(hidden, self.weight, self.b)

    def _made_of(self) -> list[nn.Parameter]:
        """What the weight is made of; the other projection's shared factors among it do no harm."""
        return [p for name, p in self.named_parameters() if name != "b"]

    def _make(self) -> Tensor:
        config = self.config
        shared = self.shared if self.shared is not None else self.own
        rule = (shared if config.shared_phm_rule else self.own).product("phm_rule")
        matrices = (
            shared.product(f"W_{self.position}") if config.shared_W_phm else self.own.product("W")
        )
        whole = torch.einsum("nab,ncd->bdac", rule, matrices)
        return whole.reshape(self.out_features, self.in_features)


def check(config: Bottleneck, widths: set[int], features: int) -> None:
    """Refuse what such a layer cannot be made of.

    Raises:
        CompositionError: Names the option.
    """
    if not config.phm_layer:
        return
    _require_named("hypercomplex_nonlinearity", config.hypercomplex_nonlinearity, list(_FACTORS))
    _require_named("phm_c_init", config.phm_c_init, list(_RULES))
    for size in sorted({features, *widths}):
        if size % config.phm_dim:
            raise CompositionError(
                f"The {size} features of a layer cannot be divided by `phm_dim`, which is {config.phm_dim}.",
                hint="give another `reduction_factor` or `phm_dim`",
            )
    if config.shared_W_phm and len(widths) > 1:
        raise CompositionError(
            f"Layers of {len(widths)} widths cannot share their matrices (`shared_W_phm`).",
            hint="give one reduction factor for all layers",
        )
    if config.init_weights != "bert":
        raise CompositionError(
            f"The initialisation {config.init_weights!r} is none for layers with `phm_layer`.",
            hint="they are initialised as `hypercomplex_nonlinearity` and `phm_c_init` say",
        )


def shared(config: Bottleneck, widths: set[int], features: int, like: Tensor) -> Matrices | None:
    """What all projections of an adapter share; None where that is nothing."""
    shapes: Shapes = {}
    if config.phm_layer and config.shared_W_phm:
        for width in widths:
            shapes |= _matrices(config, "W_down", (features, width))
            shapes |= _matrices(config, "W_up", (width, features))
    if config.phm_layer and config.shared_phm_rule:
        shapes |= _rule(config)
    return Matrices(config, shapes, like) if shapes else None


def layer(
    config: Bottleneck, ends: tuple[int, int], position: str, shared: Matrices | None, like: Tensor
) -> PhmLinear:
    """A projection `down` or `up`, with the matrices that are its own; ``like`` gives device and dtype."""
    shapes: Shapes = {}
    if not config.shared_W_phm:
        shapes |= _matrices(config, "W", ends)
    if not config.shared_phm_rule:
        shapes |= _rule(config)
    made = PhmLinear(config, ends, position, Matrices(config, shapes, like), shared)
    if config.phm_bias:
        made.b = nn.Parameter(like.new_empty(ends[1]))
    return made


def leaves(module: PhmLinear, part: str, path: str) -> dict[str, tuple[str, ...]]:
    """The names of a projection's own tensors in a file."""
    names: dict[str, tuple[str, ...]] = {}
    for own, _ in module.own.named_parameters():
        names[f"{part}.own.{own}"] = (f"{path}.{own}",)
    return names if module.b is None else names | {f"{part}.b": (f"{path}.b",)}


def entries(modules: Mapping[str, nn.Module], name: str) -> Iterator[Entry]:
    """Every tensor that is shared."""
    owner = modules.get(KEY)
    if isinstance(owner, Matrices):
        for own, _ in owner.named_parameters():
            yield Entry(owner, own, (f"shared_parameters.{name}.{own}",))


@torch.no_grad()
def initialise(module: PhmLinear) -> None:
    """Fresh weights for what is the projection's own."""
    initialise_matrices(module.config, module.own, OWN_RULE_SCALE, OWN_RULE_SCALE)
    if module.b is not None:
        init.zeros_(module.b)


@torch.no_grad()
def initialise_matrices(
    config: Bottleneck, matrices: Matrices, deviation: float, reach: float
) -> None:
    """Fresh matrices; a rule is normal with a deviation, or uniform within a reach."""
    for name, parameter in matrices.named_parameters():
        if name.startswith("phm_rule"):
            if config.phm_c_init == "normal":
                init.normal_(parameter, std=deviation)
            else:
                init.uniform_(parameter, -reach, reach)
            continue
        fill = _FACTORS[config.hypercomplex_nonlinearity]
        for matrix in cast("Tensor", parameter):
            if fill is None:
                init.normal_(matrix, std=config.phm_init_range)
            else:
                fill(matrix)


def _rule(config: Bottleneck) -> Shapes:
    n = config.phm_dim
    if config.factorized_phm_rule:
        return {"phm_rule_left": (n, n, 1), "phm_rule_right": (n, 1, n)}
    return {"phm_rule": (n, n, n)}


def _matrices(config: Bottleneck, name: str, ends: tuple[int, int]) -> Shapes:
    n, rank = config.phm_dim, config.phm_rank
    into, out = (end // n for end in ends)
    if config.factorized_phm_W:
        return {f"{name}_left": (n, into, rank), f"{name}_right": (n, rank, out)}
    return {name: (n, into, out)}


def _require_named(option: str, found: str, allowed: list[str]) -> None:
    if found not in allowed:
        raise CompositionError(
            f"There is no {option} named {found!r}.", hint="known: " + ", ".join(allowed)
        )
