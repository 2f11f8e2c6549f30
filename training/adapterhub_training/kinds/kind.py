"""What a kind of task has to say: how a row is read, tokenised, learned from, scored and told.

A kind knows nothing of models beyond what heads put out, and nothing of the loop. Everything it needs of a run comes
as an argument, so a kind is a plain value.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from adapterhub_training.evaluation import Evaluation

Array = NDArray[np.float32]
IGNORED = -100
"""a target that is not learned from, as everywhere in torch and transformers"""


class Answer(msgspec.Struct, frozen=True):
    """A piece of a context, by its words and where it begins."""

    text: str
    start: int


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A line of data: each kind has its own fields, the others are None."""

    text: str | None = None
    text_a: str | None = None
    text_b: str | None = None
    label: str | None = None
    labels: list[str] | None = None
    score: float | None = None
    tokens: list[str] | None = None
    tags: list[str] | None = None
    context: str | None = None
    question: str | None = None
    choices: list[str] | None = None
    answers: list[Answer] | None = None


class Example(msgspec.Struct, frozen=True):
    """A row as a kind understood it.

    `text` and `pair` are what is read; of words to be tagged `text` is a tuple, of choices `pair` is one. `target` is
    what is to be said, in numbers; None where a row has none, to be predicted.
    """

    text: str | tuple[str, ...]
    pair: str | tuple[str, ...] | None = None
    target: Any = None


class Encoded(msgspec.Struct, frozen=True, kw_only=True):
    """A tokenised split. A unit is what goes through the model together: a sequence, or the choices of one example.

    A long context becomes several units.
    """

    inputs: dict[str, list[Any]]
    """for each key of the model's input, one list of numbers a unit; of choices, a list of such lists"""
    targets: list[Any]
    """one a unit"""
    examples: list[int]
    """which example a unit belongs to"""
    padding: dict[str, int]
    """what fills up each key"""
    pad_left: bool = False
    """only where nothing is said of single tokens: those are counted from the left"""
    extra: list[Any] = []
    """what the kind keeps beside each unit, to tell predictions from it"""
    truncated: int = 0
    """examples that did not fit, and were cut"""

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def choices(self) -> bool:
        """Whether a unit is several sequences."""
        ids = self.inputs["input_ids"]
        return bool(ids) and bool(ids[0]) and isinstance(ids[0][0], list)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each unit, of choices those of the longest."""
        ids = self.inputs["input_ids"]
        return [max(map(len, unit)) for unit in ids] if self.choices else [len(u) for u in ids]

    @property
    def tokens(self) -> int:
        """All tokens together."""
        ids = self.inputs["input_ids"]
        return sum(sum(map(len, unit)) for unit in ids) if self.choices else sum(map(len, ids))


class Limits(NamedTuple):
    """How much of a text is read, in tokens."""

    max_length: int
    stride: int = 128
    """of a long context, how many tokens two windows share"""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """How a loss is to be taken."""

    loss: str = ""
    """the kind's own where empty"""
    weights: tuple[float, ...] = ()
    """of each label; all alike where empty"""
    focus: float = 2.0
    """of the focal loss: how much less what is easy counts"""
    smoothing: float = 0.0
    """share of the target that goes to all labels alike"""


class Sums(NamedTuple):
    """A loss as a sum and what it is to be divided by, so that parts of a batch add up to the whole."""

    total: Tensor
    weight: Tensor | float
    """a number where it is known without looking at the labels"""


class Prediction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is predicted for one example; each kind has its own fields."""

    label: str | None = None
    probabilities: dict[str, float] = {}
    labels: list[str] = []
    score: float | None = None
    tags: list[str] = []
    answer: str | None = None
    start: int | None = None


class Kind(Protocol):
    """A kind of task."""

    @property
    def name(self) -> str:
        """What it is called in an experiment."""

    @property
    def metrics(self) -> Mapping[str, bool]:
        """What it is scored by, and whether more is better; the first decides unless another is named."""

    @property
    def losses(self) -> tuple[str, ...]:
        """What it can be trained with; the first is its own."""

    @property
    def has_labels(self) -> bool:
        """Whether it has a fixed set of labels."""

    def unreadable(self, row: Row) -> str | None:
        """Why nothing can be predicted for a row, as a clause; None where it can."""

    def fault(self, row: Row) -> str | None:
        """What is wrong with a row to learn from, as a clause; None where nothing is."""

    def names(self, rows: Iterable[Row]) -> Iterable[str]:
        """Every label in these rows."""

    def counts(self, examples: Sequence[Example], labels: int) -> list[int]:
        """How often each label is given in these examples."""

    def example(self, row: Row, labels: Sequence[str]) -> Example:
        """A row in numbers. UnknownLabel."""

    def question(self, row: Row) -> Example:
        """A row to predict, whatever it says about the answer."""

    def encode(
        self, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example], limits: Limits
    ) -> Encoded:
        """Tokenise."""

    def head(self, labels: Sequence[str]) -> dict[str, Any]:
        """What `add_head` is given."""

    def targets(
        self, batch: Sequence[Any], inputs: dict[str, Tensor], draw: int
    ) -> dict[str, Tensor]:
        """The targets of a batch; what a kind hides of the inputs it hides in place, and draws by `draw`."""

    def sums(self, output: Any, targets: Mapping[str, Tensor], wanted: Wanted) -> Sums:  # noqa: ANN401
        """The loss of a batch."""

    def take(self, output: Any, targets: Mapping[str, Tensor]) -> list[Array]:  # noqa: ANN401
        """Of an output, what is kept of each unit."""

    def evaluate(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> Evaluation:
        """Score what was taken of every unit, in their order; what is chosen, such as a threshold, as in `like`."""

    def scores(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> Array:
        """How good the prediction for each example is, more being better: (examples,). For tests of differences."""

    def told(
        self,
        encoded: Encoded,
        taken: Sequence[Array],
        labels: Sequence[str],
        like: Evaluation | None = None,
    ) -> list[Prediction]:
        """What is predicted for each example."""


class UnknownLabel(Exception):
    """A row has a label that the data does not begin with; the message is a clause."""

    def __init__(self, label: str, known: Sequence[str]) -> None:
        super().__init__(f"the label {label!r} is unknown")
        self.label, self.known = label, tuple(known)
