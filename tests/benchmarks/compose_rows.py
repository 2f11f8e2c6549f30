"""The rows of the table: what is measured, over what, the target, and what the arithmetic alone costs."""

import dataclasses
from collections.abc import Callable, Mapping

from compose_workload import Case

WIDTH = 1 / 16
"""of a bottleneck, over the features: the default reduction factor"""
PREFIX, RANK = 30, 8


@dataclasses.dataclass(frozen=True)
class Shape:
    """What the bounds depend on; multiplications per token and layer, in units of features squared."""

    features: int
    layers: int
    length: int
    batch: int

    @property
    def layer(self) -> float:
        """Four projections of attention, two of eight in the feed-forward block, scores and their mixture."""
        return 12 + 2 * self.length / self.features


Bound = Callable[[Shape], float]


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    title: str
    cases: Mapping[str, Case]
    """by column: ours, adapters, peft"""
    over: Case | None
    """what the time is divided by, on the same side; None where the row is megabytes"""
    target: str = ""
    bound: Bound | None = None


def _added(width_products: float) -> Bound:
    """The base, and so many products of one bottleneck's width with the features in every layer."""
    return lambda shape: 1 + width_products * WIDTH / shape.layer


def _trained(added: Callable[[Shape], float]) -> Bound:
    """Forward, and gradients of activations above layer 0, over a full step, which has three passes."""

    def bound(shape: Shape) -> float:
        passes = 1 + (shape.layers - 1) / shape.layers
        return (passes + added(shape) / shape.layer) / 3

    return bound


def _trained_fusion(count: int) -> Callable[[Shape], float]:
    """What training a fusion over frozen members adds, in the cheaper of the two exact forms.

    Compiled, the members' down-projections have a forward pass and a gradient of activations, A and B one of weights
    too, and once a step come three products to form A and B and four for their gradients. Folded, query, key and value
    have three passes each, and down-projection, scores and mixture two.
    """
    widths = count * WIDTH

    def added(shape: Shape) -> float:
        forming = 7 * widths * shape.features / (shape.batch * shape.length)
        return min(8 * widths + forming, 9 + 6 * widths)

    return added


def _parallel(count: int) -> Bound:
    """The layer below the first adapter once, all above it as often as there are adapters."""

    def bound(shape: Shape) -> float:
        above = (shape.layers - 1) / shape.layers
        return 1 / shape.layers + count * (above + 2 * WIDTH / shape.layer)

    return bound


def _both(kind: str, what: str, count: int = 1) -> dict[str, Case]:
    case = Case(kind, what, count)
    return {"ours": case, "adapters": case}


def _forward(name: str, title: str, what: str, count: int, target: str, bound: Bound | None) -> Row:
    return Row(name, title, _both("forward", what, count), Case("forward", "base"), target, bound)


FORWARD = (
    _forward("idle", "8 attached, nothing active", "idle", 8, "1.00", _added(0)),
    _forward("seq_bn", "one seq_bn, rf 16", "seq_bn", 1, "1.03", _added(2)),
    _forward("double_seq_bn", "one double_seq_bn, rf 16", "double_seq_bn", 1, "1.05", _added(4)),
    _forward("fuse3", "fuse 3", "fuse", 3, "1.10", _added(3 * 3)),
    _forward("fuse8", "fuse 8", "fuse", 8, "1.18", _added(3 * 8)),
    _forward("fuse16", "fuse 16", "fuse", 16, "1.30", _added(3 * 16)),
    _forward("batch8", "rows of a batch by 8 adapters", "batchsplit", 8, "1.06", _added(2)),
    Row(
        "rows10", "rows of a batch by 8 of 10 resident", {"ours": Case("forward", "resident", 10)},
        Case("forward", "base"), "1.06", _added(2),
    ),
    _forward("parallel3", "one input, 3 in parallel", "parallel", 3, "2.9", _parallel(3)),
    _forward("stack2", "stack 2", "stack", 2, "", _added(4)),
    _forward("average3", "average 3", "average", 3, "", _added(6)),
    Row(
        "lora", "LoRA r 8 on q and v",
        _both("forward", "lora") | {"peft": Case("forward", "peft")},
        Case("forward", "base"), "",
        lambda shape: 1 + 4 * RANK / shape.features / shape.layer,
    ),
    _forward("ia3", "(IA)3", "ia3", 1, "", _added(0)),
    _forward(
        "prefix", "prefix 30", "prefix", 1, "",
        lambda shape: 1 + 2 * PREFIX / shape.features / shape.layer,
    ),
)  # fmt: skip

STEP = (
    Row("step_floor", "train step, the floor", _both("step", "floor"), Case("step", "base"), "",
        _trained(lambda _: 0)),
    Row("step_seq_bn", "train step, one seq_bn", _both("step", "seq_bn"), Case("step", "base"),
        "the floor", _trained(lambda _: 6 * WIDTH)),
    Row("step_fuse8", "train step, fuse 8", _both("step", "fuse", 8), Case("step", "base"), "0.70",
        _trained(_trained_fusion(8))),
)  # fmt: skip

OTHER = (
    Row(
        "resident1000", "1 000 resident over 10 resident",
        {"ours": Case("forward", "resident", 1000)}, Case("forward", "resident", 10), "1.00",
        lambda _: 1.0,
    ),
    Row(
        "load8", "load 8 adapters over reading their files", _both("load", "all"),
        Case("load", "base"), "3", lambda _: 2.0,
    ),
    Row(
        "load8_first", "the same, and the base's fingerprint", {"ours": Case("load", "first")},
        Case("load", "base"),
    ),
    Row(
        "memory8", "MB kept for backward by fuse 8 alone", _both("bytes", "fuse", 8), None,
        "a fifth",
    ),
    Row(
        "disk_trainable", "MB on disk, fusion of 3, trainable", _both("disk", "trainable", 3), None,
    ),
    Row(
        "disk_compiled", "MB on disk, fusion of 3, compiled", {"ours": Case("disk", "compiled", 3)},
        None, "11 for bert-base",
    ),
)  # fmt: skip

COMPILED = (
    Row(
        "torch_compile", "fuse 3 under torch.compile", {"ours": Case("compiled", "fuse", 3)},
        Case("compiled", "base"), "1.10", _added(3 * 3),
    ),
)  # fmt: skip

ROWS = (*FORWARD, *STEP, *OTHER)
