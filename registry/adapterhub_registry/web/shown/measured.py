"""A version's metrics as rows: the value, what others reach on the same data, and ways without an adapter."""

from collections.abc import Sequence

import msgspec
from markupsafe import Markup

from adapterhub_client import wire
from adapterhub_client.charts import dots
from adapterhub_client.charts.svg import Scale
from adapterhub_registry.web.shown.reads import Measured

_PERCENT = 100.0
_RINGS = 240
"""others that a page draws in all; where there are more, every so many of them in the order of their values"""


class Beside(msgspec.Struct, frozen=True):
    """Another way to learn the same on the same data."""

    baseline: wire.Baseline
    plot: Markup
    ahead: float
    """by how much the adapter is better; negative where it is worse"""


class Row(msgspec.Struct, frozen=True):
    """A metric with what it takes to draw it."""

    metric: wire.Metric
    plot: Markup
    rank: int
    of: int
    beside: list[Beside]


class Group(msgspec.Struct, frozen=True):
    """Metrics on one scale."""

    axis: Markup
    rows: list[Row]


class _Drawn(msgspec.Struct, frozen=True):
    metric: wire.Metric
    dot: dots.Dot
    baselines: list[wire.Baseline]


def groups(
    metrics: Sequence[wire.Metric],
    rivals: dict[Measured, list[float]],
    report: wire.Report | None,
) -> list[Group]:
    """Metrics that can share an axis: shares of one, percentages; every other has its own."""
    found: dict[tuple[float, bool, int], list[_Drawn]] = {}
    for at, metric in enumerate(metrics):
        drawn = _drawn(metric, rivals.get(Measured.of(metric), []), report)
        reach = [metric.value, *drawn.dot.others, *drawn.dot.baselines]
        highest = max(map(abs, reach))
        top = next((each for each in (1.0, _PERCENT) if highest <= each), float("inf"))
        key = (top, metric.higher_is_better, at if top > _PERCENT else 0)
        found.setdefault(key, []).append(drawn)
    return [_group(rows, len(metrics)) for rows in found.values()]


def _drawn(metric: wire.Metric, others: list[float], report: wire.Report | None) -> _Drawn:
    baselines = []
    if report is not None:
        same = Measured(report.dataset, report.split, report.metric) == Measured.of(metric)
        baselines = report.baselines if same else []
    dot = dots.Dot(metric.value, metric.std, others, [each.value for each in baselines])
    return _Drawn(metric, dot, baselines)


def _group(rows: list[_Drawn], of: int) -> Group:
    spanned = dots.scale([each.dot for each in rows])
    each_draws = max(_RINGS // of, 6)
    return Group(
        dots.axis(spanned),
        [
            Row(
                metric=each.metric,
                plot=dots.dot_plot(each.dot, spanned, rings=each_draws),
                rank=_rank(each.metric, each.dot),
                of=len(each.dot.others) + 1,
                beside=[_beside(each.metric, baseline, spanned) for baseline in each.baselines],
            )
            for each in rows
        ],
    )


def _beside(metric: wire.Metric, baseline: wire.Baseline, spanned: Scale) -> Beside:
    sign = 1 if metric.higher_is_better else -1
    dot = dots.Dot(baseline.value, baseline.std)
    plot = dots.dot_plot(dot, spanned, is_other=True)
    return Beside(baseline, plot, sign * (metric.value - baseline.value))


def _rank(metric: wire.Metric, dot: dots.Dot) -> int:
    sign = 1 if metric.higher_is_better else -1
    return 1 + sum(sign * other > sign * dot.value for other in dot.others)
