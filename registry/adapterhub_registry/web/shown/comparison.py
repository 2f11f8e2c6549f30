"""Up to four adapters side by side: what differs, how well they do on the same data, and what they cost."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec
from markupsafe import Markup
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_client.charts import dots, reported, text
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import RegistryError
from adapterhub_registry.runtime import Runtime
from adapterhub_registry.service import evaluation, headers
from adapterhub_registry.service.resolution import parsed
from adapterhub_registry.web.shown.adapter import Among, Subject, subject
from adapterhub_registry.web.shown.reads import Measured

MOST = 4
PATH = "/compare"


class Column(msgspec.Struct, frozen=True):
    """One adapter: the version that is compared, and its report."""

    of: Subject
    report: wire.Report | None
    parameters: int | None
    attention: reported.Attention | None
    without: str
    """the address without it"""


class Fact(msgspec.Struct, frozen=True):
    """A row of texts."""

    name: str
    values: list[str]
    differs: bool


class Cell(msgspec.Struct, frozen=True):
    """A metric of one adapter; no value where it does not report it."""

    metric: wire.Metric | None
    plot: Markup | None
    is_best: bool


class Compared(msgspec.Struct, frozen=True):
    """A metric that several report on the same data, on one scale."""

    measured: Measured
    ends: tuple[str, str]
    """of the scale"""
    cells: list[Cell]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the page."""

    columns: list[Column]
    missing: list[str]
    """what was asked for and is not here"""
    facts: list[Fact]
    settings: list[Fact]
    """of method and training, those that differ"""
    metrics: list[Compared]
    room: int


def comparison(
    runtime: Runtime, session: Session, viewer: Viewer, asked: Sequence[str]
) -> Comparison:
    """Gather the adapters that references name; those that are not there are named."""
    wanted = list(dict.fromkeys(each.strip() for each in asked if each.strip()))[:MOST]
    found: dict[str, Subject] = {}
    for reference in wanted:
        try:
            found[reference] = subject(session, viewer, parsed(reference), Among())
        except RegistryError:
            continue
    columns = [_column(runtime, name, of, wanted) for name, of in found.items()]
    return Comparison(
        columns=columns,
        missing=[name for name in wanted if name not in found],
        facts=_facts(columns),
        settings=_settings(columns),
        metrics=_metrics([column.of.manifest for column in columns]),
        room=MOST - len(columns),
    )


def address(references: Iterable[str]) -> str:
    """The address that compares these."""
    return f"{PATH}?{urlencode([('with', each) for each in references])}"


def _column(runtime: Runtime, name: str, of: Subject, wanted: Sequence[str]) -> Column:
    report = evaluation.report(runtime.store, of.manifest)
    cost = report.cost if report else None
    attention = reported.attention(report.attention) if report and report.attention else None
    return Column(
        of=of,
        report=report,
        parameters=cost.parameters
        if cost
        else headers.parameters(runtime.store, of.manifest.files),
        attention=attention,
        without=address(each for each in wanted if each != name),
    )


def _facts(columns: Sequence[Column]) -> list[Fact]:
    told: dict[str, Callable[[Column], str]] = {
        "Base model": lambda each: each.of.version.base.name,
        "Fingerprint": lambda each: text.short(each.of.version.base.fingerprint or "never taken"),
        "Method": lambda each: each.of.version.method,
        "Heads": lambda each: ", ".join(_head(head) for head in each.of.manifest.heads[:4]),
        "Languages": lambda each: ", ".join(each.of.manifest.languages[:12]),
        "Licence": lambda each: each.of.manifest.license or "",
        "Size": lambda each: text.size(each.of.version.size_bytes),
        "Parameters": lambda each: text.count(each.parameters) if each.parameters else "",
        "Share of the base": _share,
        "Time of a pass": _overhead,
        "Training": _duration,
        "Hardware": lambda each: (t.hardware or "") if (t := each.of.manifest.training) else "",
        "Published": lambda each: text.day(each.of.version.created_at),
        "Pulls": lambda each: text.count(each.of.adapter.summary.downloads),
    }
    rows = [_row(name, [tell(column) for column in columns]) for name, tell in told.items()]
    return [row for row in rows if any(row.values)]


def _head(head: wire.Head) -> str:
    return f"{head.type}, {text.counted(len(head.labels), 'label')}" if head.labels else head.type


def _share(column: Column) -> str:
    cost = column.report.cost if column.report else None
    if cost is None or cost.parameters_base <= 0:
        return ""
    return text.percent(100 * cost.parameters / cost.parameters_base)


def _overhead(column: Column) -> str:
    cost = column.report.cost if column.report else None
    return text.overhead(cost.latency_overhead) if cost and cost.latency_overhead else ""


def _duration(column: Column) -> str:
    training_ = column.of.manifest.training
    seconds = training_.seconds if training_ else None
    return "" if seconds is None else text.duration(seconds)


def _settings(columns: Sequence[Column]) -> list[Fact]:
    """Every setting of method and training in which they differ."""
    each = [_flat(column.of.manifest) for column in columns]
    names = sorted({name for settings in each for name in settings})
    rows = [
        _row(name, [text.compact(settings[name]) if name in settings else "" for settings in each])
        for name in names
    ]
    return [row for row in rows if row.differs or len(columns) == 1]


def _flat(manifest: wire.Manifest) -> dict[str, Any]:
    hyperparameters = manifest.training.hyperparameters if manifest.training else {}
    return {**manifest.method.config, **hyperparameters}


def _row(name: str, values: list[str]) -> Fact:
    return Fact(name, values, differs=len(set(values)) > 1)


def _metrics(manifests: Sequence[wire.Manifest]) -> list[Compared]:
    """Metrics that most of them report come first."""
    reported = [{Measured.of(each): each for each in manifest.metrics} for manifest in manifests]
    keys = list(dict.fromkeys(key for metrics in reported for key in metrics))
    keys.sort(key=lambda key: -sum(key in metrics for metrics in reported))
    return [_compared(key, [metrics.get(key) for metrics in reported]) for key in keys]


def _compared(key: Measured, metrics: Sequence[wire.Metric | None]) -> Compared:
    here = [each for each in metrics if each is not None]
    sign = 1 if here[0].higher_is_better else -1
    best = max(sign * each.value for each in here)
    drawn = [dots.Dot(each.value, each.std) for each in here]
    spanned = dots.scale(drawn)
    cells = []
    for metric in metrics:
        if metric is None:
            cells.append(Cell(None, None, is_best=False))
            continue
        is_best = sign * metric.value == best
        plot = dots.dot_plot(dots.Dot(metric.value, metric.std), spanned, is_other=not is_best)
        cells.append(Cell(metric, plot, is_best=is_best and len(here) > 1))
    return Compared(key, (spanned.labels[0], spanned.labels[-1]), cells)
