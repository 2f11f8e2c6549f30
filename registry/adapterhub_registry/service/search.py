"""Search: pages of adapters, how many there are, and the answers that would narrow them.

What a query costs does not grow with the catalogue. Up to `COUNTED` adapters that fit are found first, by the rarest
answer or by the words; where these are all, page and facets are cut from them. Where there are more, so many fit that a
walk along the order of the page soon has enough of them, and counts say "at least".
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec
from sqlalchemy import Row, Select, select
from sqlalchemy.orm import Session

from adapterhub_client import wire
from adapterhub_registry.domain.permission import Viewer
from adapterhub_registry.domain.query import Filter, Query, Score, parse
from adapterhub_registry.models import SearchDocument, SearchFacet, SearchScore
from adapterhub_registry.service import matching, ordering
from adapterhub_registry.service.boards import Board, find_board
from adapterhub_registry.service.matching import Matching, Scopes
from adapterhub_registry.service.ordering import SORT
from adapterhub_registry.service.sets import count
from adapterhub_registry.service.spelling import corrected

COUNTED = 300
"""how many adapters are counted one by one"""
PARAMETERS = (
    "task",
    "base",
    "org",
    "method",
    "language",
    "license",
    "architecture",
    "head",
    "dataset",
    "composition",
    "status",
)
"""the fields of a query that are parameters of their own too"""


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What adapters to list; every field that is set has to hold."""

    q: str = ""
    """words and `field:value`; the registry's README has the grammar"""
    task: str | None = None
    base: str | None = None
    """a fingerprint, or a base's name"""
    org: str | None = None
    method: str | None = None
    """a method's name, or a config id"""
    language: str | None = None
    license: str | None = None
    architecture: str | None = None
    head: str | None = None
    """the type of a prediction head"""
    dataset: str | None = None
    composition: str | None = None
    """`yes` or `no`"""
    status: str | None = None
    sort: Annotated[str, msgspec.Meta(pattern=SORT)] | None = None
    """`relevance`, `updated`, `created`, `name`, `downloads`, or a metric as `metric:acc@multinli`; without it, by
    relevance where there are words, else `updated`"""
    limit: int = 50
    after: str | None = None
    """`next` of the page before"""

    @property
    def query(self) -> Query:
        """Everything that has to hold, as one query; MalformedQuery where `q` is none."""
        return with_fields(parse(self.q), self)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The adapters that fit a query."""

    query: Query
    matching: Matching
    ids: Sequence[int]
    """the newest that fit; all of them where `whole`"""
    whole: bool
    total: int
    exact: bool
    """whether `total` is all; else there are more"""


class Looked(msgspec.Struct, frozen=True):
    """What was asked for by whom, and what was found."""

    scoped: Scopes
    wanted: Query
    found: Found


def search(
    session: Session, viewer: Viewer, asked: Search, query: Query | None = None
) -> wire.AdapterPage:
    """A page of the adapters that the viewer may read; `query` where it was read already.

    Raises:
        MalformedQuery: `q` is outside the grammar.
        InvalidRequest: `after` is not what a page gave.
    """
    return page(session, look(session, viewer, asked.query if query is None else query), asked)


def look(session: Session, viewer: Viewer, query: Query) -> Looked:
    """Look for what fits; where nothing has the words, for what has those of names that are most like them."""
    scoped = matching.scopes(session, viewer)
    found = find(session, scoped, query)
    if not found.total and query.words:
        near = respelt(session, scoped, query)
        found = found if near == query else find(session, scoped, near)
    return Looked(scoped, query, found)


def page(session: Session, looked: Looked, asked: Search) -> wire.AdapterPage:
    """A page of what was found."""
    found = looked.found
    sort = asked.sort or ("relevance" if looked.wanted.words else "updated")
    cut = ordering.Asked(
        matching=found.matching,
        ids=found.ids if found.whole else None,
        query=found.query,
        sort=sort,
        board=_board(session, looked.scoped, sort),
        limit=asked.limit,
        after=asked.after,
    )
    rows, after = ordering.page(session, cut)
    return wire.AdapterPage(
        items=[shown(row) for row in rows],
        total=found.total,
        exact=found.exact,
        next=after,
        corrections=_corrections(looked.wanted, found.query) if found.total else {},
    )


def find(session: Session, scoped: Scopes, query: Query) -> Found:
    """The newest adapters that fit a query, and how many there are."""
    fits = matching.matching(session, scoped, query)
    held = {
        item: count(session, scoped, matching.kept_as(item.field), item.value)
        for item in query.items
        if isinstance(item, Filter) and not item.negated
    }
    ids: Sequence[int] = []
    if min(held.values(), default=1):
        few = _few_scores(session, fits, query, held)
        newest = _newest(session, fits, query, held).limit(COUNTED + 1)
        ids = session.scalars(newest).all() if few is None else few
    whole = len(ids) <= COUNTED
    known = None if whole else _known_total(session, scoped, query, held)
    return Found(
        query=query,
        matching=fits,
        ids=ids[:COUNTED],
        whole=whole,
        total=min(len(ids), COUNTED) if known is None else known,
        exact=whole or known is not None,
    )


def respelt(session: Session, scoped: Scopes, query: Query) -> Query:
    """The query with words that nothing has replaced by the nearest of a name."""
    words = query.words
    return Query(
        tuple(corrected(session, scoped, item) if item in words else item for item in query.items)
    )


def with_fields(query: Query, asked: Search) -> Query:
    """A query, and the fields that are set beside it."""
    given = tuple(
        Filter(field, getattr(asked, field))
        for field in PARAMETERS
        if getattr(asked, field) is not None
    )
    return Query((*query.items, *given))


def shown(row: Row[int, bytes, int]) -> wire.AdapterSummary:
    """A document as lists show it; downloads change too often to be written into it."""
    summary = msgspec.json.decode(row.summary, type=wire.AdapterSummary)
    return msgspec.structs.replace(summary, downloads=row.downloads)


def _newest(session: Session, fits: Matching, query: Query, held: dict[Filter, int]) -> Select[int]:
    """The ids that fit, the newest first, looked for where the fewest have to be looked at."""
    rarest = min(held, key=lambda item: held[item], default=None)
    # FTS5 asked for row after row is dearer than its own intersection
    few = rarest is not None and held[rarest] <= COUNTED and not matching.is_sqlite(session)
    alone = query.told == (rarest,)
    if rarest is not None and (few or alone):
        others = fits.rest if alone else fits.clauses
        return (
            select(SearchFacet.adapter_id)
            .join(SearchDocument, SearchDocument.adapter_id == SearchFacet.adapter_id)
            .where(*matching.has(rarest), *others)
            .order_by(SearchFacet.adapter_id.desc())
        )
    if query.told:
        said = matching.saying(session, query.told).where(*fits.rest)
        return said.order_by(matching.row_order(session))
    return (
        select(SearchDocument.adapter_id)
        .where(*fits.clauses)
        .order_by(SearchDocument.adapter_id.desc())
    )


def _few_scores(
    session: Session, fits: Matching, query: Query, held: dict[Filter, int]
) -> list[int] | None:
    """The ids that fit, found by a metric's values; None where others find them better, or they are many."""
    scores = [item for item in query.items if isinstance(item, Score) and not item.negated]
    if not scores or held or query.words:
        return None
    found = (
        select(SearchScore.adapter_id)
        .join(SearchDocument, SearchDocument.adapter_id == SearchScore.adapter_id)
        .where(*matching.scored(scores[0]), *fits.clauses)
        .distinct()
        .limit(COUNTED + 1)
    )
    ids = session.scalars(found).all()
    return sorted(ids, reverse=True) if len(ids) <= COUNTED else None


def _known_total(
    session: Session, scoped: Scopes, query: Query, held: dict[Filter, int]
) -> int | None:
    """How many fit where that is counted already: of everything, and of one answer alone."""
    if not query.items:
        return count(session, scoped, ("total",), "adapters")
    only = query.items[0]
    return held.get(only) if len(query.items) == 1 and isinstance(only, Filter) else None


def _board(session: Session, scoped: Scopes, sort: str) -> Board | None:
    if not sort.startswith("metric:"):
        return None
    metric, _, dataset = sort.removeprefix("metric:").partition("@")
    return find_board(session, scoped, dataset, metric)


def _corrections(asked: Query, used: Query) -> dict[str, str]:
    return {
        " ".join(old.tokens): " ".join(new.tokens)
        for old, new in zip(asked.words, used.words, strict=True)
        if old != new
    }
