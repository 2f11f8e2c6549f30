"""Changes the attention mask of a call where the number of rows or tokens changes inside the model."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adapterhub_client.compose.sites.backbone import Backbone

MASK = "attention_mask"


class MaskHooks:
    """Gives a backbone another mask than it is called with; its embeddings still get the one from before.

    ``makes`` a mask where the call has none, for models that would make one of the input's length.
    """

    def __init__(
        self, backbone: Backbone, change: Callable[[Tensor], Tensor], *, makes: bool = False
    ) -> None:
        self._makes = makes and MASK in _names(backbone)
        self._backbone = backbone.module
        self._embeddings = backbone.module.get_submodule(backbone.architecture.embeddings)
        self._change = change
        self._position = position(backbone)
        self._before: Tensor | None = None
        self._after: Tensor | None = None

    def install(self) -> Iterator[RemovableHandle]:
        """Register the hooks; each handle removes one."""
        yield self._backbone.register_forward_pre_hook(self._changed, with_kwargs=True)
        # The mask that was changed last is the first to be put back.
        yield self._embeddings.register_forward_pre_hook(
            self._unchanged, with_kwargs=True, prepend=True
        )
        yield self._backbone.register_forward_hook(self._forget, always_call=True)

    def _changed(
        self, _module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        mask = find(self._position, args, options)
        ones = _of_ones(args, options) if mask is None and self._makes else None
        if ones is not None:
            self._before, self._after = None, self._change(ones)
            if self._position < len(args):
                args = (*args[: self._position], self._after, *args[self._position + 1 :])
                return args, options
            return args, options | {MASK: self._after}
        if not isinstance(mask, Tensor):
            return args, options
        self._before, self._after = mask, self._change(mask)
        return self._swapped(args, options, mask, self._after)

    def _unchanged(
        self, _module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self._after is None:
            return args, options
        return self._swapped(args, options, self._after, self._before)

    def _forget(self, *_call: object) -> None:
        self._before = self._after = None

    @staticmethod
    def _swapped(
        args: tuple[Any, ...], options: dict[str, Any], old: Tensor, new: Tensor | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call with another tensor in the place of one."""
        return (
            tuple(new if value is old else value for value in args),
            {name: new if value is old else value for name, value in options.items()},
        )


def position(backbone: Backbone) -> int:
    """Where the mask stands in a call without names."""
    names = _names(backbone)
    return names.index(MASK) if MASK in names else len(names)


def find(at: int, args: tuple[Any, ...], options: dict[str, Any]) -> Any:  # noqa: ANN401
    """The mask of a call; None without one."""
    return args[at] if at < len(args) else options.get(MASK)


def _names(backbone: Backbone) -> list[str]:
    return list(inspect.signature(backbone.module.forward).parameters)


def _of_ones(args: tuple[Any, ...], options: dict[str, Any]) -> Tensor | None:
    """A mask that hides nothing of a call's tokens; None where it has none."""
    given = [*args[:1], *(options.get(name) for name in ("input_ids", "inputs_embeds"))]
    found = next((value for value in given if isinstance(value, Tensor)), None)
    if found is None or found.dim() > 3:  # noqa: PLR2004 - images have four dimensions
        return None
    return torch.ones(found.shape[:2], dtype=torch.long, device=found.device)
