"""Blocks whose parts work side by side: each on some rows or tokens, or all on the same for their mean."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from adapterhub_client.compose.engine.stream import (
    Source,
    Stream,
    divide,
    join,
    push,
    put,
    read,
    repeat,
    rows,
    tokens,
)
from adapterhub_client.compose.expression import Average, BatchSplit, Split
from adapterhub_client.errors import CompositionError

if TYPE_CHECKING:
    from adapterhub_client.compose.engine.bank import Bank
    from adapterhub_client.compose.engine.nodes import Bound

ROUNDING = 1e-6

Step = Callable[[Stream], Stream]


def parallel(
    steps: Sequence[Step | None], bank: "Bank | None", stream: Stream, *, repeats: bool
) -> Stream:
    """Each part on its own copy of the batch, one after the other."""
    if repeats:
        stream = repeat(stream, len(steps))
    count = rows(stream) // len(steps)
    return by_rows([count] * len(steps), steps, bank, stream)


def by_rows(
    sizes: Sequence[int], steps: Sequence[Step | None], bank: "Bank | None", stream: Stream
) -> Stream:
    """Each part on its own rows of the batch."""
    require_sum("batch_sizes", sizes, "rows", rows(stream))
    if bank is not None:
        return bank.step(stream, sizes)
    return _apart(steps, divide(stream, sizes, 0), 0)


def split(
    sizes: Sequence[int], steps: Sequence[Step | None], stream: Stream, *, whose: str
) -> Stream:
    """Each part on its own tokens of the sequence."""
    require_sum("splits", sizes, "tokens", tokens(stream), whose)
    return _apart(steps, divide(stream, sizes, 1), 1)


def mean(
    steps: Sequence[Step | None], weights: Sequence[float], stream: Stream, *, is_mean: bool
) -> Stream:
    """The weighted sum of what f becomes in each part; weights that sum to one need f + x only."""
    outcomes = [stream if step is None else step(stream) for step in steps]
    if is_mean and all(outcome.total is not None for outcome in outcomes):
        total = _weighted([read(o, Source.SUM) for o in outcomes], weights)
        has_branch = all(outcome.branch is not None for outcome in outcomes)
        branch = (
            _weighted([read(o, Source.BRANCH) for o in outcomes], weights) if has_branch else None
        )
        return stream._replace(total=total, branch=branch, normed=None)
    return put(stream, _weighted([read(o, Source.BRANCH) for o in outcomes], weights))


def mean_of_bank(bank: "Bank", weights: Sequence[float], stream: Stream) -> Stream:
    """The same for adapters of one kind: one adapter as wide as all of them."""
    return push(stream, bank.mean(read(stream, bank.reads), weights))


def normed_twice(step: Step | None, source: Source, stream: Stream) -> Stream:
    """A stack inside another block as the reference library has it: from what the block's first adapter reads."""
    inside = put(stream, read(stream, source))
    return inside if step is None else step(inside)


def ended(finish: Callable[["Bound", Stream], Tensor], bound: "Bound", stream: Stream) -> Stream:
    """A part that ends in its own way."""
    outcome = bound.step(stream)
    return outcome._replace(done=finish(bound, outcome))


def require_sum(
    option: str, sizes: Sequence[int], what: str, found: int, whose: str = "the input"
) -> None:
    """Refuse a batch or a sequence that is not as long as its parts together.

    Raises:
        CompositionError: Names both numbers.
    """
    if sum(sizes) != found:
        raise CompositionError(
            f"The {option} {list(sizes)} sum to {sum(sizes)}, but {whose} has {found} {what}.",
            hint=f"give {option} that sum to the {what} of {whose}",
        )


def are_equal(sizes: Sequence[int]) -> bool:
    """Whether all parts are of one size; compilers would take the members of a set for constants."""
    return all(size == sizes[0] for size in sizes)


def sizes_of(tree: Split | BatchSplit) -> Sequence[int]:
    """The sizes of a block's parts.

    Raises:
        CompositionError: It has none.
    """
    option = "splits" if isinstance(tree, Split) else "batch_sizes"
    sizes = tree.splits if isinstance(tree, Split) else tree.batch_sizes
    if sizes is None:
        raise CompositionError(
            f"`{tree.operator}` does not say how much each part gets.",
            hint=f"write {tree.operator}(a, b; {option}=[...])",
        )
    return sizes


def weights_of(tree: Average, *, as_reference: bool) -> list[float]:
    """The weights of a mean: as given, or equal ones; the reference library divides by their number once more."""
    count = len(tree.children)
    weights = list(tree.weights) if tree.weights is not None else [1 / count] * count
    return [weight / count for weight in weights] if as_reference else weights


def _apart(steps: Sequence[Step | None], streams: Sequence[Stream], dim: int) -> Stream:
    return join(
        [s if step is None else step(s) for step, s in zip(steps, streams, strict=True)], dim
    )


def _weighted(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = tensors[0] * weights[0]
    for tensor, weight in zip(tensors[1:], weights[1:], strict=True):
        total = total + tensor * weight
    return total
