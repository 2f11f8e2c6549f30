"""The kinds of tasks, one module each."""

from collections.abc import Sequence

from adapterhub_training.kinds.answering import Answering
from adapterhub_training.kinds.choice import Choice
from adapterhub_training.kinds.classification import Classification
from adapterhub_training.kinds.kind import (
    IGNORED,
    Encoded,
    Example,
    Kind,
    Limits,
    Prediction,
    Row,
    Sums,
    UnknownLabel,
    Wanted,
)
from adapterhub_training.kinds.language import Language
from adapterhub_training.kinds.multilabel import Multilabel
from adapterhub_training.kinds.regression import Regression
from adapterhub_training.kinds.tagging import Tagging

__all__ = [
    "IGNORED",
    "KINDS",
    "Encoded",
    "Example",
    "Kind",
    "Language",
    "Limits",
    "Prediction",
    "Row",
    "Sums",
    "UnknownLabel",
    "Wanted",
    "kind_of",
    "named",
]

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Classification(),
        Multilabel(),
        Regression(),
        Tagging(),
        Choice(),
        Answering(),
        Language(),
    )
}


def named(name: str, scale: Sequence[str] = ()) -> Kind:
    """The kind of this name; of a regression, with its scale of labels."""
    return Regression(scale) if name == Regression.name else KINDS[name]


def kind_of(row: Row) -> str:
    """The name of the kind that a row seems to be of, by the fields it has."""
    marks = {
        "tags": "tagging",
        "choices": "multiple_choice",
        "answers": "extractive_qa",
        "labels": "multilabel",
        "score": "regression",
    }
    for field, name in marks.items():
        if getattr(row, field) is not None:
            return name
    return "classification" if row.label is not None else "masked_lm"
