"""Adapters that add a product of low rank to what a linear layer puts out: the arithmetic they share."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapterhub_client.compose.engine.frozen import Frozen
from adapterhub_client.compose.methods.dora import Magnitude
from adapterhub_client.compose.methods.linear import (
    Gate,
    LinearAdapter,
    LowRankConfig,
    Target,
    bias_of,
    dropped,
    weight_of,
)
from adapterhub_client.errors import CompositionError


class Factors(NamedTuple):
    """The two maps whose product is added, without the scale.

    Shapes:
        down: (rank, features in); up: (features out, rank)
    """

    down: Tensor
    up: Tensor


class LowRankAdapter(LinearAdapter):
    """y + scale * up(down(x)); gated instead of scaled where there is a gate; with a magnitude, that of DoRA.

    A layer that makes several things has maps for each in use, and is seen as one map with zeros between them.

    Shapes:
        as `LinearAdapter`
    """

    def __init__(
        self, config: LowRankConfig, target: Target, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(target)
        self.config = config
        self.scale = 1.0 if config.use_gating else config.scale
        self.m = Magnitude(target, device, dtype) if config.use_dora else None
        self.gate = Gate(target, device, dtype) if config.use_gating else None
        self._kept: Frozen[Factors] | None = None

    @property
    def is_computed(self) -> bool:
        """Whether its factors are more than parameters as they are."""
        return not self.target.is_whole

    @property
    def is_plain(self) -> bool:
        """Whether it only adds, the same to every row, so that several can be one product."""
        return self.gate is None and self.m is None

    def sources(self) -> list[nn.Parameter]:
        """All parameters its factors depend on."""
        apart = {id(p) for part in (self.m, self.gate) if part for p in part.parameters()}
        return [p for p in self.parameters() if id(p) not in apart]

    def factors(self, dtype: torch.dtype | None = None) -> Factors:
        """The two maps, made of the parameters anew; in another dtype, if one is given."""
        raise NotImplementedError

    def keep(self, linear: nn.Module) -> None:
        """Get ready for use at a layer: what has to be computed is kept while it is made of frozen parameters."""
        if self.is_computed:
            self._kept = Frozen(self.sources(), self.factors)
        if self.m is not None:
            self.m.keep(linear, self.sources(), self.factors)

    def hand_on(self, given: Tensor, before: Tensor | None) -> Tensor:
        """The product; as if it were the layer's input in a stack."""
        down, up = self._current()
        product = functional.linear(self._code(given, before, down), up)
        return product if self.gate is None else product * self.gate(given)

    def join(self, output: Tensor, handed: Tensor, linear: nn.Module) -> Tensor:
        """Their sum; with its rows rescaled in DoRA."""
        total = output + handed
        return total if self.m is None else self._rescaled(total, linear)

    def forward(
        self, given: Tensor, before: Tensor | None, output: Tensor, linear: nn.Module
    ) -> Tensor:
        """Product and sum in one step, where nothing comes between them."""
        if self.gate is not None:
            return super().forward(given, before, output, linear)
        down, up = self._current()
        total = add_product(output, self._code(given, before, down), up)
        return total if self.m is None else self._rescaled(total, linear)

    def merged(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """W + scale * up down, its rows rescaled in DoRA, and the bias with them, but for PEFT's."""
        if self.gate is not None:
            raise CompositionError(
                "A gated adapter cannot be merged: how much of it there is depends on the input.",
                hint="keep it beside the model, or train one without `use_gating`",
            )
        down, up = self.factors(weight.dtype)
        total = weight + self.scale * (up @ down)
        if self.m is None:
            return total, bias
        factor = self.m.factor(weight, down, up)
        if bias is not None and not self.config.dora_keeps_bias:
            bias = bias * factor
        return total * factor.unsqueeze(-1), bias

    def _current(self) -> Factors:
        return self.factors() if self._kept is None else self._kept()

    def _code(self, given: Tensor, before: Tensor | None, down: Tensor) -> Tensor:
        hidden = dropped(
            given if before is None else before, self.config.dropout, training=self.training
        )
        code = functional.linear(hidden, down)
        return code if self.scale == 1.0 else code * self.scale

    def _rescaled(self, total: Tensor, linear: nn.Module) -> Tensor:
        magnitude = self.m
        if magnitude is None:
            return total
        factor = magnitude.current(weight_of(linear), self._current).to(total.dtype)
        bias = bias_of(linear, like=total) if self.config.dora_keeps_bias else None
        return total * factor if bias is None else (total - bias) * factor + bias


def add_product(output: Tensor, code: Tensor, up: Tensor) -> Tensor:
    """Output + up(code) as one product with its sum.

    Shapes:
        output: (..., features out); code: (..., rank); up: (features out, rank)
    """
    total = torch.addmm(output.flatten(0, -2), code.flatten(0, -2), up.T)
    return total.view(output.shape)
