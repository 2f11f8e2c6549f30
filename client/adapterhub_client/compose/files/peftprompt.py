"""Prefixes and prompts as PEFT writes them: one tensor, whatever network made it while it was trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor

from adapterhub_client.compose.errors import IncompatibleAdapter, WrongShape
from adapterhub_client.compose.files.peftplaces import Found, Options, Tensors, Written, refusal
from adapterhub_client.compose.methods import prefix, prompt
from adapterhub_client.compose.methods.invertible import embedding_size
from adapterhub_client.compose.shelf import LoadedAdapter
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.compose.sites.spots import Attention
from adapterhub_client.errors import CompositionError
from adapterhub_client.formats.method import PrefixTuning, PromptTuning

if TYPE_CHECKING:
    from adapterhub_client.compose.methods.prefix import Flat, Prefix, Reparametrised
    from adapterhub_client.compose.methods.prompt import Prompt

KEY = "prompt_embeddings"
KINDS = (PrefixTuning, PromptTuning)
# What does not change what a trained one computes: how it began, and the network that is not there any more.
_HARMLESS = {
    "auto_mapping", "base_model_name_or_path", "encoder_dropout", "encoder_hidden_size", "encoder_num_layers",
    "encoder_reparameterization_type", "inference_mode", "init_weights", "modules_to_save", "num_attention_heads",
    "num_layers", "num_transformer_submodules", "num_virtual_tokens", "peft_type", "peft_version",
    "prefix_projection", "prompt_tuning_init", "prompt_tuning_init_text", "revision", "runtime_config",
    "task_type", "token_dim", "tokenizer_kwargs", "tokenizer_name_or_path",
}  # fmt: skip
# PEFT acts only where it knows the task, and asks for the head of these where it was trained.
_TASKS = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
}
_GENERATING = ("ForCausalLM", "LMHeadModel")
_ANY_TASK = "FEATURE_EXTRACTION"


class _Sizes(NamedTuple):
    """How PEFT divides the keys and values of one position."""

    layers: int
    heads: int
    features: int

    @property
    def width(self) -> int:
        return 2 * self.layers * self.heads * self.features


def read_prefix(config: Options, tensors: Tensors, backbone: Backbone, folder: Path) -> Found:
    """A prefix, from which positions count on.

    Raises:
        CompositionError: It has an option that our method has not, or the model takes no such prefix.
        IncompatibleAdapter: The tensor is missing, or of another model.
    """
    states, rest = _one_tensor(config, tensors, folder)
    prefix.check(PrefixTuning(flat=True, counts_positions=True), backbone)
    sizes = _sizes(backbone)
    _require_shape(folder, states, sizes.width)
    said = {"num_layers": sizes.layers, "num_attention_heads": sizes.heads}
    for option, expected in said.items():
        if config.get(option) not in (None, expected):
            raise CompositionError(
                f"'{folder}' has {option}={config[option]!r}, but prefixes on {backbone.name!r} have {expected}.",
                hint="load the base model that it was trained on",
            )
    chosen = PrefixTuning(flat=True, prefix_length=len(states), counts_positions=True)
    location = next(backbone.places(Attention)).spot.name
    own = {f"parts.{location}.control_trans": states.flatten()}
    return Found(chosen, {prefix.KEY: own}, rest)


def read_prompt(config: Options, tensors: Tensors, backbone: Backbone, folder: Path) -> Found:
    """A prompt that gets positions and norms as tokens do.

    Raises:
        CompositionError: It has an option that our method has not.
        IncompatibleAdapter: The tensor is missing, or of another model.
    """
    embeddings, rest = _one_tensor(config, tensors, folder)
    _require_shape(folder, embeddings, embedding_size(backbone))
    chosen = PromptTuning(prompt_length=len(embeddings), is_input=True)
    return Found(chosen, {prompt.KEY: {"embeddings": embeddings}}, rest)


def write(name: str, adapter: LoadedAdapter, backbone: Backbone) -> Written:
    """A prefix or a prompt in PEFT's words.

    Raises:
        CompositionError: PEFT has nothing like it; names the option.
    """
    if isinstance(adapter.config, PrefixTuning):
        kind, values, sizes = "PREFIX_TUNING", _states(name, adapter, backbone), _sizes(backbone)
        own: dict[str, Any] = {
            "num_layers": sizes.layers,
            "num_attention_heads": sizes.heads,
            "token_dim": sizes.heads * sizes.features,
            "encoder_hidden_size": sizes.heads * sizes.features,
            # What a network makes is written; PEFT could not load the network itself either.
            "prefix_projection": False,
        }
    else:
        kind, values = "PROMPT_TUNING", _embeddings(name, adapter)
        own = {
            "num_layers": len(backbone.layers),
            "num_attention_heads": backbone.config.num_attention_heads,
            "token_dim": values.shape[1],
            "prompt_tuning_init": "RANDOM",
        }
    options = {
        "peft_type": kind,
        "task_type": _task(backbone.model_class, has_head=adapter.trained_with_base_head),
        "num_virtual_tokens": len(values),
        "num_transformer_submodules": 1,
        **own,
    }
    return Written(options, {KEY: values.contiguous()})


def _one_tensor(
    config: Options, tensors: Tensors, folder: Path
) -> tuple[Tensor, dict[str, Tensor]]:
    """The prefix or prompt, and what else is in the file."""
    for option, value in config.items():
        if value and option not in _HARMLESS:
            raise refusal(folder, option, value)
    submodules = config.get("num_transformer_submodules")
    if submodules not in (None, 1):
        raise CompositionError(
            f"'{folder}' is for an encoder and its decoder (num_transformer_submodules={submodules!r}); "
            "prefixes and prompts of PEFT can be read for models of one stack.",
        )
    if KEY not in tensors:
        raise IncompatibleAdapter(folder, missing=[KEY], unexpected=sorted(tensors))
    return tensors[KEY], {key: value for key, value in tensors.items() if key != KEY}


def _require_shape(folder: Path, found: Tensor, width: int) -> None:
    if found.dim() != 2 or found.shape[1] != width or not len(found):  # noqa: PLR2004 - a matrix
        raise WrongShape(folder, KEY, found.shape, (max(1, len(found)), width))


def _sizes(backbone: Backbone) -> _Sizes:
    layers = sum(1 for _ in backbone.places(Attention))
    return _Sizes(layers, *prefix.heads_of(backbone))


def _states(name: str, adapter: LoadedAdapter, backbone: Backbone) -> Tensor:
    """What stands before keys and values: (tokens, numbers of all layers), as in PEFT's file."""
    config: PrefixTuning = adapter.config
    _require_expressible(
        name,
        {
            "counts_positions=False": not config.counts_positions,
            "use_gating=True": config.use_gating,
            f"dropout={config.dropout}": config.dropout > 0,
            f"leave_out={config.leave_out}": bool(config.leave_out),
        },
    )
    parts = cast("Prefix", adapter.places[prefix.KEY]).parts
    if len(parts) != 1:
        raise CompositionError(
            f"The adapter {name!r} has prefixes at {' and '.join(parts)}; PEFT has one for all."
        )
    part = cast("Flat | Reparametrised", next(iter(parts.values())))
    with torch.no_grad():
        return part.states().permute(2, 0, 1, 3).reshape(-1, _sizes(backbone).width)


def _embeddings(name: str, adapter: LoadedAdapter) -> Tensor:
    config: PromptTuning = adapter.config
    _require_expressible(
        name,
        {
            "is_input=False": not config.is_input,
            f"combine={config.combine!r}": config.combine != "prefix",
        },
    )
    return cast("Prompt", adapter.places[prompt.KEY]).embeddings.detach()


def _require_expressible(name: str, asked: Mapping[str, bool]) -> None:
    for option, is_asked in asked.items():
        if is_asked:
            raise CompositionError(
                f"The adapter {name!r} has {option}, which PEFT cannot express.",
                hint="give counts_positions (prefix) or is_input (prompt) before it is trained, "
                "or save it without format='peft'",
            )


def _task(model_class: str, *, has_head: bool) -> str:
    ending = next((ending for ending in _TASKS if model_class.endswith(ending)), None)
    if has_head and ending is not None:
        return _TASKS[ending]
    return "CAUSAL_LM" if model_class.endswith(_GENERATING) else _ANY_TASK
