"""What a report is drawn as: curves, tables with tones, calibration, attention, what pruning costs."""

from collections.abc import Sequence

import msgspec
from markupsafe import Markup

from adapterhub_client import wire
from adapterhub_client.charts import calibration, curves, dots, heat

_MATRIX = 12
"""labels up to which a confusion matrix is a table that can be read"""
_TILES = 64
"""labels up to which it is drawn"""
_MISTAKES = 10
_CLASSES = 40
_EXAMPLES = 5


class Cell(msgspec.Struct, frozen=True):
    """A number and how dark its cell is."""

    value: float
    tone: int


class Confusion(msgspec.Struct, frozen=True):
    """What was taken for what; a table where it can be read, tiles and the worst mistakes where not."""

    labels: list[str]
    rows: list[list[Cell]]
    tiles: Markup | None
    mistakes: list[tuple[str, str, int, float]]
    """the right label, the one it was taken for, how often, and of how many of its examples"""


class Attended(msgspec.Struct, frozen=True):
    """A member of a fusion: its weight in each layer, and their mean."""

    member: str
    cells: list[Cell]
    mean: float


class Attention(msgspec.Struct, frozen=True):
    """What a fusion attends to, member by layer; the members in the order of the expression."""

    layers: list[int]
    rows: list[Attended]
    tokens: int
    tiles: Markup


class Pruned(msgspec.Struct, frozen=True):
    """A fusion with fewer members."""

    pruning: wire.Pruning
    dropped: list[str]
    plot: Markup
    share: float | None
    """of all attention that the kept ones have"""


class Charts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that is drawn of a report."""

    report: wire.Report
    metric: Markup | None
    loss: Markup | None
    best: wire.Curve | None
    confusion: Confusion | None
    calibration: Markup | None
    attention: Attention | None
    pruning: list[Pruned]
    pruning_axis: Markup | None
    classes: list[wire.LabelScore]
    examples: list[wire.Example]


def charts(report: wire.Report) -> Charts:
    """Draw a report."""
    best = _best(report)
    pruned, axis = _pruning(report)
    return Charts(
        report=report,
        metric=_metric(report, best),
        loss=_loss(best),
        best=best,
        confusion=_confusion(report),
        calibration=calibration.reliability(report.calibration) if report.calibration else None,
        attention=attention(report.attention) if report.attention else None,
        pruning=pruned,
        pruning_axis=axis,
        classes=report.classes[:_CLASSES],
        examples=report.examples[:_EXAMPLES],
    )


def attention(found: wire.Attention) -> Attention:
    """A fusion's weights as a table with tones."""
    layers = sorted(found.layers, key=lambda each: each.layer)
    highest = max((weight for layer in layers for weight in layer.weights), default=0.0)
    rows = []
    for at, member in enumerate(found.members):
        weights = [layer.weights[at] for layer in layers]
        mean = sum(weights) / max(len(weights), 1)
        rows.append(Attended(member, [_cell(each, highest) for each in weights], mean))
    drawn = heat.tiles(
        [[cell.value for cell in row.cells] for row in rows], "Attention, member by layer"
    )
    return Attention([each.layer for each in layers], rows, found.tokens, drawn)


def _best(report: wire.Report) -> wire.Curve | None:
    """The seed that was best on validation."""
    sign = 1 if report.higher_is_better else -1

    def reached(curve: wire.Curve) -> float:
        kept = [point.metric for point in curve.points if point.step == curve.best_step]
        return sign * (kept[0] if kept else curve.points[-1].metric)

    return max(report.curves, key=reached, default=None)


def _metric(report: wire.Report, best: wire.Curve | None) -> Markup | None:
    """The metric over the steps, a line a seed."""
    if best is None:
        return None
    lines = [
        curves.Line([(point.step, point.metric) for point in curve.points], "seed")
        for curve in report.curves
        if curve is not best
    ]
    points = [(float(point.step), point.metric) for point in best.points]
    lines.append(curves.Line(points, "best", best.best_step))
    return curves.chart(lines, f"{report.metric} on validation, over training", _ends(best))


def _loss(best: wire.Curve | None) -> Markup | None:
    """The losses of the best seed."""
    if best is None:
        return None
    lines = []
    for kind, field in (("seed dashed", "train_loss"), ("best", "validation_loss")):
        points = [
            (float(point.step), value)
            for point in best.points
            if (value := getattr(point, field)) is not None
        ]
        if points:
            lines.append(curves.Line(points, kind))
    if not lines:
        return None
    return curves.chart(lines, "Loss on training and validation data", _ends(best))


def _ends(curve: wire.Curve) -> tuple[str, str]:
    first, last = curve.points[0], curve.points[-1]
    return f"step {first.step:,}", f"step {last.step:,}, epoch {last.epoch:g}"


def _confusion(report: wire.Report) -> Confusion | None:
    counts = report.confusion
    if not counts:
        return None
    totals = [sum(row) or 1 for row in counts]
    shares = [[count / total for count in row] for row, total in zip(counts, totals, strict=True)]
    mistakes = sorted(
        (
            (report.labels[at], report.labels[taken], count, shares[at][taken])
            for at, row in enumerate(counts)
            for taken, count in enumerate(row)
            if taken != at and count
        ),
        key=lambda each: (-each[2], each[0]),
    )
    readable = len(counts) <= _MATRIX
    rows = [
        [Cell(count, heat.tone(share)) for count, share in zip(row, of_row, strict=True)]
        for row, of_row in zip(counts, shares, strict=True)
    ]
    return Confusion(
        labels=report.labels,
        rows=rows if readable else [],
        tiles=None
        if readable or len(counts) > _TILES
        else heat.tiles(shares, "Confusion matrix", size=10),
        mistakes=[] if readable else mistakes[:_MISTAKES],
    )


def _pruning(report: wire.Report) -> tuple[list[Pruned], Markup | None]:
    """What is left with fewer members, the most members first."""
    ordered = sorted(report.pruning, key=lambda each: -len(each.kept))
    if not ordered:
        return [], None
    drawn = [dots.Dot(each.value, each.std) for each in ordered]
    spanned = dots.scale(drawn)
    members = report.attention.members if report.attention else list(ordered[0].kept)
    found = [
        Pruned(
            pruning=each,
            dropped=[member for member in members if member not in each.kept],
            plot=dots.dot_plot(dot, spanned, is_other=at > 0),
            share=_share(report.attention, each.kept),
        )
        for at, (each, dot) in enumerate(zip(ordered, drawn, strict=True))
    ]
    return found, dots.axis(spanned)


def _share(found: wire.Attention | None, kept: Sequence[str]) -> float | None:
    if found is None or not found.layers:
        return None
    places = [at for at, member in enumerate(found.members) if member in kept]
    return sum(sum(layer.weights[at] for at in places) for layer in found.layers) / len(
        found.layers
    )


def _cell(value: float, highest: float) -> Cell:
    return Cell(value, heat.tone(value, highest))
