"""What flows through one place of a layer, and how a step of a composition changes it.

With f the output of the sub-block and x the residual it joins, the model goes on with LN(f + x), or with f + x where it
has no norm there. A step hands on a changed f. Most steps only add to it, and then the sum s = f + x is all that has to
be known: that is why seq_bn, and stacks and fusions of it, cost one hook on the LayerNorm and nothing else.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor


class Source(Enum):
    """What can be read from a stream."""

    BRANCH = "f"
    SKIP = "x"
    SUM = "f + x"
    NORMED = "LN(f + x)"


class Shifted:
    """A norm whose output something shifts, each row by its own amount.

    Shapes:
        shift: (batch, 1, features)
    """

    def __init__(self, norm: Callable[[Tensor], Tensor], shift: Tensor) -> None:
        self.norm, self.shift = norm, shift

    def __call__(self, hidden: Tensor) -> Tensor:
        """The norm's output, shifted."""
        return self.norm(hidden) + self.shift


class Stream(NamedTuple):
    """The tensors at a place, as far as they are known; ``done`` is what the place hands on, once that is settled.

    Shapes:
        all: (batch, length, features)
    """

    norm: Callable[[Tensor], Tensor]
    total: Tensor | None = None
    normed: Tensor | None = None
    branch: Tensor | None = None
    skip: Tensor | None = None
    done: Tensor | None = None


def read(stream: Stream, source: Source) -> Tensor:
    """What the stream holds, computed where it only follows from the rest."""
    if source is Source.SUM:
        return stream.total if stream.total is not None else _sum(stream)
    if source is Source.NORMED:
        return stream.normed if stream.normed is not None else stream.norm(read(stream, Source.SUM))
    return _known(stream.branch if source is Source.BRANCH else stream.skip, source)


def push(stream: Stream, change: Tensor) -> Stream:
    """The stream after f grew by ``change``."""
    return stream._replace(
        total=None if stream.total is None else stream.total + change,
        branch=None if stream.branch is None else stream.branch + change,
        normed=None,
    )


def put(stream: Stream, branch: Tensor) -> Stream:
    """The stream with another f."""
    return stream._replace(total=None, normed=None, branch=branch)


def divide(stream: Stream, sizes: Sequence[int], dim: int) -> list[Stream]:
    """The stream in parts, of so many rows (``dim`` 0) or tokens (1)."""
    fields = [None if t is None else torch.split(t, list(sizes), dim) for t in stream[1:]]
    norms: list[Callable[[Tensor], Tensor]] = [stream.norm] * len(sizes)
    if isinstance(stream.norm, Shifted) and dim == 0:
        shifts = torch.split(stream.norm.shift, list(sizes))
        norms = [Shifted(stream.norm.norm, shift) for shift in shifts]
    return [
        Stream(norm, *(None if field is None else field[n] for field in fields))
        for n, norm in enumerate(norms)
    ]


def join(streams: Sequence[Stream], dim: int) -> Stream:
    """The parts put together again; what not all of them know is known no more."""
    fields = [
        None if any(t is None for t in parts) else torch.cat(parts, dim)
        for parts in zip(*(stream[1:] for stream in streams), strict=True)
    ]
    norms = [stream.norm for stream in streams]
    shifts = [norm.shift for norm in norms if isinstance(norm, Shifted)]
    if isinstance(norms[0], Shifted) and dim == 0:
        return Stream(Shifted(norms[0].norm, torch.cat(shifts)), *fields)
    return Stream(norms[0], *fields)


def repeat(stream: Stream, copies: int) -> Stream:
    """The stream over so many copies of the batch, one after the other."""
    fields = [None if t is None else t.repeat(copies, 1, 1) for t in stream[1:]]
    return Stream(stream.norm, *fields)


def rows(stream: Stream) -> int:
    """How many rows the batch has."""
    return next(t.shape[0] for t in stream[1:] if t is not None)


def tokens(stream: Stream) -> int:
    """How many tokens the sequence has."""
    return next(t.shape[1] for t in stream[1:] if t is not None)


def _sum(stream: Stream) -> Tensor:
    return _known(stream.branch, Source.BRANCH) + _known(stream.skip, Source.SKIP)


def _known(tensor: Tensor | None, source: Source) -> Tensor:
    if tensor is None:
        raise LookupError(f"{source.value} was not recorded at this place.")
    return tensor
