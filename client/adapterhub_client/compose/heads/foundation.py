"""What a head has to know of the model under it."""

from typing import Literal, NamedTuple

import torch
from torch import nn

from adapterhub_client.compose.sites.backbone import Backbone

Reads = Literal["first", "last", "eos"]

# Where a model sums an input up, by model type: at the first token for all others.
SUMMARIES: dict[str, Reads] = {
    "bart": "eos",
    "mbart": "eos",
    "t5": "eos",
    "gemma2": "last",
    "gemma3_text": "last",
    "gpt2": "last",
    "llama": "last",
    "mistral": "last",
    "qwen2": "last",
    "qwen3": "last",
}


class Foundation(NamedTuple):
    """Facts about the model that are the same for all its heads."""

    features: int
    embedding_size: int
    vocabulary: int | None
    dropout: float
    epsilon: float
    deviation: float
    """the standard deviation of fresh weights"""
    reads: Reads
    """whether a sequence is summed up by its first token, its last, or its last end-of-sentence token"""
    pad: int | None
    end: int | None
    scale: float
    """what the hidden states are multiplied by before a head reads them token by token"""
    device: torch.device
    dtype: torch.dtype
    tied: nn.Module | None
    """the input embeddings, where output embeddings share their weights"""

    def empty(self, *shape: int) -> nn.Parameter:
        """A parameter without values, where the head's are to be."""
        return nn.Parameter(torch.empty(shape, device=self.device, dtype=self.dtype))


def foundation_of(backbone: Backbone) -> Foundation:
    """The facts about a backbone."""
    config = backbone.config
    like = backbone.reference_parameter
    ties = _ties(backbone)
    is_scaled = backbone.model_type == "t5" and ties
    return Foundation(
        features=backbone.hidden_size,
        embedding_size=getattr(config, "embedding_size", backbone.hidden_size),
        vocabulary=getattr(config, "vocab_size", None),
        dropout=_dropout(backbone),
        epsilon=getattr(config, "layer_norm_eps", 1e-12),
        deviation=getattr(config, "initializer_range", 0.02),
        reads=SUMMARIES.get(backbone.model_type, "first"),
        pad=_token(config, "pad_token_id"),
        end=_token(config, "eos_token_id"),
        scale=backbone.hidden_size**-0.5 if is_scaled else 1.0,
        device=like.device,
        dtype=like.dtype,
        tied=_input_embeddings(backbone.module) if ties else None,
    )


def _ties(backbone: Backbone) -> bool:
    """Whether the config ties output embeddings; transformers 5 says so under another name for T5."""
    config = backbone.config
    ties = getattr(config, "tie_word_embeddings", False)
    return bool(getattr(config, "scale_decoder_outputs", ties))


def _input_embeddings(model: nn.Module) -> nn.Module | None:
    found: nn.Module | None = model.get_input_embeddings()  # type: ignore[operator]
    # A vision model has patches for embeddings, which nothing can share.
    return found if isinstance(found, nn.Embedding) else None


def _dropout(backbone: Backbone) -> float:
    row = backbone.architecture
    own = backbone.setting(row.classifier_dropout)
    return own if own is not None else (backbone.setting(row.hidden_dropout) or 0.0)


def _token(config: object, name: str) -> int | None:
    """A token's number; some configs list several ends of which the first is the text's."""
    value = getattr(config, name, None)
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    return value if isinstance(value, int) else None
