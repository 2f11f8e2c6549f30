"""What of a backbone's outputs a head reads: a summary of a sequence, or its tokens."""

from typing import Any

import torch
from torch import Tensor

from adapterhub_client.compose.heads.context import PredictionContext
from adapterhub_client.compose.heads.foundation import Foundation
from adapterhub_client.errors import CompositionError


def tokens(outputs: Any, context: PredictionContext, foundation: Foundation) -> Tensor:  # noqa: ANN401
    """The hidden states of the tokens of the input, without those of a prompt.

    Shapes:
        result: (batch, length, features)
    """
    hidden = _without_prompt(outputs.last_hidden_state, context.prompt)
    return hidden if foundation.scale == 1 else hidden * foundation.scale


def summary(
    outputs: Any,  # noqa: ANN401
    context: PredictionContext,
    foundation: Foundation,
    *,
    pooled: bool,
) -> Tensor:
    """One vector for an input: its first token or the pooled output, its last token, or its last end token.

    Shapes:
        result: (batch, features)

    Raises:
        CompositionError: There is no pooled output, or no end token.
    """
    hidden: Tensor = outputs.last_hidden_state
    if foundation.reads == "first":
        # With a soft prompt in front the first position is the prompt's, as the reference library has it.
        return _pooled(outputs) if pooled else hidden[:, 0]
    hidden = _without_prompt(hidden, context.prompt)
    if foundation.reads == "last":
        position = _last(hidden, context, foundation.pad)
    else:
        position = _end(hidden, context, foundation.end)
    rows = torch.arange(hidden.shape[0], device=hidden.device)
    return hidden[rows, position]


def _pooled(outputs: Any) -> Tensor:  # noqa: ANN401
    found: Tensor | None = getattr(outputs, "pooler_output", None)
    if found is None:
        raise CompositionError(
            "The head reads the pooled output, but this model has no pooler.",
            hint="make the head with use_pooler=False, or load the model with its pooler",
        )
    return found


def _last(hidden: Tensor, context: PredictionContext, pad: int | None) -> Tensor | int:
    """The position of the last token that is no padding."""
    if pad is not None and context.input_ids is not None:
        return _last_true(context.input_ids != pad)
    if context.attention_mask is not None and context.attention_mask.shape == hidden.shape[:2]:
        return _last_true(context.attention_mask != 0)
    return -1


def _end(hidden: Tensor, context: PredictionContext, end: int | None) -> Tensor:
    """The position of the last end-of-sentence token, which the decoder must have read too."""
    if context.input_ids is None or end is None:
        raise CompositionError(
            "The head reads the last end-of-sentence token, but the call has no input_ids to find it in."
        )
    if context.input_ids.shape[1] != hidden.shape[1]:
        raise CompositionError(
            "The head reads the decoder at the input's last end-of-sentence token, but the decoder's input has "
            f"length {hidden.shape[1]} and the input {context.input_ids.shape[1]}.",
            hint="leave out decoder_input_ids",
        )
    found = context.input_ids == end
    if not torch.compiler.is_compiling() and not bool(found.any(1).all()):
        raise CompositionError(
            f"The head reads the last end-of-sentence token, but an input has none of id {end}.",
            hint="tokenize with special tokens",
        )
    return _last_true(found)


def _last_true(mask: Tensor) -> Tensor:
    positions = torch.arange(mask.shape[1], device=mask.device)
    return (positions * mask).argmax(-1)


def _without_prompt(hidden: Tensor, prompt: slice) -> Tensor:
    if prompt.stop == prompt.start:
        return hidden
    return torch.cat([hidden[:, : prompt.start], hidden[:, prompt.stop :]], dim=1)
