"""Prompt tuning: trained embeddings before those of the input."""

from typing import Any, Literal

import msgspec

from adapterhub_client.formats.method.values import Factor, Size

_UNIFORM_SCALE = 0.5


class PromptTuning(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="architecture", tag="prompt_tuning"
):
    """Embeddings put before the input's own.

    The reference library never writes `random_uniform_scale`, though it reads it; we write it where it is not 0.5.

    Source: Lester et al. 2021.
    """

    prompt_length: Size = 10
    prompt_init: Literal["random_uniform", "from_string"] = "random_uniform"
    prompt_init_text: str | None = None
    combine: Literal["prefix", "prefix_after_bos"] = "prefix"
    """before everything, or after the first token"""
    init_weights_seed: int | None = None
    random_uniform_scale: Factor = _UNIFORM_SCALE
    is_input: bool = False
    """PEFT's prompt, which gets positions and norms as tokens do; a key of ours, written only where it is set"""

    def to_dict(self) -> dict[str, Any]:
        """The `config` object of an `adapter_config.json`."""
        written = dict(msgspec.to_builtins(self))
        if self.random_uniform_scale == _UNIFORM_SCALE:
            del written["random_uniform_scale"]
        if not self.is_input:
            del written["is_input"]
        return written


PRESETS = {"prompt_tuning": PromptTuning()}
