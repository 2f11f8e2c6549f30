"""What heads do to a call before the backbone sees it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adapterhub_client.compose.heads.context import NO_PROMPT, Inverse, PredictionContext
from adapterhub_client.compose.heads.head import Head
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.errors import CompositionError

# The number of dimensions of an input with choices: one more than without.
WITH_CHOICES = {
    "input_ids": 3,
    "attention_mask": 3,
    "token_type_ids": 3,
    "position_ids": 3,
    "inputs_embeds": 4,
}
IGNORED = -100


def prepare(
    heads: Sequence[Head],
    backbone: Backbone,
    inputs: dict[str, Any],
    *,
    prompt: slice = NO_PROMPT,
    inverse: Inverse | None = None,
) -> tuple[dict[str, Any], PredictionContext]:
    """The backbone's inputs, and the context in which the heads read its outputs.

    What heads take, such as labels, is taken out; choices become rows; an encoder-decoder that gets no input for its
    decoder gets the labels of a head that predicts tokens, or the input, shifted.

    Raises:
        CompositionError: Some heads choose among inputs, and others do not.
    """
    taken = {name for head in heads for name in head.arguments}
    arguments = {n: v for n, v in inputs.items() if n in taken and v is not None}
    left = {n: v for n, v in inputs.items() if n not in taken}
    left, choices = _flattened(heads, left)
    left = _with_decoder_inputs(heads, backbone, left, arguments)
    main = next((v for v in left.values() if isinstance(v, Tensor) and v.dim() > 1), None)
    context = PredictionContext(
        arguments=arguments,
        input_ids=left.get("input_ids"),
        attention_mask=left.get("attention_mask"),
        batch=None if main is None else main.shape[0],
        choices=choices,
        prompt=prompt,
        inverse=inverse,
    )
    return left | {"return_dict": True}, context


def _flattened(heads: Sequence[Head], inputs: dict[str, Any]) -> tuple[dict[str, Any], int | None]:
    """Inputs whose choices are rows, and how many choices there were."""
    choosing = [head.kind == "multiple_choice" for head in heads]
    if not any(choosing):
        return inputs, None
    if not all(choosing):
        others = sorted({head.kind for head in heads} - {"multiple_choice"})
        raise CompositionError(
            "A head for multiple choice makes rows of its choices, so it cannot share a call with "
            f"heads of the kind {', '.join(others)}."
        )
    with_choices = {
        name: value
        for name, value in inputs.items()
        if isinstance(value, Tensor) and value.dim() == WITH_CHOICES.get(name)
    }
    choices = next((value.shape[1] for value in with_choices.values()), None)
    return inputs | {n: v.flatten(0, 1) for n, v in with_choices.items()}, choices


def _with_decoder_inputs(
    heads: Sequence[Head],
    backbone: Backbone,
    inputs: dict[str, Any],
    arguments: dict[str, Any],
) -> dict[str, Any]:
    config = backbone.config
    given = {"decoder_input_ids", "decoder_inputs_embeds"}
    if not getattr(config, "is_encoder_decoder", False) or given & {
        name for name, value in inputs.items() if value is not None
    }:
        return inputs
    source = arguments.get("labels") if heads[0].kind == "seq2seq_lm" else None
    # Other encoder-decoders than T5 shift the input by themselves.
    if source is None and backbone.model_type == "t5":
        source = inputs.get("input_ids")
    if not isinstance(source, Tensor):
        return inputs
    shifted = _shifted(source, config.pad_token_id or 0, config.decoder_start_token_id)
    if backbone.model_type == "mbart":
        shifted = _wrapped(source, config.pad_token_id)
    return inputs | {"decoder_input_ids": shifted}


def _shifted(tokens: Tensor, pad: int, start: int | None) -> Tensor:
    """The tokens one place to the right, behind the decoder's start token."""
    tokens = tokens.masked_fill(tokens == IGNORED, pad)
    first = torch.full_like(tokens[:, :1], pad if start is None else start)
    return torch.cat([first, tokens[:, :-1]], dim=1)


def _wrapped(tokens: Tensor, pad: int) -> Tensor:
    """The tokens one place to the right, behind the last of them, which is the language's."""
    tokens = tokens.masked_fill(tokens == IGNORED, pad)
    last = (tokens != pad).sum(dim=1, keepdim=True) - 1
    return torch.cat([tokens.gather(1, last), tokens[:, :-1]], dim=1)
