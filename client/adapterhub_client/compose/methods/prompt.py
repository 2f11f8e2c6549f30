"""Prompt tuning: trained embeddings before those of the input."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer

from adapterhub_client.compose.files.entry import Entry
from adapterhub_client.compose.methods.invertible import embedding_size
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method import PromptTuning

KEY = "prompt"

# Models that count positions, or make masks, before the place where a prompt would enter.
REFUSED = frozenset(
    {
        "bart",
        "gemma2",
        "gemma3_text",
        "gpt2",
        "llama",
        "mbart",
        "mistral",
        "modernbert",
        "qwen2",
        "qwen3",
        "t5",
    }
)
# Models in which a prompt can be an input, as in PEFT: they compute alike with embeddings in the place of tokens.
TAKES_EMBEDDINGS = frozenset(
    {
        "albert",
        "bert",
        "deberta-v2",
        "distilbert",
        "electra",
        "gemma2",
        "gpt2",
        "llama",
        "mistral",
        "modernbert",
        "qwen2",
        "qwen3",
        "roberta",
        "xlm-roberta",
    }
)


class Prompt(nn.Module):
    """The embeddings of one prompt.

    Shapes:
        embeddings: (length, features)

    Source: Lester et al. 2021.
    """

    def __init__(self, config: PromptTuning, features: int, like: Tensor) -> None:
        super().__init__()
        self.config = config
        self.embeddings = nn.Parameter(like.new_empty(config.prompt_length, features))

    @property
    def place(self) -> slice:
        """The positions it takes."""
        start = 0 if self.config.combine == "prefix" else 1
        return slice(start, start + self.config.prompt_length)


def check(config: PromptTuning, backbone: Backbone) -> None:
    """Refuse models that have no place for a prompt, and texts that are not there.

    Raises:
        CompositionError: Names the model or the option.
    """
    if config.is_input:
        _require_input(backbone)
    elif backbone.model_type in REFUSED:
        raise CompositionError(
            f"Models of the type {backbone.model_type!r} have no place for a prompt.",
            hint="prefix tuning does much the same in every layer, wherever that is supported",
        )
    if config.prompt_init == "from_string" and not config.prompt_init_text:
        raise CompositionError(
            "A prompt with `prompt_init='from_string'` needs a `prompt_init_text`."
        )


def build(config: PromptTuning, backbone: Backbone, *, empty: bool) -> dict[str, nn.Module]:
    """The prompt, with random embeddings or those of a text; or empty, on the meta device."""
    like = backbone.reference_parameter
    kept = torch.empty(0, device="meta" if empty else like.device, dtype=like.dtype)
    module = Prompt(config, embedding_size(backbone), kept)
    if not empty:
        _initialise(module, config, backbone)
    return {KEY: module}


def entries(
    _config: PromptTuning, modules: Mapping[str, nn.Module], backbone: Backbone, name: str
) -> Iterator[Entry]:
    """The prompt's one tensor."""
    key = f"{backbone.architecture.prompt_key}.{name}.prompt_embedding.weight"
    yield Entry(modules[KEY], "embeddings", (key,))


def _require_input(backbone: Backbone) -> None:
    """Refuse models that a prompt cannot be given to beside the tokens.

    Raises:
        CompositionError: Names the model, and why.
    """
    why = None
    if backbone.model_type not in TAKES_EMBEDDINGS:
        why = "they are not known to compute alike with embeddings instead of tokens"
    elif backbone.has_static_head and _reads_by_tokens(backbone):
        why = "their own head reads by the tokens, among which no prompt is"
    if why is not None:
        raise CompositionError(
            f"A prompt cannot be an input of {backbone.model_class!r} models: {why}.",
            hint="load the base model as `AutoModel` and add a head, or take another method",
        )


def _reads_by_tokens(backbone: Backbone) -> bool:
    """Whether the model's own head finds what it reads by tokens or mask: the last one, or the mean of all."""
    is_other = backbone.model_type in REFUSED
    return is_other and backbone.model_class.endswith("ForSequenceClassification")


@torch.no_grad()
def _initialise(module: Prompt, config: PromptTuning, backbone: Backbone) -> None:
    if config.prompt_init == "from_string":
        module.embeddings.copy_(_of_text(config, backbone))
        return
    with torch.random.fork_rng(enabled=bool(config.init_weights_seed)):
        if config.init_weights_seed:
            torch.manual_seed(config.init_weights_seed)
        scale = config.random_uniform_scale
        nn.init.uniform_(module.embeddings, -scale, scale)


def _of_text(config: PromptTuning, backbone: Backbone) -> Tensor:
    """The model's own embeddings of a text, which is repeated to the prompt's length.

    Raises:
        CompositionError: The model's tokenizer cannot be found.
    """
    path: Any = getattr(backbone.config, "tokenizer_name_or_path", None) or backbone.name
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, KeyError) as error:
        raise CompositionError(
            f"The prompt's text cannot be read: there is no tokenizer at {path!r}.",
            hint="take `prompt_init='random_uniform'`, or load the model from where its tokenizer is",
        ) from error
    tokens = tokenizer(config.prompt_init_text)["input_ids"]
    repeated = [tokens[at % len(tokens)] for at in range(config.prompt_length)]
    embeddings: Any = backbone.module.get_input_embeddings()  # type: ignore[operator]
    found: Tensor = embeddings(torch.tensor(repeated, device=backbone.reference_parameter.device))
    return found
