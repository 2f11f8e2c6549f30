"""Heads that read every token: tagging and extractive question answering."""

from typing import Any

from torch import Tensor
from torch.nn import functional
from transformers.modeling_outputs import (
    QuestionAnsweringModelOutput,
    Seq2SeqQuestionAnsweringModelOutput,
    TokenClassifierOutput,
)
from transformers.utils.generic import ModelOutput

from adapterhub_client.compose.heads.context import PredictionContext
from adapterhub_client.compose.heads.head import Head
from adapterhub_client.compose.heads.output import output_of
from adapterhub_client.compose.heads.reading import tokens

IGNORED = -100


def tag(head: Head, outputs: Any, context: PredictionContext) -> ModelOutput:  # noqa: ANN401
    """Logits per token, and with `labels` the cross entropy; -100 and padding are passed over."""
    logits: Tensor = head.layers(tokens(outputs, context, head.foundation))
    labels = context.argument("labels")
    loss = None
    if labels is not None:
        mask = context.attention_mask
        if mask is not None and mask.shape == labels.shape:
            labels = labels.masked_fill(mask == 0, IGNORED)
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    return output_of(TokenClassifierOutput, outputs, loss=loss, logits=logits)


def answer_questions(head: Head, outputs: Any, context: PredictionContext) -> ModelOutput:  # noqa: ANN401
    """Logits of start and end per token, and with the two positions the mean of their cross entropies.

    A position outside the input has no part in the loss.
    """
    logits: Tensor = head.layers(tokens(outputs, context, head.foundation))
    start_logits, end_logits = (part.contiguous() for part in logits.unbind(-1))
    start, end = context.argument("start_positions"), context.argument("end_positions")
    loss = None
    if start is not None and end is not None:
        loss = (_found(start_logits, start) + _found(end_logits, end)) / 2
    return output_of(
        QuestionAnsweringModelOutput,
        outputs,
        sequence_to_sequence=Seq2SeqQuestionAnsweringModelOutput,
        loss=loss,
        start_logits=start_logits,
        end_logits=end_logits,
    )


def _found(logits: Tensor, positions: Tensor) -> Tensor:
    length = logits.shape[1]
    clamped = positions.view(-1).clamp(0, length)
    return functional.cross_entropy(logits, clamped, ignore_index=length)
