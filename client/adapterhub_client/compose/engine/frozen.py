"""Values made from parameters, kept as long as the parameters stay what they are."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

import torch
from torch import nn

Value = TypeVar("Value")

_MADE: ContextVar[list["Frozen[Any]"] | None] = ContextVar("made", default=None)


@contextmanager
def gathered() -> Iterator[list["Frozen[Any]"]]:
    """All that is bound meanwhile, so that it can be formed before the first call."""
    made: list[Frozen[Any]] = []
    token = _MADE.set(made)
    try:
        yield made
    finally:
        _MADE.reset(token)


class Frozen(Generic[Value]):
    """A value computed from parameters: kept while they are frozen, made anew with autograd while they are trained.

    Every use compares the parameters' version counters, addresses, device and dtype. Fused optimizers and writes
    through `.data` change none of these, so a use that leads gradients also drops what is kept, and whoever changes
    parameters by other ways has to `drop` it. Inside a compiled graph only device and dtype can be compared; there what
    is made of frozen parameters is kept, and all else is part of the graph; a graph that is exported is for use, and
    takes what is kept whatever it is made of.
    """

    def __init__(self, sources: Sequence[nn.Parameter], make: Callable[[], Value]) -> None:
        self._sources = sources
        self._make = make
        self._kept: Value | None = None
        self._state: object = None
        self._placed: object = None
        made = _MADE.get()
        if made is not None:
            made.append(self)

    def __call__(self) -> Value:
        """The value."""
        if self.needs_gradient():
            self.drop()
            return self._make()
        if torch.compiler.is_compiling():
            trained = any(source.requires_grad for source in self._sources)
            trained = trained and not torch.compiler.is_exporting()
            if trained or self._kept is None or self._placed != self._place():
                return self._make()
            return self._kept
        state, placed = self._current(), self._place()
        if self._kept is None or state != self._state or placed != self._placed:
            self._kept, self._state, self._placed = self._made(), state, placed
        return self._kept

    def form(self) -> None:
        """Make the value now, so that no call has to; without values to make it of, nothing is done."""
        if self._sources and self._sources[0].device.type != "meta":
            with torch.no_grad():
                self()

    def drop(self) -> None:
        """Forget the kept value: the parameters may have changed."""
        self._kept = self._state = self._placed = None

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
        return [_identity(source) for source in self._sources]

    def _place(self) -> object:
        return self._sources[0].device, self._sources[0].dtype


def kept_in(root: nn.Module) -> Iterator[Frozen[Any]]:
    """What the modules below this one keep themselves."""
    for module in root.modules():
        for value in vars(module).values():
            for each in value.values() if isinstance(value, dict) else (value,):
                if isinstance(each, Frozen):
                    yield each


def _identity(parameter: nn.Parameter) -> tuple[int, int]:
    """The address and the version counter; a tensor of inference mode has none, since it never changes."""
    version = 0 if parameter.is_inference() else parameter._version  # noqa: SLF001
    return parameter.data_ptr(), version
