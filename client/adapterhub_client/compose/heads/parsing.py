"""The head for dependency parsing: which word each word hangs on, and how."""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.utils.generic import ModelOutput

from adapterhub_client.compose.heads.context import PredictionContext
from adapterhub_client.compose.heads.head import Head
from adapterhub_client.compose.heads.output import output_of
from adapterhub_client.compose.heads.reading import tokens
from adapterhub_client.errors import CompositionError


@dataclass
class DependencyParsingOutput(ModelOutput):
    """Scores of arcs and of their labels.

    Shapes:
        arc_preds: (batch, words, words + 1), the first head being the root
        rel_preds: (batch, words, words + 1, labels)
    """

    loss: Tensor | None = None
    rel_preds: Tensor | None = None
    arc_preds: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


def parse(head: Head, outputs: Any, context: PredictionContext) -> ModelOutput:  # noqa: ANN401
    """Scores, and with `labels_arcs` and `labels_rels` the sum of both cross entropies.

    `word_starts` says at which token each word starts, and ends with where the last one stops; what follows does not
    increase. Negative labels are passed over.

    Raises:
        CompositionError: The call has no `word_starts`.

    Source: Glavaš and Vulić 2021, section 3.1.
    """
    starts = context.argument("word_starts")
    if starts is None:
        raise CompositionError("A head for dependency parsing needs `word_starts` in the call.")
    parts = cast("nn.ModuleDict", head.layers)
    hidden: Tensor = parts["dropout"](tokens(outputs, context, head.foundation))
    words = _words(hidden, starts)
    heads = torch.cat([hidden[:, :1], words], dim=1)
    arcs = parts["biaffine_arcs"](words, heads).squeeze(1)
    relations = parts["biaffine_rels"](words, heads).permute(0, 2, 3, 1)
    loss = _loss(arcs, relations, context)
    return output_of(
        DependencyParsingOutput, outputs, loss=loss, rel_preds=relations, arc_preds=arcs
    )


def _words(hidden: Tensor, starts: Tensor) -> Tensor:
    """The mean of each word's tokens; as many rows as tokens, zeros after the last word.

    Shapes:
        hidden, result: (batch, length, features)
        starts: (batch, words + 1 or more)
    """
    length = hidden.shape[1]
    first, end = starts[:, :-1, None], starts[:, 1:, None]
    # All that follows a pair that does not increase is padding.
    is_word = (end > first).cumprod(1)
    positions = torch.arange(length, device=hidden.device)
    members = (positions >= first) & (positions < end) & (is_word == 1)  # (batch, words, length)
    weights = members.to(hidden.dtype) / members.sum(-1, keepdim=True).clamp(min=1)
    words = weights @ hidden
    return functional.pad(words[:, :length], (0, 0, 0, max(length - words.shape[1], 0)))


def _loss(arcs: Tensor, relations: Tensor, context: PredictionContext) -> Tensor | None:
    heads, labels = context.argument("labels_arcs"), context.argument("labels_rels")
    if heads is None or labels is None:
        return None
    counted = heads >= 0
    words = min(counted.shape[1], arcs.shape[1])
    counted, heads, labels = counted[:, :words], heads[:, :words], labels[:, :words]
    arcs, relations = arcs[:, :words][counted], relations[:, :words][counted]
    heads, labels = heads[counted], labels[counted]
    chosen = relations[torch.arange(heads.shape[0], device=heads.device), heads]
    return functional.cross_entropy(arcs, heads) + functional.cross_entropy(chosen, labels)
