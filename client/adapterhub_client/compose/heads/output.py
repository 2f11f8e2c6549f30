"""The output of a head: its own fields, and what the backbone put out beside."""

from dataclasses import fields
from typing import Any

from transformers.modeling_outputs import Seq2SeqModelOutput
from transformers.utils.generic import ModelOutput


def output_of(
    kind: type[ModelOutput],
    outputs: Any,  # noqa: ANN401
    *,
    sequence_to_sequence: type[ModelOutput] | None = None,
    **own: Any,  # noqa: ANN401
) -> ModelOutput:
    """An output of a kind, or of its variant for encoder-decoders, with hidden states, attentions and caches."""
    if sequence_to_sequence is not None and isinstance(outputs, Seq2SeqModelOutput):
        kind = sequence_to_sequence
    names = {field.name for field in fields(kind)} - set(own)  # type: ignore[arg-type]
    beside = {name: getattr(outputs, name, None) for name in names}
    return kind(**own, **beside)
