"""Values made from parameters, kept as long as the parameters stay what they are."""

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import torch
from torch import nn

Value = TypeVar("Value")


class Frozen(Generic[Value]):
    """A value computed from parameters: kept while they are frozen, made anew with autograd while they are trained.

    A kept value is never stale: every use compares the parameters' version counters, device and dtype, which an
    optimizer step, a copy into them, or a move all change. Inside a compiled graph that cannot be asked; there only
    what is made of frozen parameters is kept, and all else is part of the graph.
    """

    def __init__(self, sources: Sequence[nn.Parameter], make: Callable[[], Value]) -> None:
        self._sources = sources
        self._make = make
        self._kept: Value | None = None
        self._state: object = None

    def __call__(self) -> Value:
        """The value."""
        if self.needs_gradient():
            return self._make()
        if torch.compiler.is_compiling():
            trained = any(source.requires_grad for source in self._sources)
            return self._make() if trained or self._kept is None else self._kept
        state = self._current()
        if self._kept is None or state != self._state:
            self._kept, self._state = self._made(), state
        return self._kept

    def needs_gradient(self) -> bool:
        """Whether a use now must lead gradients to the parameters."""
        return torch.is_grad_enabled() and any(source.requires_grad for source in self._sources)

    def _made(self) -> Value:
        device = self._sources[0].device.type
        with (
            torch.inference_mode(mode=False),
            torch.no_grad(),
            torch.autocast(device, enabled=False),
        ):
            return self._make()

    def _current(self) -> object:
        return versions(self._sources), self._sources[0].device, self._sources[0].dtype


def versions(parameters: Iterable[nn.Parameter]) -> list[int]:
    """The version counters, which every change in place moves on; a tensor of inference mode never changes."""
    return [0 if parameter.is_inference() else parameter._version for parameter in parameters]  # noqa: SLF001
