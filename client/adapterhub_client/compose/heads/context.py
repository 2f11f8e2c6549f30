"""What a head gets beside the outputs of the backbone."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from torch import Tensor

NO_PROMPT = slice(0, 0)


class Inverse(Protocol):
    """What undoes invertible adapters."""

    def __call__(self, hidden: Tensor) -> Tensor:
        """What the adapters made this of."""

    def of_rows(self, part: slice, rows: int) -> "Inverse":
        """The same for some rows out of so many."""


class PredictionContext(NamedTuple):
    """One call: what went into the backbone and what was passed for the heads.

    A plain tuple, since compilers follow these.

    Shapes:
        input_ids, attention_mask: (batch, length), without the positions of a prompt
    """

    arguments: Mapping[str, Any] = {}
    """what heads take from a call under its name: `labels`, `start_positions`, ...; one tensor, or one per head"""
    input_ids: Tensor | None = None
    attention_mask: Tensor | None = None
    batch: int | None = None
    """the rows of the input; the outputs have a multiple of them where branches run in parallel"""
    choices: int | None = None
    """how many choices each example had before they became rows"""
    prompt: slice = NO_PROMPT
    """the positions of a soft prompt in the hidden states"""
    inverse: Inverse | None = None
    """the inverse of the active invertible adapter, for what is compared with the embeddings"""

    def argument(self, name: str) -> Tensor | None:
        """What was passed under this name."""
        value: Tensor | None = self.arguments.get(name)
        return value

    def of_head(self, index: int) -> "PredictionContext":
        """The context of one head: its own of the arguments that are lists."""
        own = {name: _pick(value, index) for name, value in self.arguments.items()}
        return self._replace(arguments=own)

    def rows(self, part: slice) -> "PredictionContext":
        """The context of some rows; arguments that are lists are of these rows already."""
        arguments = {
            name: value if isinstance(value, list | tuple) else _rows(value, part)
            for name, value in self.arguments.items()
        }
        return self._replace(
            arguments=arguments,
            input_ids=_rows(self.input_ids, part),
            attention_mask=_rows(self.attention_mask, part),
            batch=part.stop - part.start,
        )


def _pick(value: Any, index: int) -> Any:  # noqa: ANN401
    return value[index] if isinstance(value, list | tuple) else value


def _rows(value: Tensor | None, part: slice) -> Tensor | None:
    return None if value is None else value[part]
