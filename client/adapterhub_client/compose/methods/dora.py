"""DoRA and DVoRA: a magnitude for each output feature, apart from its direction."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_client.compose.engine.frozen import Frozen
from adapterhub_client.compose.methods.linear import Target, weight_of

Maps = Callable[[], tuple[Tensor, Tensor]]


class Magnitude(nn.Module):
    """The learned length of every row of a weight: y = m / |W + BA| * (Wx + b + scale BAx).

    The norm is of W and the product without its scale, as the reference library has it, and gradients go through it.

    Shapes:
        weight: (features out, 1), the magnitudes

    Source: Liu et al. 2024, section 4.1.
    """

    def __init__(self, target: Target, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(target.features_out, 1, device=device, dtype=dtype))
        self._kept: Frozen[Tensor] | None = None
        self._squares: Frozen[Tensor] | None = None

    @torch.no_grad()
    def initialise(self, linear: nn.Module) -> None:
        """Begin with the lengths that the rows of the layer's weight have."""
        self.weight.copy_(torch.linalg.vector_norm(weight_of(linear), dim=1, keepdim=True))

    def keep(self, linear: nn.Module, sources: Sequence[nn.Parameter], maps: Maps) -> None:
        """Keep what follows from frozen parameters: the lengths of W's rows, and the factor where all are frozen."""
        weight: Any = linear.weight
        # Not closures, which a copy of the module would share with it.
        self._squares = Frozen([weight], partial(_squares_of, linear))
        self._kept = Frozen([self.weight, *sources, weight], partial(self._factor_of, linear, maps))

    def current(self, weight: Tensor, maps: Maps) -> Tensor:
        """The factor of each output feature, (features out); kept where that is possible."""
        if self._kept is None or self._squares is None:
            return self.factor(weight, *maps())
        if self._kept.needs_gradient():
            return self.factor(weight, *maps(), self._squares())
        return self._kept()

    def factor(
        self, weight: Tensor, down: Tensor, up: Tensor, squares: Tensor | None = None
    ) -> Tensor:
        """M / |W + up down| for each row, without forming the product.

        Shapes:
            weight: (features out, features in); down: (rank, features in); up: (features out, rank)
            squares: (features out), the squared lengths of the weight's rows
        """
        if squares is None:
            squares = _squares(weight)
        with torch.autocast(weight.device.type, enabled=False):
            down, up = down.to(squares.dtype), up.to(squares.dtype)
            mixed = 2 * (weight.to(squares.dtype) @ down.T) + up @ (down @ down.T)
            length = (squares + (mixed * up).sum(dim=1)).clamp_min(0).sqrt()
            return self.weight.flatten().to(squares.dtype) / length

    def _factor_of(self, linear: nn.Module, maps: Maps) -> Tensor:
        return self.factor(weight_of(linear), *maps())


def _squares_of(linear: nn.Module) -> Tensor:
    return _squares(weight_of(linear))


def _squares(weight: Tensor) -> Tensor:
    """The squared length of each row, in a dtype that can hold it."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    return weight.to(wide).square().sum(dim=1)
