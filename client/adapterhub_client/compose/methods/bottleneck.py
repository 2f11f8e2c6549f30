"""Bottleneck adapters in every variant of the config: sequential, parallel, gated, with norms of their own."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional, init

from adapterhub_client.compose.engine.stream import Source, Stream, push, put, read
from adapterhub_client.compose.files.entry import Entry
from adapterhub_client.compose.methods import invertible, phm
from adapterhub_client.compose.methods.activation import activation
from adapterhub_client.compose.methods.seed import seeded
from adapterhub_client.compose.sites.backbone import Backbone, Place
from adapterhub_client.compose.sites.spots import Slot
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method import Bottleneck

NORMAL_STD = 0.02
HOULSBY_STD = 0.01
SHARED_RULE_REACH = 1.0


class BottleneckAdapter(nn.Module):
    """One bottleneck at one place: A(h) = scaling * (W_up act(W_down h + b) + b').

    Shapes:
        hidden: (batch, length, features), any float dtype
        code: (batch, length, width)

    Source: Houlsby et al. 2019, section 2.1; Pfeiffer et al. 2021, section 3.
    """

    def __init__(  # noqa: PLR0913 - what a module is made with, and what it shares
        self,
        config: Bottleneck,
        features: int,
        width: int,
        device: torch.device,
        dtype: torch.dtype,
        *,
        shared: phm.Matrices | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.features, self.width = features, width
        self.act = activation(config.non_linearity)
        like = torch.empty(0, device=device, dtype=dtype)
        self.down = _projection(config, (features, width), "down", shared, like)
        self.up = _projection(config, (width, features), "up", shared, like)
        self.norm_before = (
            nn.LayerNorm(features, device=device, dtype=dtype) if config.ln_before else None
        )
        self.norm_after = (
            nn.LayerNorm(features, device=device, dtype=dtype) if config.ln_after else None
        )
        self.gate = (
            nn.Linear(features, 1, device=device, dtype=dtype) if config.use_gating else None
        )
        scales = {"learned": 1, "channel": features}.get(str(config.scaling))
        self.scaling = (
            nn.Parameter(torch.ones(scales, device=device, dtype=dtype)) if scales else None
        )
        self.factor = 1.0 if isinstance(config.scaling, str) else config.scaling

    @property
    def reads(self) -> Source:
        """What the adapter takes as its input."""
        if self.config.is_parallel:
            return Source.SKIP
        return Source.NORMED if self.config.original_ln_before else Source.BRANCH

    @property
    def residual(self) -> Source:
        """What the adapter's output is added to."""
        if self.config.is_parallel:
            return Source.SKIP
        if self.config.residual_before_ln == "post_add":
            return Source.SUM
        return Source.BRANCH if self.config.residual_before_ln else self.reads

    @property
    def needs(self) -> frozenset[Source]:
        """What has to be recorded at the place, besides the sum."""
        needed = {self.reads} & {Source.BRANCH, Source.SKIP}
        if not self.config.original_ln_after:
            needed.add(Source.BRANCH)
        puts = self.residual is not Source.BRANCH and not self.config.is_parallel
        if puts or self._joins_before_norm:
            needed |= {Source.BRANCH, Source.SKIP}
        return frozenset(needed)

    @property
    def _joins_before_norm(self) -> bool:
        config = self.config
        return config.adapter_residual_before_ln and config.ln_after and not config.is_parallel

    @property
    def is_plain(self) -> bool:
        """Whether it only adds its scaled up-projection to f, so that several can be one product."""
        parts = (self.norm_before, self.norm_after, self.gate)
        adds = self.config.is_parallel or self.residual is Source.BRANCH
        return adds and not self._drops_rows and all(part is None for part in parts)

    @property
    def _drops_rows(self) -> bool:
        # The reference library has no stochastic depth in parallel adapters.
        return self.config.stochastic_depth > 0 and not self.config.is_parallel

    def sources(self) -> list[nn.Parameter]:
        """All parameters its output depends on."""
        return list(self.parameters())

    def encode(self, hidden: Tensor) -> Tensor:
        """The activated bottleneck."""
        if self.norm_before is not None:
            hidden = self.norm_before(hidden)
        return self.act(self.down(hidden))

    def scaled_up(self) -> tuple[Tensor, Tensor]:
        """The up-projection with the scaling multiplied in: weight (features, width), bias (features)."""
        weight, bias = self.up.weight, self.up.bias
        if self.scaling is not None:
            return weight * self.scaling.unsqueeze(-1), bias * self.scaling
        return (weight, bias) if self.factor == 1.0 else (weight * self.factor, bias * self.factor)

    def change(self, hidden: Tensor) -> Tensor:
        """The adapter's output before anything is added to it."""
        change = self.up(self.encode(hidden))
        if self._drops_rows and self.training:
            change = change * kept_rows(change, self.config.stochastic_depth)
        if self.scaling is not None:
            change = change * self.scaling
        elif self.factor != 1.0:
            change = change * self.factor
        change = functional.dropout(change, self.config.dropout, self.training)
        if self.gate is not None:
            change = change * torch.sigmoid(self.gate(hidden)).mean(dim=1, keepdim=True)
        return change

    def forward(self, stream: Stream) -> Stream:
        """One adapter as a step of a composition."""
        change = self.change(read(stream, self.reads))
        if self._joins_before_norm and self.norm_after is not None:
            return put(stream, self.norm_after(change + read(stream, self.residual)))
        if self.norm_after is not None:
            change = self.norm_after(change)
        if self.config.is_parallel or self.residual is Source.BRANCH:
            return push(stream, change)
        return put(stream, change + read(stream, self.residual))


def check(config: Bottleneck, backbone: Backbone) -> None:
    """Refuse what is not supported.

    Raises:
        CompositionError: Names the option.
    """
    if config.init_weights not in _INITIALISERS:
        raise CompositionError(
            f"There is no initialisation named {config.init_weights!r}.",
            hint="known: " + ", ".join(_INITIALISERS),
        )
    if isinstance(config.scaling, str) and config.scaling not in ("learned", "channel"):
        raise CompositionError(
            f"There is no scaling named {config.scaling!r}.",
            hint="allowed: a number, learned, channel",
        )
    activation(config.non_linearity)
    invertible.check(config, backbone)
    phm.check(config, _widths(config, backbone), backbone.hidden_size)


def places(config: Bottleneck, backbone: Backbone) -> Iterator[Place]:
    """Where the config puts adapters: its slots, in all layers it does not leave out."""
    for place in backbone.places(Slot):
        if getattr(config, place.spot.name) and place.layer not in config.leave_out:
            yield place


def build(config: Bottleneck, backbone: Backbone, *, empty: bool) -> dict[str, nn.Module]:
    """The modules by place, initialised; or empty, on the meta device."""
    like = backbone.reference_parameter
    device = torch.device("meta") if empty else like.device
    features = backbone.hidden_size
    kept = torch.empty(0, device=device, dtype=like.dtype)
    shared = phm.shared(config, _widths(config, backbone), features, kept)
    modules: dict[str, nn.Module] = {} if shared is None else {phm.KEY: shared}
    if shared is not None and not empty:
        with seeded(config.init_weights_seed):
            phm.initialise_matrices(config, shared, config.phm_init_range, SHARED_RULE_REACH)
    for place in places(config, backbone):
        width = config.width(features, place.layer)
        module = BottleneckAdapter(config, features, width, device, like.dtype, shared=shared)
        if not empty:
            initialise(module)
        modules[str(place)] = module
    return modules | invertible.build(config, backbone, empty=empty)


def entries(
    config: Bottleneck, modules: Mapping[str, nn.Module], backbone: Backbone, name: str
) -> Iterator[Entry]:
    """Every tensor of the adapter, under the names of the `adapters` library."""
    for place in places(config, backbone):
        module = modules[str(place)]
        for own, keys in leaves(module).items():
            yield Entry(module, own, tuple(f"{place.key}.adapters.{name}.{key}" for key in keys))
    if config.phm_layer:
        yield from phm.entries(modules, name)
    yield from invertible.entries(config, modules, backbone, name)


@torch.no_grad()
def initialise(adapter: BottleneckAdapter) -> None:
    """Fresh weights, as the config asks for."""
    with seeded(adapter.config.init_weights_seed):
        _INITIALISERS[adapter.config.init_weights](adapter)


def leaves(module: Any) -> dict[str, tuple[str, ...]]:  # noqa: ANN401 - modules know their parts by name
    """The names of the tensors in a file, below the adapter's own."""
    names: dict[str, tuple[str, ...]] = {}
    linear = "adapter_down.0"
    for part, path in (
        ("norm_before", "adapter_norm_before"),
        ("norm_after", "adapter_norm_after"),
    ):
        if getattr(module, part) is not None:
            names |= {f"{part}.{end}": (f"{path}.{end}",) for end in ("weight", "bias")}
    if module.norm_before is not None:
        # The library keeps this norm under two names, and writes both.
        for end in ("weight", "bias"):
            names[f"norm_before.{end}"] += (f"adapter_down.0.{end}",)
        linear = "adapter_down.1"
    for part, path in (("down", linear), ("up", "adapter_up"), ("gate", "gate")):
        if isinstance(getattr(module, part), phm.PhmLinear):
            names |= phm.leaves(getattr(module, part), part, path)
        elif getattr(module, part) is not None:
            names |= {f"{part}.{end}": (f"{path}.{end}",) for end in ("weight", "bias")}
    if module.scaling is not None:
        names["scaling"] = ("scaling",)
    return names


def kept_rows(change: Tensor, rate: float) -> Tensor:
    """Zero for the rows that are left out, and for the others what makes up for these.

    Shapes:
        change: (batch, length, features)
        result: (batch, 1, 1)

    Source: Huang et al. 2016 (stochastic depth); Steitz & Roth 2024, section 3.
    """
    ones = torch.ones_like(change[:, :1, :1])
    return functional.dropout(ones, rate, training=True)


def _projection(
    config: Bottleneck,
    ends: tuple[int, int],
    position: str,
    shared: phm.Matrices | None,
    like: Tensor,
) -> nn.Linear | phm.PhmLinear:
    if config.phm_layer:
        return phm.layer(config, ends, position, shared, like)
    return nn.Linear(*ends, device=like.device, dtype=like.dtype)


def _widths(config: Bottleneck, backbone: Backbone) -> set[int]:
    """The widths of all places."""
    return {config.width(backbone.hidden_size, place.layer) for place in places(config, backbone)}


def _like_bert(adapter: BottleneckAdapter) -> None:
    for linear in (adapter.down, adapter.up):
        if isinstance(linear, phm.PhmLinear):
            phm.initialise(linear)
        else:
            init.normal_(linear.weight, std=NORMAL_STD)
            init.zeros_(linear.bias)
    _open_gate(adapter)


def _like_mam(adapter: BottleneckAdapter) -> None:
    init.kaiming_uniform_(adapter.down.weight, a=math.sqrt(5))
    init.zeros_(adapter.up.weight)
    init.zeros_(adapter.down.bias)
    init.zeros_(adapter.up.bias)
    _open_gate(adapter)


def _like_houlsby(adapter: BottleneckAdapter) -> None:
    for linear in (adapter.down, adapter.up):
        init.trunc_normal_(linear.weight, std=HOULSBY_STD, a=-2 * HOULSBY_STD, b=2 * HOULSBY_STD)
        init.zeros_(linear.bias)
    _open_gate(adapter)


def _open_gate(adapter: BottleneckAdapter) -> None:
    if adapter.gate is not None:
        init.normal_(adapter.gate.weight, std=NORMAL_STD)
        init.zeros_(adapter.gate.bias)


_INITIALISERS = {"bert": _like_bert, "mam_adapter": _like_mam, "houlsby": _like_houlsby}
