"""What leaderboards compare, and who leads them.

A board is a dataset, a metric, a split and a direction. Where adapters disagree which direction is better, there is a
board for each, and the one with more adapters is the one that answers.
"""

from datetime import datetime

import msgspec
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.errors import NotFound
from adapterhub_registry.models import (
    Adapter,
    Dataset,
    Metric,
    SearchDocument,
    SearchScore,
    Variant,
    Version,
)
from adapterhub_registry.service import matching, places
from adapterhub_registry.service.matching import Scopes
from adapterhub_registry.service.sets import count, starting, top
from adapterhub_registry.service.visibility import readable


class LeaderboardNotFound(NotFound):
    """No adapter that the viewer may read reports this metric on this dataset."""

    code = "leaderboard_not_found"

    def __init__(self, dataset: str, metric: str, known: list[wire.Board]) -> None:
        super().__init__(f"There are no values of {metric!r} on {dataset!r}.")
        self.nearest = tuple(sorted({f"{each.metric}@{each.dataset}" for each in known}))


class Board(msgspec.Struct, frozen=True):
    """What is compared, and the id of its dataset."""

    what: wire.Board
    dataset_id: int

    @property
    def clauses(self) -> tuple[ColumnElement[bool], ...]:
        """The scores of this board."""
        return (
            SearchScore.dataset_id == self.dataset_id,
            SearchScore.name == self.what.metric,
            SearchScore.split == self.what.split,
            SearchScore.higher_is_better.is_(self.what.higher_is_better),
        )


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a leaderboard."""

    dataset: str
    metric: str
    split: str | None = None
    """without it, the split that most adapters report"""
    limit: int = 50
    after: str | None = None
    """`next` of the page before"""


class Measurement(msgspec.Struct, frozen=True):
    """A value on a board, and when its version was published."""

    reference: str
    number: int
    value: float
    at: datetime


class _Place(msgspec.Struct, frozen=True, array_like=True):
    rank: float
    adapter_id: int
    place: int


def leaderboard(session: Session, viewer: Viewer, asked: Asked) -> wire.Leaderboard:
    """A page of the best versions, one of each adapter, the best first.

    Raises:
        LeaderboardNotFound: With the boards of the same dataset.
        InvalidRequest: `after` is not what a page gave.
    """
    scoped = matching.scopes(session, viewer)
    board = find_board(session, scoped, asked.dataset, asked.metric, asked.split)
    if board is None:
        known = boards(session, scoped, [asked.dataset])
        raise LeaderboardNotFound(asked.dataset, asked.metric, known)
    last = places.read(asked.after, _Place)
    query = (
        select(SearchScore, SearchDocument.full_name, Version, Variant.method, Metric)
        .join(SearchDocument, SearchDocument.adapter_id == SearchScore.adapter_id)
        .join(Version, Version.id == SearchScore.version_id)
        .join(Variant, Variant.id == Version.variant_id)
        .join(
            Metric,
            (Metric.version_id == SearchScore.version_id)
            & (Metric.position == SearchScore.position),
        )
        .where(*board.clauses, *scoped.clauses)
        .order_by(SearchScore.rank, SearchScore.adapter_id)
        .limit(asked.limit + 1)
    )
    if last is not None:
        later = SearchScore.adapter_id > last.adapter_id
        query = query.where(SearchScore.rank >= last.rank, (SearchScore.rank > last.rank) | later)
    first = 1 if last is None else last.place + 1
    rows = session.execute(query).all()
    entries = [
        wire.Entry(
            place=place,
            reference=full_name,
            number=version.number,
            digest=version.digest,
            base=version.base_name,
            method=method,
            value=metric.value,
            std=metric.std,
            seeds=metric.seeds,
        )
        for place, (_, full_name, version, method, metric) in enumerate(rows[: asked.limit], first)
    ]
    following = None
    if len(rows) > asked.limit:
        score = rows[asked.limit - 1][0]
        following = places.write(_Place(score.rank, score.adapter_id, entries[-1].place))
    return wire.Leaderboard(board=board.what, entries=entries, next=following)


def history(session: Session, viewer: Viewer, asked: Asked, most: int) -> list[Measurement]:
    """The values of a board in the order in which they came, of the newest versions that are not yanked."""
    scoped = matching.scopes(session, viewer)
    board = find_board(session, scoped, asked.dataset, asked.metric, asked.split)
    if board is None:
        return []
    rows = session.execute(
        select(Adapter.full_name, Version.number, Metric.value, Version.created_at)
        .join(Version, Version.id == Metric.version_id)
        .join(Version.variant)
        .join(Variant.adapter)
        .where(
            Metric.dataset_id == board.dataset_id,
            Metric.name == board.what.metric,
            Metric.split == board.what.split,
            Metric.higher_is_better.is_(board.what.higher_is_better),
            Version.status != "yanked",
            readable(viewer),
        )
        .order_by(Version.created_at.desc(), Version.id.desc())
        .limit(most)
    )
    return [Measurement(*row) for row in rows][::-1]


def find_board(
    session: Session, scoped: Scopes, dataset: str, metric: str, split: str | None = None
) -> Board | None:
    """The board that most adapters are on; without a split, that of the split they report most."""
    dataset_id = session.scalar(select(Dataset.id).filter_by(name=dataset))
    found = [
        each
        for each in boards(session, scoped, [dataset])
        if each.metric == metric and split in {None, each.split}
    ]
    if dataset_id is None or not found:
        return None
    best = max(found, key=lambda each: (each.adapters, each.split, each.higher_is_better))
    return Board(best, dataset_id)


def boards(session: Session, scoped: Scopes, datasets: list[str]) -> list[wire.Board]:
    """Every board of these datasets that the viewer may know of, those with the most adapters first."""
    starts = ["[" + msgspec.json.encode(name).decode() + "," for name in datasets]
    counted = starting(session, scoped, "board", starts) if starts else {}
    found = [_board(value, adapters) for value, adapters in counted.items()]
    return sorted(found, key=lambda each: (-each.adapters, each.metric, each.split))


def of_dataset(session: Session, viewer: Viewer, dataset: str) -> list[wire.Board]:
    """The boards of one dataset."""
    return boards(session, matching.scopes(session, viewer), [dataset])


def is_known(session: Session, viewer: Viewer, dataset: str) -> bool:
    """Whether an adapter that the viewer may read was measured on it, in whatever way."""
    return count(session, matching.scopes(session, viewer), ("dataset",), dataset) > 0


def datasets(session: Session, viewer: Viewer, asked: places.Page) -> wire.DatasetPage:
    """A page of the datasets that adapters were measured on, those with the most adapters first."""
    scoped = matching.scopes(session, viewer)
    found = top(session, scoped, "dataset", asked.limit + 1, places.counted(asked.after))
    shown = found[: asked.limit]
    known: dict[str, list[wire.Board]] = {}
    for each in boards(session, scoped, [row.value for row in shown]):
        known.setdefault(each.dataset, []).append(each)
    return wire.DatasetPage(
        items=[
            wire.DatasetSummary(
                name=row.value, adapters=row.adapters, boards=known.get(row.value, [])
            )
            for row in shown
        ],
        next=places.following(found, asked.limit),
    )


def _board(value: str, adapters: int) -> wire.Board:
    dataset, metric, split, higher_is_better = msgspec.json.decode(
        value, type=tuple[str, str, str, bool]
    )
    return wire.Board(
        dataset=dataset,
        metric=metric,
        split=split,
        higher_is_better=higher_is_better,
        adapters=adapters,
    )
