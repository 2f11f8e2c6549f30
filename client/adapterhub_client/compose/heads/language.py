"""Heads that predict tokens: masked, causal, and of a decoder."""

from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_outputs import (
    CausalLMOutputWithPast,
    MaskedLMOutput,
    Seq2SeqLMOutput,
)
from transformers.utils.generic import ModelOutput

from adapterhub_client.compose import caches
from adapterhub_client.compose.heads.context import PredictionContext
from adapterhub_client.compose.heads.head import Head
from adapterhub_client.compose.heads.output import output_of
from adapterhub_client.compose.heads.reading import tokens


def fill_in(head: Head, outputs: Any, context: PredictionContext) -> ModelOutput:  # noqa: ANN401
    """Logits over the vocabulary, and with `labels` the cross entropy; -100 is passed over."""
    logits = _logits(head, outputs, context)
    return output_of(MaskedLMOutput, outputs, loss=_loss(head, logits, context), logits=logits)


def continue_text(head: Head, outputs: Any, context: PredictionContext) -> ModelOutput:  # noqa: ANN401
    """Logits for the next token, and with `labels`, which are the input itself, the cross entropy."""
    logits = _logits(head, outputs, context)
    return output_of(
        CausalLMOutputWithPast,
        outputs,
        loss=_loss(head, logits, context),
        logits=logits,
        **{caches.NAME: getattr(outputs, caches.NAME, None)},
    )


def decode(head: Head, outputs: Any, context: PredictionContext) -> ModelOutput:  # noqa: ANN401
    """Logits for the decoder's next token, and with `labels` the cross entropy."""
    logits = _logits(head, outputs, context)
    return output_of(
        Seq2SeqLMOutput,
        outputs,
        sequence_to_sequence=Seq2SeqLMOutput,
        loss=_loss(head, logits, context),
        logits=logits,
    )


def _logits(head: Head, outputs: Any, context: PredictionContext) -> Tensor:  # noqa: ANN401
    """An invertible adapter changed the embeddings on the way in, so it is undone before they are compared again.

    Source: Pfeiffer et al. 2020 (MAD-X), section 3.3.
    """
    *inner, output_embedding = cast("nn.Sequential", head.layers)
    hidden = tokens(outputs, context, head.foundation)
    for layer in inner:
        hidden = layer(hidden)
    if context.inverse is not None:
        hidden = context.inverse(hidden)
    logits: Tensor = output_embedding(hidden)
    return logits


def _loss(head: Head, logits: Tensor, context: PredictionContext) -> Tensor | None:
    labels = context.argument("labels")
    if labels is None:
        return None
    if head.config.shift_labels:
        logits, labels = logits[:, :-1], labels[:, 1:]
    # In half precision the sum over a vocabulary loses too much.
    return functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
