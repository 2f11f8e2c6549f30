"""What older versions of the reference library wrote differently, made current on reading."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from adapterhub_client.errors import Corrupt

_OLD_KEYS = (
    "attention_text_task_adapters",
    "attention_text_lang_adapters",
    "layer_text_task_adapters",
    "layer_text_lang_adapters",
)
# Every attention has the prefixes of all once more, the very tensors of the whole model's.
_COPIED = ".prefix_tuning.pool.prefix_tunings."
_KEPT = "prefix_tuning.prefix_tunings."
# Before version 3, `gelu` was its tanh approximation.
_OLD_ACTIVATIONS = {"gelu": "gelu_new", "gelu_orig": "gelu"}
# The new library's versions before 1.1.0; those before 1.0.0 have no prefix.
_IGNORED_ALPHA = re.compile(r"adapters\.(0|1\.0)(\.|$)|0\.")
# Layers that make query, key and value at once, which never ignored it.
_MERGED = (".c_attn.loras.", ".in_proj.loras.")


def current_key(key: str) -> str:
    """A tensor's name as it is written today."""
    if _COPIED in key:
        return _KEPT + key.partition(_COPIED)[2]
    if "_lang_" not in key and "_text_" not in key:
        return key
    for old in _OLD_KEYS:
        key = key.replace(f".{old}.", ".adapters.")
    return key.replace("invertible_lang_adapters", "invertible_adapters")


def is_copy(key: str) -> bool:
    """Whether a tensor is written again under this name, and read under another."""
    return _COPIED in key


def current_config(
    envelope: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path
) -> dict[str, Any]:
    """The `config` object of an `adapter_config.json` of any age, as it would be written today.

    A file without a version is older than version 3. The first version announced invertible adapters in task adapters
    that never had any. Before 1.1.0 the alpha of LoRA was ignored, but for merged projections; the reference library
    overlooks both those and the versions 0.*, which wrote their numbers without its name.

    Raises:
        Corrupt: What it says of them cannot be read.
    """
    config = dict(envelope["config"])
    if "version" not in envelope and isinstance(config.get("non_linearity"), str):
        name = config["non_linearity"].lower()
        config["non_linearity"] = _OLD_ACTIVATIONS.get(name, name)
    nested = config.pop("invertible_adapter", None)
    if nested:
        if not isinstance(nested, dict) or not nested.keys() >= {"block_type", "reduction_factor"}:
            raise Corrupt(f"'{path}' has {nested!r} as its 'invertible_adapter'.")
        config["inv_adapter"] = nested["block_type"]
        config["inv_adapter_reduction_factor"] = nested["reduction_factor"]
    has_invertible = any("invertible_adapters." in key for key in tensors)
    if config.get("inv_adapter") and envelope.get("type") == "text_task" and not has_invertible:
        config["inv_adapter"] = config["inv_adapter_reduction_factor"] = None
    is_scaled = all(any(part in key for part in _MERGED) for key in tensors if ".loras." in key)
    if _IGNORED_ALPHA.match(str(envelope.get("version", ""))) and not is_scaled:
        return _without_alpha(config)
    return config


def _without_alpha(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config as it was trained by versions that left alpha / r out: with an alpha that makes it 1."""
    parts = config.get("configs")
    if isinstance(parts, list):
        return {
            **config,
            "configs": [_without_alpha(p) if isinstance(p, dict) else p for p in parts],
        }
    if config.get("architecture") != "lora" or "r" not in config:
        return dict(config)
    return {**config, "alpha": config["r"]}
