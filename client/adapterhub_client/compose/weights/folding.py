"""Merges an adapter into the model's own weights, so that it costs nothing, and gives the weights back bit for bit.

LoRA, DoRA, VeRA and (IA)3 without gates only change what linear layers compute, in a way that a weight and a bias can
hold; BitFit only changes biases. What these were is kept: the memory of every parameter that is changed, once more. (A
difference cannot be subtracted again: what rounding took from the sum is lost.)
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterhub_client.compose.methods import bitfit, linear
from adapterhub_client.compose.methods.linear import LinearAdapter
from adapterhub_client.compose.shelf import LoadedAdapter
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.compose.sites.spots import Projection
from adapterhub_client.errors import CompositionError


class Change(NamedTuple):
    """A parameter of a layer, and other values for it."""

    layer: nn.Module
    name: str
    values: Tensor

    def exchange(self) -> "Change":
        """Write the values; the change that takes this back."""
        parameter = self.layer.get_parameter(self.name)
        before = parameter.detach().clone()
        with torch.no_grad():
            # In place: compiled graphs and optimizers know the parameter by its address.
            parameter.copy_(self.values)
        return Change(self.layer, self.name, before)


class Folding:
    """What is merged into the model's weights, at most one adapter."""

    def __init__(self, backbone: Backbone, model: nn.Module) -> None:
        self._backbone, self._model = backbone, model
        self._originals: list[Change] = []
        self.name: str | None = None

    def fold(self, name: str, adapter: LoadedAdapter) -> None:
        """Merge an adapter into the weights.

        Raises:
            CompositionError: It is of a method that weights cannot hold, or another one is merged already. Nothing
                has changed then.
        """
        self.require_none("fold another adapter")
        changes = list(_changes(name, adapter, self._backbone))
        self._originals = [change.exchange() for change in changes]
        self.name = name
        # Says so to whoever takes the fingerprint of the model, which is not the base's now.
        self._model.folded_adapter = name  # type: ignore[assignment]

    def unfold(self) -> None:
        """Give the weights back bit for bit; nothing happens where nothing is merged."""
        for original in self._originals:
            original.exchange()
        if self.name is not None:
            del self._model.folded_adapter
        self._originals, self.name = [], None

    def require_none(self, purpose: str) -> None:
        """Refuse what would act on other weights than the base's.

        Raises:
            CompositionError: An adapter is merged into them.
        """
        if self.name is not None:
            raise CompositionError(
                f"The adapter {self.name!r} is folded into the model's weights.",
                hint=f"unfold it to {purpose}",
            )


def _changes(name: str, adapter: LoadedAdapter, backbone: Backbone) -> Iterator[Change]:
    """The new weights and biases, computed in float64."""
    layers = {str(p): linear.module_at(backbone, p) for p in backbone.places(Projection)}
    layers |= {str(biased): biased.module for biased in bitfit.biases(backbone)}
    seen: set[nn.Module] = set()
    acting = {key: adapter.places[key] for key in adapter.places if key in layers}
    others = [key for key in adapter.places if key not in layers and key != "shared"]
    if others or not all(isinstance(module, LinearAdapter) for module in acting.values()):
        raise CompositionError(
            f"The adapter {name!r} cannot be folded: it acts at {(others or list(acting))[0]!r}, "
            "and not only on the weights of linear layers.",
            hint="LoRA, DoRA, VeRA, (IA)3 and BitFit can be",
        )
    for key, module in acting.items():
        layer = layers[key]
        if layer is None or layer in seen or not isinstance(module, LinearAdapter):
            raise CompositionError(
                f"The adapter {name!r} cannot be folded: the weights at {key!r} are used at several places.",
                hint="activate it instead",
            )
        seen.add(layer)
        if isinstance(module, bitfit.BiasChange):
            own = layer.get_parameter("bias").detach().double()
            yield Change(layer, "bias", own + module.bias.detach())
            continue
        wide = linear.weight_of(layer).detach().double()
        with torch.no_grad():
            merged, bias = module.merged(wide, linear.bias_of(layer, like=wide))
        stored = merged.T if isinstance(layer, Conv1D) else merged
        yield Change(layer, "weight", stored)
        if bias is not None and linear.bias_of(layer) is not None:
            yield Change(layer, "bias", bias)
