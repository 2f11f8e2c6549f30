"""Puts a composition at the output of the embeddings: invertible adapters, then prompts."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adapterhub_client.compose.branches import Branches, branches
from adapterhub_client.compose.expression import Expression
from adapterhub_client.compose.heads.context import NO_PROMPT
from adapterhub_client.compose.hooks import Hooks
from adapterhub_client.compose.methods import invertible
from adapterhub_client.compose.plan import Plan
from adapterhub_client.compose.sites import Backbone


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


def bind(tree: Expression, plan: Plan) -> Iterator[Hooks]:
    """What acts on the embeddings' output."""
    couplings = _couplings(tree, plan)
    if couplings is not None:
        yield InvertibleHooks(plan.backbone, couplings)


def for_heads(tree: Expression, plan: Plan) -> ForHeads:
    """What heads have to know of a composition."""
    couplings = _couplings(tree, plan)
    return ForHeads(inverse=None if couplings is None else Inverse(couplings))


def _couplings(tree: Expression, plan: Plan) -> Branches | None:
    modules = plan.shelf.at(invertible.KEY).adapters
    return branches(tree, modules, as_reference=plan.as_reference)
