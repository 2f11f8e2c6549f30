"""What heads are built of; positions in a sequence are the names in a file."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from adapterhub_client.compose.heads.config import (
    CausalLM,
    DependencyParsing,
    MaskedLM,
    SequenceToSequenceLM,
)
from adapterhub_client.compose.heads.foundation import Foundation
from adapterhub_client.compose.methods.activation import activation


class NonLinearity(nn.Module):
    """A non-linearity by its name, as a layer."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = activation(name)

    def forward(self, hidden: Tensor) -> Tensor:
        """The function, element by element."""
        return self.function(hidden)


class OutputEmbedding(nn.Module):
    """Scores for every token: the product with the input embeddings, or with weights of its own.

    Shapes:
        hidden: (batch, length, features)
        result: (batch, length, vocabulary)
    """

    def __init__(
        self, features: int, vocabulary: int, *, bias: bool, foundation: Foundation
    ) -> None:
        super().__init__()
        self._foundation, self._shape = foundation, (vocabulary, features)
        # In a list, so that the embeddings stay a part of the model alone: saved, moved and trained there.
        tied = foundation.tied
        self._tied = [tied] if tied is not None and _shape(tied) == self._shape else []
        self.weight: nn.Parameter | None = None
        self.bias = foundation.empty(vocabulary) if bias else None
        if not self._tied:
            self.untie()

    @property
    def tied(self) -> Tensor | None:
        """The weights that are the model's."""
        return self._tied[0].get_parameter("weight") if self._tied else None

    def untie(self) -> None:
        """Have weights of its own, which are empty."""
        self._tied = []
        self.weight = self._foundation.empty(*self._shape)

    def forward(self, hidden: Tensor) -> Tensor:
        """The scores."""
        owner: Any = self._tied[0] if self._tied else self
        return functional.linear(hidden, owner.weight, self.bias)


class Biaffine(nn.Module):
    """A score for every pair of a dependent and a head: d' W h, where d has a one appended, and h may.

    Shapes:
        dependents: (batch, words, features)
        heads: (batch, words + 1, features)
        result: (batch, labels, words, words + 1)

    Source: Dozat and Manning 2017, section 2.2.
    """

    def __init__(self, labels: int, foundation: Foundation, *, bias: bool) -> None:
        super().__init__()
        features = foundation.features
        self.bias = bias
        self.weight = foundation.empty(labels, features + 1, features + bias)

    def forward(self, dependents: Tensor, heads: Tensor) -> Tensor:
        """The scores."""
        dependents = functional.pad(dependents, (0, 1), value=1.0)
        if self.bias:
            heads = functional.pad(heads, (0, 1), value=1.0)
        return torch.einsum("bxi,oij,byj->boxy", dependents, self.weight, heads)


def classifier(config: Any, foundation: Foundation) -> nn.Sequential:  # noqa: ANN401
    """Dropout and a linear layer, so many times, with non-linearities between."""
    built: list[nn.Module] = []
    dropout = foundation.dropout if config.dropout_prob is None else config.dropout_prob
    for layer in range(config.layers):
        is_last = layer == config.layers - 1
        # Multiple choice scores each choice by itself.
        width = getattr(config, "num_labels", 1) if is_last else foundation.features
        bias = getattr(config, "bias", True) if is_last else True
        built += [nn.Dropout(dropout), _linear(foundation, foundation.features, width, bias=bias)]
        if not is_last and config.activation_function:
            built.append(NonLinearity(config.activation_function))
    return nn.Sequential(*built)


def language_model(
    config: MaskedLM | CausalLM | SequenceToSequenceLM, foundation: Foundation
) -> nn.Sequential:
    """Linear layers, with non-linearity and norm after each, and the output embedding."""
    width = getattr(config, "embedding_size", None) or foundation.features
    built: list[nn.Module] = []
    features = foundation.features
    for _ in range(config.layers - 1):
        built.append(_linear(foundation, features, width))
        if config.activation_function:
            built.append(NonLinearity(config.activation_function))
        if config.layer_norm:
            norm = nn.LayerNorm(width, eps=foundation.epsilon, device=foundation.device)
            built.append(norm.to(foundation.dtype))
        features = width
    vocabulary = config.vocab_size or foundation.vocabulary or 0
    built.append(OutputEmbedding(width, vocabulary, bias=config.bias, foundation=foundation))
    return nn.Sequential(*built)


def parser(config: DependencyParsing, foundation: Foundation) -> nn.ModuleDict:
    """The two products of a parser: arcs without labels, and labels."""
    return nn.ModuleDict(
        {
            "biaffine_arcs": Biaffine(1, foundation, bias=False),
            "biaffine_rels": Biaffine(config.num_labels, foundation, bias=True),
            "dropout": nn.Dropout(foundation.dropout),
        }
    )


@torch.no_grad()
def initialise(module: nn.Module, deviation: float) -> None:
    """Small random weights, as the base model's own heads start; norms start as the identity."""
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            part.reset_parameters()
            continue
        for name, parameter in part.named_parameters(recurse=False):
            if name == "bias":
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=deviation)


def _linear(foundation: Foundation, features: int, width: int, *, bias: bool = True) -> nn.Linear:
    place, dtype = foundation.device, foundation.dtype
    return nn.Linear(features, width, bias=bias, device=place, dtype=dtype)


def _shape(embeddings: nn.Module) -> tuple[int, ...]:
    return tuple(embeddings.get_parameter("weight").shape)
