"""Heads that read one vector per input: classification of texts and images, multiple choice."""

from typing import Any

from torch import Tensor
from torch.nn import functional
from transformers.modeling_outputs import (
    ImageClassifierOutput,
    MultipleChoiceModelOutput,
    Seq2SeqSequenceClassifierOutput,
    SequenceClassifierOutput,
)
from transformers.utils.generic import ModelOutput

from adapterhub_client.compose.heads.context import PredictionContext
from adapterhub_client.compose.heads.head import Head
from adapterhub_client.compose.heads.output import output_of
from adapterhub_client.compose.heads.reading import summary
from adapterhub_client.errors import CompositionError


def classify(head: Head, outputs: Any, context: PredictionContext) -> ModelOutput:  # noqa: ANN401
    """Logits, and with `labels` the cross entropy, or the squared error for one output."""
    logits = _logits(head, outputs, context)
    labels = context.argument("labels")
    loss = None
    if labels is not None:
        loss = _squared(logits, labels) if logits.shape[-1] == 1 else _crossed(logits, labels)
    return _answer(outputs, logits, loss)


def classify_multilabel(head: Head, outputs: Any, context: PredictionContext) -> ModelOutput:  # noqa: ANN401
    """Logits, and with `labels`, one per output and zero or one, the binary cross entropy."""
    logits = _logits(head, outputs, context)
    labels = context.argument("labels")
    return _answer(outputs, logits, None if labels is None else _binary(logits, labels))


def classify_image(head: Head, outputs: Any, context: PredictionContext) -> ModelOutput:  # noqa: ANN401
    """Logits of an image, with the loss that its config asks for."""
    logits = _logits(head, outputs, context)
    labels = context.argument("labels")
    loss = None
    if labels is not None:
        if logits.shape[-1] == 1:
            loss = _squared(logits, labels)
        else:
            loss = (_binary if head.config.multilabel else _crossed)(logits, labels)
    return output_of(ImageClassifierOutput, outputs, loss=loss, logits=logits)


def choose(head: Head, outputs: Any, context: PredictionContext) -> ModelOutput:  # noqa: ANN401
    """A logit per choice, and with `labels`, the right one's index, the cross entropy.

    Raises:
        CompositionError: The rows are no multiple of the choices.
    """
    choices = context.choices or head.config.num_choices
    scores = _logits(head, outputs, context)
    if scores.shape[0] % choices:
        raise CompositionError(
            f"The head chooses among {choices}, but got {scores.shape[0]} inputs, which is no multiple of that.",
            hint="give inputs of the shape (batch, choices, length)",
        )
    logits = scores.view(-1, choices)
    labels = context.argument("labels")
    loss = None if labels is None else _crossed(logits, labels)
    return output_of(MultipleChoiceModelOutput, outputs, loss=loss, logits=logits)


def _logits(head: Head, outputs: Any, context: PredictionContext) -> Tensor:  # noqa: ANN401
    read = summary(outputs, context, head.foundation, pooled=head.config.use_pooler)
    logits: Tensor = head.layers(read)
    return logits


def _answer(outputs: Any, logits: Tensor, loss: Tensor | None) -> ModelOutput:  # noqa: ANN401
    return output_of(
        SequenceClassifierOutput,
        outputs,
        sequence_to_sequence=Seq2SeqSequenceClassifierOutput,
        loss=loss,
        logits=logits,
    )


def _squared(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.mse_loss(logits.view(-1), labels.view(-1).to(logits.dtype))


def _crossed(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits, labels.view(-1))


def _binary(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
