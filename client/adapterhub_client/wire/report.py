"""What a training run measured beyond its metrics: a file of the version, which the catalogue draws.

Everything in it is optional: a version that was pushed from a bare folder has none of it. Whoever writes more than the
limits of its reader allow is read as if there were nothing.
"""

from typing import Literal

import msgspec

REPORT_FILE = "report.json"
LARGEST_REPORT_BYTES = 1024 * 1024

Averaging = Literal["best seed", "mean over seeds"]


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation while a seed was trained; `metric` is the one the report names."""

    step: int
    epoch: float
    train_loss: float | None = None
    validation_loss: float | None = None
    metric: float


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """How one seed went; `best_step` is that of the checkpoint that was kept."""

    seed: int
    points: list[CurvePoint]
    best_step: int


class LabelScore(msgspec.Struct, frozen=True, kw_only=True):
    """One label against all others, on the reported split; `support` counts its examples."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    threshold: float | None = None
    """above which the label is given, where several may be"""


class CalibrationBin(msgspec.Struct, frozen=True, kw_only=True):
    """Predictions of about the same confidence, and how many of them were right."""

    confidence: float
    accuracy: float
    count: int


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Whether confidence is what it says; `error` is the expected calibration error, in [0, 1]."""

    bins: list[CalibrationBin]
    error: float


class AttentionLayer(msgspec.Struct, frozen=True, kw_only=True):
    """What a fusion attended to in one layer: a weight for each member, in [0, 1], together 1."""

    layer: int
    """0 is the lowest"""
    weights: list[float]
    std: list[float] = []
    """over tokens"""


class Attention(msgspec.Struct, frozen=True, kw_only=True):
    """What a fusion attended to on the reported split: the mean over its tokens, layer by member."""

    members: list[str]
    layers: list[AttentionLayer]
    tokens: int = 0
    """over how many"""


class Pruning(msgspec.Struct, frozen=True, kw_only=True):
    """A fusion with only its most attended members: what it reaches and what it costs."""

    kept: list[str]
    value: float
    std: float | None = None
    relative_time: float | None = None
    """of a forward pass, over that of all members"""


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """Another way to learn the same task on the same data, such as full fine-tuning or a head alone."""

    name: str
    value: float
    std: float | None = None
    seeds: list[int] = []
    parameters: int | None = None
    """that were trained"""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes to train and to use."""

    parameters: int
    """that were trained"""
    parameters_base: int
    latency_overhead: float | None = None
    """time of a forward pass over that of the bare base: 1.02 is two per cent more"""
    latency_note: str | None = None
    """on what, at which batch and length"""
    training_seconds: float | None = None
    seconds_to_target: float | None = None
    """until `target` was first reached on validation"""
    target: float | None = None


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """An input and what was predicted, to be shown where nothing can be computed."""

    text: str
    pair: str | None = None
    label: str | None = None
    """the right one"""
    probabilities: dict[str, float] = {}
    value: float | None = None
    """of a regression"""
    attention: list[AttentionLayer] = []


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a run measured. Figures of one model are of the seed that was best on validation."""

    schema_version: int = 1
    kind: str
    """of the head: `classification`, `multilabel`, `regression`, `tagging`, `multiple_choice`, `extractive_qa`,
    `masked_lm`"""
    metric: str
    """decided which checkpoint and which seed were best"""
    higher_is_better: bool = True
    dataset: str
    split: str
    labels: list[str] = []
    curves: list[Curve] = []
    classes: list[LabelScore] = []
    confusion: list[list[int]] = []
    """`confusion[i][j]` counts examples of label i taken for label j"""
    calibration: Calibration | None = None
    attention: Attention | None = None
    pruning: list[Pruning] = []
    baselines: list[Baseline] = []
    cost: Cost | None = None
    examples: list[Example] = []
    embedding: list[float] = []
    """the mean of what the bare base makes of the training texts: (features,). What is near is likely to help"""
