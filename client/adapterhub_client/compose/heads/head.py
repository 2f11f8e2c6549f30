"""A prediction head: its config, its layers, and the rules of its kind."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor, nn
from transformers.utils.generic import ModelOutput

from adapterhub_client.compose.heads import layers
from adapterhub_client.compose.heads.context import PredictionContext
from adapterhub_client.compose.heads.foundation import Foundation
from adapterhub_client.compose.heads.layers import OutputEmbedding


class Kind(NamedTuple):
    """The rules of one kind of head."""

    config: type[Any]
    build: Callable[[Any, Foundation], nn.Module]
    predict: Callable[["Head", Any, PredictionContext], ModelOutput]
    label_count: str | None = "num_labels"
    """the config's name for how many labels there are; None for kinds without labels"""
    arguments: tuple[str, ...] = ("labels",)
    """what a head of this kind takes from a call, so that the backbone does not see it"""
    fresh: Mapping[str, Any] = {}
    """where a new head differs from the defaults of a config in a file"""


class Head(nn.Module):
    """A head of any kind; its tensors `layers.<name>` are `heads.<head>.<name>` in a file."""

    def __init__(self, kind: Kind, config: Any, foundation: Foundation) -> None:  # noqa: ANN401
        super().__init__()
        self.rules, self.config, self.foundation = kind, config, foundation
        self.kind: str = config.head_type
        self.labels = _labels(kind, config)
        self.layers = kind.build(config, foundation)

    @property
    def arguments(self) -> tuple[str, ...]:
        """What it takes from a call, such as `labels`."""
        return self.rules.arguments

    @property
    def reads_first_token(self) -> bool:
        """Whether the first token's hidden state, or what was pooled of it, is all that it reads."""
        return hasattr(self.config, "use_pooler") and self.foundation.reads == "first"

    def to_dict(self) -> dict[str, Any]:
        """The `config` object of a `head_config.json`."""
        return dict(msgspec.to_builtins(self.config))

    def predict(self, outputs: Any, context: PredictionContext) -> ModelOutput:  # noqa: ANN401
        """The head's own output for the backbone's, with a loss where there is something to compare it with.

        Raises:
            CompositionError: The model or the call lacks what the head reads.
        """
        return self.rules.predict(self, outputs, context)

    def initialise(self) -> None:
        """Give fresh weights to what is the head's own."""
        layers.initialise(self.layers, self.foundation.deviation)

    def tied(self) -> dict[str, Tensor]:
        """The tensors that are the model's, by the names they have in a file beside the head's own."""
        return {
            f"{name}.weight": part.tied
            for name, part in self._output_embeddings().items()
            if part.tied is not None
        }

    def without_tied(self, tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
        """The tensors of a file that are to become the head's own.

        Those that equal the model's stay shared, also where the file leaves them out; where they differ, the file was
        made on other embeddings, and the head gets weights of its own.
        """
        left = dict(tensors)
        for name, part in self._output_embeddings().items():
            key = f"{prefix}{name}.weight"
            if part.tied is None or key not in left:
                continue
            if _equal(left[key], part.tied):
                del left[key]
            else:
                part.untie()
        return left

    def _output_embeddings(self) -> dict[str, OutputEmbedding]:
        return {
            name: part
            for name, part in self.layers.named_children()
            if isinstance(part, OutputEmbedding)
        }


def _labels(kind: Kind, config: Any) -> list[str]:  # noqa: ANN401
    if kind.label_count is None:
        return []
    if config.label2id is None:
        return [f"LABEL_{index}" for index in range(getattr(config, kind.label_count))]
    return sorted(config.label2id, key=config.label2id.__getitem__)


def _equal(theirs: Tensor, ours: Tensor) -> bool:
    return theirs.shape == ours.shape and torch.equal(theirs.to(ours.device, ours.dtype), ours)
