"""Several heads at once: each reads its rows of the backbone's outputs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers.utils.generic import ModelOutput

from adapterhub_client.compose.heads.context import PredictionContext
from adapterhub_client.compose.heads.head import Head
from adapterhub_client.errors import CompositionError


@dataclass
class MultiHeadOutput(ModelOutput):
    """The outputs of several heads, in the order of the composition's children; the loss is the sum of theirs."""

    loss: Tensor | None = None
    heads: tuple[ModelOutput, ...] | None = None


def answer(
    heads: Sequence[Head],
    outputs: Any,  # noqa: ANN401
    context: PredictionContext,
    sizes: Sequence[int] | None = None,
) -> ModelOutput:
    """The output of one head, or of several together.

    Raises:
        CompositionError: The model puts out no hidden states, or as for `predict_rows`.
    """
    if getattr(outputs, "last_hidden_state", None) is None:
        raise CompositionError(
            f"Heads read the last hidden states, but the model puts out a {type(outputs).__name__}.",
            hint="load the base model without a head of its own, with `AutoModel`",
        )
    if len(heads) == 1 and sizes is None:
        return heads[0].predict(outputs, context)
    return predict_rows(heads, outputs, context, sizes)


def predict_rows(
    heads: Sequence[Head],
    outputs: Any,  # noqa: ANN401
    context: PredictionContext,
    sizes: Sequence[int] | None = None,
) -> MultiHeadOutput:
    """Each head's own output for its rows.

    With ``sizes`` the batch is divided so among the heads, and its labels with it. Without, outputs with a block of
    rows for each head (a composition in parallel) are divided evenly, each head with the labels of the whole batch;
    and else every head reads all rows. Labels may be a list with an entry, or None, for each head.

    Raises:
        CompositionError: The rows cannot be divided so, or a list has not an entry for each head.
    """
    for name, value in context.arguments.items():
        if isinstance(value, list | tuple) and len(value) != len(heads):
            raise CompositionError(
                f"{name!r} is a list of {len(value)}, but {len(heads)} heads are active."
            )
    answers = []
    for index, (part, own) in enumerate(_parts(len(heads), outputs, context, sizes)):
        rows = outputs if part is None else _rows(outputs, part)
        if part is not None and own.inverse is not None:
            undo = own.inverse.of_rows(part, outputs.last_hidden_state.shape[0])
            own = own._replace(inverse=undo)  # noqa: PLW2901 - the same context, for fewer rows
        answers.append(heads[index].predict(rows, own.of_head(index)))
    losses = [
        loss for loss in (getattr(answer, "loss", None) for answer in answers) if loss is not None
    ]
    return MultiHeadOutput(loss=sum(losses) if losses else None, heads=tuple(answers))


def _parts(
    count: int,
    outputs: Any,  # noqa: ANN401
    context: PredictionContext,
    sizes: Sequence[int] | None,
) -> Iterator[tuple[slice | None, PredictionContext]]:
    """For each head, its rows of the outputs, or None for all, and its context."""
    rows = outputs.last_hidden_state.shape[0]
    if sizes is not None:
        if len(sizes) != count or sum(sizes) != rows:
            raise CompositionError(
                f"The sizes {tuple(sizes)} do not divide {rows} rows among {count} heads."
            )
        yield from ((part, context.rows(part)) for part in _slices(sizes))
    elif context.batch is None or rows == context.batch:
        yield from ((None, context) for _ in range(count))
    elif rows == count * context.batch:
        yield from ((part, context) for part in _slices([context.batch] * count))
    else:
        raise CompositionError(
            f"The composition runs {rows // context.batch} branches in parallel, but {count} heads are active.",
            hint="name one head for each branch",
        )


def _slices(sizes: Sequence[int]) -> Iterator[slice]:
    start = 0
    for size in sizes:
        yield slice(start, start + size)
        start += size


def _rows(outputs: Any, part: slice) -> ModelOutput:  # noqa: ANN401
    """The outputs of some rows; what has fewer rows is from before the branches parted, and the same for all."""
    rows = outputs.last_hidden_state.shape[0]
    kind: type[ModelOutput] = type(outputs)
    return kind(**{name: _cut(value, part, rows) for name, value in outputs.items()})


def _cut(value: Any, part: slice, rows: int) -> Any:  # noqa: ANN401
    if isinstance(value, Tensor):
        return value[part] if value.dim() and value.shape[0] == rows else value
    if isinstance(value, list | tuple):
        return tuple(_cut(each, part, rows) for each in value)
    return value
