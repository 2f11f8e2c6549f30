"""Puts prompts among what a backbone is called with, as PEFT does: they get positions and norms as tokens do."""

import inspect
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adapterhub_client.compose import caches
from adapterhub_client.compose.sites.backbone import Backbone

# What `generate` counts without the prompt; a model that is not told counts by itself.
_COUNTED = ("position_ids", "cache_position")


class Among(Protocol):
    """Prompts that go among embeddings, and are seen in masks."""

    place: slice

    def __call__(self, hidden: Tensor) -> Tensor:
        """Embeddings with the prompts among them."""

    def seen(self, mask: Tensor) -> Tensor:
        """A mask of the input in which the prompts are seen."""


class InputPromptHooks:
    """Calls a backbone with embeddings instead of tokens, prompts among them.

    Positions that a call names are dropped, as by PEFT: the model counts prompt and input anew. What follows a cache
    has the prompt in there, so that only the mask is longer.
    """

    def __init__(self, backbone: Backbone, prompts: Among) -> None:
        self._module, self._prompts = backbone.module, prompts
        self._embed: nn.Module = backbone.module.get_input_embeddings()  # type: ignore[operator]
        self._names = list(inspect.signature(backbone.module.forward).parameters)

    def install(self) -> Iterator[RemovableHandle]:
        """Register the hook; the handle removes it."""
        yield self._module.register_forward_pre_hook(self._change, with_kwargs=True)

    def _change(
        self, _module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        named = dict(zip(self._names, args, strict=False)) | options
        mask, types = named.get("attention_mask"), named.get("token_type_ids")
        changed: dict[str, Any] = {}
        if mask is not None:
            changed["attention_mask"] = self._prompts.seen(mask)
        changed |= {name: None for name in _COUNTED if named.get(name) is not None}
        cache = caches.given(named)
        if cache is None or not cache.get_seq_length():
            changed |= {"input_ids": None, "inputs_embeds": self._embedded(named)}
            if types is not None:
                changed["token_type_ids"] = self._typed(types)
        return (), named | changed

    def _embedded(self, named: dict[str, Any]) -> Tensor:
        embeddings = named.get("inputs_embeds")
        if embeddings is None:
            embeddings = self._embed(named["input_ids"])
        return self._prompts(embeddings)

    def _typed(self, types: Tensor) -> Tensor:
        """The types of the tokens, with that of a first text for the prompts."""
        place = self._prompts.place
        own = types.new_zeros(types.shape[0], place.stop - place.start)
        return torch.cat([types[:, : place.start], own, types[:, place.start :]], dim=1)
