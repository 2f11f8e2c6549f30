"""What older versions of the reference library wrote differently, made current on reading."""

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
# Before version 3, `gelu` was its tanh approximation.
_OLD_ACTIVATIONS = {"gelu": "gelu_new", "gelu_orig": "gelu"}


def current_key(key: str) -> str:
    """A tensor's name as it is written today."""
    if "_lang_" not in key and "_text_" not in key:
        return key
    for old in _OLD_KEYS:
        key = key.replace(f".{old}.", ".adapters.")
    return key.replace("invertible_lang_adapters", "invertible_adapters")


def current_config(
    envelope: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path
) -> dict[str, Any]:
    """The `config` object of an `adapter_config.json` of any age, as it would be written today.

    A file without a version is older than version 3. The first version announced invertible adapters in task adapters
    that never had any.

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
    return config
