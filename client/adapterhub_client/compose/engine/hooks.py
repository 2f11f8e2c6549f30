"""Puts a bound composition at a slot of a layer, with public forward hooks only."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, cast

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adapterhub_client.compose.engine.linearparts import Part
from adapterhub_client.compose.engine.nodes import (
    Bound,
    Reading,
    bind,
    finish,
    finish_branch,
    finish_inside,
)
from adapterhub_client.compose.engine.plan import Plan
from adapterhub_client.compose.engine.stream import Shifted, Source, Stream, read
from adapterhub_client.compose.expression import Expression
from adapterhub_client.compose.sites.backbone import Backbone, Place
from adapterhub_client.compose.sites.spots import HIDDEN, Slot

# What adds to the biases of norms, by norm.
Shifts = Mapping[nn.Module, Part]


class Handle(Protocol):
    """What takes one thing out of effect."""

    def remove(self) -> None:
        """Take it out of effect."""


class Hooks(Protocol):
    """A composition bound at one place."""

    def install(self) -> Iterator[Handle]:
        """Register the hooks; each handle removes one."""


def bind_slots(tree: Expression, plan: Plan) -> Iterator[tuple[Place, Bound]]:
    """Bind a composition at every slot where it has something."""
    copies_at = plan.copies.slot if plan.copies else None
    for place, modules in plan.places(Slot):
        reading = Reading(
            finisher(cast("Slot", place.spot)),
            as_reference=plan.as_reference,
            repeats=place == copies_at,
            residents=plan.manner.residents,
            whose=_whose(plan.backbone, place),
        )
        bound = bind(tree, modules, reading)
        if bound is not None:
            yield place, bound


def slot_hooks(backbone: Backbone, place: Place, bound: Bound, shifts: Shifts) -> Hooks:
    """The hooks of a slot: around its LayerNorm, or at its branch where the model has none there."""
    slot = place.spot
    if not isinstance(slot, Slot):
        raise TypeError(place)
    if slot.norm is None:
        return PreNormHooks(backbone, place, slot, bound, shifts)
    return PostNormHooks(backbone.at(place), slot, bound, shifts)


class PostNormHooks:
    """The hooks of one slot of a post-norm model, for as long as a composition is active there.

    All work happens at the LayerNorm, which receives the sum f + x. A composition that begins with the LayerNorm's
    output runs after it, and so gets that output for nothing; one that does not runs before it, so that it is applied
    once. f and x themselves are recorded on the way, and only where something reads them.
    """

    def __init__(self, layer: nn.Module, slot: Slot, bound: Bound, shifts: Shifts) -> None:
        self._layer, self._slot, self._bound = layer, slot, bound
        self._norm = layer.get_submodule(slot.norm or "")
        self._shift = shifts.get(self._norm)
        self._branch: Tensor | None = None
        self._skip: Tensor | None = None

    def install(self) -> Iterator[RemovableHandle]:
        """Register the hooks; each handle removes one."""
        needs_branch, needs_skip = (s in self._bound.needs for s in (Source.BRANCH, Source.SKIP))
        if self._slot.is_swapped:
            needs_branch, needs_skip = needs_skip, needs_branch
        if needs_branch and self._slot.branch is not None:
            module = self._layer.get_submodule(self._slot.branch)
            yield module.register_forward_hook(self._record_branch)
        if needs_skip or (needs_branch and self._slot.branch is None):
            module = self._layer.get_submodule(self._slot.skip)
            if self._slot.skip_is_output:
                yield module.register_forward_hook(self._record_skip_output)
            else:
                yield module.register_forward_pre_hook(self._record_skip, with_kwargs=True)
        if self._bound.starts_normed or not self._bound.norms_after or self._bound.is_final:
            yield self._norm.register_forward_hook(self._after_norm)
        else:
            yield self._norm.register_forward_pre_hook(self._before_norm)

    def _record_branch(self, _module: nn.Module, _args: object, output: Any) -> None:  # noqa: ANN401
        self._branch = output[0] if isinstance(output, tuple) else output

    def _record_skip(
        self, _module: nn.Module, args: tuple[Any, ...], options: Mapping[str, Any]
    ) -> None:
        self._skip = argument(self._slot, args, options)

    def _record_skip_output(self, _module: nn.Module, _args: object, output: Tensor) -> None:
        self._skip = output

    def _after_norm(self, _module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return finish(self._bound, self._bound.step(self._stream(args[0], output)))

    def _before_norm(self, _module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (read(self._bound.step(self._stream(args[0], None)), Source.SUM), *args[1:])

    def _stream(self, total: Tensor, normed: Tensor | None) -> Stream:
        """The stream at this moment; what was recorded is let go."""
        branch = self._branch
        if branch is None and self._slot.branch is None and self._skip is not None:
            branch = total - self._skip
        both = (self._skip, branch) if self._slot.is_swapped else (branch, self._skip)
        stream = Stream(_shifted(self._norm.forward, self._shift, total), total, normed, *both)
        self._branch = self._skip = None
        return stream


class PreNormHooks:
    """The hooks of one slot of a pre-norm model, which adds x to f itself; f is changed where it comes out."""

    def __init__(
        self, backbone: Backbone, place: Place, slot: Slot, bound: Bound, shifts: Shifts
    ) -> None:
        self._slot, self._bound = slot, bound
        self._finish = finisher(slot)
        self._branch_module = backbone.at(place, slot.branch)
        self._skip_module = backbone.at(place, slot.skip)
        norm = slot.norm_of_last_layer and backbone.layers[-1].get_submodule(
            slot.norm_of_last_layer
        )
        self._norm = norm.forward if norm else _same
        self._shift = shifts.get(norm) if norm else None
        self._skip: Tensor | None = None

    def install(self) -> Iterator[RemovableHandle]:
        """Register the hooks; each handle removes one."""
        yield self._skip_module.register_forward_pre_hook(self._record_skip, with_kwargs=True)
        yield self._branch_module.register_forward_hook(self._change)

    def _record_skip(
        self, _module: nn.Module, args: tuple[Any, ...], options: Mapping[str, Any]
    ) -> None:
        self._skip = argument(self._slot, args, options)

    def _change(self, _module: nn.Module, _args: object, output: Any) -> Any:  # noqa: ANN401
        branch = output[0] if isinstance(output, tuple) else output
        skip, self._skip = self._skip, None
        norm = _shifted(self._norm, self._shift, branch)
        stream = self._bound.step(Stream(norm, None, None, branch, skip))
        changed = self._finish(self._bound, stream)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed


def finisher(slot: Slot) -> Callable[[Bound, Stream], Tensor]:
    """How a slot ends: what becomes of the stream after the composition."""
    if slot.norm is not None:
        return finish
    return finish_inside if slot.is_inside else finish_branch


def argument(slot: Slot, args: tuple[Any, ...], options: Mapping[str, Any]) -> Tensor:
    """What a module was called with at the slot's skip argument."""
    at = slot.skip_argument
    # Versions of a model differ in how a layer passes its hidden states on.
    by_name = at if isinstance(at, str) else HIDDEN if at == len(args) == 0 else None
    found: Tensor = options[by_name] if by_name is not None else args[cast("int", at)]
    return found


def _whose(backbone: Backbone, place: Place) -> str:
    """What the tokens at a place are of."""
    first = backbone.first_decoder_layer
    if first is None:
        return "the input"
    return "the decoder's input" if place.layer >= first else "the encoder's input"


def _shifted(
    norm: Callable[[Tensor], Tensor], part: Part | None, like: Tensor
) -> Callable[[Tensor], Tensor]:
    """The norm with what BitFit adds to its bias, which it does not have where it is called without its hooks."""
    if part is None:
        return norm
    zeros = like.new_zeros((like.shape[0], 1, like.shape[-1]))
    return Shifted(norm, part(zeros, None, zeros))


def _same(tensor: Tensor) -> Tensor:
    return tensor
