"""Leaderboards as pages draw them: rows with dots on one scale."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
from markupsafe import Markup
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_client.charts import curves, dots
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.service import boards
from adapterhub_registry.service.places import Page
from adapterhub_registry.web.shown import listing

_FIRST = 5
_COMPARED = 2
"""adapters that make a comparison"""


class Row(msgspec.Struct, frozen=True):
    """An adapter on a board, and its dot."""

    entry: wire.Entry
    plot: Markup


class Drawn(msgspec.Struct, frozen=True):
    """A board, its rows, and the axis over them."""

    board: wire.Board
    axis: Markup
    rows: list[Row]
    next: str | None = None


class Growth(msgspec.Struct, frozen=True):
    """How the best value of a board grew, and each that was the best when it came, the last first."""

    drawing: Markup
    best: list[boards.Measurement]
    of: int
    """how many values are drawn"""


def leading(session: Session, viewer: Viewer, count: int) -> list[Drawn]:
    """The first rows of the boards that compare the most adapters, one for each dataset."""
    found = []
    for dataset in boards.datasets(session, viewer, Page(limit=count)).items:
        best = next(iter(dataset.boards), None)
        if best is not None and best.adapters >= _COMPARED:
            asked = boards.Asked(
                dataset=best.dataset, metric=best.metric, split=best.split, limit=_FIRST
            )
            found.append(drawn(boards.leaderboard(session, viewer, asked)))
    return found


def growth(board: wire.Board, history: Sequence[boards.Measurement]) -> Growth | None:
    """How the best value grew: all values as points, the best so far as stairs; None where there is one only."""
    if len({each.at for each in history}) < _COMPARED:
        return None
    sign = 1 if board.higher_is_better else -1
    best: list[boards.Measurement] = []
    for each in history:
        if not best or sign * each.value > sign * best[-1].value:
            best.append(each)
    points = [(each.at.timestamp(), each.value) for each in history]
    reached = [(each.at.timestamp(), each.value) for each in best]
    stairs = curves.steps([*reached, (points[-1][0], reached[-1][1])])
    lines = [curves.Line(points, "points"), curves.Line(stairs, "best")]
    ends = _day(history[0].at), _day(history[-1].at)
    spoken = f"Values of {board.metric} on {board.dataset} over time, and the best so far"
    return Growth(curves.chart(lines, spoken, ends), best[::-1], len(points))


def plots(items: Sequence[wire.AdapterSummary], board: tuple[str, str]) -> dict[str, Markup]:
    """For a list in the order of a metric: the dot of each adapter, on one scale for the page."""
    drawn = {}
    for item in items:
        metric = listing.metric_of(item.metrics, board)
        if metric is not None:
            drawn[item.reference] = dots.Dot(metric.value, metric.std)
    spanned = dots.scale(list(drawn.values()))
    return {name: dots.dot_plot(dot, spanned, is_other=True) for name, dot in drawn.items()}


def _day(moment: datetime) -> str:
    return f"{moment.day} {moment:%b %Y}"


def drawn(found: wire.Leaderboard) -> Drawn:
    """A leaderboard with its dots."""
    each = [dots.Dot(entry.value, entry.std) for entry in found.entries]
    spanned = dots.scale(each)
    rows = [
        Row(entry, dots.dot_plot(dot, spanned, is_other=entry.place > 1))
        for entry, dot in zip(found.entries, each, strict=True)
    ]
    return Drawn(found.board, dots.axis(spanned), rows, found.next)
