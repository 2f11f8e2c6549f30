"""Puts a composition at the output of the embeddings: invertible adapters, then prompts."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adapterhub_client.compose.engine.branches import (
    Branches,
    acting,
    branches,
    leading,
    row_index,
    row_sizes,
)
from adapterhub_client.compose.engine.frozen import Frozen
from adapterhub_client.compose.engine.hooks import Hooks
from adapterhub_client.compose.engine.inputprompt import InputPromptHooks
from adapterhub_client.compose.engine.masks import MaskHooks
from adapterhub_client.compose.engine.plan import Plan
from adapterhub_client.compose.expression import Average, Expression, Fuse, Split, leaves
from adapterhub_client.compose.heads.context import NO_PROMPT
from adapterhub_client.compose.methods import invertible, prompt
from adapterhub_client.compose.methods.prompt import Prompt
from adapterhub_client.compose.sites.backbone import Backbone
from adapterhub_client.errors import CompositionError


class ForHeads(NamedTuple):
    """What heads have to know of what acts on the embeddings."""

    prompt: slice = NO_PROMPT
    """the positions of a soft prompt"""
    inverse: "Inverse | None" = None
    """what undoes the invertible adapters"""


class Inverse:
    """Undoes the invertible adapters of a composition, for what is compared with the embeddings.

    Shapes:
        hidden: (batch, tokens, features)
        result: same as ``hidden``
    """

    def __init__(self, couplings: Branches, part: tuple[slice, int] | None = None) -> None:
        self._couplings, self._part = couplings, part

    def __call__(self, hidden: Tensor) -> Tensor:
        """What the adapters made this of."""
        if self._part is None:
            return self._couplings(hidden, reverse=True)
        return self._couplings.of_rows(hidden, *self._part, reverse=True)

    def of_rows(self, part: slice, rows: int) -> "Inverse":
        """The same for some rows out of so many."""
        return Inverse(self._couplings, (part, rows))


class InvertibleHooks:
    """Invertible adapters, for as long as a composition with them is active."""

    def __init__(self, backbone: Backbone, couplings: Branches) -> None:
        self._embeddings = backbone.module.get_submodule(backbone.architecture.embeddings)
        self._couplings = couplings
        # Gemma 2 multiplies its embeddings by a constant, which newer versions do inside this module.
        self._scale = getattr(self._embeddings, "embed_scale", None)
        if backbone.model_type != "gemma2":
            self._scale = None

    def install(self) -> Iterator[RemovableHandle]:
        """Register the hook; the handle removes it."""
        yield self._embeddings.register_forward_hook(self._change)

    def _change(self, _module: nn.Module, _args: object, output: Any) -> Any:  # noqa: ANN401
        hidden: Tensor = output[0] if isinstance(output, tuple) else output
        if self._scale is None:
            hidden = self._couplings(hidden)
        else:
            scale = self._scale.to(hidden.dtype)
            hidden = self._couplings(hidden / scale) * scale
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


class Prompts:
    """The prompts of a composition, one for each group of rows, all at the same positions.

    Shapes:
        hidden: (batch, tokens, features)
        result: (batch, tokens of prompt and input, features)
    """

    def __init__(self, tree: Expression, modules: Sequence[Prompt]) -> None:
        self._tree = tree
        self.place = modules[0].place
        self.is_input = modules[0].config.is_input
        sources = [module.embeddings for module in modules]
        self._stacked = Frozen(sources, partial(torch.stack, tuple(sources)))
        self._is_one = len(modules) == 1

    def __call__(self, hidden: Tensor) -> Tensor:
        """Embeddings with the prompts among them."""
        embeddings = self._stacked().to(hidden.dtype)
        if self._is_one:
            embeddings = embeddings.expand(hidden.shape[0], -1, -1)
        else:
            embeddings = embeddings[
                row_index(row_sizes(self._tree, hidden.shape[0]), hidden.device)
            ]
        at = self.place.start
        return torch.cat([hidden[:, :at], embeddings, hidden[:, at:]], dim=1)

    def seen(self, mask: Tensor) -> Tensor:
        """A mask of the input in which the prompts are seen."""
        if mask.dim() != 2:  # noqa: PLR2004 - (batch, length)
            raise CompositionError(
                f"A prompt needs an attention mask of the shape (batch, length), not {tuple(mask.shape)}."
            )
        at, count = self.place.start, self.place.stop - self.place.start
        ones = mask.new_ones(mask.shape[0], count)
        return torch.cat([mask[:, :at], ones, mask[:, at:]], dim=1)


class PromptHooks:
    """Prompts, for as long as a composition with them is active."""

    def __init__(self, backbone: Backbone, prompts: Prompts) -> None:
        self._embeddings = backbone.module.get_submodule(backbone.architecture.embeddings)
        self._prompts = prompts
        self._masks = MaskHooks(backbone, prompts.seen, makes=True)

    def install(self) -> Iterator[RemovableHandle]:
        """Register the hooks; each handle removes one."""
        yield from self._masks.install()
        yield self._embeddings.register_forward_hook(self._change)

    def _change(self, _module: nn.Module, _args: object, output: Tensor) -> Tensor:
        return self._prompts(output)


def bind(tree: Expression, plan: Plan) -> Iterator[Hooks]:
    """What acts on the embeddings' output.

    Raises:
        CompositionError: A prompt stands where it has no meaning, or prompts differ in their positions.
    """
    couplings, prompts = _couplings(tree, plan), _prompts(tree, plan)
    if couplings is not None:
        yield InvertibleHooks(plan.backbone, couplings)
    if prompts is not None and prompts.is_input:
        yield InputPromptHooks(plan.backbone, prompts)
    elif prompts is not None:
        yield PromptHooks(plan.backbone, prompts)


def for_heads(tree: Expression, plan: Plan) -> ForHeads:
    """What heads have to know of a composition."""
    couplings, prompts = _couplings(tree, plan), _prompts(tree, plan)
    return ForHeads(
        NO_PROMPT if prompts is None else prompts.place,
        None if couplings is None else Inverse(couplings),
    )


def _couplings(tree: Expression, plan: Plan) -> Branches | None:
    modules = plan.shelf.at(invertible.KEY).adapters
    return branches(tree, modules, as_reference=plan.as_reference)


def _prompts(tree: Expression, plan: Plan) -> Prompts | None:
    modules: Mapping[str, Any] = plan.shelf.at(prompt.KEY).adapters
    for block, leaf in acting(tree, lambda name: name in modules):
        if isinstance(block, Fuse | Split | Average):
            raise CompositionError(
                f"The adapter {leaf.name!r} is a prompt, which `{block.operator}` cannot take.",
                hint="activate it alone, or in `parallel` or `batchsplit`",
            )
    first = leading(tree, as_reference=plan.as_reference)
    names = list(leaves(first))
    found = [modules[name] for name in names if name in modules]
    if not found:
        return None
    places = {(str(module.place), module.config.is_input) for module in found}
    if len(found) < len(names) or len(places) > 1:
        raise CompositionError(
            f"The branches of {str(tree)!r} need prompts of one length at one place, or none of them a prompt: "
            "a batch has rows of one length."
        )
    return Prompts(first, found)
