"""Puts a bound composition at a place of a layer, with public forward hooks only."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adapterhub_client.compose.engine import Bound, finish
from adapterhub_client.compose.sites import Slot
from adapterhub_client.compose.stream import Source, Stream, read


class PlaceHooks:
    """The hooks of one place, for as long as a composition is active there.

    All work happens at the LayerNorm, which receives the sum f + x. A composition that begins with the LayerNorm's
    output runs after it, and so gets that output for nothing; one that does not runs before it, so that it is applied
    once. f and x themselves are recorded on the way, and only where something reads them.
    """

    def __init__(self, layer: nn.Module, slot: Slot, bound: Bound) -> None:
        self._layer, self._slot, self._bound = layer, slot, bound
        self._norm = layer.get_submodule(slot.norm)
        self._branch: Tensor | None = None
        self._skip: Tensor | None = None

    def install(self) -> Iterator[RemovableHandle]:
        """Register the hooks; each handle removes one."""
        if Source.BRANCH in self._bound.needs:
            module = self._layer.get_submodule(self._slot.branch)
            yield module.register_forward_hook(self._record_branch)
        if Source.SKIP in self._bound.needs:
            module = self._layer.get_submodule(self._slot.skip)
            yield module.register_forward_pre_hook(self._record_skip)
        if self._bound.starts_normed or not self._bound.last.config.original_ln_after:
            yield self._norm.register_forward_hook(self._after_norm)
        else:
            yield self._norm.register_forward_pre_hook(self._before_norm)

    def _record_branch(self, _module: nn.Module, _args: object, output: Any) -> None:  # noqa: ANN401
        self._branch = output[0] if isinstance(output, tuple) else output

    def _record_skip(self, _module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self._skip = args[self._slot.skip_argument]

    def _after_norm(self, _module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return finish(self._bound, self._bound.step(self._stream(args[0], output)))

    def _before_norm(self, _module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (read(self._bound.step(self._stream(args[0], None)), Source.SUM), *args[1:])

    def _stream(self, total: Tensor, normed: Tensor | None) -> Stream:
        """The stream at this moment; what was recorded is let go."""
        stream = Stream(self._norm.forward, total, normed, self._branch, self._skip)
        self._branch = self._skip = None
        return stream
