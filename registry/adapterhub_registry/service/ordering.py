"""The orders of a list, and its pages: each begins after the last row of the one before, wherever that is by now.

A page is a range of an index, so the ten-thousandth costs what the first does, and what is published meanwhile moves
nothing to another page.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, Select, not_, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from adapterhub_registry.domain.query import Query
from adapterhub_registry.errors import InvalidRequest
from adapterhub_registry.models import SearchDocument, SearchScore
from adapterhub_registry.service import matching, places
from adapterhub_registry.service.boards import Board
from adapterhub_registry.service.matching import Matching
from adapterhub_registry.service.sets import among

SORT = r"^(relevance|updated|created|name|downloads|metric:[^@]+@.+)$"
_NO_PLACE = "`after` is not the `next` of a page with this order."
_COLUMNS: dict[
    str, tuple[Any, type, bool]
] = {  # what to sort by, and whether the highest comes first
    "updated": (SearchDocument.updated_at, datetime, True),
    "created": (SearchDocument.created_at, datetime, True),
    "downloads": (SearchDocument.downloads, int, True),
    "name": (SearchDocument.full_name, str, False),
}
_TIERS, _TITLED = 3, 1
FEW = 300
"""adapters that are kept as a list of ids; of more, the database walks along the order"""
_LARGEST = 2**31 - 1


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A row in an order; what a page's `next` says. By relevance, `tier` is how well the row fits."""

    sort: str
    value: str | int | float
    row: int
    tier: int = 0


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A page: of what, in which order, from where."""

    matching: Matching
    ids: Sequence[int] | None
    """all that fit, where they are few"""
    query: Query
    sort: str
    board: Board | None
    """what a sort by a metric compares"""
    limit: int
    after: str | None
    within: tuple[ColumnElement[bool], ...] = ()
    """a part of what fits"""
    titled: bool = False
    """only where the words are in the name"""


def page(session: Session, asked: Asked) -> tuple[list[Row[int, bytes, int]], str | None]:
    """The rows of a page, and where it ends unless it is the last.

    Raises:
        InvalidRequest: `after` is not what a page in this order gave.
    """
    place = None if asked.after is None else _place(asked.after, asked.sort)
    if asked.sort == "relevance":
        tiered = _tiers(session, asked, place)
    else:
        tiered = [(row, 0) for row in session.execute(_select(session, asked, place)).all()]
    shown = tiered[: asked.limit]
    rows = _whole(session, [row.adapter_id for row, _ in shown])
    if len(tiered) <= asked.limit:
        return rows, None
    last, tier = shown[-1]
    value = last.value.isoformat() if isinstance(last.value, datetime) else last.value
    return rows, places.write(Place(asked.sort, value, last.adapter_id, tier))


def _select(session: Session, asked: Asked, place: Place | None) -> Select[Any]:
    if asked.sort.startswith("metric:"):
        return _by_metric(session, asked, place)
    column, kind, highest_first = _COLUMNS["downloads" if asked.sort == "relevance" else asked.sort]
    query = _documents(session, asked, column)
    key = (column, SearchDocument.adapter_id)
    if place is not None:
        past = tuple_(_value(place, kind), place.row)
        query = query.where(tuple_(*key) < past if highest_first else tuple_(*key) > past)
    return query.order_by(*(each.desc() if highest_first else each for each in key))


def _by_metric(session: Session, asked: Asked, place: Place | None) -> Select[Any]:
    query = _documents(session, asked, SearchScore.rank)
    query = query.join(SearchScore, SearchScore.adapter_id == SearchDocument.adapter_id)
    if asked.board is None:
        return query.where(SearchDocument.adapter_id < 0)  # nobody reports it
    key = (SearchScore.rank, SearchScore.adapter_id)
    if place is not None:
        query = query.where(tuple_(*key) > tuple_(_value(place, float), place.row))
    return query.where(*asked.board.clauses).order_by(*key)


def _documents(session: Session, asked: Asked, column: InstrumentedAttribute[Any]) -> Select[Any]:
    """The ids that fit, each with what it is sorted by: nothing large is put in order."""
    document, told = SearchDocument, asked.query.told
    shown = (document.adapter_id, column.label("value"))
    if asked.ids is not None:
        query = select(*shown).where(among(session, document.adapter_id, asked.ids))
    elif told:
        # FTS5 finds all that have the words far sooner than it says of each whether it has them.
        said = matching.saying(session, told, title=asked.titled).with_only_columns(*shown)
        query = said.where(*asked.matching.rest)
    else:
        query = select(*shown).where(*asked.matching.clauses)
    return query.where(*asked.within).limit(asked.limit + 1)


def _whole(session: Session, ids: Sequence[int]) -> list[Row[int, bytes, int]]:
    """The documents of a page, in its order."""
    document = SearchDocument
    shown = select(document.adapter_id, document.summary, document.downloads)
    rows = session.execute(shown.where(among(session, document.adapter_id, ids))).all()
    return sorted(rows, key=lambda row: ids.index(row.adapter_id))


def _tiers(session: Session, asked: Asked, place: Place | None) -> list[tuple[Row[Any], int]]:
    """Names that are what was asked for, then names that have it, then texts; in each the most downloaded first."""
    bounds = _bounds(session, asked) if asked.query.words else []
    found: list[tuple[Row[Any], int]] = []
    for tier in range(_TIERS - 1 if place is None else place.tier, -1, -1):
        if tier > len(bounds):
            continue
        within = [not_(bound.clause) for bound in bounds[tier:]]
        ids = asked.ids
        if tier:
            within += [] if tier == _TITLED else [bounds[tier - 1].clause]
            ids = bounds[tier - 1].ids if bounds[tier - 1].ids is not None else ids
        part = msgspec.structs.replace(
            asked,
            within=tuple(within),
            ids=ids,
            titled=tier > 0,
            limit=asked.limit - len(found),
        )
        begin = place if place is not None and tier == place.tier else None
        found += [(row, tier) for row in session.execute(_select(session, part, begin))]
        if len(found) > asked.limit:
            break
    return found


class _Bound(msgspec.Struct, frozen=True):
    """What makes a document belong to a tier above the last; `ids` are all that do, where they are few."""

    clause: ColumnElement[bool]
    ids: Sequence[int] | None


def _bounds(session: Session, asked: Asked) -> list[_Bound]:
    """Of names that have the words, and of names that are the words."""
    words, told = asked.query.words, asked.query.told
    titled = matching.saying(session, told, title=True).where(*asked.matching.rest)
    spellings = {mark.join(token for each in words for token in each.tokens) for mark in "-_."}
    named = titled.where(SearchDocument.name.in_(sorted(spellings)))
    if asked.ids is not None:
        fits = among(session, SearchDocument.adapter_id, asked.ids)
        titled, named = titled.where(fits), named.where(fits)
    return [
        _bound(session, titled, matching.says(session, told, title=True)),
        _bound(session, named, SearchDocument.name.in_(sorted(spellings))),
    ]


def _bound(session: Session, query: Select[int], clause: ColumnElement[bool]) -> _Bound:
    ids = session.scalars(query.limit(FEW + 1)).all()
    if len(ids) > FEW:
        return _Bound(clause, None)
    return _Bound(among(session, SearchDocument.adapter_id, ids), ids)


def _place(after: str, sort: str) -> Place:
    place = places.read(after, Place)
    fits = place is not None and place.sort == sort and place.row <= _LARGEST
    if place is None or not fits or not 0 <= place.tier < _TIERS:
        raise InvalidRequest(_NO_PLACE)
    return place


def _value(place: Place, kind: type) -> object:
    """The value that a page ended with, as its column has it."""
    value = place.value
    if kind is datetime and isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError as error:
            raise InvalidRequest(_NO_PLACE) from error
        if moment.tzinfo is not None:
            return moment
    if kind is float and isinstance(value, int | float):
        return float(value)
    if (kind is int and isinstance(value, int) and 0 <= value <= _LARGEST) or (
        kind is str and isinstance(value, str)
    ):
        return value
    raise InvalidRequest(_NO_PLACE)
