"""Invertible adapters: a change of the embeddings, undone before they are compared with the vocabulary again."""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from adapterhub_client.compose.engine.branches import Weights, linear
from adapterhub_client.compose.files.entry import Entry
from adapterhub_client.compose.methods.activation import Activation, activation
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method import Bottleneck

KEY = "invertible"
NORMAL_STD = 0.02
# A factor of GLOW stays between exp(-5) and exp(5): 0.636 is about 2 / pi, so that the arc tangent ends at one.
CLAMP = 5.0
SLOPE = 0.636


# The network that reads the second half and changes the first, and the one that does the reverse.
SUBNETS = {"nice": ("F", "G"), "glow": ("s2", "s1")}


class Coupling(nn.Module):
    """Change one half of the features by what a small network makes of the other half, then the other way round.

    NICE adds: y1 = x1 + F(x2), y2 = x2 + G(y1). GLOW scales too: y1 = e(s) x1 + t with (s, t) = s2(x2), and so on. The
    reference library's GLOW fails in a forward pass; this is what its names and shapes are meant for.

    Shapes:
        hidden: (groups, tokens, features)
        result: same as ``hidden``

    Source: Dinh et al. 2015 (NICE); Kingma & Dhariwal 2018 (GLOW); Pfeiffer et al. 2020 (MAD-X), section 3.3.
    """

    def __init__(
        self, config: Bottleneck, features: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.block = str(config.inv_adapter)
        self.act: Activation = activation(config.non_linearity)
        self.middle = features // 2
        self.kind: Hashable = (
            self.block,
            features,
            config.inv_adapter_reduction_factor,
            config.non_linearity.lower(),
        )
        outputs = 2 if self.block == "glow" else 1
        for name, (reads, changes) in zip(
            SUBNETS[self.block],
            ((features - self.middle, self.middle), (self.middle, features - self.middle)),
            strict=True,
        ):
            width = inner_width(config, reads)
            subnet = nn.ModuleDict(
                {
                    "0": nn.Linear(reads, width, device=device, dtype=dtype),
                    "2": nn.Linear(width, outputs * changes, device=device, dtype=dtype),
                }
            )
            self.add_module(name, subnet)

    def sources(self) -> list[nn.Parameter]:
        """All parameters."""
        return list(self.parameters())

    def weights(self) -> Weights:
        """The weights and biases of both networks, in the order they are used."""
        return tuple(
            getattr(self.get_submodule(f"{name}.{layer}"), end)
            for name in SUBNETS[self.block]
            for layer in ("0", "2")
            for end in ("weight", "bias")
        )

    def change(self, hidden: Tensor, weights: Weights, *, reverse: bool = False) -> Tensor:
        """The changed embeddings, or in ``reverse`` what they were made of."""
        first, second = hidden[..., : self.middle], hidden[..., self.middle :]
        if reverse:
            second = self._uncouple(second, self._subnet(first, weights[4:]))
            first = self._uncouple(first, self._subnet(second, weights[:4]))
        else:
            first = self._couple(first, self._subnet(second, weights[:4]))
            second = self._couple(second, self._subnet(first, weights[4:]))
        return torch.cat([first, second], dim=-1)

    def forward(self, hidden: Tensor, *, reverse: bool = False) -> Tensor:
        """The same with the module's own weights."""
        return self.change(hidden, self.weights(), reverse=reverse)

    def _subnet(self, hidden: Tensor, weights: Weights) -> Tensor:
        inner = self.act(linear(hidden, weights[0], weights[1]))
        return linear(inner, weights[2], weights[3])

    def _couple(self, half: Tensor, made: Tensor) -> Tensor:
        if self.block == "nice":
            return half + made
        scale, shift = made.chunk(2, dim=-1)
        return half * _factor(scale) + shift

    def _uncouple(self, half: Tensor, made: Tensor) -> Tensor:
        if self.block == "nice":
            return half - made
        scale, shift = made.chunk(2, dim=-1)
        return (half - shift) / _factor(scale)


def check(config: Bottleneck, backbone: Backbone) -> None:
    """Refuse an invertible adapter whose networks have no width.

    Raises:
        CompositionError: Names the option.
    """
    if config.inv_adapter is None:
        return
    if config.inv_adapter_reduction_factor is None:
        raise CompositionError(
            f"An invertible adapter {config.inv_adapter!r} needs an `inv_adapter_reduction_factor`.",
            hint="give one, such as 2",
        )
    size = embedding_size(backbone)
    if inner_width(config, size // 2) < 1:
        raise CompositionError(
            f"The `inv_adapter_reduction_factor` {config.inv_adapter_reduction_factor} leaves nothing of half "
            f"the embeddings, which have {size} features.",
            hint="give a smaller factor",
        )


def build(config: Bottleneck, backbone: Backbone, *, empty: bool) -> dict[str, nn.Module]:
    """The one module for the embeddings, if the config asks for it."""
    if config.inv_adapter is None:
        return {}
    like = backbone.reference_parameter
    device = torch.device("meta") if empty else like.device
    module = Coupling(config, embedding_size(backbone), device, like.dtype)
    if not empty:
        initialise(module)
    return {KEY: module}


def entries(
    config: Bottleneck, modules: Mapping[str, nn.Module], backbone: Backbone, name: str
) -> Iterator[Entry]:
    """Every tensor of the module."""
    if config.inv_adapter is not None:
        root = f"{backbone.architecture.invertible_key}.{name}"
        for own, _ in modules[KEY].named_parameters():
            yield Entry(modules[KEY], own, (f"{root}.{own}",))


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Small random weights, so that a fresh one is near the identity, without biases."""
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            nn.init.normal_(parameter, std=NORMAL_STD)


def embedding_size(backbone: Backbone) -> int:
    """The features of the embeddings, which some models widen afterwards."""
    size: Any = getattr(backbone.config, "embedding_size", None)
    return int(size or backbone.hidden_size)


def inner_width(config: Bottleneck, features: int) -> int:
    """The features inside a small network that reads so many."""
    return int(features // (config.inv_adapter_reduction_factor or 1))


def _factor(scale: Tensor) -> Tensor:
    return torch.exp(CLAMP * SLOPE * torch.atan(scale / CLAMP))
