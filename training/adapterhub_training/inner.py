"""What is fixed inside the first layer that is trained: all that it computes before it comes to its adapter.

An adapter behind the feed-forward block leaves attention and feed-forward of its own layer as they are. Which modules
these are is found by running the layer: an output that needs no gradient is fixed, and one is needed only if the layer
makes something else with it spoilt.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

LEAST_SAVED = 0.3
"""of a layer's parameters, below which it is not worth what is kept for it"""
MOST_KEPT = 2
"""outputs of a layer; three, as of queries, keys and values, take longer to fetch than they save"""

Runs = Callable[[], object]
"""runs the model on a few texts"""


class Fixed(NamedTuple):
    """A module whose output is kept."""

    name: str
    features: int
    outputs: int
    """how many things it returns, of which the first is kept; 0 for a tensor alone"""

    def answer(self, kept: Tensor) -> Tensor | tuple[Tensor | None, ...]:
        """What it would return."""
        return kept if not self.outputs else (kept, *[None] * (self.outputs - 1))


class Inner(NamedTuple):
    """What is fixed in a layer, in the order it runs."""

    modules: tuple[Fixed, ...]
    """whose outputs are kept"""
    skipped: tuple[Fixed, ...]
    """which only those read"""
    needs_input: bool
    """whether the layer reads its input for more than them"""

    @property
    def features(self) -> int:
        """Numbers kept for each token, but for the input."""
        return sum(module.features for module in self.modules)


class Enough(Exception):
    """What is wanted is there."""


@contextmanager
def given(layer: nn.Module, inner: Inner, values: Sequence[Tensor]) -> Iterator[None]:
    """Let what is fixed in a layer hand on these values, one for each that is kept; hooks run as ever."""
    nothing = values[0].new_zeros(()).expand(values[0].shape[0], values[0].shape[1], 1)
    stand_ins = [nothing.expand(-1, -1, each.features) for each in inner.skipped]
    with _handing_on(layer, (*inner.modules, *inner.skipped), (*values, *stand_ins)):
        yield


@contextmanager
def _handing_on(
    layer: nn.Module, modules: Sequence[Fixed], values: Sequence[Tensor]
) -> Iterator[None]:
    with ExitStack() as stack:
        for fixed, value in zip(modules, values, strict=True):
            answer = fixed.answer(value)
            module = layer.get_submodule(fixed.name)
            stack.enter_context(_as(module, lambda *_, _answer=answer, **__: _answer))
        yield


def outputs(layer: nn.Module, inner: Inner, runs: Runs) -> tuple[Tensor, list[Tensor]]:
    """The layer's input and what its fixed modules make, with nothing run after the last of them.

    Shapes:
        result: (sequences, length, features) each
    """
    found: dict[str, Tensor] = {}
    came: list[Tensor] = []
    last = inner.modules[-1].name

    def take(name: str, output: Any) -> None:  # noqa: ANN401
        found[name] = _first(output)
        if name == last:
            raise Enough

    with ExitStack() as stack:
        stack.enter_context(_as(layer, _noting_input(layer, came)))
        for fixed in inner.modules:
            module = layer.get_submodule(fixed.name)
            stack.enter_context(_as(module, _noting(module, fixed.name, take)))
        with suppress(Enough):
            runs()
    return came[0], [found[fixed.name] for fixed in inner.modules]


def find(layer: nn.Module, runs: Runs) -> Inner | None:
    """What is fixed in a layer under whatever is active; None where that is not worth keeping."""
    with torch.enable_grad():
        seen, truth = _recorded(layer, runs)
    fixed = [
        Fixed(name, _first(output).shape[-1], len(output) if isinstance(output, tuple) else 0)
        for name, output in seen.items()
        if _is_fixed(output)
    ]
    names = {each.name for each in fixed}
    fixed = [each for each in fixed if not names & _above(each.name)]
    saved = sum(p.numel() for f in fixed for p in layer.get_submodule(f.name).parameters())
    if saved == 0 or saved < LEAST_SAVED * sum(p.numel() for p in layer.parameters()):
        return None
    values = {each.name: _first(seen[each.name]).detach() for each in fixed}

    def is_same(trial: dict[str, Tensor], *, spoils_input: bool = False) -> bool:
        with _handing_on(layer, fixed, list(trial.values())), torch.no_grad():
            return torch.equal(_recorded(layer, runs, spoils_input=spoils_input)[1], truth)

    needed, skipped = [], []
    for each in fixed:
        trial = values | {each.name: _spoilt(values[each.name])}
        if is_same(trial):
            skipped.append(each)
            values = trial
        else:
            needed.append(each)
    if len(needed) > MOST_KEPT:
        return None
    needs_input = not is_same(values, spoils_input=True)
    return Inner(tuple(needed), tuple(skipped), needs_input)


def _recorded(
    layer: nn.Module, runs: Runs, *, spoils_input: bool = False
) -> tuple[dict[str, Any], Tensor]:
    """What the modules of a layer that run once put out, by name, and what the layer does; nothing runs after it."""
    found: dict[str, list[Any]] = {}
    out: list[Tensor] = []
    forward = layer.forward

    def whole(hidden: Tensor, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        out.append(_first(forward(_spoilt(hidden) if spoils_input else hidden, *args, **options)))
        raise Enough

    def note(name: str, output: Any) -> None:  # noqa: ANN401
        found.setdefault(name, []).append(output)

    with ExitStack() as stack:
        stack.enter_context(_as(layer, whole))
        for name, module in layer.named_modules():
            if name:
                stack.enter_context(_as(module, _noting(module, name, note)))
        with suppress(Enough):
            runs()
    return {name: calls[0] for name, calls in found.items() if len(calls) == 1}, out[0].detach()


@contextmanager
def _as(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Let a module compute something else; what is hooked to it stays."""
    own = vars(module)
    before = own.get("forward")
    own["forward"] = forward
    try:
        yield
    finally:
        if before is None:
            del own["forward"]
        else:
            own["forward"] = before


def _noting(module: nn.Module, name: str, note: Callable[[str, Any], None]) -> Callable[..., Any]:
    forward = module.forward

    def noted(*args: Any, **options: Any) -> Any:  # noqa: ANN401
        output = forward(*args, **options)
        note(name, output)
        return output

    return noted


def _noting_input(layer: nn.Module, came: list[Tensor]) -> Callable[..., Any]:
    forward = layer.forward

    def noted(hidden: Tensor, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        came.append(hidden)
        return forward(hidden, *args, **options)

    return noted


def _first(output: Any) -> Any:  # noqa: ANN401
    return output[0] if isinstance(output, tuple) else output


def _is_fixed(output: Any) -> bool:  # noqa: ANN401
    """Whether it is a number for each feature of each token, and needs no gradient."""
    first = _first(output)
    return isinstance(first, Tensor) and first.dim() == 3 and not first.requires_grad  # noqa: PLR2004


def _spoilt(values: Tensor) -> Tensor:
    return torch.full_like(values, torch.nan)


def _above(name: str) -> set[str]:
    """The modules that a module is in."""
    parts = name.split(".")
    return {".".join(parts[:at]) for at in range(1, len(parts))}
