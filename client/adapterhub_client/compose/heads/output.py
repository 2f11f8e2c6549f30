"""The output of a head: its own fields, and what the backbone put out beside."""

from typing import Any

from transformers.modeling_outputs import Seq2SeqModelOutput
from transformers.utils.generic import ModelOutput

from adapterhub_client.compose import caches

# Written out, since compilers do not follow `dataclasses.fields`.
BESIDE: tuple[str, ...] = ("hidden_states", "attentions")
BESIDE_DECODER = (
    caches.NAME,
    "decoder_hidden_states",
    "decoder_attentions",
    "cross_attentions",
    "encoder_last_hidden_state",
    "encoder_hidden_states",
    "encoder_attentions",
)


def output_of(
    kind: type[ModelOutput],
    outputs: Any,  # noqa: ANN401
    *,
    sequence_to_sequence: type[ModelOutput] | None = None,
    **own: Any,  # noqa: ANN401
) -> ModelOutput:
    """An output of a kind, or of its variant for encoder-decoders, with hidden states, attentions and caches."""
    names = BESIDE
    if sequence_to_sequence is not None and isinstance(outputs, Seq2SeqModelOutput):
        kind, names = sequence_to_sequence, BESIDE_DECODER
    return kind(**own, **{name: getattr(outputs, name, None) for name in names})
