"""Products of float32 on a CPU, by the quicker of the two libraries that torch is built with.

torch leaves them to MKL, which keeps to AVX2 on a processor that is not Intel's; oneDNN takes the AVX-512 that is
there. One core of an EPYC, (1,280, 384) by (384, 1,536): 105 GFLOP/s by MKL, 230 by oneDNN. Both are float32 throughout
and differ by rounding. Which one is taken hangs on the processor alone, never on a measurement: the same run gives the
same numbers again.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SMALLEST = 2_000_000
"""multiplications below which the way through Python costs more than it saves"""

_is_quick: ContextVar[bool] = ContextVar("is_quick", default=False)


@contextmanager
def quick(module: nn.Module) -> Iterator[None]:
    """Let the linear layers of a module, and what the engine adds, take the quicker products where there are any."""
    if not are_there():
        yield
        return
    layers = [m for m in module.modules() if type(m) is nn.Linear and "forward" not in vars(m)]
    before = _is_quick.set(True)
    try:
        for layer in layers:
            layer.forward = functools.partial(_forward, layer)  # type: ignore[method-assign]
        yield
    finally:
        for layer in layers:
            del layer.forward
        _is_quick.reset(before)


@functools.cache
def are_there() -> bool:
    """Whether this is a processor on which MKL leaves AVX-512 unused."""
    return (
        torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and _vendor() != "GenuineIntel"
        and operator() is not None
    )


def linear(hidden: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer, as `torch.nn.functional.linear`; quicker within `quick`.

    Shapes:
        hidden: (..., in)
        weight: (out, in); bias: (out)
    """
    if torch.compiler.is_compiling() or not _is_quick.get():  # a compiler has products of its own
        return functional.linear(hidden, weight, bias)
    return _product(hidden, weight, bias)


def _forward(layer: nn.Linear, hidden: Tensor) -> Tensor:
    return _product(hidden, layer.weight, layer.bias)


def _product(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if (
        hidden.numel() * weight.shape[0] < SMALLEST
        or hidden.dtype is not torch.float32
        or hidden.device.type != "cpu"
        or weight.dtype is not torch.float32
        or torch.is_autocast_enabled("cpu")
    ):
        return functional.linear(hidden, weight, bias)
    taken = (hidden, weight) if bias is None else (hidden, weight, bias)
    if torch.is_grad_enabled() and any(each.requires_grad for each in taken):
        product: Tensor = _Product.apply(hidden, weight, bias)  # type: ignore[no-untyped-call]
        return product
    return multiplied(hidden, weight, bias)


class _Product(torch.autograd.Function):
    """The product with its way back, which keeps the input only where the weights are trained."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(hidden if weight.requires_grad else None, weight)
        return multiplied(hidden, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        (grad,) = grads
        hidden, weight = ctx.saved_tensors
        of_hidden, of_weight, of_bias = None, None, None
        if ctx.needs_input_grad[0]:
            of_hidden = multiplied(grad, weight.T, None)
        if ctx.needs_input_grad[1]:
            rows = grad.flatten(0, -2)
            of_weight = multiplied(rows.T.contiguous(), hidden.flatten(0, -2).T, None)
        if ctx.needs_input_grad[2]:
            of_bias = grad.flatten(0, -2).sum(0)
        return of_hidden, of_weight, of_bias


def multiplied(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The product by oneDNN; without a way back."""
    found: Any = operator()
    product: Tensor = found(hidden, weight, bias, "none", [], "")
    return product


@functools.cache
def operator() -> object | None:
    """The linear layer of oneDNN, which torch has for its compiler; None where a release has it no more."""
    try:
        found: object = torch.ops.mkldnn._linear_pointwise.default  # noqa: SLF001
    except (AttributeError, RuntimeError):
        return None
    return found


def _vendor() -> str:
    """Who made the processor, as Linux says; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    said = (line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id"))
    return next(said, "")
