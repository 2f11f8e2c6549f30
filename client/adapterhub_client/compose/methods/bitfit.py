"""BitFit: what is added to the biases of a layer's linear layers and norms."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterhub_client.compose.files.entry import Entry
from adapterhub_client.compose.methods.linear import LinearAdapter, Operation, Target
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.compose.sites.spots import Projection
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method import BitFit

MARK = " bias of "
"""what tells the keys of its modules from those of places"""
_FEED_FORWARD = ("intermediate", "output")


class Biased(NamedTuple):
    """One module with a bias inside a layer."""

    layer: int
    path: str
    """inside the layer"""
    key: str
    """the module's path in the keys of files"""
    module: nn.Module

    def __str__(self) -> str:
        return f"{self.layer}{MARK}{self.path.replace('.', ' ')}"


class BiasChange(LinearAdapter):
    """y + b: a bias besides the module's own.

    Shapes:
        bias: (features out)

    Source: Ben Zaken et al. 2022, section 3; a change of the bias instead of the bias, so that the base stays as it is.
    """

    operation: Operation = "shift"

    def __init__(self, features: int, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(Target(features, features))
        self.bias = nn.Parameter(torch.zeros(features, device=device, dtype=dtype))

    def hand_on(self, given: Tensor, before: Tensor | None) -> Tensor:  # noqa: ARG002 - each method's
        """The change, besides that of the adapter before."""
        return self.bias.view(1, 1, -1) if before is None else before + self.bias

    def join(self, output: Tensor, handed: Tensor, linear: nn.Module) -> Tensor:  # noqa: ARG002 - each method's
        """The module's output with it."""
        return output + handed.to(output.dtype)

    def merged(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The same weight, and the sum of the biases."""
        return weight, None if bias is None else bias + self.bias.to(bias.dtype)


def check(config: BitFit, backbone: Backbone) -> None:
    """Refuse a model that has no such biases.

    Raises:
        CompositionError: Names it.
    """
    if not any(True for _ in places(config, backbone)):
        raise CompositionError(
            f"{backbone.name!r} has none of the biases that the config asks for.",
            hint="lora and (IA)3 act on models without biases too",
        )


def places(config: BitFit, backbone: Backbone) -> Iterator[Biased]:
    """Every bias the config asks for, in all layers it does not leave out."""
    for found in biases(backbone):
        if found.layer not in config.leave_out and getattr(config, _group(found, backbone)):
            yield found


def biases(backbone: Backbone) -> Iterator[Biased]:
    """Every linear layer and norm with a bias, in all layers."""
    roots = {place.layer: (place.root, place.key_root) for place in backbone.places()}
    for layer, (root, key_root) in roots.items():
        for path, module in backbone.module.get_submodule(root).named_modules():
            if getattr(module, "bias", None) is not None and _is_known(module):
                yield Biased(layer, path, f"{key_root}.{path}", module)


def build(config: BitFit, backbone: Backbone, *, empty: bool) -> dict[str, nn.Module]:
    """The changes by module, zero; or empty, on the meta device."""
    like = backbone.reference_parameter
    device = torch.device("meta") if empty else like.device
    return {
        str(place): BiasChange(len(place.module.bias), device, like.dtype)  # type: ignore[arg-type]
        for place in places(config, backbone)
    }


def entries(
    config: BitFit, modules: Mapping[str, nn.Module], backbone: Backbone, name: str
) -> Iterator[Entry]:
    """Every tensor of the adapter; the reference library has no names for them."""
    for place in places(config, backbone):
        yield Entry(modules[str(place)], "bias", (f"{place.key}.bitfits.{name}.bias",))


def _group(found: Biased, backbone: Backbone) -> str:
    """The config's word for what a module is a part of."""
    if not isinstance(found.module, nn.Linear | Conv1D):
        return "layer_norm"
    feed_forward = {
        place.spot.path
        for place in backbone.places(Projection)
        if isinstance(place.spot, Projection) and place.spot.name in _FEED_FORWARD
    }
    return "feed_forward" if found.path in feed_forward else "attention"


def _is_known(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Conv1D | nn.LayerNorm) or "Norm" in type(module).__name__
